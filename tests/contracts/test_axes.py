"""Laws of every kind of axis; a registry line without an example here fails."""

import pickle

import pytest
import yaml

from scaleback.core.errors import SpecError
from scaleback.study.axes import AXES, Cases, parse_axis
from scaleback.study.files import load_study, study_from_yaml, study_to_yaml
from scaleback.study.study import Study

EXAMPLES = {"grid": "images={}", "range": "images=int:{}..{}", "choice": "images=choice:{}"}
NOT_TYPED = {"cases"}
"""What is written in a file only."""
STUDY = load_study("scaling_sweep")


@pytest.fixture(params=AXES)
def kind(request):
    return request.param


def axis_of(kind, *values):
    """An axis over ``images`` with these values, or with these two ends."""
    if kind == "cases":
        return Cases(field="size", cases={str(value): {"images": value} for value in values})
    text = EXAMPLES[kind]
    return parse_axis(text.format(*values) if text.count("{}") == 2 else text.format(",".join(map(str, values))))


def values_of(axis):
    return axis.inside() if hasattr(axis, "inside") else axis.values


def images_of(axis):
    return tuple(axis.changes(value)["images"] for value in values_of(axis))


def study_over(axis):
    search = {} if axis.kind in ("grid", "cases") else {"search": {"trials": 2}}
    return Study.parse({**STUDY.plain(), "axes": [axis.plain()], "fit": None, **search})


def test_the_command_line_makes_every_kind(kind):
    if kind in NOT_TYPED:
        return
    axis = axis_of(kind, 4, 16)
    assert type(axis) is AXES[kind]
    assert axis.kind == kind
    assert images_of(axis) == (4, 16)


def test_values_make_different_runs_and_change_nothing_that_they_do_not_name(kind):
    axis = axis_of(kind, 4, 16)
    runs = [STUDY.base.replace(axis.changes(value)) for value in values_of(axis)]
    assert len({run.fingerprint for run in runs}) == 2
    assert [run.images for run in runs] == [4, 16]
    for run in runs:
        assert run.replace({"images": STUDY.base.images}) == STUDY.base


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
    wrong = {"field": "size", "cases": {"4": {"imags": 4}}} if kind == "cases" else {"field": "imags"}
    axis = axis_of(kind, 4, 16).model_copy(update=wrong)
    with pytest.raises(SpecError, match=r"imags: unknown field, .* the nearest known name is 'images'$"):
        study_over(axis)


def test_an_unknown_field_of_an_axis_is_refused(kind):
    with pytest.raises(SpecError, match=r"^colour: unknown field"):
        AXES[kind].parse({**axis_of(kind, 4, 16).plain(), "colour": 1})


def test_too_few_values_are_refused(kind):
    if kind == "cases":
        with pytest.raises(SpecError, match=r"^cases: "):
            AXES[kind].parse({"field": "size", "cases": {}})
        return
    with pytest.raises(SpecError, match=r"^--axis images\.(values|low): "):
        axis_of(kind, 4, 4) if kind != "choice" else axis_of(kind, 4)


def test_cases_set_several_fields_and_share_the_baseline_unless_they_change_it():
    method = {"one": {"objective.smoothing": 0.0, "images": 4}, "two": {"recipe.batch_images": 16}}
    data = {"all": {"target.images": 100}, "half": {"target.images": 50}}
    axes = [
        {"kind": "cases", "field": "method", "cases": method},
        {"kind": "cases", "field": "data", "cases": data},
    ]
    study = Study.parse({**STUDY.plain(), "axes": axes, "fit": None})
    points = list(study.points())
    assert [point.label for point in points] == [
        "no pre-training data=all",
        "no pre-training data=half",
        "method=one data=all",
        "method=one data=half",
        "method=two data=all",
        "method=two data=half",
    ]
    run = study.run(points[3], 0)
    assert (run.objective.smoothing, run.images, run.target.images) == (0.0, 4, 50)
    assert run.recipe == STUDY.base.recipe
    with pytest.raises(
        SpecError, match=r"axes: must not lie within another axis, (data|target\.images); got 'target\.images'"
    ):
        Study.parse({**study.plain(), "axes": [*axes, {"kind": "grid", "field": "target.images", "values": [5]}]})
    with pytest.raises(SpecError, match=r"fit\.field: must be an axis of positive numbers; got 'one'"):
        Study.parse({**study.plain(), "fit": {"field": "method"}})
