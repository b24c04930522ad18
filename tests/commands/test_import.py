"""Folders that generators and exports wrote come back from one file: every byte, label and fact."""

import io
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from scaleback.cli import main
from scaleback.commands import import_folder
from scaleback.core.errors import DataError
from scaleback.sources.folder import Folder
from scaleback.sources.fractaldb import FractalDB
from scaleback.sources.named import Digits
from scaleback.sources.spectrum import Spectrum
from scaleback.sources.tables import Parquet


@pytest.fixture
def desk(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(import_folder, "ROWS", 5)
    return tmp_path


def written(folder, names, size=16, mode="L"):
    """An image a name, all different; how many."""
    rng = np.random.default_rng(0)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (size, size) if mode == "L" else (size, size, 3), np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return len(names)


def imported(capsys, *words):
    assert main(["import", *words, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    return facts, pq.read_table(facts["file"])


def pixels(data):
    return np.asarray(Image.open(io.BytesIO(data)))


def test_1p_fracs_classes_are_numbered_as_numbers(desk, capsys):
    """With two digits at least, 99 is followed by 100: as text "100" would lie between "10" and "11"."""
    names = [f"{i:02d}/{i:02d}_{i:02d}_count_0_flip0.png" for i in range(112)]
    written(desk / "sigma3.5", names)
    facts, table = imported(capsys, "sigma3.5")
    assert (facts["images"], facts["classes"], facts["size_px"]) == (112, 112, [[16, 16], [16, 16]])
    assert facts["file"] == "sigma3.5.parquet"
    assert table["index"].to_pylist() == table["label"].to_pylist() == list(range(112))
    assert [data.as_py() for data in table["image"]] == [(desk / "sigma3.5" / name).read_bytes() for name in names]
    assert table["category"].to_pylist() == table["weight_row"].to_pylist() == list(range(112))
    assert set(table["count"].to_pylist()) == set(table["flip"].to_pylist()) == {0}


def test_fractaldbs_names_become_facts(desk, capsys):
    rows = [(cat, ww, k, m) for cat in (7, 10, 9) for ww in (0, 24) for k in (0, 9, 10) for m in range(4)]
    written(desk / "db", [f"{c:05d}/{c:05d}_{ww:02d}_count_{k}_flip{m}.png" for c, ww, k, m in rows], mode="RGB")
    facts, table = imported(capsys, "db", "--out", "fractals.parquet")
    assert facts["facts"] == ["category", "weight_row", "count", "flip"]
    found = list(zip(*(table[name].to_pylist() for name in facts["facts"]), strict=True))
    assert found == sorted(rows)
    assert table["label"].to_pylist() == [[7, 9, 10].index(cat) for cat, *_ in sorted(rows)]
    record = json.loads(pq.read_schema("fractals.parquet").metadata[import_folder.METADATA])
    assert record == {"folder": "db", "class_names": ["00007", "00009", "00010"]}


def test_the_parquet_source_reads_what_the_folder_source_reads(desk, capsys):
    written(desk / "all", [f"{name}/{number}.png" for name in ("2", "10", "9") for number in range(6)])
    imported(capsys, "all", "--out", "all.parquet")
    for split in ("train", "test"):
        fields = {"size_px": 16, "channels": 1, "split": split}
        readers = [one.open(3) for one in (Folder(path="all", **fields), Parquet(path="all.parquet", **fields))]
        first, second = (reader(np.arange(14 if split == "train" else 4)) for reader in readers)
        assert (first.image_BHWC == second.image_BHWC).all()
        assert (first.label_B == second.label_B).all()


def test_names_that_tell_nothing_and_other_files_are_passed_over(desk, capsys):
    written(desk / "mixed", ["1/00001_03_count_2_flip1.png", "1/a.png", "2/b.png", "3/.hidden.png"])
    (desk / "mixed" / "1" / "notes.txt").write_text("")
    (desk / "mixed" / "notes.txt").write_text("")
    facts, table = imported(capsys, "mixed")
    assert (facts["images"], facts["classes"]) == (3, 2)
    assert table["weight_row"].to_pylist() == [3, None, None]
    written(desk / "plain", ["1/a.png"])
    assert imported(capsys, "plain")[0]["facts"] == []


def test_images_side_by_side_have_no_label(desk, capsys):
    written(desk / "flat", [f"{number}.png" for number in range(12)])
    facts, table = imported(capsys, "flat")
    assert facts["classes"] is None
    assert table.column_names == ["index", "image"]
    assert [data.as_py() for data in table["image"]] == [(desk / "flat" / f"{n}.png").read_bytes() for n in range(12)]
    assert Parquet(path="flat.parquet", size_px=16, label_column=None).available() == 10


FRACTALS = FractalDB(categories=3, points=2_000, size_px=32)
SET = ["--set", "categories=3", "--set", "points=2000", "--set", "size_px=32"]


@pytest.mark.parametrize(
    ("source", "settings", "count"),
    [(FRACTALS, SET, 14), (Digits(), [], 7), (Spectrum(size_px=16), ["--set", "size_px=16"], 6)],
    ids=["fractals", "a few of ten classes", "unlabelled"],
)
def test_export_and_import_lose_nothing(source, settings, count, desk, capsys):
    words = ["export", source.short, *settings, "--images", str(count), "--seed", "3", "--out", "made", "--json"]
    assert main(words) == 0
    capsys.readouterr()
    facts, table = imported(capsys, "made", "--out", "made.parquet")
    samples = source.open(source.population_seed(3))(np.arange(count))
    assert table["index"].to_pylist() == list(range(count))
    if source.classes(count) is None:
        assert "label" not in table.column_names
    else:
        assert table["label"].to_pylist() == samples.label_B.tolist()
        assert facts["classes"] == len(set(samples.label_B.tolist()))
    for data, image in zip(table["image"], samples.image_BHWC, strict=True):
        assert (pixels(data.as_py()).reshape(image.shape) == image).all()
    assert facts["facts"] == list(samples.facts)
    for name, value in samples.facts.items():
        np.testing.assert_array_equal(np.array(table[name].to_pylist()), value)
    record = json.loads(table.schema.metadata[import_folder.METADATA])
    assert record == json.loads((desk / "made" / "_scaleback.json").read_text())
    assert type(source).parse(record["source"]) == source


@pytest.mark.parametrize("form", ["JPEG", "BMP", "GIF", "TIFF", "WEBP"])
def test_other_formats_are_taken_byte_for_byte(form, desk, capsys):
    (desk / "other" / "1").mkdir(parents=True)
    file = desk / "other" / "1" / f"x.{form.lower()}"
    Image.fromarray(np.arange(20 * 30, dtype=np.uint16).astype(np.uint8).reshape(20, 30)).save(file, form)
    facts, table = imported(capsys, "other")
    assert facts["size_px"] == [[30, 20], [30, 20]]
    assert table["image"][0].as_py() == file.read_bytes()


def refused(capsys, desk, *words):
    before = sorted(desk.rglob("*"))
    assert main(["import", *words]) == 2
    assert sorted(desk.rglob("*")) == before
    (line,) = (line for line in capsys.readouterr().err.splitlines() if not line.startswith("["))  # that is progress
    return line.removeprefix("scaleback: ")


@pytest.mark.parametrize("part", [0, 0.1, 0.5, 0.95])
@pytest.mark.parametrize("form", ["png", "jpg"])
def test_a_damaged_image_is_named_and_nothing_is_written(part, form, desk, capsys):
    written(desk / "db", [f"{name}/{number}.{form}" for name in "12" for number in range(6)])
    file = desk / "db" / "2" / f"4.{form}"
    file.write_bytes(file.read_bytes()[: int(part * file.stat().st_size)])
    line = refused(capsys, desk, "db", "--out", "db.parquet")
    assert line.startswith(f"db/2/4.{form}: is not an image that can be read")


def test_a_png_whose_bytes_were_changed_is_noticed(desk, capsys):
    written(desk / "db", ["1/1.png"])
    file = desk / "db" / "1" / "1.png"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert refused(capsys, desk, "db").startswith("db/1/1.png: is not an image that can be read")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["dbb"], "FOLDER: unknown folder, known are "),
        (["x" * 300], "FOLDER: unknown folder"),
        (["db/1/0.png"], "FOLDER: unknown folder"),
        (["db", "--out", "db"], "--out: must be a new file in a folder that is there; got 'db'"),
        (["db", "--out", "db/1/0.png"], "--out: must be a new file in a folder that is there; got 'db/1/0.png'"),
        (["db", "--out", "no/x.parquet"], "--out: must be a new file in a folder that is there; got 'no/x.parquet'"),
        (["db", "--out", "/proc/x.parquet"], "--out: its folder cannot be written ("),
        (["empty"], "empty: holds no image (.bmp, .gif"),
        (["nested"], "nested/1: must hold images and no folders; got 'deep'"),
        (["both"], "both: must hold images or folders of images, not both; got '0.png beside 1'"),
        (["db", "--otu", "x"], "import: unknown option, known are --help, --json, --out; got '--otu'"),
        ([], "import: the following arguments are required: folder"),
    ],
)
def test_what_cannot_be_imported_is_refused_in_one_line_and_nothing_is_written(words, line, desk, capsys):
    written(desk, ["db/1/0.png", "nested/1/deep/0.png", "both/0.png", "both/1/0.png"])
    (desk / "empty" / "1").mkdir(parents=True)
    assert refused(capsys, desk, *words).startswith(line)


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (lambda made: next(made.rglob("*.png")).unlink(), "made: must hold the 7 images of facts.parquet; got 6"),
        (lambda made: (made / "_scaleback.json").unlink(), "made: must hold _scaleback.json and facts.parquet as"),
        (lambda made: (made / "_scaleback.json").write_text("{"), "made: must hold _scaleback.json and facts.parquet"),
        (lambda made: (made / "facts.parquet").write_text("PAR1"), "made: must hold _scaleback.json and facts.parquet"),
    ],
)
def test_a_damaged_export_is_refused(damage, line, desk, capsys):
    assert main(["export", "digits", "--images", "7", "--out", "made", "--json"]) == 0
    damage(desk / "made")
    capsys.readouterr()
    assert refused(capsys, desk, "made", "--out", "x.parquet").startswith(line)


def test_an_interrupted_import_leaves_nothing(desk, capsys, monkeypatch):
    written(desk / "db", [f"1/{number}.png" for number in range(9)])
    before = sorted(desk.rglob("*"))
    read, seen = import_folder.read_through, []

    def interrupt(*arguments):
        seen.append(arguments)
        if len(seen) == 7:
            raise KeyboardInterrupt
        return read(*arguments)

    monkeypatch.setattr(import_folder, "read_through", interrupt)
    assert main(["import", "db"]) == 130
    assert sorted(desk.rglob("*")) == before


def test_images_are_held_a_few_at_a_time_whatever_their_classes(desk):
    written(desk / "db", [f"{name}/{number}.png" for name in "12" for number in range(13)])
    sizes = [batch.num_rows for batch, _ in import_folder.ByClass(desk / "db").rows()]
    assert sizes == [5, 5, 5, 5, 5, 1]


def test_one_row_a_line_of_plain_text(desk, capsys):
    written(desk / "db", ["1/0.png"])
    written(desk / "db", ["2/0.png"], size=20)
    assert main(["import", "db"]) == 0
    assert capsys.readouterr().out.startswith("2 images of 16 x 16 to 20 x 20, 2 classes, ")


def test_a_folder_that_goes_away_while_it_is_read_is_one_line(desk):
    written(desk / "db", ["1/0.png"])
    layout = import_folder.ByClass(desk / "db")
    (desk / "db" / "1" / "0.png").unlink()
    (desk / "db" / "1").rmdir()
    with pytest.raises(DataError, match="cannot be read"):
        list(layout.rows())
