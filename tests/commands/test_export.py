"""Exports come back whole: the same pixels under the same index and label, whatever the format."""

import io
import json
import tarfile

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from scaleback.cli import main
from scaleback.commands import export as export_module
from scaleback.sources.folder import Folder
from scaleback.sources.fractal_scenes import MultiInstanceFractals
from scaleback.sources.one_fractal import OnePFrac
from scaleback.sources.spectrum import Spectrum
from scaleback.sources.tables import Parquet

FRACTAL = OnePFrac(size_px=32, points=2_000, min_fill=0.0)
IMAGES = 14


@pytest.fixture
def desk(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(export_module, "BATCH_IMAGES", 6)
    monkeypatch.setattr(export_module, "SHARD_IMAGES", 5)
    return tmp_path


def exported(form, capsys, source=FRACTAL):
    fields = [f"--set={name}={value}" for name, value in source.plain().items() if name != "kind" and value is not None]
    chosen = [
        text
        for text in fields
        if "size_px" in text or "points" in text or "min_fill" in text or "channels" in text or "instances" in text
    ]
    words = [
        "export",
        source.short,
        *chosen,
        "--images",
        str(IMAGES),
        "--seed",
        "3",
        "--format",
        form,
        "--out",
        "made",
        "--json",
    ]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["images"] == IMAGES
    return source.open(3)(np.arange(IMAGES))


def pixels(data):
    image = np.asarray(Image.open(io.BytesIO(data)))
    return image[..., None] if image.ndim == 2 else image


def test_the_record_makes_the_images_again(desk, capsys):
    samples = exported("folder", capsys)
    record = json.loads((desk / "made" / "_scaleback.json").read_text())
    again = OnePFrac.parse(record["source"]).open(record["seed"])(np.arange(record["images"]))
    assert (again.image_BHWC == samples.image_BHWC).all()
    assert record["realised"]["base"]


def test_a_folder_is_read_back_with_its_labels_in_numeric_order(desk, capsys):
    samples = exported("folder", capsys)
    files = sorted((desk / "made").rglob("*.png"))
    assert [int(file.stem) for file in files] == list(range(IMAGES))
    assert [int(file.parent.name) for file in files] == samples.label_B.tolist()
    assert all(
        (pixels(file.read_bytes()) == image).all() for file, image in zip(files, samples.image_BHWC, strict=True)
    )
    facts = pq.read_table(desk / "made" / "facts.parquet").to_pydict()
    assert np.array(facts["system"]) == pytest.approx(samples.facts["system"])
    back = Folder(path=str(desk / "made"), size_px=32, channels=1, test_share=0.01)
    assert back.class_count() == IMAGES


def test_parquet_is_read_back(desk, capsys):
    samples = exported("parquet", capsys)
    table = pq.read_table(desk / "made")
    assert len(list((desk / "made").glob("*.parquet"))) == 3
    assert table["index"].to_pylist() == list(range(IMAGES))
    assert table["label"].to_pylist() == samples.label_B.tolist()
    assert all(
        (pixels(data.as_py()) == image).all() for data, image in zip(table["image"], samples.image_BHWC, strict=True)
    )
    assert Parquet(path=str(desk / "made"), size_px=32, channels=1, test_share=0.1).class_count() == IMAGES


def test_web_data_sets_hold_every_sample(desk, capsys):
    samples = exported("webdataset", capsys)
    found = {}
    for shard in sorted((desk / "made").glob("*.tar")):
        with tarfile.open(shard) as tar:
            found |= {member.name: tar.extractfile(member).read() for member in tar}
    assert len(found) == 3 * IMAGES
    for index in range(IMAGES):
        assert (pixels(found[f"{index:08d}.png"]) == samples.image_BHWC[index]).all()
        assert int(found[f"{index:08d}.cls"]) == samples.label_B[index]
        assert json.loads(found[f"{index:08d}.json"])["index"] == index


SEVERAL = MultiInstanceFractals(size_px=32, points=1_000, instances=(1, 3))


def labels_of(samples):
    return [[one for one in label if one >= 0] for label in samples.label_B.tolist()]


def test_images_of_several_classes_come_with_all_of_them(desk, capsys):
    samples = exported("folder", capsys, SEVERAL)
    facts = pq.read_table(desk / "made" / "facts.parquet")
    assert facts["labels"].to_pylist() == labels_of(samples)
    assert max(map(len, facts["labels"].to_pylist())) > 1
    assert (desk / "made" / "00000003.png").is_file()  # no one class has a folder


@pytest.mark.parametrize("source", [FRACTAL, Spectrum(size_px=16), SEVERAL], ids=["labelled", "unlabelled", "several"])
def test_hugging_face_reads_its_folder(source, desk, capsys):
    datasets = pytest.importorskip("datasets")
    samples = exported("huggingface", capsys, source)
    data = datasets.load_dataset(str(desk / "made"), split="train", cache_dir=str(desk / "cache"))
    assert len(data) == IMAGES
    several = samples.label_B.ndim == 2
    expected = labels_of(samples) if several else samples.label_B.tolist()
    for place, (row, image) in enumerate(zip(data, samples.image_BHWC, strict=True)):
        made = np.asarray(row["image"])
        assert (made.reshape(image.shape) == image).all()
        assert (row["labels"] if several else row.get("label", -1)) == expected[place]
        for name, value in samples.facts.items():
            np.testing.assert_array_equal(np.array(row[name]), value[place])
    assert "_scaleback.json" in (desk / "made" / "README.md").read_text()


def test_images_without_labels_lie_side_by_side(desk, capsys):
    exported("folder", capsys, Spectrum(size_px=16))
    assert len(list((desk / "made").glob("*.png"))) == IMAGES


def test_a_mixture_with_an_unlabelled_part_is_unlabelled_throughout(desk, capsys):
    parts = '{"kind": "perlin", "size_px": 16, "cells": 2, "octaves": 2}', '{"kind": "point-cloud", "size_px": 16}'
    mixed = [f"--set=first={parts[0]}", f"--set=second={parts[1]}", "--set=share=0.5", "--set=labels=shared"]
    assert main(["export", "mixture", *mixed, "--images", "8", "--format", "folder", "--out", "made"]) == 0
    assert len(list((desk / "made").glob("*.png"))) == 8


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("export 1p-frac --format webdatset", "--format: unknown format"),
        ("export 1p-frac --images 0", "--images: must be at least 1; got 0"),
        ("export digits --images 5000", "--images: the source has 797; got 5,000"),
        ("export 1p-frac --out there", "--out: must be a new folder in a folder that is there; got 'there'"),
        (f"export 1p-frac --out {'x' * 300}", "--out: must be a new folder in a folder that is there; got 'xxx"),
        ("export 1p-frac --out /proc/x", "--out: its folder cannot be written ("),
        ("export 1p-frac --out no/where", "--out: must be a new folder in a folder that is there; got 'no/where'"),
    ],
)
def test_what_cannot_be_exported_is_refused_and_nothing_is_written(words, line, desk, capsys):
    (desk / "there").mkdir()
    assert main(words.split()) == 2
    assert capsys.readouterr().err.startswith(f"scaleback: {line}")
    assert [path.name for path in desk.iterdir()] == ["there"]
