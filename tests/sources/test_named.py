"""Data sets known by name: digits, Fashion-MNIST as four IDX files, torchvision's."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from scaleback.core.errors import DataError
from scaleback.sources.named import FASHION_FOLDER, Digits, FashionMNIST, Torchvision


def test_digits_are_split_into_797_and_1000_that_do_not_meet():
    from sklearn.datasets import load_digits

    seen = []
    for split, images in (("train", 797), ("test", 1_000)):
        source = Digits(split=split)
        assert source.available() == images
        samples = source.open(4)(np.arange(images))
        seen += [(image.tobytes(), label) for image, label in zip(samples.image_BHWC, samples.label_B, strict=True)]
        counts = np.bincount(samples.label_B)
        assert counts.max() - counts.min() <= (0 if split == "test" else 9)
    data = load_digits()
    known = np.round(data.images / 16 * 255).astype(np.uint8)
    assert sorted(seen) == sorted((image.tobytes(), label) for image, label in zip(known, data.target, strict=True))


def test_digits_use_the_whole_range_of_gray():
    image = Digits().open(0)(np.arange(50)).image_BHWC
    assert (image.min(), image.max()) == (0, 255)
    assert Digits().open(0).record["class_names"] == [str(digit) for digit in range(10)]


@pytest.fixture(scope="module")
def fashion(tmp_path_factory):
    return FashionMNIST.example(tmp_path_factory.mktemp("fashion"))


def idx(magic, *shape, body=b""):
    return gzip.compress(struct.pack(f">{1 + len(shape)}I", magic, *shape) + body, 1)


def damaged(fashion, folder, part, data):
    """The same four files, one of them replaced."""
    for file in Path(fashion.path).iterdir():
        (folder / file.name).symlink_to(file)
    (folder / part).unlink()
    (folder / part).write_bytes(data)
    return FashionMNIST(path=str(folder))


def test_fashion_mnist_is_read_image_by_image(fashion):
    assert [fashion.model_copy(update={"split": split}).available() for split in ("train", "test")] == [60_000, 10_000]
    samples = fashion.open(2)(np.array([0, 17, 59_999]))
    for image, label, place in zip(samples.image_BHWC, samples.label_B, samples.facts["place"], strict=True):
        assert label == place % 10
        expected = (place * 784 + np.arange(784)) % 256
        assert image.ravel().tolist() == expected.tolist()
    assert fashion.open(2).record["class_names"][9] == "ankle boot"


@pytest.mark.parametrize(
    ("part", "data", "says"),
    [
        ("train-labels-idx1-ubyte.gz", idx(0x803, 60_000, body=bytes(60_000)), "is not an IDX file of 1-dimensional"),
        ("train-images-idx3-ubyte.gz", idx(0x801, 1, 28, 28, body=bytes(784)), "is not an IDX file of 3-dimensional"),
        ("train-labels-idx1-ubyte.gz", idx(0x801, 60_000, body=bytes(99)), "is not an IDX file"),
        ("train-labels-idx1-ubyte.gz", idx(0x801, 60_000, body=bytes(60_000))[:60], "is not an IDX file"),
        ("train-labels-idx1-ubyte.gz", b"not gzip at all", "is not an IDX file"),
        ("train-labels-idx1-ubyte.gz", b"", "is not an IDX file"),
        ("train-labels-idx1-ubyte.gz", gzip.compress(b"\0\0"), "is not an IDX file"),
        ("train-labels-idx1-ubyte.gz", idx(0x801, 5, body=bytes(5)), r"holds images .* and labels \(5,\), not Fashion"),
        (
            "train-labels-idx1-ubyte.gz",
            idx(0x801, 60_000, body=bytes(77) + b"\x0a" + bytes(59_922)),
            r"label out of range 0\.\.9; got 10 in row 77",
        ),
    ],
)
def test_files_that_are_not_fashion_mnist_are_refused_in_one_line(fashion, tmp_path, part, data, says):
    with pytest.raises(DataError, match=rf"^{tmp_path}[^\n]*: {says}[^\n]*$"):
        damaged(fashion, tmp_path, part, data).open(0)


def test_without_its_files_fashion_mnist_says_how_to_get_them(tmp_path):
    with pytest.raises(DataError) as caught:
        FashionMNIST(path=str(tmp_path)).available()
    assert str(caught.value).startswith(f"{tmp_path}/train-images-idx3-ubyte.gz: must be there; install")
    assert "torchvision" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.skipif(not Path(FASHION_FOLDER).is_dir(), reason="the authors' files are not on this machine")
def test_the_authors_files_hold_six_thousand_of_each_class_and_start_with_a_boot():
    catalogue = FashionMNIST().catalogue()
    assert np.bincount(catalogue.label_N).tolist() == [6_000] * 10
    assert catalogue.class_names[catalogue.label_N[0]] == "ankle boot"
    assert FashionMNIST(split="test").catalogue().label_N[:5].tolist() == [9, 2, 1, 1, 6]


def test_a_data_set_that_torchvision_does_not_know_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(DataError, match=r"^name: unknown data set of torchvision, .* nearest known name is 'CIFAR10'$"):
        Torchvision(name="CIFAR-10", size_px=32, root=str(tmp_path)).available()


def test_what_is_no_classification_data_set_is_refused_in_one_line(tmp_path):
    with pytest.raises(DataError, match=r"^VisionDataset: torchvision cannot give it \([^\n]*\)$"):
        Torchvision(name="VisionDataset", size_px=32, root=str(tmp_path)).available()
