"""What is packed into a block's file comes out of it again."""

import dataclasses
import io

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from scaleback.core.errors import IntegrityError
from scaleback.sources import block_file
from scaleback.sources.base import BitSamples, Samples
from scaleback.sources.pictures import Pictures


def of_bits(bits, width, labels, level=127):
    return BitSamples(pictures=Pictures.of(bits, width), level=level, label_B=labels)


def packed(samples, cuts=()):
    """The file of samples given in batches that end at ``cuts``."""
    ends = [*cuts, len(samples.label_B)]
    parts = []
    for start, stop in zip([0, *cuts], ends, strict=True):
        changes = {"label_B": samples.label_B[start:stop]}
        changes["facts"] = {name: value[start:stop] for name, value in samples.facts.items()}
        pixels = "image_BHWC" if samples.level is None else "pictures"
        changes[pixels] = getattr(samples, pixels)[start:stop]
        parts.append((np.arange(10 + start, 10 + stop), dataclasses.replace(samples, **changes)))
    sink = io.BytesIO()
    block_file.pack(parts, sink)
    data = sink.getvalue()
    if not cuts:
        assert block_file.packed_bytes(np.arange(10, 10 + ends[0]), samples) == len(data)
    return data


def unpacked(data, shape, count, labels=()):
    image, label = np.full((count, *shape), 9, np.uint8), np.full((count, *labels), -9)
    block_file.unpack(data, image, label)
    return image, label


@given(
    image=arrays.arrays(
        np.bool_, st.tuples(st.integers(1, 5), st.integers(1, 20), st.integers(1, 140)), fill=st.just(False)
    ),
    level=st.sampled_from([1, 127, 255]),
    cut=st.booleans(),
)
@settings(deadline=None, max_examples=80)
def test_pictures_of_bits(image, level, cut):
    count, height, width = image.shape
    bits = np.packbits(image, axis=2, bitorder="little")
    samples = of_bits(bits, width, np.arange(count), level)
    data = packed(samples, [count // 2] if cut and count > 1 else [])
    for first in {1, count}:
        found, label = unpacked(data, (height, width, 1), first)
        assert (found[..., 0] == image[:first] * np.uint8(level)).all()
        assert (label == samples.label_B[:first]).all()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("several", [False, True], ids=["one class", "several"])
def test_bytes_labels_and_facts(channels, several):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (6, 5, 7, channels)).astype(np.uint8)
    label = np.array([[0, 3], [1, -1], [2, -1], [0, 2], [1, 3], [3, -1]]) if several else np.arange(6)
    facts = {"system": rng.normal(size=(6, 2, 3)), "place": np.arange(6)}
    data = packed(Samples(image_BHWC=image, label_B=label, facts=facts), [1, 4])
    for count in (1, 3, 6):
        found = unpacked(data, image.shape[1:], count, label.shape[1:])
        assert (found[0] == image[:count]).all()
        assert (found[1] == label[:count]).all()
    table = pa.ipc.open_file(data).read_all()
    assert table["index"].to_pylist() == list(range(10, 16))
    for name, value in facts.items():
        column = np.array(table[f"fact_{name}"].to_pylist()).reshape(value.shape)
        assert (column == value).all()


def test_bytes_of_nothing_take_no_room():
    bits = np.zeros((64, 512, 64), np.uint8)
    empty = of_bits(bits, 512, np.zeros(64, np.int64))
    noise = np.random.default_rng(0).integers(1, 256, bits.shape).astype(np.uint8)
    lit = of_bits(noise, 512, np.zeros(64, np.int64))
    sizes = [len(packed(samples)) for samples in (empty, lit)]
    assert sizes[0] < 64 * 600  # a bit for 64 pixels, or 512 bytes
    assert sizes[1] > bits.size


def test_the_file_is_an_arrow_table_that_others_read():
    samples = Samples(image_BHWC=np.ones((3, 2, 2, 1), np.uint8), label_B=np.arange(3))
    table = pa.ipc.open_file(packed(samples)).read_all()
    assert table.column_names == ["index", "label", "image"]
    assert table["image"].to_pylist() == 3 * [b"\1\1\1\1"]


def test_batches_are_read_as_far_as_there_is_room():
    rng = np.random.default_rng(0)
    for width in (61, 130):
        image = rng.random((40, 9, width)) < 0.2
        bits = np.packbits(image, axis=2, bitorder="little")
        data = packed(of_bits(bits, width, np.arange(40)), [3, 11, 12, 30])
        assert pa.ipc.open_file(data).num_record_batches == 5
        for first in (2, 12, 29, 40):
            found, label = unpacked(data, (9, width, 1), first)
            assert (found[..., 0] == 127 * image[:first]).all()
            assert (label == np.arange(first)).all()


def test_what_is_no_such_file_is_refused():
    samples = of_bits(np.ones((1, 2, 2), np.uint8), 16, np.zeros(1, np.int64))
    data = packed(samples)
    other = io.BytesIO()
    with pa.ipc.new_file(other, pa.schema({"x": pa.int64()})) as writer:
        writer.write_batch(pa.record_batch({"x": pa.array([1])}))
    for wrong in (b"", b"PAR1", data[: len(data) // 2], other.getvalue()):
        with pytest.raises(IntegrityError, match=r"^is not a file of images \([^\n]*\)$"):
            unpacked(wrong, (2, 16, 1), 1)
