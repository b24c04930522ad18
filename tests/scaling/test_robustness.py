"""Effective robustness: what is planted above a line comes back, and nothing is said where there is no line."""

import math
import re

import pytest

from scaleback.scaling.metrics import ACCURACY, Shown
from scaleback.scaling.report import render_report
from scaleback.scaling.robustness import fitted_line, foretold, robust, shifts
from scaleback.scaling.table import Table
from tests.scaling.test_synthetic import content, row

SHIFTED = Shown(
    label="classifier.accuracy_fog", evaluation="classifier", metric="accuracy_fog", images_seen=None, kind=ACCURACY
)
SEEDS = (0, 1, 2)


def shifted(plain, seed, extra=0.0):
    """Logit by logit: slope 0.8, an intercept for each seed."""
    logit = -1 + 0.1 * seed + 0.8 * math.log(plain / (1 - plain))
    return 1 / (1 + math.exp(-logit)) + extra


def study(extra, *, baselines=(0.6, 0.7, 0.8, 0.9), plain=0.75):
    """Baselines on a line, and a point with ``extra`` for each seed."""
    rows = []
    for place, value in enumerate(baselines):
        rows += both({"real": place}, value, 0)
    rows += both({"real": 9, "kind": "x"}, plain, 100, extra)
    whole = content()
    return type(whole)(
        **{name: getattr(whole, name) for name in type(whole).__slots__}
        | {"measures": [whole.measures[0], SHIFTED], "table": Table(rows), "axes": ["real", "kind"]}
    )


def both(values, plain, synthetic, extra=(0, 0, 0)):
    rows = []
    for seed in SEEDS:
        one = plain + 0.01 * seed
        rows.append(row(values, seed, one, 100, synthetic))
        rows.append(row(values, seed, shifted(one, seed, extra[seed]), 100, synthetic, metric="accuracy_fog"))
    return rows


def test_a_planted_gain_comes_back_with_its_spread_over_seeds():
    (found,) = shifts(study((0.03, 0.04, 0.05)))
    assert found.slope.mean == pytest.approx(0.8, abs=1e-9)
    (point,) = found.points
    assert point.gain.mean == pytest.approx(0.04, abs=1e-9)
    assert point.gain.high - point.gain.low == pytest.approx(2 * 4.303 * 0.01 / 3**0.5, rel=1e-3)
    (said,) = robust(found)
    assert "1 of 1 points are above what their accuracy foretells" in said
    assert "+4.0 points [1.5, 6.5]" in said


def test_a_point_on_the_line_is_neither_above_nor_below():
    (found,) = shifts(study((0.001, -0.002, 0.001)))
    assert robust(found) == [
        "classifier.accuracy_fog: 0 of 1 points are above what their accuracy foretells, 0 below, by more than their "
        "intervals."
    ]


def test_beyond_the_ends_of_the_line_nothing_is_said():
    (found,) = shifts(study((0.1, 0.1, 0.1), plain=0.95))
    assert found.points[0].gain is None
    assert found.points[0].refused == "its accuracy is beyond the ends of the line"
    assert robust(found) == []


def test_two_baselines_make_no_line():
    whole = study((0.1, 0.1, 0.1), baselines=(0.6, 0.9))
    (found,) = shifts(whole)
    assert found.slope is None
    assert "a line takes 3 baselines" in found.points[0].refused
    assert "a line takes 3 baselines" in render_report(whole)


def test_a_shift_without_the_plain_accuracy_is_left_out():
    whole = study((0, 0, 0))
    assert shifts(type(whole)(**{n: getattr(whole, n) for n in type(whole).__slots__} | {"measures": [SHIFTED]})) == []


def test_the_report_shows_the_line_and_every_point():
    html = render_report(study((0.03, 0.04, 0.05)))
    section = html.partition("<h2>Effective robustness</h2>")[2].partition("<h2>")[0]
    assert "by the line through real images alone" in section
    assert "Slope of the line: 0.8 [0.8, 0.8]" in section
    assert re.search(r"<td>real=9 kind=x</td><td>76.0 % .*<td>\+4.0 points \[1.5, 6.5\]</td>", section)
    assert "1 of 1 points are above" in html.partition("<h2>The images")[0]


def test_a_share_of_all_or_none_stays_finite():
    of_line = fitted_line([0.5, 0.9, 1.0], [0.0, 0.5, 1.0])
    assert all(map(math.isfinite, of_line))
    assert 0 < foretold(of_line, 1.0) < 1
