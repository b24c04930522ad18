"""The command line, run as a user runs it: what is wrong is refused in one line a fault, and nothing is written."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from scaleback.cli import STUDY_VERBS, VERBS, main
from scaleback.commands import show
from scaleback.evaluations import EVALUATIONS
from scaleback.sources import REAL_SOURCES, SOURCES
from scaleback.sources.population import FILE, Population, render_block
from scaleback.study.axes import parse_value
from scaleback.study.files import load_study, study_from_yaml, study_to_yaml

REPOSITORY = Path(__file__).resolve().parents[2]
DEFAULT = load_study("scaling_sweep")
PIXELS = np.arange(40 * 64, dtype=np.uint8).reshape(40, 8, 8)
LONG = "l" * 300  # a file name may have 255 letters


def images(folder, count):
    folder.mkdir(parents=True)
    for number in range(count):
        Image.fromarray(PIXELS[number]).save(folder / f"{number}.png")


def encoded(folder):
    return (folder / "0.png").read_bytes()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Data and studies, right and wrong, that the arguments name."""
    root = tmp_path_factory.mktemp("cli")
    for name in ("1", "2"):
        images(root / "pictures" / name, 10)
    images(root / "broken" / "1", 12)
    (root / "broken" / "1" / "x.png").write_text("no image")
    images(root / "unsorted", 12)
    images(root / "²" / "²", 12)
    images(root / "😀" / "1", 12)
    np.savez(root / "labels.npz", x=PIXELS, y=np.append(np.arange(39) % 2, -1))
    np.savez(root / "floats.npz", x=PIXELS, y=np.arange(40) / 2)
    np.savez(root / "single.npz", x=PIXELS[:2], y=np.zeros(2, np.int64))
    np.savez(root / "words.npz", pictures=PIXELS)
    np.save(root / "array.npy", PIXELS)
    (root / "array.npy").rename(root / "array.npz")
    (root / "empty.npz").touch()
    (root / "text.npz").write_text("text")
    rows = {"image": [encoded(root / "pictures" / "1")] * 20, "label": [0, 1] * 9 + [0, -3]}
    pq.write_table(pa.table(rows), root / "labels.parquet")
    pq.write_table(pa.table({**rows, "image": [b"no image"] * 20, "label": [0, 1] * 10}), root / "broken.parquet")
    (root / "text.parquet").write_text("text")
    (root / "garbage.yaml").write_text("a: [1, {")
    (root / "date.yaml").write_text("cpus: 2020-13-45")
    (root / "wrong.yaml").write_text(
        study_to_yaml(DEFAULT).replace(f"delta: {DEFAULT.base.source.delta}", "delta: wide", 1)
    )
    (root / "typed.py").write_text("from scaleback.study.study import Search\nSTUDY = Search(trials=0)\n")
    (root / "file").touch()
    return root


@pytest.fixture
def desk(files, monkeypatch):
    monkeypatch.chdir(files)
    return files


def tree(folder):
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(folder.rglob("*"))}


def refused(arguments, desk, capsys, study=None):
    """The lines on standard error of a command that is refused."""
    before = tree(desk)
    assert main(arguments, study=study) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert tree(desk) == before
    lines = said.err.splitlines()
    assert all(line.startswith("scaleback: ") for line in lines)
    return lines


def done(arguments, capsys, study=None):
    """Standard output of a command that is not."""
    assert main(arguments, study=study) == 0
    said = capsys.readouterr()
    assert said.err == ""
    return said.out


WRONG = [
    # verbs and options
    ("", "a verb is needed: plan, run, status"),
    (
        "paln",
        "unknown verb, known are doctor, export, fit, import, plan, report, run ... got 'paln'; nearest 'plan'",
    ),
    ("plan --axsi x", "got '--axsi'; nearest '--axis'"),
    ("status --yaml", "status: unknown option, known are --axis"),
    ("plan --json=1", "--json"),
    ("plan --axis", "--axis: expected one argument"),
    ("plan --trials many", "--trials: invalid int value: 'many'"),
    ("plan scaling_sweep other", "unknown option, "),
    (
        "plan scaling_swep",
        "study: unknown study ... got 'scaling_swep'; nearest 'scaling_sweep'",
    ),
    ("plan garbag.yaml", "got 'garbag.yaml'; nearest 'garbage.yaml'"),
    # fields and values
    (
        "plan --set source.dleta=0.1",
        "source.dleta: unknown field, known are base_min_fill, delta ... got 'dleta'; nearest 'delta'",
    ),
    ("plan --set source.delta=2", "source.delta: must be less than or equal to 1; got 2"),
    ("plan --set source.delta=wide", "source.delta: must be a number; got 'wide'"),
    (
        "plan --set source.mask=filll",
        "source.mask: unknown value, known are fill, fresh, random, stencil; got 'filll'; nearest 'fill'",
    ),
    ("plan --set source=1p-frak", "source: unknown kind, 26 are known; got '1p-frak'; nearest '1p-frac'"),
    ("plan --set objective=clasify", "objective: unknown objective ... got 'clasify'; nearest 'classify'"),
    ("plan --set evaluations.kn.neighbours=3", "evaluations.kn: unknown member ... got 'kn'; nearest 'knn'"),
    (
        "plan --set backbone.model=vit_tiny_patch16_225",
        "backbone.model: ... got 'vit_tiny_patch16_225'; nearest 'vit_tiny_patch16_224'",
    ),
    ("plan --set backbone.heads=3", "backbone.heads: must divide the width of ... got 3"),
    ("plan --set images", "--set: must be FIELD=VALUE; got 'images'"),
    ("plan --set seed.deep=1", "seed: is a value and has no fields; it is 0"),
    ("plan --name Sweep!", "name: must be small letters, digits and dashes, at most 64; got 'Sweep!'"),
    # axes, seeds, search
    ("plan --axis soruce.delta=0.1", "soruce: unknown field ... got 'soruce'; nearest 'source'"),
    ("plan idmm_ladder --axis up_to=crosp", "--axis up_to: unknown case ... got 'crosp'; nearest 'crops'"),
    ("plan --axis source.delta", "--axis: must be FIELD=VALUE,VALUE,... or FIELD=log:LOW..HIGH; got 'source.delta'"),
    ("plan --axis source.delta=lgo:0.1..1", "--axis source.delta: unknown scale ... got 'lgo'; nearest 'log'"),
    ("plan --axis source.delta=log:1..0.1", "--axis source.delta.low: must be below the upper end 0.1; got 1.0"),
    ("plan --axis images=2,2", "--axis images.values: must differ from each other; got 2"),
    ("plan --axis images=2,-2", "images: must be greater than or equal to 0; got -2"),
    ("plan --axis images=int:2..8", "search: needs how to search (trials)"),
    ("plan --seeds x", "--seeds: must be numbers such as 0,1,2 or 0..4; got 'x'"),
    ("plan --seeds 0,", "--seeds: must be numbers such as 0,1,2 or 0..4; got '0,'"),
    ("plan --seeds=-1", "--seeds: must be numbers such as 0,1,2 or 0..4; got '-1'"),
    ("plan --seeds 4..0", "--seeds: must be FIRST..LAST with FIRST at most LAST; got '4..0'"),
    ("plan --seeds 0..99999999999", "--seeds: must be FIRST..LAST"),
    ("plan --measure knn", "--measure: must be EVALUATION.METRIC or EVALUATION.METRIC@IMAGES; got 'knn'"),
    (
        "plan --measure knnn.accuracy",
        "must name an evaluation of finetune, linear, knn, classifier, quality, confidences; got 'knnn'",
    ),
    (
        "plan --measure finetune.accuracy@7",
        "measures.0.images_seen: must be one of 1000, 2000 ... got 7",
    ),
    ("plan --seeds 1,1", "seeds: must be different and not negative; got (1, 1)"),
    ("plan --trials 3", "search: must be left out: no axis is searched"),
    ("plan --search tpe --axis images=int:2..8", "--trials: is required with --search"),
    (
        "plan --search tep --trials 3 --axis images=int:2..8",
        "search.sampler: unknown value ... got 'tep'; nearest 'tpe'",
    ),
    (
        "plan --search tpe --trials=-1 --axis images=int:2..8",
        "search.trials: must be greater than or equal to 1; got -1",
    ),
    (
        "plan --trials 3 --axis images=int:2..8 --fewest source.delta",
        "search.fewest: must be one of the searched axes; got 'source.delta'",
    ),
    (
        "plan --set source=ofdb --trials 3 --axis images=int:2..2000",
        "images: must be at most the 1,000 of source ofdb; got 2000",
    ),
    ("fit --trials 3 --axis images=int:2..8", "fit: is required; set the field of an exhaustive axis in the study"),
    # where
    ("plan --placement laptp", "--placement: unknown placement ... got 'laptp'; nearest 'laptop'"),
    ("plan --placement garbage.yaml", "--placement garbage.yaml: is not plain YAML"),
    ("plan --placement nowhere.yaml", "--placement: unknown placement ... got 'nowhere.yaml'"),
    # the task
    ("plan --target digts", "--target: unknown source or path ... got 'digts'; nearest 'digits'"),
    ("plan --target pictres", "--target: unknown source or path ... got 'pictres'; nearest 'pictures'"),
    ("plan --target pictures", "target.images: must be at most the 16 of the train split; got 100"),
    ("plan --target pictures --set target.images=1", "target.images: must give each of the 2 classes an image; got 1"),
    ("plan --target unsorted", "target.data: must have labels; got 'folder'"),
    ("plan --target pictures/1/0.png", "pictures/1/0.png: must be a folder"),
    ("plan --target labels.npz", "target.data: labels.npz: y: label out of range 0..1; got -1 in row 39"),
    ("plan --target floats.npz", "target.data: floats.npz: y: labels must be whole numbers; got float64"),
    ("plan --target words.npz", "target.data: words.npz: unknown array, known are pictures; got 'x'"),
    ("plan --target text.npz", "target.data: text.npz: is not a numpy .npz file"),
    (
        "plan --target labels.parquet",
        "target.data: labels.parquet: column label: label out of range 0..1; got -3 in row 19",
    ),
    ("plan --target text.parquet", "target.data: text.parquet: is not a Parquet file"),
    ('plan --set recipe={"preset":"small","clip_norm":-1e-3}', "recipe.clip_norm: must be greater than 0; got -0.001"),
    ("plan --set target.images=798", "target.images: must be at most the 797 of the train split; got 798"),
    # study files
    ("plan garbage.yaml", "garbage.yaml: is not plain YAML"),
    ("plan wrong.yaml", "base.source.delta: must be a number; got 'wide'"),
    (
        "plan --set target.data.class_limit=12",
        "target.data: class_limit: must be at most the 10 classes of the data; got 12",
    ),
    ("plan --set target.data.view=canny", "target.data.view: must not be canny where a side is below 16 px"),
    ("show ofdb --set parameters=pictres", "parameters: unknown path ... got 'pictres'; nearest 'pictures'"),
    # show
    ("show digts", "source: unknown kind ... got 'digts'; nearest 'digits'"),
    ("show ofdb --images 1001", "--images: the source has 1,000; got 1001"),
    ("show digits --images 0", "--images: must be 1 to 4096; got 0"),
    ("show folder --set path=pictres --set size_px=8", "path: unknown path ... got 'pictres'; nearest 'pictures'"),
    ("show 1p-frac --set delta=2", "delta: must be less than or equal to 1; got 2"),
    # what a file system, a parser or a library would say in its own words
    ("plan --set source.delta=[1", "--set source.delta: is not plain YAML"),
    ("plan --axis source.delta=[1", "--axis source.delta: is not plain YAML"),
    ("plan --set source.delta=0x" + "f" * 5_000, "source.delta: must be a number"),
    ("plan --set source.delta=[0x" + "f" * 5_000 + "]", "--set source.delta: numbers must be at most 1.8e+308"),
    ("plan --trials 0", "search.trials: must be greater than or equal to 1; got 0"),
    ("plan --storage file", "--storage: must be a folder; got 'file'"),
    ("plan --storage file/below", "--storage: must be a folder; got 'file/below'"),
    ("report --storage file", "--storage: must be a folder; got 'file'"),
    ("plan --storage s4://bucket", "--storage: must be a folder, s3:// or gs://; got 's4://bucket'"),
    (f"plan {LONG}", "study: unknown study"),
    (f"plan --target {LONG}", "--target: unknown source or path"),
    (f"plan --target {LONG}/x", "--target: unknown source or path"),
    (f"plan --placement {LONG}", "--placement: unknown placement"),
    (f"plan --storage {LONG}", "--storage: must be a folder; got"),
    ("plan --target file/x", "--target: unknown source or path ... got 'file/x'"),
    ("plan --set source={kind:folder,path:file/x,size_px:8}", "source"),
    ("plan --seeds " + "9" * 5_000, "--seeds: must be numbers such as 0,1,2 or 0..4"),
    ("plan --set evaluations.²=1", "evaluations.²: unknown member"),
    ("plan --target array.npz", "target.data: array.npz: is not a numpy .npz file of plain arrays"),
    ("plan --target empty.npz", "target.data: empty.npz: is not a numpy .npz file of plain arrays"),
    (
        "plan --target single.npz --set target.images=2",
        "target.data: single.npz: holds too few images for a test split at test_share 0.2",
    ),
    ("plan --placement date.yaml", "--placement date.yaml: is not plain YAML"),
    ("plan typed.py", "typed.py: trials: must be greater than or equal to 1; got 0"),
    ("show digits --out nowhere/x.png", "--out: must be a file in a folder that is there; got 'nowhere/x.png'"),
    ("show digits --out pictures", "--out: must be a file in a folder that is there; got 'pictures'"),
    ("show digits --out /proc/x.png", "--out: its folder cannot be written ("),
    ("show 1p-frac --set delat=1", "delat: unknown field ... got 'delat'; nearest 'delta'"),
    ("plan --measure finetune.accuracy@_", "--measure: must be EVALUATION.METRIC"),
    ("plan --set images=1000000000000000", "images: must be less than or equal to 1000000000"),
]


@pytest.mark.parametrize(("command", "fragments"), WRONG)
def test_wrong_input_is_refused_in_one_line_and_nothing_is_written(command, fragments, desk, capsys):
    (line,) = refused(command.split(), desk, capsys)
    for fragment in fragments.split(" ... "):
        assert fragment in line.replace("the nearest known name is", "nearest")
    assert len(line) < 700


@pytest.mark.parametrize("verb", ["plan", "status"])
@pytest.mark.parametrize(
    ("target", "where"), [("broken", "broken/1/x.png"), ("broken.parquet", "broken.parquet: row 0")]
)
def test_a_target_with_a_file_that_is_no_image_is_refused_by_its_name(verb, target, where, desk, capsys):
    (line,) = refused([verb, "--target", target, "--set", "target.images=4"], desk, capsys)
    assert line.startswith(f"scaleback: target.data: {where}: is not an image that can be read")


@pytest.mark.parametrize("verb", STUDY_VERBS)
def test_every_verb_refuses_before_it_does_anything(verb, desk, capsys):
    assert refused([verb, "--set", "images=-1"], desk, capsys) == [
        "scaleback: images: must be greater than or equal to 0; got -1"
    ]


def test_two_faults_are_two_lines(desk, capsys):
    lines = refused(["plan", "--set", "images=-1", "--set", "backbone.depth=0"], desk, capsys)
    assert [line.split(": ")[1] for line in lines] == ["images", "backbone.depth"]


@pytest.mark.parametrize(
    "words",
    [
        ["plan", "scaling_sweep", ""],
        ["plan", "--set", "a\nb=1"],
        ["plan", "--axis", "a\nb=log:1"],
        ["plan", ""],
        ["plan", "a\nb"],
        ["plan", "--name", "a\nb"],
        ["plan", "--target", "a\nb"],
    ],
)
def test_odd_words_are_refused_in_one_line(words, desk, capsys):
    assert len(refused(words, desk, capsys)) == 1


def test_a_job_file_knows_the_nearest_verb(desk, capsys):
    (line,) = refused(["paln"], desk, capsys, study=DEFAULT.plain())
    assert line.startswith("scaleback: unknown verb, known are ")
    assert line.endswith("got 'paln'; the nearest known name is 'plan'")


def test_a_job_whose_data_are_not_there_is_refused_in_one_line(desk, capsys):
    knn = {"kind": "knn", "neighbours": 5}
    pool = {"kind": "members", "real": {"kind": "fashion_mnist", "path": "nowhere"}, "images": 100, "models": 4}
    confidences = {**EVALUATIONS["confidences"].example().plain(), "pool": pool}
    for evaluations in ([confidences], [knn, confidences]):
        study = {**DEFAULT.plain(), "base": {**DEFAULT.base.plain(), "evaluations": evaluations}}
        (line,) = refused(["plan"], desk, capsys, study=study)
        assert "nowhere/train-images-idx3-ubyte.gz: must be there; install" in line


FEW = ["--set", "target.images=4", "--seeds", "0"]


@pytest.mark.parametrize(
    "words",
    [
        ["--target", "pictures", *FEW],
        ["--target", "pictures/", *FEW],
        ["--storage", "not/there/yet"],
        ["--target", "fashion_mnist"] if Path("/usr/share/datasets/fashion-mnist").is_dir() else [],
        ["--trials", "2", "--axis", "images=int:2..8", "--fewest", "images", "--search", "nsga2"],
        ["--no-baseline", "--axis", "images=2,4", "--name", "other"],
        ["--target", "😀", *FEW],
        ["--target", "²", *FEW],
        ["--set", "images=8"],
        ["--set", "source=ofdb"],
    ],
)
def test_what_can_be_planned_is_planned_and_nothing_is_written(words, desk, capsys):
    before = tree(desk)
    assert "runs, 0 done, 0 failed" in done(["plan", *words], capsys)
    assert tree(desk) == before


def test_a_plan_as_json_counts_runs_and_stages(desk, capsys):
    facts = json.loads(
        done(["plan", "--json", "--axis", "images=2,4", "--axis", "source.delta=0.1", "--seeds", "0..2"], capsys)
    )
    assert (facts["runs"], facts["done"], facts["failed"], facts["to_do"]) == (9, 0, 0, 9)
    assert (facts["pretrain_stages"], facts["evaluate_stages"]) == (6, 9 * len(DEFAULT.base.evaluations))
    assert facts["images_to_render"] == 3 * 64 + 3 * 128 + 1_000  # fractals, labelled and test images
    assert facts["storage"] == str(desk / "results")
    assert facts["worker_hours"] is facts["price"] is None
    assert "9 runs, 0 done" in done(
        ["plan", "--axis", "images=2,4", "--axis", "source.delta=0.1", "--seeds", "0..2"], capsys
    )


def test_the_baseline_can_be_left_out(desk, capsys):
    facts = json.loads(done(["plan", "--json", "--no-baseline", "--seeds", "3,4"], capsys))
    assert facts["runs"] == 2 * (len(list(DEFAULT.points())) - 1)


def test_a_plan_as_yaml_is_the_study(desk, capsys):
    text = done(["plan", "--yaml", "--seeds", "7", "--set", "source.sigma=3"], capsys)
    study = study_from_yaml(text, "x.yaml")
    assert study.seeds == (7,)
    assert study.base == DEFAULT.base.replace({"source.sigma": 3})
    (desk / "made.yaml").write_text(text)
    assert done(["plan", "made.yaml", "--yaml"], capsys) == text
    (desk / "made.yaml").unlink()


def test_a_search_keeps_the_cases_that_are_named(desk, capsys):
    searched = ["plan", "idmm_ladder", "--yaml", "--trials", "2", "--axis", "images=int:100..797"]
    study = study_from_yaml(done([*searched, "--axis", "up_to=small,instance"], capsys), "x.yaml")
    assert [(axis.field, axis.values) for axis in study.grids] == [("up_to", ("small", "instance"))]
    assert [axis.field for axis in study.searched] == ["images"]
    assert study_from_yaml(done(searched, capsys), "x.yaml").grids == ()


def test_the_fields_of_a_plan_can_be_set(desk, capsys):
    lines = done(["plan", "--fields"], capsys).splitlines()
    fields = dict(line.split(" = ", 1) for line in lines)
    assert json.loads(fields["source.delta"]) == DEFAULT.base.source.delta
    assert "evaluations.finetune.recipe.optimizer.lr" in fields
    for name, text in fields.items():
        assert parse_value(text, name) == json.loads(text)
        assert DEFAULT.base.replace({name: parse_value(text, name)}) == DEFAULT.base, name


def test_status_counts_what_is_to_do(desk, capsys):
    facts = json.loads(done(["status", "--json", "--seeds", "0"], capsys))
    runs = len(list(DEFAULT.points()))
    assert (facts["runs"], facts["done"], facts["to_do"], facts["stages_in_progress"]) == (runs, 0, runs, 0)
    assert f"0 of {runs} runs done" in done(["status", "--seeds", "0"], capsys)


def test_a_report_and_a_fit_of_nothing_are_written_and_say_so(desk, tmp_path, capsys):
    written = json.loads(done(["report", "--json", "--seeds", "0", "--storage", str(tmp_path)], capsys))
    html = Path(written["report"]).read_text()
    assert "No run has finished yet." in html
    assert f"0 of {len(list(DEFAULT.points()))} runs are done" in html
    assert study_from_yaml((tmp_path / "report/scaling-sweep/study.yaml").read_text(), "x.yaml").seeds == (0,)
    assert json.loads(done(["fit", "--json", "--storage", str(tmp_path)], capsys))["laws"] == []


def test_damaged_storage_is_no_fault_of_the_input(desk, tmp_path, capsys):
    (tmp_path / "pretrain" / "classify-0").mkdir(parents=True)
    (tmp_path / "pretrain" / "classify-0" / "manifest.json").write_text("{}")
    assert main(["plan", "--storage", str(tmp_path)]) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"scaleback: {tmp_path}/pretrain/classify-0/manifest.json: is not a manifest")


def test_results_of_a_submitted_job_go_below_the_home_folder(desk, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert json.loads(done(["plan", "--json"], capsys))["storage"] == f"{tmp_path}/scaleback/results"
    assert json.loads(done(["plan", "--json", "--storage", "/s"], capsys))["storage"] == "/s"


def test_show_writes_a_contact_sheet_and_says_what_is_on_it(desk, tmp_path, capsys):
    out = tmp_path / "sheet.png"
    facts = json.loads(done(["show", "digits", "--images", "16", "--out", str(out), "--json"], capsys))
    assert (facts["images"], facts["shape"], facts["classes"]) == (16, [8, 8, 1], 10)
    with Image.open(out) as sheet:
        assert sheet.width > 3 * sheet.height  # two rows of eight


def test_show_measures_how_far_classes_are_apart(tmp_path, capsys):
    """Classes are plain grays of 10, 20 and 40, twice each; lit are all but a black column of a quarter."""
    pixels = np.repeat(np.array([10, 20, 40], np.uint8), 2)[:, None, None] * np.ones((1, 8, 8), np.uint8)
    pixels[:, :, :2] = 0
    np.savez(tmp_path / "grays.npz", x_train=pixels, y_train=np.arange(6) // 2, x_test=pixels, y_test=np.arange(6) // 2)
    words = ["show", "arrays", "--set", f"path={tmp_path / 'grays.npz'}", "--images", "6", "--out"]
    facts = json.loads(done([*words, str(tmp_path / "x.png"), "--json"], capsys))
    between = 0.75 * (10 + 20 + 30) / 3
    assert facts["lit_share"] == 0.75
    assert facts["distinctness"] == {
        "images": 6,
        "between": pytest.approx(between),
        "within": 0,
        "margin": pytest.approx(0.75 * (10 + 10 + 20) / 3 / between),
        "least_margin": pytest.approx(0.75 * 10 / between),
    }
    assert facts["images_per_s"] > 0
    said = done([*words, str(tmp_path / "x.png")], capsys)
    assert "mean difference between classes 15.0 of 255, within a class 0.0 (of 6 images)" in said
    assert "nearest other class at 0.67 of that, the nearest two at 0.50" in said


@pytest.mark.parametrize("kind", [kind for kind in SOURCES if kind not in (*REAL_SOURCES, "mixture")])
def test_every_source_that_is_made_can_be_shown(kind, tmp_path, capsys):
    source = SOURCES[kind].example(tmp_path)
    fields = [f"--set={name}={json.dumps(value)}" for name, value in source.plain().items() if name != "kind"]
    images = min(6, source.available() or 6)
    places = ["--storage", str(tmp_path / "store"), "--out", str(tmp_path / "x.png")]
    facts = json.loads(done(["show", kind, *fields, "--images", str(images), *places, "--json"], capsys))
    assert facts["distinctness"]["images"] == images
    assert facts["distinctness"]["between"] > 0


def test_show_says_what_an_image_takes_in_a_block(tmp_path, store, capsys):
    source = SOURCES["1p-frac"](size_px=64, points=3_000)
    words = ["show", "1p-frac", "--set", "size_px=64", "--set", "points=3000", "--images", "64", "--seed", "2"]
    facts = json.loads(done([*words, "--out", str(tmp_path / "x.png"), "--json"], capsys))
    population = Population.of(source, 2)
    render_block(store, population, population.blocks(64)[0])
    manifest = store.manifest(population.block_address(0), population)
    assert 64 * facts["block_bytes_per_image"] == pytest.approx(len(store.read(manifest, FILE)), abs=64)


def test_a_sheet_of_many_images_shows_them_small_and_they_are_not_all_kept(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(show, "SHEET_PIXELS", 100 * 16 * 16)
    monkeypatch.setattr(show, "COMPARED_IMAGES", 70)
    words = ["show", "spectrum", "--set", "size_px=32", "--images", "100", "--out", str(tmp_path / "x.png"), "--json"]
    facts = json.loads(done(words, capsys))
    assert facts["distinctness"]["images"] == 70
    with Image.open(tmp_path / "x.png") as sheet:
        assert sheet.size == (10 * 99 - 3, 10 * 99 - 3)  # ten columns of 16 px, six times as large, three between


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_verb_lists_its_options(verb, capsys):
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"])
    assert ended.value.code == 0
    assert "--json" in capsys.readouterr().out


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_the_overview_names_every_verb(word, capsys):
    assert main([word]) == 0
    said = capsys.readouterr().out
    assert all(f"  {verb} " in said for verb in VERBS)


# A shell passes no NUL and no half of a surrogate pair; eight letters cannot ask for more images than a plan can list.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
PATHS = ["source.delta", "images", "objective", "recipe", "evaluations.knn", "target.data", "seed", "views", "", "."]
FIELD = TEXT | st.sampled_from(PATHS)
VALUE = TEXT | st.sampled_from(
    ["1", "0.5,0.1", "log:0.1..0.5", "int:2..9", "choice:a,b", "[1,{a: b}]", "null", "'", "knn"]
)
SETTING = st.builds("{}={}".format, FIELD, VALUE) | TEXT
OPTION = st.one_of(
    st.tuples(st.sampled_from(["--axis", "--set"]), SETTING),
    st.tuples(
        st.sampled_from(["--seeds", "--measure", "--name", "--search", "--trials", "--fewest", "--target"]),
        TEXT | st.just("3"),
    ),
    st.tuples(st.sampled_from(["--json", "--yaml", "--fields", "--no-baseline", "--quiet", "-x"])),
)
COMMAND = st.one_of(
    st.tuples(st.sampled_from(["plan", "status"]), st.lists(OPTION, max_size=4)),
    st.tuples(st.just("show"), st.tuples(st.tuples(TEXT), st.tuples(st.just("--set"), SETTING))),
)


@settings(deadline=None, max_examples=80, derandomize=True)
@given(COMMAND)
def test_no_line_of_options_makes_more_than_a_line_of_faults(files, command):
    verb, options = command
    words = [verb, *(word for option in options for word in option)]
    out, err = open(os.devnull, "w"), (files.parent / "err").open("w+")  # noqa: SIM115
    with out, err, contextlib.chdir(files), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(words)
        except SystemExit as ended:  # argparse's own --help
            code = ended.code
        err.seek(0)
        said = err.read()
    assert code in (0, 2, 3)
    assert "Traceback" not in said
    assert bool(said) == (code != 0)


def python(*arguments, cwd):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "platform")}
    environment.pop("RAY_JOB_CONFIG_JSON_ENV_VAR", None)
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_a_plan_needs_neither_ray_nor_torch_and_platform_is_the_standard_library():
    code = (
        "import sys, platform; from scaleback.cli import main; code = main(['plan', '--storage', '/nowhere']); "
        "assert not {'ray', 'torch', 'timm', 'optuna', 'matplotlib'} & set(sys.modules), sys.modules.keys(); "
        "assert platform.python_version(); print(platform.__file__); sys.exit(code)"
    )
    ended = python("-c", code, cwd=REPOSITORY)  # a folder called platform lies right here
    assert ended.stderr == ""
    assert ended.returncode == 0
    assert Path(ended.stdout.splitlines()[-1]).name == "platform.py"
    assert REPOSITORY not in Path(ended.stdout.splitlines()[-1]).parents or ".venv" in ended.stdout


def test_a_job_file_plans_from_any_working_directory(tmp_path):
    ended = python(str(REPOSITORY / "jobs" / "scaling_sweep.py"), "plan", "--yaml", cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert yaml.safe_load(ended.stdout)["name"] == "scaling-sweep"
    assert list(tmp_path.iterdir()) == []
