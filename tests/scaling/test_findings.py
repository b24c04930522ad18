"""Sentences from a table made by hand: every number in them can be checked in the head."""

import json
import math
import re
from dataclasses import replace

import pytest

from scaleback.scaling.content import Content
from scaleback.scaling.findings import findings, passes_to_reach, reached
from scaleback.scaling.fits import generation_laws, study_laws
from scaleback.scaling.metrics import ACCURACY, Metric, Shown
from scaleback.scaling.table import Row, Table

KNN = Shown(label="knn.accuracy", evaluation="knn", metric="accuracy", images_seen=None, kind=ACCURACY)
TUNED = Shown(label="finetune.accuracy@200", evaluation="finetune", metric="accuracy", images_seen=200, kind=ACCURACY)
BASELINE = "no pre-training"


def rows(by_seed, *, measure=KNN, images_seen=None, searched=False, **values):
    """One measure of one point; without a value of ``images`` it is a baseline."""
    label = " ".join(f"{name}={value}" for name, value in values.items())
    baseline = "images" not in values
    return [
        Row(
            point=f"{BASELINE} {label}".strip() if baseline else label,
            values=values,
            baseline=baseline,
            searched=searched,
            seed=seed,
            run="f" * 64,
            evaluation=measure.evaluation,
            metric=measure.metric,
            value=value,
            images_seen=images_seen,
            count=100,
            collapsed=False,
        )
        for seed, value in enumerate(by_seed)
        if value is not None
    ]


def curve(by_images_seen, **values):
    """Accuracy along fine-tuning, a list over seeds for each mark."""
    marks = by_images_seen.items()
    return [row for seen, by_seed in marks for row in rows(by_seed, measure=TUNED, images_seen=seen, **values)]


def content(*parts, measures=(KNN,), reach=None, fit_field=None, fit_form="power"):
    table = Table(row for part in parts for row in part)
    text = {"name": "s", "purpose": "", "base_spec": "", "study_spec": "", "made": ""}
    empty = {"axes": ["images"], "cost": {}, "sheets": [], "runs": []}
    fit = {"fit_field": fit_field, "fit_form": fit_form}
    return Content(measures=measures, reach=reach, table=table, **fit, **text, **empty)


def test_the_best_point_is_compared_with_the_baseline_and_with_the_last():
    said = findings(
        content(rows([0.5, 0.52, 0.51]), rows([0.55, 0.57, 0.56], images=2), rows([0.65, 0.67, 0.66], images=4))
    )
    assert said == [
        "knn.accuracy: best is images=4 with 66.0 % [63.5, 68.5]; no pre-training 51.0 % [48.5, 53.5]; "
        "the intervals do not touch; paired difference +15.0 points [15.0, 15.0].",
        "knn.accuracy: last is images=2 with 56.0 % [53.5, 58.5], -10.0 points [-10.0, -10.0] against the best.",
    ]


def test_where_less_is_better_the_least_is_best_and_nothing_is_in_percent():
    loss = replace(KNN, kind=Metric("low"))
    said = findings(
        content(rows([1.5, 1.5]), rows([0.02, 0.02], images=2), rows([1_200.4, 1_200.4], images=4), measures=(loss,))
    )
    assert said == [
        "knn.accuracy: best is images=2 with 0.02 [0.02, 0.02]; no pre-training 1.5 [1.5, 1.5]; the intervals do not "
        "touch; paired difference -1.48 [-1.48, -1.48].",
        "knn.accuracy: last is images=4 with 1,200 [1,200, 1,200], +1,200 [1,200, 1,200] against the best.",
    ]


def test_where_no_end_is_better_the_highest_and_the_lowest_are_named():
    ratio = replace(KNN, kind=Metric("neither"))
    said = findings(content(rows([1.5, 1.5], images=1), rows([0.5, 0.5], images=2), measures=(ratio,)))
    assert said == [
        "knn.accuracy: highest is images=1 with 1.5 [1.5, 1.5].",
        "knn.accuracy: lowest is images=2 with 0.5 [0.5, 0.5], -1 [-1, -1] against the highest.",
    ]


def test_a_law_of_a_loss_is_fitted_to_the_loss_and_a_ratio_has_none():
    counts = (1, 2, 4, 8, 16)
    points = [rows([0.2 + n**-0.5, 0.2 + n**-0.5], images=n) for n in counts]
    (law,) = study_laws(content(*points, measures=(replace(KNN, kind=Metric("low")),), fit_field="images"))
    assert law.errors[:2] == [1.2, 1.2]
    assert law.fitted.law.exponent == pytest.approx(0.5, rel=0.01)
    for kind in (Metric("neither"), Metric("high")):
        assert study_laws(content(*points, measures=(replace(KNN, kind=kind),), fit_field="images")) == []


def test_intervals_that_touch_are_said_to_touch_whatever_the_pairs_say():
    (said,) = findings(content(rows([0.5, 0.6, 0.7]), rows([0.55, 0.66, 0.74], images=4)))
    assert "the intervals touch; paired difference +5.0 points [2.5, 7.5]" in said


def test_a_point_below_the_baseline_is_not_made_to_look_better():
    (said,) = findings(content(rows([0.5, 0.52]), rows([0.4, 0.42], images=4)))
    assert "best is images=4 with 41.0 %" in said
    assert "paired difference -10.0 points" in said


def test_differences_are_of_the_seeds_that_both_have():
    (said,) = findings(content(rows([None, 0.5, 0.6]), rows([0.9, 0.6, 0.7], images=4)))
    assert "paired difference +10.0 points [10.0, 10.0]" in said


def test_with_one_seed_no_interval_is_claimed():
    said = findings(content(rows([0.5]), rows([0.6], images=2), rows([0.7], images=4)))
    assert said == [
        "knn.accuracy: best is images=4 with 70.0 %; no pre-training 50.0 %; with one seed there is no interval; "
        "paired difference +20.0 points.",
        "knn.accuracy: last is images=2 with 60.0 %, -10.0 points against the best.",
    ]


def test_without_a_baseline_nothing_is_compared_with_one():
    said = findings(content(rows([0.6, 0.61], images=2), rows([0.7, 0.71], images=4)))
    assert said == [
        "knn.accuracy: best is images=4 with 70.5 % [64.1, 76.9].",
        "knn.accuracy: last is images=2 with 60.5 % [54.1, 66.9], -10.0 points [-10.0, -10.0] against the best.",
    ]


def test_a_measure_that_is_missing_is_passed_over():
    table = [rows([0.5, 0.52]), rows([0.6, 0.62], images=4)]
    assert findings(content(*table, measures=(TUNED, KNN))) == findings(content(*table))
    assert findings(content(*table, measures=(TUNED,), reach=0.5)) == []
    assert findings(content(rows([0.5, 0.52]))) == []
    assert findings(content()) == []


def test_a_baseline_of_one_seed_has_no_interval_to_touch():
    (said,) = findings(content(rows([0.5]), rows([0.6, 0.61, 0.62], images=4)))
    assert said == (
        "knn.accuracy: best is images=4 with 61.0 % [58.5, 63.5]; no pre-training 50.0 %; "
        "with one seed there is no interval; paired difference +10.0 points."
    )


def test_points_without_a_common_seed_have_no_paired_difference():
    (said,) = findings(content(rows([0.5, 0.52]), rows([None, None, 0.6, 0.62], images=4)))
    assert said.endswith("; the intervals do not touch.") or said.endswith("; the intervals touch.")
    assert "nan" not in said
    assert "paired" not in said


def test_a_last_point_without_a_common_seed_is_not_compared_with_the_best():
    said = findings(content(rows([0.5, 0.52], images=2), rows([None, None, 0.6, 0.62], images=4)))
    assert said[-1] == "knn.accuracy: last is images=2 with 51.0 % [38.3, 63.7]."


def test_the_best_is_compared_with_the_baseline_that_differs_in_nothing_else():
    parts = [
        part
        for labels, base, point in ((20, 0.3, 0.5), (50, 0.6, 0.7))
        for part in (
            rows([base, base + 0.02], **{"target.images": labels}),
            rows([point, point + 0.02], **{"target.images": labels, "images": 4}),
        )
    ]
    said = findings(content(*parts))[0]
    assert said.startswith("knn.accuracy: best is target.images=50 images=4 with 71.0 % [58.3, 83.7]; ")
    assert "; no pre-training target.images=50 61.0 % [48.3, 73.7]; " in said
    assert said.endswith("paired difference +10.0 points [10.0, 10.0].")
    few = [part for part in parts if part[0].values["target.images"] == 20 or not part[0].baseline]
    assert findings(content(*few))[0] == f"{said.split(';')[0]}."  # the other baseline is none of this point


def test_how_much_the_baseline_still_gains_is_said():
    table = curve({100: [0.3, 0.4], 200: [0.5, 0.6], 20_000: [0.65, 0.75]})
    (said,) = findings(content(table, measures=(TUNED,)))
    assert said == (
        "No pre-training changes by +15.0 points [15.0, 15.0] between 200 and 20,000 image passes of fine-tuning."
    )


def test_image_passes_to_reach_an_accuracy_are_compared():
    base = curve({100: [0.3, 0.3], 200: [0.5, 0.5], 800: [0.7, 0.7]})
    point = curve({100: [0.5, 0.5], 200: [0.6, 0.6], 800: [0.7, 0.7]}, images=4)
    said = findings(content(base, point, measures=(TUNED,), reach=0.6))[-1]
    assert said == (
        "Image passes of fine-tuning to reach 60.0 %: 400 [400, 400] from no pre-training, "
        "200 [200, 200] from images=4, 2.00 times fewer."
    )


def test_needing_more_image_passes_is_not_called_fewer():
    base = curve({100: [0.5, 0.5], 200: [0.6, 0.6]})
    point = curve({100: [0.3, 0.3], 200: [0.5, 0.5]}, images=4)
    said = findings(content(base, point, measures=(TUNED,), reach=0.5))[-1]
    assert said.endswith(": 100 [100, 100] from no pre-training, 200 [200, 200] from images=4, 2.00 times more.")


def test_a_point_that_never_gets_there_has_no_number():
    base = curve({100: [0.3, 0.3], 200: [0.5, 0.5]})
    point = curve({100: [0.4, 0.4], 200: [0.6, 0.5]}, images=4)
    known = content(base, point, measures=(TUNED,), reach=0.55)
    assert [(one.point, one.baseline, one.passes, one.text) for one in reached(known)] == [
        (BASELINE, True, None, "reached by 0 of 2 seeds"),
        ("images=4", False, None, "reached by 1 of 2 seeds"),
    ]
    assert not any("to reach" in said for said in findings(known))


def test_passes_of_several_seeds_are_averaged_as_ratios():
    table = curve({100: [0.6, 0.3], 400: [0.7, 0.6]})
    (one,) = reached(content(table, measures=(TUNED,), reach=0.6))
    assert one.passes == pytest.approx(200)  # the geometric mean of 100 and 400
    assert one.text.startswith("200 [")


@pytest.mark.parametrize(
    ("marks", "reach", "passes"),
    [
        ({100: 0.2, 400: 0.6}, 0.4, 200),  # half way up is half way on a log scale
        ({400: 0.6, 100: 0.2}, 0.4, 200),  # in any order
        ({100: 0.5, 400: 0.6}, 0.4, 100),  # there at the first mark
        ({100: 0.2, 400: 0.4}, 0.4, 400),
        ({100: 0.2, 200: 0.6, 400: 0.3}, 0.4, 100 * math.sqrt(2)),  # the first time counts
        ({100: 0.2, 400: 0.3}, 0.4, math.inf),
        ({}, 0.4, math.inf),
    ],
)
def test_passes_to_reach_an_accuracy_lie_between_two_marks(marks, reach, passes):
    assert passes_to_reach(marks, reach) == pytest.approx(passes)


def test_a_law_is_fitted_for_each_value_of_the_other_axes():
    parts = [
        rows([1 - 0.1 - scale * n**-0.5] * 2, images=n, delta=delta)
        for delta, scale in ((0.1, 0.5), (0.2, 0.8))
        for n in (1, 2, 4, 8, 16)
    ]
    laws = study_laws(content(rows([0.2, 0.2]), *parts, fit_field="images"))
    assert [law.title for law in laws] == ["knn.accuracy, delta = 0.1", "knn.accuracy, delta = 0.2"]
    plain = [law.plain() for law in laws]
    assert [law["scale"] for law in plain] == [pytest.approx(0.5), pytest.approx(0.8)]
    assert [(law["offset"], law["runs"]) for law in plain] == [(pytest.approx(0.1), 10)] * 2


def test_a_law_that_cannot_be_fitted_says_why():
    (law,) = study_laws(content(*[rows([0.5], images=n) for n in (2, 4, 8)], fit_field="images"))
    assert law.plain() == {"law": "knn.accuracy", "refused": law.refused}
    assert law.refused.endswith("needs at least 4 numbers of images; got 3")
    assert study_laws(content(rows([0.5], images=2))) == []


def test_searched_points_are_no_part_of_a_law():
    parts = [rows([0.9 - 0.5 * n**-0.5], images=n) for n in (1, 2, 4, 8)]
    found = rows([0.9], images=16, searched=True)
    (law,) = study_laws(content(*parts, found, fit_field="images"))
    assert law.counts == [1, 2, 4, 8]


def along_generations(error, *, seeds=(0.0, 0.01, -0.01), count=5, **values):
    """Accuracies of generations; ``images`` counts them here."""
    noise = (0.001, -0.002, 0.0, 0.002, -0.001, 0.001)
    return [
        rows([1 - error(g) - level - noise[(g + place) % 6] for place, level in enumerate(seeds)], images=g, **values)
        for g in range(1, count + 1)
    ]


def test_the_laws_of_generations_are_said_for_each_succession():
    parts = [
        *along_generations(lambda g: 0.2 + 0.03 * g, kept="last"),
        *along_generations(lambda g: 0.4 - 0.2 * 0.5**g, kept="all"),
        *along_generations(lambda g: 0.3, kept="none"),
    ]
    of_study = content(*parts, fit_field="images", fit_form="generations")
    assert study_laws(of_study) == []
    last, every, none = generation_laws(of_study)
    assert last.said.startswith("knn.accuracy, kept = last: the error grows, +3.0 points [")
    assert last.said.endswith(f"a generation (linear; bounded: AICc {last.fitted.aicc['bounded']:.1f} more).")
    assert "kept = all: the error grows, +2.2 points [" in every.said
    assert re.search(r"a generation, towards a bound: 40\.\d % \[.*\] \(bounded; linear: AICc", every.said)
    assert re.search(r"kept = none: no growth of the error is seen over 5 generations \([+-]0\.\d points", none.said)
    plain = last.plain()
    assert (plain["form"], plain["course"], plain["runs"]) == ("linear", "grows", 15)
    assert plain["slope"] == pytest.approx(0.03, abs=1e-3)
    assert plain["slope_interval"][0] < 0.03 < plain["slope_interval"][1]
    json.dumps([law.plain() for law in (last, every, none)], allow_nan=False)


def test_generations_that_fall_and_that_are_few_say_so():
    def said(*parts):
        (law,) = generation_laws(content(*parts, fit_field="images", fit_form="generations"))
        return law.said

    assert "the error falls, -3.0 points [" in said(*along_generations(lambda g: 0.5 - 0.03 * g))
    assert said(*along_generations(lambda g: 0.2 + 0.03 * g, count=3)).endswith(
        "no law along generations: a law of collapse needs at least 4 generations; got 3."
    )
    assert generation_laws(content(*along_generations(lambda g: 0.2), fit_field="images")) == []
