"""A study: its points, its runs, and what it refuses."""

import pytest

from scaleback.core.errors import SpecError, unknown
from scaleback.objectives import OBJECTIVE_PRESETS
from scaleback.study.files import changed, load_study
from scaleback.study.study import Point, Study

DEFAULT = load_study("scaling_sweep")
STUDY = Study.parse(
    {
        **DEFAULT.plain(),
        "name": "small",
        "axes": [
            {"kind": "grid", "field": "source.delta", "values": [0.1, 0.2, 0.4]},
            {"kind": "grid", "field": "images", "values": [4, 16]},
        ],
        "seeds": [3, 5],
        "measures": [{"evaluation": "knn"}],
        "fit": {"field": "images"},
    }
)
SEARCHED = changed(STUDY, axes=["source.delta=log:0.01..0.5"], fields={"search": {"trials": 4}})


def refused(fields, study=STUDY):
    with pytest.raises(SpecError) as caught:
        Study.parse({**study.plain(), **fields})
    (line,) = str(caught.value).splitlines()
    return line


def test_points_are_the_baseline_and_every_combination():
    points = list(STUDY.points())
    assert points[0] == Point(values={}, baseline="no pre-training")
    assert [tuple(point.values.values()) for point in points[1:]] == [(d, n) for d in (0.1, 0.2, 0.4) for n in (4, 16)]
    assert [point.label for point in points[:2]] == ["no pre-training", "source.delta=0.1 images=4"]
    assert list(changed(STUDY, fields={"baseline": False}).points()) == points[1:]


def test_there_is_a_baseline_for_each_value_that_matters_without_pre_training():
    study = changed(STUDY, axes=["target.images=20,50", "backbone.depth=1,2", "recipe=small,1p-frac"])
    baselines = [point for point in study.points() if point.baseline]
    assert [point.label for point in baselines] == [
        f"no pre-training target.images={images} backbone.depth={depth}" for images in (20, 50) for depth in (1, 2)
    ]
    runs = [study.run(point, seed) for point in study.points() for seed in study.seeds]
    assert len({run.fingerprint for run in runs}) == len(runs) == 2 * (4 + 3 * 2 * 2 * 2 * 2)
    assert [study.run(point, 3).target.images for point in baselines] == [20, 20, 50, 50]
    assert not any(study.run(point, 3).images for point in baselines)


def test_without_pre_training_the_baseline_is_real_images_alone():
    study = load_study("synthetic_multiplier")
    baselines = [point for point in study.points() if point.baseline]
    assert [point.label for point in baselines] == [f"real images alone real={n}" for n in (100, 200, 400, 1_000)]
    for point, images in zip(baselines, (100, 200, 400, 1_000), strict=True):
        target = study.run(point, 1).target
        assert (target.images, target.synthetic) == (images, None)


def test_an_axis_may_refine_cases_that_come_before_it():
    study = load_study("synthetic_multiplier")
    for point in study.points():
        target = study.run(point, 0).target
        if target.synthetic is not None:
            assert target.synthetic.source.kind == {"drawn": "diffusion"}.get(point.values["kind"], "retrieved")
            assert target.synthetic.source.real_images == target.images == int(point.values["real"])
    turned = [study.axes[1], study.axes[0], *study.axes[2:]]
    with pytest.raises(SpecError, match=r"^axes: must not lie within another axis, kind; got"):
        Study.parse({**study.plain(), "axes": [axis.plain() for axis in turned]})


def test_a_point_and_a_seed_make_a_run_that_differs_from_the_base_in_them_alone():
    run = STUDY.run(Point(values={"source.delta": 0.4, "images": 4}), 5)
    assert (run.source.delta, run.images, run.seed) == (0.4, 4, 5)
    base = STUDY.base
    assert run.replace({"source.delta": base.source.delta, "images": base.images, "seed": base.seed}) == base
    assert STUDY.run(Point(values={}, baseline="no pre-training"), 5) == base.replace({"images": 0, "seed": 5})


def test_points_that_differ_have_different_labels():
    study = changed(STUDY, axes=["source.delta=0.1,0.10000001"])
    assert len({point.label for point in study.points()}) == 1 + 2 * 2


def test_every_run_of_a_study_is_another_one():
    runs = [STUDY.run(point, seed) for point in STUDY.points() for seed in STUDY.seeds]
    assert len({run.fingerprint for run in runs}) == len(runs) == 2 * (1 + 3 * 2)


def test_points_of_searched_axes_are_left_to_the_search():
    assert [point.baseline for point in SEARCHED.points()] == ["no pre-training"]
    assert [axis.field for axis in SEARCHED.grids] == ["images"]
    assert [axis.field for axis in SEARCHED.searched] == ["source.delta"]
    assert list(SEARCHED.cells()) == [{"images": 4}, {"images": 16}]


def test_more_trials_go_on_with_the_same_search():
    more = changed(SEARCHED, fields={"search": {"trials": 9}, "purpose": "again", "reach": 0.4, "baseline": False})
    assert more.search_fingerprint == SEARCHED.search_fingerprint
    for other in ({"search": {"trials": 4, "sampler": "random"}}, {"search": {"trials": 4, "seed": 1}}, {"seeds": [3]}):
        assert changed(SEARCHED, fields=other).search_fingerprint != SEARCHED.search_fingerprint
    assert changed(SEARCHED, axes=["images=4"]).search_fingerprint != SEARCHED.search_fingerprint


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"name": "No Spaces"}, "name: must be small letters, digits and dashes, at most 64; got 'No Spaces'"),
        ({"name": "../up"}, "name: must be small letters, digits and dashes, at most 64; got '../up'"),
        ({"seeds": [1, 1]}, "seeds: must be different and not negative; got (1, 1)"),
        ({"seeds": [-1]}, "seeds: must be different and not negative; got (-1,)"),
        ({"seeds": []}, "seeds: Tuple should have at least 1 item after validation, not 0; got ()"),
        ({"reach": 1.0}, "reach: must be less than 1; got 1.0"),
        ({"fit": {"field": "source.delat"}}, "fit.field: must be one of the exhaustive axes; got 'source.delat'"),
        ({"search": {"trials": 3}}, "search: must be left out: no axis is searched"),
        (
            {"baselin": True},
            "baselin: unknown field, known are axes, base, baseline, fit, measures, name, purpose, reach, search, "
            "seeds; got 'baselin'; the nearest known name is 'baseline'",
        ),
        (
            {"measures": [{"evaluation": "knnn"}]},
            "measures: must name an evaluation of finetune, linear, knn, classifier, quality, confidences; got 'knnn'",
        ),
        (
            {"measures": [{"evaluation": "finetune", "images_seen": 7}]},
            "measures.0.images_seen: must be one of 1000, 2000, 3000, 4000, 8000, 16000, 20000; got 7",
        ),
        (
            {"measures": [{"evaluation": "knn", "images_seen": 7}]},
            "measures.0.images_seen: must be left out; got 7",
        ),
        (
            {"measures": [{"evaluation": "finetune", "metric": "acuracy"}]},
            "measures.0.metric: unknown metric, known are accuracy, accuracy_best, accuracy_last; got 'acuracy'; the "
            "nearest known name is 'accuracy'",
        ),
    ],
)
def test_what_cannot_be_studied_is_refused_in_one_line(fields, line):
    assert refused(fields) == line


@pytest.mark.parametrize(
    ("axes", "line"),
    [
        (["images=4,1"], "study: objective.labels: needs at least two classes to tell apart; got 1"),
        (["source.delta=0.1,2"], "study: source.delta: must be less than or equal to 1; got 2"),
        (
            ["source.dleta=0.1"],
            "study: source.dleta: unknown field, known are base_min_fill, delta, kind, maps, mask, min_fill, pad_px, "
            "perturb, points, renderer, sigma, size_px; got 'dleta'; the nearest known name is 'delta'",
        ),
        (
            ["soruce.delta=0.1"],
            "study: soruce: unknown field, known are backbone, evaluations, images, objective, recipe, "
            "seed, source, target; got 'soruce'; the nearest known name is 'source'",
        ),
        (
            ["objective=clasify"],
            f"study: objective: {unknown('objective', 'clasify', OBJECTIVE_PRESETS)}",
        ),
        (["source.delta=log:0.01..0.5"], "search: needs how to search (trials)"),
        (["seed=log:1..5"], "--axis seed: must list its values; seeds are not searched"),
        (["images=4,x"], "study: images: must be an integer; got 'x'"),
        (["images=4,1_000_000_001"], "study: images: must be less than or equal to 1000000000; got 1000000001"),
    ],
)
def test_an_axis_that_the_run_cannot_take_is_refused_in_one_line(axes, line):
    with pytest.raises(SpecError) as caught:
        changed(STUDY, axes=axes)
    assert str(caught.value) == line


@pytest.mark.parametrize(
    ("axes", "line"),
    [
        ([("images", [4]), ("images", [8])], "axes: name each field once; got 'images'"),
        ([("images", [4]), ("seed", [8])], "axes: seed is an axis of every study; list its values in seeds"),
        (
            [("images", list(range(2, 1_002))), ("target.images", list(range(10, 710)))],
            "axes: must make at most 1,000,000 runs; got 1400000",
        ),
    ],
)
def test_axes_that_do_not_fit_together_are_refused(axes, line):
    grids = [{"kind": "grid", "field": field, "values": values} for field, values in axes]
    assert refused({"axes": grids}) == line


def test_a_search_can_minimise_only_what_it_searches():
    assert refused({"search": {"trials": 1, "fewest": "images"}}, SEARCHED) == (
        "search.fewest: must be one of the searched axes; got 'images'"
    )
    both = changed(
        SEARCHED, axes=["images=int:2..16"], fields={"search": {"trials": 1, "fewest": "images"}, "fit": None}
    )
    assert both.search.fewest == "images"


@pytest.mark.parametrize(
    ("field", "values", "wrong"),
    [
        ("objective", ["classify", "1p-frac"], "'classify'"),
        ("recipe.compile", [False, True], "False"),
        ("images", [4, 0], "0"),
        ("recipe.clip_norm", [0.5, None], "None"),
    ],
)
def test_a_fit_along_values_that_are_no_positive_numbers_is_refused(field, values, wrong):
    axes = [{"kind": "grid", "field": field, "values": values}]
    assert refused({"axes": axes, "fit": {"field": field}}) == (
        f"fit.field: must be an axis of positive numbers; got {wrong}"
    )


def test_the_form_of_a_fit_is_one_of_two_and_the_default_is_no_part_of_identity():
    power, generations = (
        changed(STUDY, fields={"fit": {"field": "images", "form": form}}) for form in ("power", "generations")
    )
    assert power.fingerprint == STUDY.fingerprint != generations.fingerprint
    assert power.fit.canonical() == {}
    assert refused({"fit": {"field": "images", "form": "line"}}).startswith("fit.form: unknown value, known are")


def test_an_axis_inside_another_is_refused():
    axes = [
        ("source.delta", [0.1, 0.2]),
        ("source", [{"kind": "1p-frac", "delta": 0.3}, {"kind": "1p-frac", "delta": 0.4}]),
    ]
    for ordered in (axes, axes[::-1]):
        grids = [{"kind": "grid", "field": field, "values": values} for field, values in ordered]
        assert refused({"axes": grids, "fit": None}) == (
            "axes: must not lie within another axis, source; got 'source.delta'"
        )


def test_changes_replace_axes_of_the_same_field_and_settings_end_them():
    study = changed(STUDY, settings=["source.delta=0.3"], axes=["images=2,4,8", "seed=1,2,9"])
    assert [(axis.field, axis.values) for axis in study.axes] == [("images", (2, 4, 8))]
    assert study.base.source.delta == 0.3
    assert study.seeds == (1, 2, 9)
    assert changed(STUDY) == STUDY


METHODS = {
    "one": {"objective.smoothing": 0.0},
    "two, mixed": {"objective.cutmix": 1.0},
    "3": {"recipe.batch_images": 16, "recipe.optimizer.lr": 0.01},
}
CASES = Study.parse(
    {**STUDY.plain(), "axes": [{"kind": "cases", "field": "method", "cases": METHODS}, STUDY.axes[1].plain()]}
)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("method=one", ["one"]),
        ("method=3,one", ["3", "one"]),
        ("method=one,3", ["one", "3"]),
        (" method = 'two, mixed' , 3", ["two, mixed", "3"]),
        ("method=3,'two, mixed',one", ["3", "two, mixed", "one"]),
    ],
)
def test_an_axis_over_cases_keeps_those_that_are_named_in_their_order(text, names):
    study = changed(CASES, axes=[text])
    assert [axis.field for axis in study.axes] == ["method", "images"]
    assert list(study.axes[0].cases.items()) == [(name, METHODS[name]) for name in names]
    assert [(point.values["method"], point.values["images"]) for point in study.points() if not point.baseline] == [
        (name, images) for name in names for images in (4, 16)
    ]


def test_runs_of_named_cases_have_the_addresses_that_they_have_in_the_whole_study():
    whole, part = (
        {
            (point.label, seed): [stage.address for stage in study.run(point, seed).evaluates]
            for point in study.points()
            for seed in study.seeds
        }
        for study in (CASES, changed(CASES, axes=["method=3,one", "images=16"]))
    )
    assert len(part) == 2 * (1 + 2)
    assert part.items() <= whole.items()


def test_of_two_axes_over_the_same_cases_the_last_counts():
    assert changed(CASES, axes=["method=one", "method=3"]) == changed(CASES, axes=["method=3"])


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "method=onne",
            "--axis method: unknown case, known are 3, one, two, mixed; got 'onne'; the nearest known name is 'one'",
        ),
        ("method=one,", "--axis method: unknown case, known are 3, one, two, mixed; got ''"),
        ("method=choice:one,3", "--axis method: unknown case, known are 3, one, two, mixed; got 'choice:one'"),
        ("method=log:1..2", "--axis method: unknown case, known are 3, one, two, mixed; got 'log:1..2'"),
        ("method=3,one,3", "--axis method: must differ from each other; got '3'"),
        ("method= ", "--axis: must be FIELD=VALUE,VALUE,... or FIELD=log:LOW..HIGH; got 'method= '"),
    ],
)
def test_a_case_that_there_is_not_is_refused_in_one_line(text, line):
    with pytest.raises(SpecError) as caught:
        changed(CASES, axes=[text])
    assert str(caught.value) == line


@pytest.mark.parametrize("text", ["images", "=3", ""])
def test_a_setting_of_another_form_is_refused(text):
    with pytest.raises(SpecError) as caught:
        changed(STUDY, settings=[text])
    assert str(caught.value) == f"--set: must be FIELD=VALUE; got {text!r}"
