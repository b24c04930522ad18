"""Laws of every kind of axis; a registry line without an example here fails."""

import pickle

import pytest
import yaml

from scaleback.core.errors import SpecError
from scaleback.study.axes import AXES, parse_axis
from scaleback.study.files import load_study, study_from_yaml, study_to_yaml
from scaleback.study.study import Study

EXAMPLES = {"grid": "images={}", "range": "images=int:{}..{}", "choice": "images=choice:{}"}
STUDY = load_study("scaling_sweep")


@pytest.fixture(params=AXES)
def kind(request):
    return request.param


def axis_of(kind, *values):
    """An axis over ``images`` with these values, or with these two ends."""
    text = EXAMPLES[kind]
    return parse_axis(text.format(*values) if text.count("{}") == 2 else text.format(",".join(map(str, values))))


def values_of(axis):
    return axis.inside() if hasattr(axis, "inside") else axis.values


def study_over(axis):
    search = {} if axis.kind == "grid" else {"search": {"trials": 2}}
    return Study.parse({**STUDY.plain(), "axes": [axis.plain()], "fit": None, **search})


def test_the_command_line_makes_every_kind(kind):
    axis = axis_of(kind, 4, 16)
    assert type(axis) is AXES[kind]
    assert axis.kind == kind
    assert values_of(axis) == (4, 16)


def test_values_make_different_runs_and_change_nothing_that_they_do_not_name(kind):
    axis = axis_of(kind, 4, 16)
    runs = [STUDY.base.replace({axis.field: value}) for value in values_of(axis)]
    assert len({run.fingerprint for run in runs}) == 2
    assert [run.images for run in runs] == [4, 16]
    for run in runs:
        assert run.replace({axis.field: STUDY.base.images}) == STUDY.base


def test_an_axis_survives_plain_data_yaml_and_pickling(kind):
    axis = axis_of(kind, 4, 16)
    assert AXES[kind].parse(yaml.safe_load(yaml.safe_dump(axis.plain()))) == axis
    assert pickle.loads(pickle.dumps(axis)) == axis
    study = study_over(axis)
    assert study_from_yaml(study_to_yaml(study), "x.yaml") == study


def test_other_values_are_another_axis(kind):
    assert axis_of(kind, 4, 16).fingerprint != axis_of(kind, 4, 17).fingerprint
    assert axis_of(kind, 4, 16).fingerprint == axis_of(kind, 4, 16).fingerprint


def test_an_axis_is_exhaustive_or_searched_and_never_both(kind):
    study = study_over(axis_of(kind, 4, 16))
    assert bool(study.grids) != bool(study.searched)
    assert bool(study.searched) == (study.search is not None)
    assert sum(not point.baseline for point in study.points()) == (2 if study.grids else 0)


def test_a_value_that_the_run_cannot_take_is_refused_with_its_path(kind):
    with pytest.raises(SpecError, match=r"^study: objective\.labels: needs at least two classes to tell apart; got 1$"):
        study_over(axis_of(kind, 1, 16))


def test_a_field_that_the_run_does_not_have_is_refused(kind):
    axis = axis_of(kind, 4, 16).model_copy(update={"field": "imags"})
    with pytest.raises(SpecError, match=r"imags: unknown field, .* the nearest known name is 'images'$"):
        study_over(axis)


def test_an_unknown_field_of_an_axis_is_refused(kind):
    with pytest.raises(SpecError, match=r"^colour: unknown field"):
        AXES[kind].parse({**axis_of(kind, 4, 16).plain(), "colour": 1})


def test_too_few_values_are_refused(kind):
    with pytest.raises(SpecError, match=r"^--axis images\.(values|low): "):
        axis_of(kind, 4, 4) if kind != "choice" else axis_of(kind, 4)
