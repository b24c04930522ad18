"""The laws of collapse: simulated truth comes back, no other search is better, and noise is no growth."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from scaleback.scaling.generations import FORMS, RATES, Observed, fit_growth
from scaleback.scaling.laws import FitError

SLOPE, RISE, RATE, BOUND = 0.03, 0.2, 0.5, 0.4
TRUTHS = {
    "linear": lambda g: 0.2 + SLOPE * g,
    "bounded": lambda g: BOUND - RISE * RATE**g,
    "none": lambda g: 0.3,
}


def study(form, seed, *, spread=0.004, seeds=3, generations=5, apart=0.05):
    """Runs of a known law; the levels of seeds lie ``apart``."""
    rng = np.random.default_rng(seed)
    levels = rng.normal(0, apart, seeds)
    return [
        Observed(g, float(TRUTHS[form](g) + levels[own] + rng.normal(0, spread)), own)
        for own in range(seeds)
        for g in range(1, generations + 1)
    ]


@pytest.mark.parametrize("form", FORMS)
def test_a_law_without_noise_comes_back(form):
    found = fit_growth(study(form, 0, spread=1e-9, apart=0.0), draws=20)
    assert found.form == form
    assert found.aicc[form] == 0 < min(value for name, value in found.aicc.items() if name != form)
    generations = np.array([1.0, 2.5, 9.0])
    np.testing.assert_allclose(found(generations), [TRUTHS[form](g) for g in generations], rtol=1e-6)
    if form == "linear":
        assert (found.start, found.slope.mean) == pytest.approx((0.2, SLOPE))
    if form == "bounded":
        assert (found.rise, found.rate, found.bound.mean) == pytest.approx((RISE, RATE, BOUND))


def test_a_linear_course_is_called_linear_and_a_bounded_one_bounded():
    for form, other in (("linear", "bounded"), ("bounded", "linear")):
        found = [fit_growth(study(form, seed), draws=100) for seed in range(20)]
        chosen = Counter(one.form for one in found)
        assert chosen[form] >= 19
        assert chosen[form] + chosen[other] == 20
        assert all(one.course == "grows" for one in found)


def test_noise_alone_is_no_growth_nearly_always():
    found = [fit_growth(study("none", seed, spread=0.02), draws=100) for seed in range(40)]
    assert Counter(one.course for one in found)["none"] >= 36
    assert Counter(one.form for one in found)["none"] >= 30


def test_errors_that_fall_are_not_called_growth():
    runs = [replace(run, error=1 - run.error) for run in study("linear", 1)]
    found = fit_growth(runs, draws=100)
    assert (found.form, found.course) == ("linear", "falls")
    assert found.slope.high < 0


def by_hand(runs, basis):
    """Sum of squares and the last coefficient by a dummy variable for each seed; slow on purpose."""
    own = [[float(run.seed == seed) for seed in sorted({run.seed for run in runs})] for run in runs]
    table = np.column_stack([own, [basis(run.generation) for run in runs]])
    error = np.array([run.error for run in runs])
    found = np.linalg.lstsq(table, error, rcond=None)[0]
    return float(((error - table @ found) ** 2).sum()), found


def test_no_other_search_finds_a_better_law():
    runs = study("bounded", 3, spread=0.02)[:-2]  # one seed lacks its last generations
    found = fit_growth(runs, draws=20)
    square, coefficients = by_hand(runs, lambda g: g)
    assert found.slope.mean == pytest.approx(coefficients[-1])
    rates = np.linspace(*RATES, 301)
    squares = [by_hand(runs, lambda g, rate=rate: rate**g)[0] for rate in rates]
    assert found.rate == pytest.approx(rates[int(np.argmin(squares))], abs=2e-3)
    assert found.rise == pytest.approx(-by_hand(runs, lambda g: found.rate**g)[1][-1])
    count = len(runs)
    scores = {
        form: count * math.log(left / count) + 2 * k * count / (count - k - 1)
        for form, left, k in (("linear", square, 5), ("bounded", min(squares), 6))
    }
    assert found.aicc["linear"] - found.aicc["bounded"] == pytest.approx(scores["linear"] - scores["bounded"], abs=1e-4)


def test_the_level_of_a_seed_is_its_own_and_moves_no_slope():
    runs = study("bounded", 2, apart=0.0)
    moved = [replace(run, error=run.error + 0.5 * run.seed) for run in runs]
    first, second = (fit_growth(these, draws=50) for these in (runs, moved))
    assert (second.slope.mean, second.slope.low, second.slope.high) == pytest.approx(
        (first.slope.mean, first.slope.low, first.slope.high)
    )
    assert second.aicc == pytest.approx(first.aicc)
    assert second.start == pytest.approx(first.start + 0.5)
    assert second.bound.high - second.bound.low > 5 * (first.bound.high - first.bound.low)  # others have other seeds


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5])
def test_intervals_cover_the_truth_about_as_often_as_stated(seeds):
    slopes, bounds = [], []
    for seed in range(150):
        line = fit_growth(study("linear", seed, seeds=seeds, spread=0.01), draws=100, seed=seed)
        slopes.append(line.slope.low <= SLOPE <= line.slope.high)
        curve = fit_growth(study("bounded", seed, seeds=seeds, spread=0.004), draws=100, seed=seed)
        bounds.append(curve.bound.low <= BOUND <= curve.bound.high)
    assert 0.89 < np.mean(slopes) < 0.995
    assert np.mean(bounds) > 0.89


def test_a_line_has_no_bound_to_be_told():
    found = fit_growth(study("linear", 0, spread=1e-6), draws=50)
    assert found.bound.mean == math.inf == found.bound.high


@pytest.mark.parametrize(
    ("runs", "line"),
    [
        ([], "a law of collapse needs at least 4 generations; got 0"),
        (study("linear", 0, generations=3), "a law of collapse needs at least 4 generations; got 3"),
        (study("linear", 0, seeds=1), "a law of collapse needs two seeds, and 6 runs at least; got 1, 5"),
        (study("linear", 0, seeds=2)[:6], "a law of collapse needs two seeds, and 7 runs at least; got 2, 6"),
        ([Observed(1, math.nan, 0)], "a law of collapse needs finite errors of finite generations"),
    ],
)
def test_designs_that_cannot_tell_are_refused(runs, line):
    with pytest.raises(FitError) as caught:
        fit_growth(runs)
    assert str(caught.value) == line
