"""Equal error by interpolation: against a search along the curve, known studies, and the ends of the curve."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaleback.scaling.equal_error import equal_error
from scaleback.scaling.exchange import Run
from scaleback.scaling.laws import FitError

REALS = (100, 200, 400, 800, 1600)


def error_of(count):
    return 0.1 + 3 * count**-0.5


def study(seed, worth, *, spread=0.003, seeds=5, real=200):
    rng, runs = np.random.default_rng(seed), []
    for own in range(seeds):
        shared = rng.normal(0, 3 * spread)
        runs += [Run(count, 0, error_of(count) + shared + rng.normal(0, spread), own) for count in REALS]
        runs.append(Run(real, 5_000, error_of(real + worth) + shared + rng.normal(0, spread), own))
    return runs


def monotone_by_hand(values):
    """The nearest falling sequence, by the min-max formula of isotonic regression."""
    size = len(values)
    return [
        min(max(sum(values[a : b + 1]) / (b - a + 1) for b in range(i, size)) for a in range(i + 1))
        for i in range(size)
    ]


def along_the_curve(curve, error):
    """The fewest real images with no larger error: a fine walk from left to right."""
    for count in np.geomspace(REALS[0], REALS[-1], 200_001):
        if np.interp(math.log(count), np.log(REALS), curve) <= error + 1e-12:
            return count
    return math.inf


@settings(deadline=None, max_examples=10)
@given(errors=st.lists(st.integers(10, 60), min_size=5, max_size=5), share=st.floats(0.05, 0.95))
def test_it_is_where_the_falling_curve_meets_the_error(errors, share):
    errors = [error / 100 for error in errors]
    curve = monotone_by_hand(errors)
    error = curve[-1] + share * (curve[0] - curve[-1])
    runs = [Run(count, 0, value, 0) for count, value in zip(REALS, errors, strict=True)]
    found = equal_error([*runs, Run(200, 5_000, error, 0)], 200, 5_000, draws=3)
    if curve[0] - curve[-1] < 1e-9:
        return  # the error is then the end of the curve, up to rounding
    assert found.extra.mean + 200 == pytest.approx(along_the_curve(curve, error), rel=1e-3)
    assert (found.extra.low, found.extra.high) == (None, None)


def test_images_like_real_ones_count_as_many():
    runs = [*study(0, 200, spread=0)]
    found = equal_error(runs, 200, 5_000, draws=20)
    assert (found.extra.mean, found.extra.low, found.extra.high) == pytest.approx((200, 200, 200))
    assert found.per_real.mean == pytest.approx(25)
    assert found.unidentified is None


def test_images_that_do_harm_are_worth_less_than_none():
    found = equal_error(study(0, -80, spread=0), 200, 5_000, draws=20)
    assert -90 < found.extra.mean < -70
    assert found.per_real.mean == math.inf


@pytest.mark.parametrize(("worth", "end"), [(3_000, "below that of 1600"), (-150, "above that of 100")])
def test_the_curve_is_not_extrapolated(worth, end):
    found = equal_error(study(0, worth), 200, 5_000, draws=20)
    assert found.extra is None
    assert found.per_real is None
    assert found.unidentified == f"the error is {end} real images, where the curve ends"


def test_an_interval_that_leaves_the_curve_is_open():
    found = equal_error(study(2, 1_200, spread=0.004), 200, 5_000, draws=200)
    assert found.extra.high == math.inf
    assert found.per_real.low == 0


def test_seeds_are_resampled_whole_so_what_they_share_falls_out():
    found = equal_error(study(1, 200, spread=0.002), 200, 5_000, draws=300).extra
    assert found.high - found.low < 60
    mixed = study(1, 200, spread=0.002)
    apart = [Run(run.real, run.synthetic, run.error, (run.seed + place) % 5) for place, run in enumerate(mixed)]
    loose = equal_error(apart, 200, 5_000, draws=300).extra
    assert loose.mean == pytest.approx(found.mean)
    assert loose.high - loose.low > 1.5 * (found.high - found.low)


def test_equal_runs_have_equal_intervals_and_another_seed_others():
    first, again, other = (equal_error(study(1, 200), 200, 5_000, draws=50, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first.extra.mean == other.extra.mean
    assert first != other


def test_intervals_cover_the_truth_about_as_often_as_stated():
    # At a size of the curve, so that interpolation itself is exact.
    hits = []
    for seed in range(150):
        found = equal_error(study(seed, 200), 200, 5_000, draws=100, seed=seed).extra
        hits.append(found.low <= 200 <= found.high)
    assert 0.88 <= np.mean(hits) <= 1


@pytest.mark.parametrize(
    ("runs", "line"),
    [
        ([Run(100, 0, 0.5, 0), Run(200, 0, 0.4, 0)], "there are no runs with 200 real and 5000 synthetic images"),
        ([Run(100, 0, 0.5, 0), Run(200, 5_000, 0.4, 0)], "a curve needs two numbers of real images"),
        ([Run(100, 0, math.nan, 0)], "needs finite numbers"),
        ([], "there are no runs with 200 real and 5000 synthetic images"),
    ],
)
def test_what_cannot_be_read_off_is_refused(runs, line):
    with pytest.raises(FitError, match=line):
        equal_error(runs, 200, 5_000)
