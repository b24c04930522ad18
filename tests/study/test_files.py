"""Studies as files: Python and YAML say the same thing, and a hostile file is refused in one line."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaleback.core import plain
from scaleback.core.errors import SpecError
from scaleback.study.files import changed, load_study, study_from_yaml, study_to_yaml

DEFAULT = load_study("scaling_sweep")
YAML = study_to_yaml(DEFAULT)
JOB = f"""
import yaml
STUDY = yaml.safe_load({YAML!r})
"""


def refused(path):
    with pytest.raises(SpecError) as caught:
        load_study(str(path))
    (line,) = str(caught.value).splitlines()
    return line


@pytest.mark.parametrize(
    "study",
    [
        DEFAULT,
        changed(
            DEFAULT,
            settings=["recipe=1p-frac", "source=fractaldb", "images=8"],
            axes=["seed=3,4"],
            fields={"axes": [], "fit": None},
        ),
        changed(
            DEFAULT,
            axes=["images=logint:2..64", "source.delta=log:1e-7..0.5", "objective=choice:classify,1p-frac"],
            fields={"search": {"trials": 3, "fewest": "images"}, "fit": None},
        ),
    ],
    ids=["default", "papers", "searched"],
)
def test_a_study_comes_back_from_its_yaml(study):
    back = study_from_yaml(study_to_yaml(study), "x.yaml")
    assert back == study
    assert back.fingerprint == study.fingerprint


@settings(deadline=None, max_examples=40)
@given(
    purpose=st.text(max_size=60),
    reach=st.floats(0, 1, exclude_min=True, exclude_max=True),
    lr=st.floats(1e-9, 10),
    seeds=st.lists(st.integers(0, 2**70), min_size=1, max_size=3, unique=True),
)
def test_every_text_and_every_number_comes_back_from_yaml(purpose, reach, lr, seeds):
    base = DEFAULT.base.replace({"recipe.optimizer.lr": lr})
    study = DEFAULT.model_copy(update={"purpose": purpose, "reach": reach, "base": base, "seeds": tuple(seeds)})
    assert study_from_yaml(study_to_yaml(study), "x.yaml") == study


def test_a_job_file_and_its_yaml_are_the_same_study(tmp_path):
    (tmp_path / "mine.py").write_text(JOB)
    (tmp_path / "mine.yaml").write_text(YAML)
    (tmp_path / "mine.yml").write_text(YAML)
    for name in ("mine.py", "mine.yaml", "mine.yml"):
        assert load_study(str(tmp_path / name)) == DEFAULT


def test_a_name_is_looked_up_in_the_jobs_of_the_working_directory_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_study("scaling_sweep") == DEFAULT
    assert load_study("scaling-sweep") == DEFAULT  # a study's own name
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "scaling_sweep.py").write_text(JOB + 'STUDY["name"] = "mine"')
    assert load_study("scaling_sweep").name == "mine"


def test_a_study_that_is_not_there_is_refused_with_the_nearest_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert refused("scaling_swep").endswith("got 'scaling_swep'; the nearest known name is 'scaling_sweep'")
    (tmp_path / "mine.yaml").write_text(YAML)
    assert (
        refused("mien.yaml")
        == "study: unknown file, known are mine.yaml; got 'mien.yaml'; the nearest known name is 'mine.yaml'"
    )
    assert refused("mine.yaml/mine.yaml") == "study: unknown file, known are ; got 'mine.yaml/mine.yaml'"
    assert refused("nowhere/mine.yaml") == "study: unknown file, known are ; got 'nowhere/mine.yaml'"


HOSTILE = {
    "empty": "",
    "a_list": "[1, 2]",
    "a_word": "study",
    "two_documents": "a: 1\n---\nb: 2",
    "not_closed": "a: [1",
    "a_tab": "a:\n\t- b",
    "python_call": "a: !!python/object/apply:os.system ['touch owned']",
    "python_name": "a: !!python/name:os.system",
    "own_tag": "a: !secret b",
    "aliases": "a: &a [x, x]\nb: [*a, *a]",
    "alias_bomb": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"{'bcdefghi'[n]}: &{'bcdefghi'[n]} [{','.join(['*' + 'abcdefgh'[n]] * 9)}]\n" for n in range(8)),
    "control_letters": "a: \x07",
    "no_such_field": YAML + "\ncolour: red",
    "wrong_type": YAML.replace("name: scaling-sweep", "name: 7", 1),
    "wrong_kind": YAML.replace("kind: 1p-frac", "kind: 2p-frac", 1),
    "not_a_number": YAML.replace(f"reach: {DEFAULT.reach}", "reach: .nan", 1),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_yaml_is_refused_in_one_line(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert HOSTILE[name] != YAML
    (tmp_path / "study.yaml").write_text(HOSTILE[name])
    line = refused("study.yaml")
    assert len(line) < 600
    assert [path.name for path in tmp_path.iterdir()] == ["study.yaml"]


# PyYAML's own code fails at these, with errors that are no YAMLError, or makes numbers of them that cannot be printed.
BREAKING = ["2020-13-45", "!!timestamp x", "!!int x", "0x_", "9" * 5_000, "0x" + "f" * 5_000, "[" * 500 + "]" * 500]


@pytest.mark.parametrize("text", BREAKING)
def test_yaml_that_breaks_the_parser_is_refused_in_one_line(text, tmp_path):
    (tmp_path / "study.yaml").write_text(f"a: {text}")
    assert "study.yaml" in refused(tmp_path / "study.yaml")


def test_a_file_that_is_no_text_or_too_large_is_refused(tmp_path):
    (tmp_path / "latin.yaml").write_bytes("purpose: café".encode("latin-1"))
    assert refused(tmp_path / "latin.yaml") == f"study: {tmp_path}/latin.yaml must be text in UTF-8"
    (tmp_path / "huge.yaml").write_bytes(b"#" * (plain.LARGEST_FILE_BYTES + 1))
    assert refused(tmp_path / "huge.yaml") == f"study: {tmp_path}/huge.yaml must be at most 1,048,576 bytes"
    (tmp_path / "folder.yaml").mkdir()
    assert "unknown file" in refused(tmp_path / "folder.yaml")


def test_a_job_without_a_study_is_refused(tmp_path):
    (tmp_path / "job.py").write_text("STUDY = ['name']")
    rule = "must define STUDY, a dict of the fields of a study"
    assert refused(tmp_path / "job.py") == f"{tmp_path}/job.py: {rule}; got ['name']"
    (tmp_path / "job.py").write_text("")
    assert refused(tmp_path / "job.py") == f"{tmp_path}/job.py: {rule}; got None"


def test_a_job_whose_study_cannot_exist_is_refused_with_its_path(tmp_path):
    (tmp_path / "job.py").write_text(JOB.replace("name: scaling-sweep", "name: Sweep!"))
    assert refused(tmp_path / "job.py").startswith(f"{tmp_path}/job.py: name: must be small letters")


@pytest.mark.parametrize(
    "text", ["STUDY = (", "from scaleback.study.study import Search\nSTUDY = Search(trials=0)", "import scalebach"]
)
def test_a_job_that_python_or_its_specs_refuse_is_refused_in_one_line(text, tmp_path):
    (tmp_path / "job.py").write_text(text)
    assert refused(tmp_path / "job.py").startswith(f"{tmp_path}/job.py: ")


def test_a_setting_that_every_case_sets_is_refused():
    study = load_study("compare_methods")
    with pytest.raises(SpecError, match=r"^--set objective.smoothing: is set by every case of axis method; name"):
        changed(study, settings=["objective.smoothing=0.2"])
    assert changed(study, settings=["target.images=50"]).base.target.images == 50
