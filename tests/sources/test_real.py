"""What real images share: balanced orders, held-out tests, natural names, decoding whatever people have."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from scaleback.core.errors import DataError, SpecError
from scaleback.sources import folder
from scaleback.sources.folder import Folder
from scaleback.sources.real import MAX_IMAGE_PIXELS, balanced_order, checked_labels, decode_file, held_out, natural

LABELS = st.lists(st.integers(-1, 4), max_size=60).map(lambda labels: np.array(labels, np.int64))
FEW = settings(deadline=None, max_examples=60)


def evenly(label_N, of):
    """Whether each class occurs equally often, give or take one, until it has no more images."""
    left = {label: (of == label).sum() for label in set(of.tolist())}
    taken = {label: (label_N == label).sum() for label in left}
    most = max(taken.values(), default=0)
    return all(count >= most - 1 or count == left[label] for label, count in taken.items())


@given(label_N=LABELS, seed=st.integers(0, 2**31))
@FEW
def test_every_prefix_of_the_order_is_balanced(label_N, seed):
    order_N = balanced_order(label_N, seed)
    assert sorted(order_N) == list(range(len(label_N)))
    assert all(evenly(label_N[order_N[:length]], label_N) for length in range(len(label_N) + 1))


def test_seeds_draw_which_images_of_a_class_come_first():
    label_N = np.repeat(np.arange(4), 50)
    firsts = np.array([balanced_order(label_N, seed)[:4] for seed in range(400)])
    assert (np.sort(label_N[firsts], axis=1) == np.arange(4)).all()
    assert all(len(set(firsts[label_N[firsts] == label])) > 45 for label in range(4))
    assert len({tuple(label_N[first]) for first in firsts}) == 24  # and in which order the classes come


@given(label_N=LABELS, share=st.floats(0.01, 0.99))
@FEW
def test_the_held_out_test_is_disjoint_complete_and_balanced(label_N, share):
    train_N, test_N = held_out(label_N, share, "train"), held_out(label_N, share, "test")
    assert sorted([*train_N, *test_N]) == list(range(len(label_N)))
    assert len(test_N) == round(share * len(label_N))
    assert list(train_N) == sorted(train_N)
    assert evenly(label_N[test_N], label_N)


def test_names_sort_as_people_count():
    names = ["class 10", "class 2", "b", "10", "9", "a2b10", "a2b9", "a10b1"]
    assert sorted(names, key=natural) == ["9", "10", "a2b9", "a2b10", "a10b1", "b", "class 2", "class 10"]


def test_names_may_hold_any_sign():
    assert sorted(["m²", "5²", "٣", "²", "½"], key=natural)


def test_labels_out_of_range_name_their_row():
    with pytest.raises(DataError, match=r"^here: label out of range 0\.\.4; got 5 in row 2$"):
        checked_labels(np.array([0, 4, 5, 6]), 5, "here")
    with pytest.raises(DataError, match="got -1 in row 0"):
        checked_labels(np.array([-1]), 5, "here")
    with pytest.raises(DataError, match="whole numbers; got float64"):
        checked_labels(np.array([1.0]), 5, "here")


# Decoding ------------------------------------------------------------------------------------------------------------

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


def encoded(image, form="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def decoded(data, size_px=16, channels=1):
    return decode_file(io.BytesIO(data), size_px, channels, "there")


def test_an_image_of_the_right_size_is_taken_as_it_is():
    assert (decoded(encoded(Image.fromarray(RAMP)))[:, :, 0] == RAMP).all()
    coloured = np.stack([RAMP, RAMP.T, RAMP[::-1]], axis=2)
    assert (decoded(encoded(Image.fromarray(coloured)), channels=3) == coloured).all()


def test_gray_becomes_colour_and_colour_gray():
    assert (decoded(encoded(Image.fromarray(RAMP)), channels=3) == RAMP[:, :, None]).all()
    red = decoded(encoded(Image.new("RGB", (16, 16), (255, 0, 0))))
    assert red.shape == (16, 16, 1)
    assert (red == 76).all()  # 0.299 of 255, ITU-R 601


def test_the_middle_square_is_kept():
    wide = np.zeros((16, 40), np.uint8)
    wide[:, 12:28] = RAMP
    assert (decoded(encoded(Image.fromarray(wide)))[:, :, 0] == RAMP).all()
    assert (decoded(encoded(Image.fromarray(wide.T)))[:, :, 0] == RAMP.T).all()


def test_another_size_is_resized_and_not_cut():
    left_dark = np.zeros((64, 64), np.uint8)
    left_dark[:, 32:] = 200
    small = decoded(encoded(Image.fromarray(left_dark)), size_px=8)[:, :, 0]
    assert small.shape == (8, 8)
    assert (small[:, :3] <= 10).all()
    assert (abs(small[:, 5:].astype(int) - 200) <= 10).all()


def test_what_is_transparent_lies_on_black():
    pixels = np.full((16, 16, 4), 255, np.uint8)
    pixels[:8, :, 3] = 0  # white, and not seen
    image = Image.fromarray(pixels)
    gray = Image.fromarray(pixels[:, :, 2:])
    palette = Image.fromarray((pixels[:, :, 3] > 0).astype(np.uint8))
    palette.putpalette([255, 255, 255] * 2)
    for data in (encoded(image), encoded(gray), encoded(palette, transparency=0)):
        shown = decoded(data, channels=3)
        assert not shown[:8].any()
        assert (shown[8:] == 255).all()


def test_palettes_are_looked_up():
    image = Image.fromarray((RAMP > 127).astype(np.uint8))
    image.putpalette([10, 20, 30, 200, 100, 50])
    shown = decoded(encoded(image, "GIF"), channels=3)
    assert {tuple(colour) for colour in shown.reshape(-1, 3).tolist()} == {(10, 20, 30), (200, 100, 50)}


def test_black_and_white_is_0_and_255():
    shown = decoded(encoded(Image.fromarray(RAMP > 127)))
    assert (shown[:, :, 0] == np.where(RAMP > 127, 255, 0)).all()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_to_eight(form, channels):
    deep = Image.fromarray(RAMP.astype(np.uint16) * 257)
    shown = decoded(encoded(deep, form), channels=channels)
    assert (abs(shown.astype(int) - RAMP[:, :, None]) <= 1).all()


@pytest.mark.parametrize("turn", range(1, 9))
def test_an_image_is_turned_as_its_camera_says(turn):
    # EXIF 2.3, 4.6.4: where the first row and the first column of the stored pixels belong.
    stored = {
        1: RAMP, 2: RAMP[:, ::-1], 3: RAMP[::-1, ::-1], 4: RAMP[::-1],
        5: RAMP.T, 6: RAMP.T[::-1], 7: RAMP[::-1, ::-1].T, 8: RAMP.T[:, ::-1],
    }[turn]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = turn
    assert (decoded(encoded(Image.fromarray(stored), exif=exif))[:, :, 0] == RAMP).all()


def test_a_turned_image_is_cut_in_the_middle_of_what_is_seen():
    seen = np.zeros((40, 16), np.uint8)
    seen[12:28] = RAMP
    exif = Image.Exif()
    exif[0x0112] = 6  # turned clockwise to be seen, so it is stored turned back
    assert (decoded(encoded(Image.fromarray(np.rot90(seen)), exif=exif))[:, :, 0] == RAMP).all()


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "BMP", "TIFF", "PPM"])
def test_other_formats_are_read(form):
    smooth = Image.fromarray(np.repeat(np.arange(0, 256, 16, dtype=np.uint8)[:, None], 16, axis=1))
    options = {"lossless": True} if form == "WEBP" else {}
    assert abs(decoded(encoded(smooth, form, **options))[:, :, 0].astype(int) - np.asarray(smooth)).max() <= 8


def claiming(width, height):
    """A PNG of a few bytes whose header claims this size."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(b"")), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("side", [12_000, 100_000])
def test_a_bomb_is_refused_before_it_is_decoded(side):
    assert side * side > 2 * MAX_IMAGE_PIXELS
    with pytest.raises(DataError, match=r"^there: [^\n]*pixels[^\n]*$"):
        decoded(claiming(side, side))


def test_a_small_bomb_is_refused_without_a_warning():
    with pytest.raises(DataError, match="has 9000 x 9000 pixels; at most 64,000,000 are read"):
        decoded(claiming(9_000, 9_000))


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "PPM"])
def test_a_truncated_image_is_refused_in_one_line(form):
    whole = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16), np.uint8)), form)
    for length in (0, 1, 10, len(whole) // 2, len(whole) * 3 // 4):
        with pytest.raises(DataError, match=r"^there: is not an image that can be read \([^\n]*\)$"):
            decoded(whole[:length])


def outcome(data):
    """Shape of the image, or how it is refused."""
    try:
        return decoded(data).shape
    except DataError as error:
        return str(error)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP"])
@pytest.mark.filterwarnings("ignore")  # PIL's, of odd values that it reads on from
def test_damaged_bytes_are_refused_or_read_and_nothing_else(form):
    rng = np.random.default_rng(1)
    whole = encoded(Image.fromarray(rng.integers(0, 256, (16, 16), np.uint8)), form)
    outcomes = []
    for _ in range(300):
        damaged = bytearray(whole)
        for place in rng.integers(0, min(len(whole), 200), 4):
            damaged[place] = rng.integers(256)
        outcomes.append(outcome(bytes(damaged)))
    refusals = [found for found in outcomes if found != (16, 16, 1)]
    assert refusals
    assert all(len(refusal.splitlines()) == 1 for refusal in refusals)


@pytest.mark.parametrize("data", [b"", b"hello, I am text", b"\x93NUMPY", b"PK\x03\x04" + bytes(100)])
def test_what_is_not_an_image_is_refused_in_one_line(data):
    with pytest.raises(DataError, match=r"^there: is not an image that can be read \([^\n]*\)$"):
        decoded(data)


# Folders -------------------------------------------------------------------------------------------------------------


def written(root, *names, value=100):
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), value).save(file, "PNG")
    return str(root)


def test_classes_of_a_folder_are_numbered_as_people_count(tmp_path):
    path = written(tmp_path, *(f"class {name}/{image}.png" for name in (10, 2, 1) for image in range(4)))
    source = Folder(path=path, size_px=8, test_share=0.25)
    assert source.open(0).record == {"class_names": ["class 1", "class 2", "class 10"]}
    assert [source.model_copy(update={"split": split}).available() for split in ("train", "test")] == [9, 3]
    assert source.classes(9) == 3


def test_a_folder_may_bring_its_own_splits(tmp_path):
    written(tmp_path / "train", "a/0.png", "a/1.png", "b/2.png", value=10)
    written(tmp_path / "val", "a/3.png", "b/4.png", value=200)
    for split, images, value in (("train", 3, 10), ("test", 2, 200)):
        source = Folder(path=str(tmp_path), size_px=8, split=split)
        assert source.available() == images
        assert (source.open(0)(np.arange(images)).image_BHWC == value).all()


def test_images_in_the_folder_itself_have_no_labels(tmp_path):
    source = Folder(path=written(tmp_path, *(f"{number}.png" for number in range(10))), size_px=8)
    assert source.classes(8) is None
    assert (source.open(0)(np.arange(8)).label_B == -1).all()


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ((), "holds no image"),
        (("train/a/0.png",), "has a folder for another split, but none called test or val"),
        (("a/0.png",), "holds too few images for a test split"),
    ],
)
def test_a_folder_that_cannot_serve_a_split_is_refused(tmp_path, names, says):
    source = Folder(path=written(tmp_path, *names), size_px=8, split="test")
    with pytest.raises(DataError, match=rf"^{tmp_path}: {says}"):
        source.available()


def test_a_path_that_is_not_there_names_the_nearest(tmp_path):
    written(tmp_path, "pictures/0.png")
    with pytest.raises(SpecError) as caught:
        Folder.parse({"path": str(tmp_path / "picture"), "size_px": 8})
    assert str(caught.value).startswith("path: unknown path")
    assert str(caught.value).endswith(f"the nearest known name is '{tmp_path / 'pictures'}'")


def test_a_file_that_is_no_image_is_named(tmp_path):
    path = written(tmp_path, "train/a/0.png", "train/a/1.png", "test/a/2.png")
    (tmp_path / "train/a/3.png").write_text("not an image")
    with pytest.raises(DataError, match=rf"^{path}/train/a/3.png: is not an image that can be read \([^\n]*\)$"):
        Folder(path=path, size_px=8).open(0)(np.arange(3))


def test_a_file_that_is_no_image_is_found_before_anything_starts(tmp_path):
    source = Folder(path=written(tmp_path, "train/a/0.png", "train/b/1.png", "test/a/2.png"), size_px=8)
    source.verify()
    (tmp_path / "train/b/3.png").write_text("not an image")
    folder._listing.cache_clear()
    with pytest.raises(DataError, match=r"train/b/3\.png: is not an image"):
        source.verify()


def test_a_changed_file_changes_the_origin(tmp_path):
    path = written(tmp_path, *(f"a/{number}.png" for number in range(4)))
    before = Folder(path=path, size_px=8).origin()
    other = tmp_path / "copy"
    written(other, *(f"a/{number}.png" for number in range(4)))
    assert Folder(path=str(other), size_px=8).origin() == before
    more = tmp_path / "more"
    written(more, *(f"a/{number}.png" for number in range(5)))
    assert Folder(path=str(more), size_px=8).origin() != before
