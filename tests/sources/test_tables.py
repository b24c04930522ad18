"""Parquet files and numpy arrays of one's own: layouts, splits, and what is refused."""

import io
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from scaleback.core.errors import DataError, SpecError
from scaleback.sources.tables import Arrays, Parquet

COUNT = 10
PIXELS = np.random.default_rng(0).integers(0, 256, (COUNT, 8, 8), np.uint8)
LABELS = [number % 3 for number in range(COUNT)]


def png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


ENCODED = [png(pixels) for pixels in PIXELS]


def parquet(path, images=ENCODED, labels=LABELS, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"image": images, "label": labels, **columns}), path)
    return path


def source(path, **fields):
    return Parquet(path=str(path), size_px=8, channels=1, **fields)


def everything(one):
    """(pixels, label) of every image of both splits, as a set."""
    found = []
    for split in ("train", "test"):
        part = one.model_copy(update={"split": split})
        samples = part.open(0)(np.arange(part.available()))
        found += list(zip(map(bytes, samples.image_BHWC), samples.label_B.tolist(), strict=True))
    return sorted(found)


WHOLE = sorted(zip(map(bytes, PIXELS), LABELS, strict=True))

# Parquet -------------------------------------------------------------------------------------------------------------

FORMS = {
    "bytes": ENCODED,
    "large bytes": pa.array(ENCODED, pa.large_binary()),
    "structs of bytes and path": [{"bytes": data, "path": f"{number}.png"} for number, data in enumerate(ENCODED)],
    "structs without a path": [{"bytes": data, "path": None} for data in ENCODED],
}


@pytest.mark.parametrize("form", FORMS)
def test_images_are_read_with_their_labels(tmp_path, form):
    one = source(parquet(tmp_path / "images.parquet", FORMS[form]), test_share=0.3)
    assert everything(one) == WHOLE
    assert one.available() == 7
    assert one.classes(7) == 3


def test_rows_of_several_files_lie_end_to_end(tmp_path):
    for number, part in ((2, slice(0, 4)), (10, slice(4, None))):
        parquet(tmp_path / f"part-{number}.parquet", ENCODED[part], LABELS[part])
    one = source(tmp_path)
    assert everything(one) == WHOLE
    rows = one.open(3)(np.arange(8)).facts["place"]
    assert len(set(rows)) == 8


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"),
        ("train/0.parquet", "test/0.parquet"),
        ("training.parquet", "validation.parquet"),
    ],
)
def test_files_named_after_splits_are_the_splits(tmp_path, train, test):
    parquet(tmp_path / train, ENCODED[:6], LABELS[:6])
    parquet(tmp_path / test, ENCODED[6:], LABELS[6:])
    one = source(tmp_path)
    assert one.available() == 6
    assert one.model_copy(update={"split": "test"}).available() == 4
    assert everything(one) == WHOLE


def test_labels_may_be_left_out(tmp_path):
    one = source(parquet(tmp_path / "images.parquet"), label_column=None)
    assert one.classes(8) is None
    assert (one.open(0)(np.arange(8)).label_B == -1).all()


def test_a_missing_column_is_named_with_the_nearest(tmp_path):
    path = parquet(tmp_path / "images.parquet")
    with pytest.raises(DataError) as caught:
        source(path, label_column="labels").available()
    assert str(caught.value) == (
        f"unknown column of {path}, known are image, label; got 'labels'; the nearest known name is 'label'"
    )
    with pytest.raises(DataError, match="got 'img'"):
        source(path, image_column="img").available()


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ([0, 1, 2, -1, 0, 1, 2, 3, 4, 5], r"label out of range 0\.\.5; got -1 in row 3"),
        ([0.5] * COUNT, "labels must be whole numbers; got float64"),
        (["cat"] * COUNT, "labels must be whole numbers"),
        ([None, *[1] * 9], "labels must be whole numbers"),
    ],
)
def test_a_wrong_label_is_refused_and_its_column_named(tmp_path, labels, says):
    path = parquet(tmp_path / "images.parquet", labels=labels)
    with pytest.raises(DataError, match=f"^{path}: column label: {says}"):
        source(path).available()


def test_a_label_that_cannot_be_a_class_is_refused(tmp_path):
    path = parquet(tmp_path / "images.parquet", labels=[*LABELS[:-1], 2**40])
    with pytest.raises(DataError, match="row 9"):
        source(path).class_count()


@pytest.mark.parametrize("images", [[None] * COUNT, [[1, 2]] * COUNT, [{"bytes": None, "path": "a.png"}] * COUNT])
def test_a_column_that_holds_no_images_is_refused_with_a_row(tmp_path, images):
    path = parquet(tmp_path / "images.parquet", images)
    one = source(path)
    with pytest.raises(DataError, match=rf"^{path}: row \d: column image holds \w+, not an encoded image$"):
        one.open(0)(np.array([0]))


def test_bytes_that_are_no_image_name_their_row(tmp_path):
    one = source(parquet(tmp_path / "train.parquet", [b"no"] * COUNT))
    with pytest.raises(DataError, match=r"train.parquet: row 4: is not an image that can be read \([^\n]*\)$"):
        one.catalogue().decode(4)


def test_a_row_that_is_no_image_is_found_before_anything_starts(tmp_path):
    source(parquet(tmp_path / "images.parquet")).verify()
    wrong = parquet(tmp_path / "wrong.parquet", [*ENCODED[:-1], b"no"])
    with pytest.raises(DataError, match=rf"^{wrong}: row 9: is not an image that can be read"):
        source(wrong).verify()


def test_the_first_of_several_files_may_be_empty(tmp_path):
    parquet(tmp_path / "0.parquet", pa.array([], pa.binary()), pa.array([], pa.int64()))
    parquet(tmp_path / "1.parquet")
    assert source(tmp_path).available() == 8
    source(tmp_path).verify()


@pytest.mark.parametrize("data", [b"", b"PAR1", b"hello" * 100])
def test_what_is_not_parquet_is_refused_in_one_line(tmp_path, data):
    (tmp_path / "images.parquet").write_bytes(data)
    with pytest.raises(DataError, match=r"images.parquet: is not a Parquet file \([^\n]*\)$"):
        source(tmp_path / "images.parquet").available()


def test_a_damaged_page_of_images_is_refused_in_one_line(tmp_path):
    path = parquet(tmp_path / "images.parquet")
    data = bytearray(path.read_bytes())
    data[4:24] = bytes(20)  # the header of the first page: images
    path.write_bytes(data)
    one = source(path)
    assert one.available() == 8
    with pytest.raises(DataError, match=r"^[^\n]*images.parquet[^\n]*$"):
        one.catalogue()


def test_a_folder_may_have_an_equals_sign_in_its_name(tmp_path):
    assert source(parquet(tmp_path / "label=3" / "images.parquet").parent).available() == 8


def test_a_folder_without_the_split_is_refused(tmp_path):
    parquet(tmp_path / "train.parquet")
    with pytest.raises(DataError, match=f"^{tmp_path}: holds no Parquet file of the test split$"):
        source(tmp_path, split="test").available()


def test_other_rows_are_another_origin(tmp_path):
    first, second = (
        parquet(tmp_path / name / "images.parquet", labels=labels)
        for name, labels in (("a", LABELS), ("b", LABELS[::-1]))
    )
    again = parquet(tmp_path / "c" / "images.parquet")
    assert source(first).origin() == source(again).origin() != source(second).origin()


# Arrays --------------------------------------------------------------------------------------------------------------


def arrays(folder, save=np.savez, **content):
    file = folder / "images.npz"
    save(file, **content)
    return Arrays(path=str(file))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_x_and_y_are_split_here(tmp_path, save):
    one = arrays(tmp_path, save, x=PIXELS, y=np.array(LABELS))
    assert one.available() == 8
    assert one.shape == (8, 8, 1)
    assert one.classes(8) == 3
    assert everything(one) == WHOLE


def test_the_layout_of_keras_keeps_its_own_splits(tmp_path):
    colour = np.repeat(PIXELS[..., None], 3, axis=3)
    labels = np.array(LABELS, np.uint8)
    one = arrays(tmp_path, x_train=colour[:6], y_train=labels[:6], x_test=colour[6:], y_test=labels[6:])
    assert one.shape == (8, 8, 3)
    test = one.model_copy(update={"split": "test"})
    assert [one.available(), test.available()] == [6, 4]
    for part, start in ((one, 0), (test, 6)):
        samples = part.open(1)(np.arange(4))
        assert (samples.image_BHWC == colour[start + samples.facts["place"]]).all()
        assert (samples.label_B == labels[start + samples.facts["place"]]).all()


def test_arrays_without_y_have_no_labels(tmp_path):
    one = arrays(tmp_path, x=PIXELS)
    assert one.classes(8) is None
    assert (one.open(0)(np.arange(8)).label_B == -1).all()


class Trap:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.mkdir, (self.file,)


def test_pickled_objects_are_refused_and_never_run(tmp_path):
    sprung = tmp_path / "sprung"
    one = arrays(tmp_path, x=np.array([Trap(str(sprung))] * 2, object), y=np.arange(2))
    with pytest.raises(DataError, match=r"is not a numpy \.npz file of plain arrays"):
        one.available()
    with pytest.raises(DataError):
        arrays(tmp_path, x=PIXELS[:2], y=np.array([Trap(str(sprung))] * 2, object)).available()
    assert not sprung.exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"x": PIXELS.astype(np.float32)}, r"x must be uint8 of shape .*; got float32 \(10, 8, 8"),
        ({"x": PIXELS[0]}, r"x must be .*; got uint8 \(8, 8\)"),
        ({"x": PIXELS[..., None].repeat(4, 3)}, r"x must be .*; got uint8 \(10, 8, 8, 4\)"),
        ({"x": PIXELS, "y": np.arange(9)}, r"y must hold one label for each of 10 images; got \(9,\)"),
        ({"x": PIXELS, "y": np.arange(10) - 1}, r"y: label out of range 0\.\.8; got -1 in row 0"),
        ({"x": PIXELS, "y": np.arange(10.0)}, "y: labels must be whole numbers; got float64"),
        ({"X": PIXELS}, r"unknown array, known are X; got 'x'"),
        ({"x_train": PIXELS[:0], "y_train": np.arange(0)}, "y: is empty"),
    ],
)
def test_arrays_of_another_form_are_refused(tmp_path, content, says):
    one = arrays(tmp_path, **content)
    with pytest.raises(DataError, match=rf"^{one.path}: {says}"):
        one.available()


@pytest.mark.parametrize("data", [b"hello", b"", b"PK\x03\x04" + bytes(100)])
def test_what_is_not_an_npz_is_refused_in_one_line(tmp_path, data):
    (tmp_path / "images.npz").write_bytes(data)
    with pytest.raises(DataError, match=r"images.npz: is not a numpy \.npz file of plain arrays \([^\n]*\)$"):
        Arrays(path=str(tmp_path / "images.npz")).available()


def test_a_bare_npy_is_refused_in_one_line(tmp_path):
    np.save(tmp_path / "images.npy", PIXELS)
    with pytest.raises(DataError, match=r"images.npy: is not a numpy \.npz file"):
        Arrays(path=str(tmp_path / "images.npy")).available()


def test_damaged_arrays_are_refused_or_read_and_nothing_else(tmp_path):
    rng = np.random.default_rng(3)
    file = tmp_path / "whole.npz"
    np.savez_compressed(file, x=PIXELS)
    whole, refused = file.read_bytes(), []
    for number in range(300):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] = rng.integers(256)
        (tmp_path / f"{number}.npz").write_bytes(damaged)
        try:
            Arrays(path=str(tmp_path / f"{number}.npz")).available()
        except DataError as error:
            refused.append(str(error))
    assert refused
    assert all(len(refusal.splitlines()) == 1 for refusal in refused)


def test_a_path_that_is_not_there_names_the_nearest(tmp_path):
    arrays(tmp_path, x=PIXELS)
    with pytest.raises(SpecError, match=r"^path: unknown path, .* the nearest known name is '.*/images.npz'$"):
        Arrays.parse({"path": str(tmp_path / "image.npz")})
