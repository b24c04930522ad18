"""The power law: found where it is, as good as any other search, refused where data cannot tell it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares

from scaleback.scaling.laws import EXPONENTS, FitError, PowerLaw, fit_power_law

COUNTS = [2.0, 4.0, 8.0, 16.0, 32.0, 64.0]
FEW = 20  # bootstrap draws where intervals are not looked at


def noisy(law, counts, spread, seed):
    counts = np.asarray(counts)
    return list(law(counts) + np.random.default_rng(seed).normal(0, spread, len(counts)))


def squares(law, counts, errors):
    return float(((law(np.asarray(counts)) - np.asarray(errors)) ** 2).sum())


def by_many_starts(counts, errors):
    """The sum of squares that scipy reaches from the best of many starts; slow on purpose."""
    count_N, error_N = np.asarray(counts), np.asarray(errors)
    found = [
        least_squares(
            lambda p: p[0] + p[1] * count_N ** -p[2] - error_N,
            (offset, scale, exponent),
            bounds=([0, 0, EXPONENTS[0]], [np.inf, np.inf, EXPONENTS[1]]),
        )
        for offset in (0.01, 0.3)
        for scale in (0.1, 1.0)
        for exponent in (0.1, 0.7, 3.0)
    ]
    return min(2 * one.cost for one in found)


@settings(deadline=None, max_examples=25)
@given(offset=st.floats(0.01, 0.5), scale=st.floats(0.1, 1.0), exponent=st.floats(0.2, 3.0))
def test_a_law_without_noise_is_recovered(offset, scale, exponent):
    truth = PowerLaw(offset, scale, exponent)
    found = fit_power_law(COUNTS, list(truth(np.array(COUNTS))), draws=FEW)
    assert found.law.offset == pytest.approx(offset, abs=1e-6)
    assert found.law.scale == pytest.approx(scale, abs=1e-6)
    assert found.law.exponent == pytest.approx(exponent, abs=1e-6)
    assert found.explained == pytest.approx(1, abs=1e-9)
    assert found.residual_std < 1e-6


@pytest.mark.parametrize("counts", [[1e4, 1e5, 1e6, 1e7, 1e8], [0.005, 0.01, 0.05, 0.2, 1.0]])
def test_the_size_of_n_does_not_matter(counts):
    truth = PowerLaw(0.1, 0.3 / counts[0] ** -0.4, 0.4)
    found = fit_power_law(counts, list(truth(np.array(counts))), draws=FEW).law
    assert found.exponent == pytest.approx(0.4, abs=1e-6)
    assert found.offset == pytest.approx(0.1, abs=1e-6)


@pytest.mark.parametrize("case", range(8))
def test_no_other_search_finds_a_better_law(case):
    rng = np.random.default_rng(case)
    counts = list(np.repeat(COUNTS, 3))
    truth = PowerLaw(rng.uniform(0, 0.4), rng.uniform(0, 0.6), rng.uniform(0.05, 3))
    errors = noisy(truth, counts, 0.05, case)
    ours = squares(fit_power_law(counts, errors, draws=FEW).law, counts, errors)
    assert ours <= by_many_starts(counts, errors) * (1 + 1e-6)


@settings(deadline=None, max_examples=40)
@given(errors=st.lists(st.floats(0, 1), min_size=6, max_size=6))
def test_a_law_stays_within_its_bounds(errors):
    found = fit_power_law(COUNTS, [*errors[:5], errors[5] + 0.01], draws=FEW)
    assert 0 <= found.law.offset <= max(errors) + 0.011
    assert found.law.scale >= 0
    assert EXPONENTS[0] <= found.law.exponent <= EXPONENTS[1]
    assert found.explained <= 1
    for sample in found.draws:
        assert sample.offset >= 0
        assert sample.scale >= 0
        assert EXPONENTS[0] <= sample.exponent <= EXPONENTS[1] * (1 + 1e-12)


def test_intervals_stay_within_the_bounds_of_the_law():
    found = fit_power_law([1e-3, 2e-3, 1e-2, 1e-1], [0.4, 0.3, 0.2, 0.1])
    assert found.offset[0] >= 0
    assert found.scale[0] >= 0
    assert EXPONENTS[0] <= found.exponent[0] < found.exponent[1] <= EXPONENTS[1]


def test_the_order_of_the_runs_does_not_matter():
    counts, order = list(np.repeat(COUNTS, 2)), np.random.default_rng(0).permutation(12)
    errors = noisy(PowerLaw(0.1, 0.5, 0.6), counts, 0.02, 1)
    straight = fit_power_law(counts, errors, draws=FEW).law
    mixed = fit_power_law([counts[place] for place in order], [errors[place] for place in order], draws=FEW).law
    assert mixed.exponent == pytest.approx(straight.exponent, abs=1e-6)
    assert mixed.offset == pytest.approx(straight.offset, abs=1e-6)


def test_equal_data_have_equal_intervals_and_another_seed_others():
    errors = noisy(PowerLaw(0.1, 0.5, 0.6), COUNTS, 0.02, 1)
    first, again = (fit_power_law(COUNTS, errors, draws=FEW) for _ in range(2))
    assert again == first
    assert fit_power_law(COUNTS, errors, draws=FEW, seed=1).exponent != first.exponent


def test_more_noise_makes_a_wider_band_and_explains_less():
    counts, truth = list(np.repeat(COUNTS, 3)), PowerLaw(0.2, 0.5, 0.7)
    calm, wild = (fit_power_law(counts, noisy(truth, counts, spread, 4), draws=200) for spread in (0.005, 0.1))
    middle = np.array([10.0])
    low, high = calm.band(middle)
    assert low < truth(middle) < high
    assert wild.band(middle)[1] - wild.band(middle)[0] > 5 * (high - low)
    assert wild.explained < calm.explained
    assert wild.residual_std == pytest.approx(0.1, rel=0.4)


def test_the_band_holds_the_law_where_its_offset_is_at_zero():
    errors = noisy(PowerLaw(-0.05, 0.8, 0.5), COUNTS, 0.001, 2)  # the best offset would be negative
    found = fit_power_law(COUNTS, errors, draws=200)
    assert found.law.offset == pytest.approx(0, abs=1e-6)
    low, high = found.band(np.array(COUNTS))
    curve = found.law(np.array(COUNTS))
    assert (low <= curve).all()
    assert (curve <= high).all()


def test_errors_that_rise_with_n_are_explained_by_no_law():
    found = fit_power_law(COUNTS, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], draws=100)
    assert found.explained == pytest.approx(0, abs=1e-6)
    assert found.exponent == (pytest.approx(EXPONENTS[0], rel=0.01), pytest.approx(EXPONENTS[1], rel=0.01))


@pytest.mark.parametrize("errors", [[0.3] * 6, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]], ids=["flat", "rising"])
def test_errors_that_do_not_fall_determine_no_exponent(errors):
    assert not fit_power_law(COUNTS, errors, draws=100).determined


def test_errors_that_fall_steadily_determine_the_exponent():
    errors = noisy(PowerLaw(0.1, 0.8, 0.7), COUNTS, 0.001, 3)
    assert fit_power_law(COUNTS, errors, draws=100).determined


@pytest.mark.parametrize(
    ("counts", "errors", "line"),
    [
        ([], [], "offset + A n^-a has 3 parameters, so it needs at least 4 numbers of images; got 0"),
        (
            [2, 2, 4, 4, 8, 8],
            [0.5] * 6,
            "offset + A n^-a has 3 parameters, so it needs at least 4 numbers of images; got 3",
        ),
        ([0, 2, 4, 8], [0.5, 0.4, 0.3, 0.2], "a law needs finite errors at positive numbers of images"),
        ([2, 4, 8, 16], [0.5, 0.4, float("nan"), 0.2], "a law needs finite errors at positive numbers of images"),
        ([2, 4, 8, float("inf")], [0.5, 0.4, 0.3, 0.2], "a law needs finite errors at positive numbers of images"),
        ([2, 4, 8, 16], [0.5, 0.4], "a law needs one error for each number of images; got (4,) and (2,)"),
    ],
)
def test_data_that_cannot_determine_a_law_are_refused_with_the_reason(counts, errors, line):
    with pytest.raises(FitError) as caught:
        fit_power_law(counts, errors)
    assert str(caught.value) == line


@pytest.mark.slow
def test_intervals_cover_the_truth_about_as_often_as_stated():
    truth, counts, studies = PowerLaw(0.2, 0.6, 0.8), list(np.repeat(COUNTS, 5)), 300
    hits = np.zeros(3)
    for seed in range(studies):
        found = fit_power_law(counts, noisy(truth, counts, 0.02, seed), draws=300, seed=seed)
        ends = ((found.offset, truth.offset), (found.scale, truth.scale), (found.exponent, truth.exponent))
        hits += [low <= value <= high for (low, high), value in ends]
    assert (hits / studies > 0.91).all()
    assert (hits / studies < 0.995).all()
