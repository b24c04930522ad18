"""Intervals against scipy's, and against what they promise."""

import numpy as np
import pytest
from scipy import stats

from scaleback.scaling.intervals import CONFIDENCE, Interval, of_pairs, of_share, over_seeds


@pytest.mark.parametrize("count", [2, 3, 5, 20])
def test_the_interval_over_seeds_is_students(count):
    values = np.random.default_rng(count).normal(0.7, 0.05, count)
    interval = over_seeds(list(values))
    low, high = stats.t.interval(CONFIDENCE, count - 1, values.mean(), stats.sem(values))
    assert (interval.mean, interval.count) == (pytest.approx(values.mean()), count)
    assert (interval.low, interval.high) == (pytest.approx(low), pytest.approx(high))


def test_one_seed_has_no_interval():
    assert over_seeds([0.7]) == Interval(0.7, None, None, 1)


def test_equal_seeds_have_an_interval_without_width():
    interval = over_seeds([0.5, 0.5, 0.5])
    assert interval.low == interval.mean == interval.high == 0.5


@pytest.mark.parametrize("seeds", [2, 5])
def test_the_interval_over_seeds_covers_the_mean_as_often_as_stated(seeds):
    draws = np.random.default_rng(0).normal(0.6, 0.03, (3_000, seeds))
    covered = np.mean([interval.low <= 0.6 <= interval.high for interval in map(over_seeds, draws)])
    assert covered == pytest.approx(CONFIDENCE, abs=0.012)  # three standard errors of 3,000 draws


@pytest.mark.parametrize(("right", "count"), [(0, 10), (1, 10), (10, 10), (713, 1_000), (1, 1)])
def test_the_interval_of_a_share_is_wilsons(right, count):
    theirs = stats.binomtest(right, count).proportion_ci(CONFIDENCE, method="wilson")
    ours = of_share(right / count, count)
    assert (ours.low, ours.high) == (pytest.approx(theirs.low, abs=1e-12), pytest.approx(theirs.high, abs=1e-12))
    assert 0 <= ours.low <= ours.high <= 1


def test_the_interval_of_a_share_covers_it_as_often_as_stated():
    count = 60
    ends = np.array([(of_share(k / count, count).low, of_share(k / count, count).high) for k in range(count + 1)])
    truth_P = np.linspace(0.05, 0.95, 181)
    inside_KP = (ends[:, :1] <= truth_P) & (truth_P <= ends[:, 1:])
    covered_P = (inside_KP * stats.binom.pmf(np.arange(count + 1)[:, None], count, truth_P)).sum(0)
    assert covered_P.mean() == pytest.approx(CONFIDENCE, abs=0.01)
    assert covered_P.min() > 0.9


def test_pairs_are_students_interval_of_the_differences():
    rng = np.random.default_rng(3)
    shared = rng.normal(0, 0.1, 6)
    first, second = 0.7 + shared + rng.normal(0, 0.01, 6), 0.6 + shared
    theirs = stats.ttest_rel(first, second).confidence_interval(CONFIDENCE)
    ours = of_pairs(list(first), list(second))
    assert (ours.low, ours.high) == (pytest.approx(theirs.low), pytest.approx(theirs.high))
    back = of_pairs(list(second), list(first))
    assert (back.low, back.high) == (pytest.approx(-ours.high), pytest.approx(-ours.low))
    alone = over_seeds(list(first))
    assert ours.high - ours.low < 0.5 * (alone.high - alone.low)  # what a pair shares falls out


@pytest.mark.parametrize(
    ("first", "second", "apart"),
    [
        ((0.1, 0.2), (0.3, 0.4), True),
        ((0.3, 0.4), (0.1, 0.2), True),
        ((0.1, 0.3), (0.2, 0.4), False),
        ((0.1, 0.2), (0.2, 0.4), False),
        ((0.1, 0.4), (0.2, 0.3), False),
        ((0.1, 0.2), (None, None), False),
    ],
)
def test_intervals_are_apart_when_they_share_no_point(first, second, apart):
    one, other = (Interval(0.0, *ends, 3) for ends in (first, second))
    assert one.apart_from(other) is apart
    assert other.apart_from(one) is apart


def test_an_interval_reads_as_mean_and_ends():
    assert str(Interval(0.51234, 0.5, 0.525, 3)) == "0.5123 [0.5, 0.525]"
    assert str(Interval(0.5, None, None, 1)) == "0.5"
