"""Views of real images: gray, edges, black and white, by the arithmetic of the source of one photograph."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from scaleback.core.errors import SpecError
from scaleback.sources import REAL_SOURCES
from scaleback.sources.folder import Folder
from scaleback.sources.looks import looked_at
from scaleback.sources.named import Digits
from scaleback.sources.one_photo import OnePhoto
from scaleback.sources.real import decode_file
from scaleback.sources.tables import Arrays, Parquet

VIEWS = "gray", "canny", "binary"
SIZE = 48


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Two photographs as files, resized by no one yet."""
    folder = tmp_path_factory.mktemp("photographs")
    for name in ("china", "flower"):
        (folder / "all").mkdir(exist_ok=True)
        (folder / "all" / f"{name}.jpg").write_bytes(OnePhoto(photo=name).file.read_bytes())
    return folder


def images(source):
    """The images of both splits."""
    return {
        image.tobytes()
        for split in ("train", "test")
        for part in [source.model_copy(update={"split": split})]
        for image in part.open(0)(np.arange(part.available())).image_BHWC
    }


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_view_is_what_one_photograph_looks_like(photographs, view, channels):
    source = Folder(path=str(photographs), size_px=SIZE, channels=channels, view=view, test_share=0.5)
    assert source.shape == (SIZE, SIZE, 1)
    readers = [OnePhoto(photo=name, look=view, size_px=SIZE).open(0) for name in ("china", "flower")]
    assert images(source) == {reader._photo_HWC.astype(np.uint8).tobytes() for reader in readers}


@pytest.mark.parametrize("view", VIEWS)
def test_tables_are_seen_as_folders_are(photographs, tmp_path, view):
    files = sorted((photographs / "all").iterdir())
    pq.write_table(pa.table({"image": [file.read_bytes() for file in files], "label": [0, 0]}), tmp_path / "p.parquet")
    expected = Folder(path=str(photographs), size_px=SIZE, view=view, test_share=0.5)
    assert images(Parquet(path=str(tmp_path / "p.parquet"), size_px=SIZE, view=view, test_share=0.5)) == images(
        expected
    )


def test_gray_of_an_array_is_luma_by_hand():
    rng = np.random.default_rng(0)
    colour = rng.integers(0, 256, (5, 7, 3), np.uint8)
    gray = looked_at(colour, "gray")
    assert gray.shape == (5, 7, 1)
    by_hand = colour.astype(float) @ [0.299, 0.587, 0.114]
    assert abs(gray[..., 0] - by_hand).max() <= 0.51


def test_binary_is_above_the_median_by_hand():
    image = np.random.default_rng(1).integers(0, 256, (6, 7, 1), np.uint8)
    middle = sorted(image.ravel().tolist())[20:22]
    by_hand = [[255 if value > sum(middle) / 2 else 0 for value in row] for row in image[..., 0].tolist()]
    assert looked_at(image, "binary")[..., 0].tolist() == by_hand
    assert not looked_at(np.full((6, 7, 1), 90, np.uint8), "binary").any()


def test_edges_lie_where_the_gray_changes():
    image = np.zeros((32, 32, 1), np.uint8)
    image[:, 16:] = 200
    edges = looked_at(image, "canny")
    assert set(np.unique(edges)) == {0, 255}
    columns = np.flatnonzero(edges[8:-8, :, 0].any(axis=0))
    assert set(columns) <= {15, 16}
    assert len(columns)


def test_colour_arrays_are_seen_in_gray(tmp_path):
    colour = np.random.default_rng(2).integers(0, 256, (6, 16, 16, 3), np.uint8)
    np.savez(tmp_path / "x.npz", x=colour, y=np.arange(6) % 2)
    source = Arrays(path=str(tmp_path / "x.npz"), view="gray")
    assert source.shape == (16, 16, 1)
    stream = io.BytesIO()
    Image.fromarray(colour[0]).save(stream, "PNG")
    assert decode_file(stream, 16, 1, "").tobytes() in images(source)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("kind", [kind for kind in REAL_SOURCES if kind != "members"])
def test_every_real_source_has_views(kind, view, tmp_path):
    if kind == "huggingface":
        pytest.importorskip("datasets")
    source = REAL_SOURCES[kind].example(tmp_path)
    if view == "canny" and source.own_shape[0] < 16:
        with pytest.raises(SpecError, match=r"^view: must not be canny where a side is below 16 px, .*; got 'canny'$"):
            type(source).parse({**source.plain(), "view": view})
        return
    seen = source.replace({"view": view})
    assert seen.shape == (*source.own_shape[:2], 1)
    assert seen.slug != source.slug
    image_BHWC = seen.open(0)(np.arange(3)).image_BHWC
    assert image_BHWC.shape == (3, *seen.shape)
    assert view == "gray" or set(np.unique(image_BHWC)) <= {0, 255}


def test_an_image_as_it_is_changes_no_address():
    assert "view" not in Digits().canonical()
    assert Digits(view="gray").slug != Digits().slug
