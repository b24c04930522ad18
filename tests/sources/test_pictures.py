"""Pictures without their bytes of nothing are the pictures."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from scaleback.sources.kernels.squeeze import gathered, spread, squeezed
from scaleback.sources.pictures import Pictures, joined

IMAGES = arrays.arrays(
    np.bool_, st.tuples(st.integers(1, 5), st.integers(1, 20), st.integers(1, 140)), fill=st.just(False)
)


def of(image):
    return Pictures.of(np.packbits(image, axis=2, bitorder="little"), image.shape[2])


def pixels(pictures):
    return pictures.images(1)[..., 0].astype(bool)


@given(image=IMAGES, level=st.sampled_from([1, 127, 255]))
@settings(deadline=None, max_examples=80)
def test_they_are_read_as_they_were(image, level):
    pictures = of(image)
    assert (pictures.bits_BHX == np.packbits(image, axis=2, bitorder="little")).all()
    assert (pictures.images(level)[..., 0] == image * np.uint8(level)).all()
    assert pictures.fills == pytest.approx(image.mean(axis=(1, 2)))
    # A slow second implementation: rows of whole words, and what of them is not zero.
    count, height, width = image.shape
    padded = np.zeros((count, height, 64 * -(-width // 64)), bool)
    padded[..., :width] = image
    plain = np.packbits(padded, axis=2, bitorder="little").tobytes()
    assert pictures.byte_N.tobytes() == bytes(byte for byte in plain if byte)
    masks = np.unpackbits(pictures.mask_BX, axis=1, bitorder="little")[:, : len(plain) // count]
    assert masks.ravel().tolist() == [int(byte != 0) for byte in plain]


@given(image=IMAGES, data=st.data())
@settings(deadline=None, max_examples=60)
def test_some_of_them(image, data):
    pictures, count = of(image), len(image)
    start = data.draw(st.integers(0, count))
    stop = data.draw(st.integers(start, count))
    assert (pixels(pictures[start:stop]) == image[start:stop]).all()
    which = np.array(data.draw(st.lists(st.integers(0, count - 1), max_size=8)), np.int64)
    assert (pixels(pictures[which]) == image[which]).all()
    both = joined([pictures, pictures[start:stop]])
    assert (pixels(both) == np.concatenate([image, image[start:stop]])).all()
    place = np.array(data.draw(st.lists(st.integers(0, count - 1), max_size=count, unique=True)), np.int64)
    expected = image.copy()
    expected[place] = ~image[place]
    assert (pixels(pictures.replaced(place, of(~image)[place])) == expected).all()
    assert (pixels(pictures) == image).all()


def test_bytes_that_are_full_and_bytes_that_are_nothing():
    for value in (0, 1, 255):
        for length in (1, 63, 64, 65, 128):
            byte = np.full((3, length), value, np.uint8)
            found = spread(*squeezed(byte))
            assert (found[:, :length] == byte).all()
            assert not found[:, length:].any()
            assert len(squeezed(byte)[0]) == (byte.size if value else 0)


@pytest.mark.parametrize("wrong", ["fewer bytes", "more bytes", "another mask", "other ends", "no ends"])
def test_masks_that_do_not_fit_are_refused_before_anything_is_read(wrong):
    byte = np.random.default_rng(0).integers(0, 3, (4, 128)).astype(np.uint8)
    byte_N, end_B, mask_BX = squeezed(byte)
    if wrong == "fewer bytes":
        byte_N = byte_N[:-1]
    elif wrong == "more bytes":
        byte_N = np.append(byte_N, np.uint8(1))
    elif wrong == "another mask":
        mask_BX = mask_BX.copy()
        mask_BX[2, 3] ^= 16
    elif wrong == "other ends":
        end_B = end_B.copy()
        end_B[2] += 1
    else:
        end_B = end_B[:-1]
    with pytest.raises(ValueError, match="bytes"):
        spread(byte_N, end_B, mask_BX)


def test_pieces_are_gathered_in_any_order():
    byte = np.arange(10, dtype=np.uint8)
    for start, stop in (([0, 4, 7], [4, 7, 9]), ([7, 0, 4], [9, 4, 7]), ([5], [5]), ([], [])):
        found, end = gathered(byte, np.array(start, np.int64), np.array(stop, np.int64))
        pieces = [byte[a:b].tolist() for a, b in zip(start, stop, strict=True)]
        assert found.tolist() == [byte for piece in pieces for byte in piece]
        assert end.tolist() == [0, *np.cumsum([len(piece) for piece in pieces])]
