"""Calibration against loops and known answers; effective robustness against models on a line."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaleback.core.errors import InputError
from scaleback.scaling.calibration import (
    LEAST_PROBABILITY,
    brier,
    equal_mass,
    equal_width,
    fit_baseline,
    negative_log_likelihood,
)


def drawn(seed, images=60, classes=4, sharpness=2.0):
    rng = np.random.default_rng(seed)
    logits = sharpness * rng.normal(size=(images, classes))
    probability = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return probability, rng.integers(0, classes, images)


def gaps(groups):
    """Weighted mean gap of lists of (confidence, right)."""
    total = sum(len(group) for group in groups)
    error = 0.0
    for group in groups:
        if group:
            confidence = sum(pair[0] for pair in group) / len(group)
            accuracy = sum(pair[1] for pair in group) / len(group)
            error += len(group) / total * abs(confidence - accuracy)
    return error


def pairs(probability, label):
    found = []
    for row, its in zip(probability.tolist(), label.tolist(), strict=True):
        best = max(row)
        found.append((best, row.index(best) == its))
    return found


def width_by_hand(probability, label, bins):
    groups = [[] for _ in range(bins)]
    for confidence, right in pairs(probability, label):
        for number in range(bins):
            if number / bins < confidence <= (number + 1) / bins:
                groups[number].append((confidence, right))
    return gaps(groups)


def mass_by_hand(probability, label, bins):
    ordered = sorted(pairs(probability, label))
    groups = [[] for _ in range(bins)]
    for pair in ordered:
        less = sum(other[0] < pair[0] for other in ordered)
        groups[less * bins // len(ordered)].append(pair)
    return gaps(groups)


@given(seed=st.integers(0, 10_000), images=st.integers(1, 80), bins=st.integers(1, 20), coarse=st.booleans())
@settings(deadline=None, max_examples=60)
def test_calibration_errors_are_those_of_loops(seed, images, bins, coarse):
    probability, label = drawn(seed, images)
    if coarse:  # confidences that are equal, and ends of bins
        probability = np.repeat([[0.7, 0.1, 0.1, 0.1], [0.4, 0.2, 0.2, 0.2], [1.0, 0, 0, 0]], 30, axis=0)[:images]
    width, mass = equal_width(probability, label, bins), equal_mass(probability, label, bins)
    assert width.error == pytest.approx(width_by_hand(probability, label, bins), abs=1e-12)
    assert mass.error == pytest.approx(mass_by_hand(probability, label, bins), abs=1e-12)
    assert 0 <= width.error <= 1
    assert 0 <= mass.error <= 1
    assert width.count_S.sum() == mass.count_S.sum() == images


def test_bins_of_equal_mass_hold_as_many_images():
    probability, label = drawn(3, 150)
    assert equal_mass(probability, label, 15).count_S.tolist() == [10] * 15


@pytest.mark.parametrize("measure", [equal_width, equal_mass])
def test_a_classifier_that_is_right_as_often_as_it_says_has_no_error(measure):
    probability = np.repeat([[0.75, 0.25], [1.0, 0.0]], 4, axis=0)
    label = np.array([0, 0, 0, 1, 0, 0, 0, 0])
    assert measure(probability, label).error == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("measure", [equal_width, equal_mass])
def test_a_classifier_that_is_sure_and_always_wrong_has_an_error_of_one(measure):
    assert measure(np.array([[1.0, 0.0]] * 5), np.ones(5, int)).error == 1


@given(seed=st.integers(0, 10_000), images=st.integers(1, 40))
@settings(deadline=None, max_examples=40)
def test_likelihood_and_brier_score_are_those_of_loops(seed, images):
    probability, label = drawn(seed, images)
    likelihood, square = 0.0, 0.0
    for row, its in zip(probability.tolist(), label.tolist(), strict=True):
        likelihood -= math.log(row[its]) / images
        square += sum((value - (number == its)) ** 2 for number, value in enumerate(row)) / images
    assert negative_log_likelihood(probability, label) == pytest.approx(likelihood)
    assert brier(probability, label) == pytest.approx(square)
    assert 0 <= brier(probability, label) <= 2


def test_known_scores():
    even = np.full((3, 4), 0.25)
    assert negative_log_likelihood(even, np.array([0, 1, 2])) == pytest.approx(math.log(4))
    assert brier(even, np.array([0, 1, 2])) == pytest.approx(0.75)
    wrong = np.array([[0.0, 1.0]])
    assert brier(wrong, np.array([0])) == 2
    assert negative_log_likelihood(wrong, np.array([0])) == pytest.approx(-math.log(LEAST_PROBABILITY))


def on_a_line(accuracy, slope=0.9, intercept=-0.7):
    return 1 / (1 + math.exp(-(slope * math.log(accuracy / (1 - accuracy)) + intercept)))


def test_models_on_a_line_give_the_line_and_have_no_effective_robustness():
    accuracies = [0.3, 0.5, 0.65, 0.8, 0.95]
    baseline = fit_baseline(accuracies, [on_a_line(value) for value in accuracies])
    assert (baseline.slope, baseline.intercept) == (pytest.approx(0.9), pytest.approx(-0.7))
    assert baseline.explained == pytest.approx(1)
    assert baseline.effective_robustness(0.7, on_a_line(0.7)) == pytest.approx(0)
    assert baseline.effective_robustness(0.7, on_a_line(0.7) + 0.04) == pytest.approx(0.04)
    assert baseline.effective_robustness(0.7, 0.0) == pytest.approx(-on_a_line(0.7))


@given(seed=st.integers(0, 10_000), models=st.integers(3, 12))
@settings(deadline=None, max_examples=40)
def test_the_line_is_that_of_least_squares(seed, models):
    rng = np.random.default_rng(seed)
    accuracies, shifted = rng.uniform(0.1, 0.9, models), rng.uniform(0.1, 0.9, models)
    baseline = fit_baseline(accuracies, shifted)
    x, y = (np.log(values / (1 - values)) for values in (accuracies, shifted))
    slope, intercept = np.polyfit(x, y, 1)
    assert (baseline.slope, baseline.intercept) == (pytest.approx(slope), pytest.approx(intercept))
    assert baseline.explained == pytest.approx(np.corrcoef(x, y)[0, 1] ** 2, abs=1e-9)


def test_baselines_alike_under_the_shift_explain_nothing():
    baseline = fit_baseline([0.2, 0.5, 0.8], [0.4, 0.4, 0.4])
    assert baseline.explained is None
    assert baseline(0.9) == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: equal_width(np.ones((2, 2)), np.zeros(2, int)), "sum to 1"),
        (lambda: equal_width(np.array([[1.5, -0.5]]), np.zeros(1, int)), "at least 0"),
        (lambda: equal_width(np.array([[np.nan, 0.5]]), np.zeros(1, int)), "at least 0"),
        (lambda: brier(np.array([[0.5, 0.5]]), np.array([2])), "labels must lie in 0 to 1; got (2, 2)"),
        (lambda: brier(np.array([[0.5, 0.5]]), np.array([0, 1])), "a label for each image"),
        (lambda: brier(np.zeros((0, 2)), np.zeros(0, int)), "a label for each image"),
        (lambda: equal_mass(np.array([[0.5, 0.5]]), np.array([0]), 0), "bins must be at least 1; got 0"),
        (lambda: fit_baseline([0.5, 0.6], [0.4, 0.5]), "at least 3 models; got (2, 2)"),
        (lambda: fit_baseline([0.5, 0.6, 1.0], [0.4, 0.5, 0.6]), "strictly between 0 and 1; got 1.0"),
        (lambda: fit_baseline([0.5] * 3, [0.4, 0.5, 0.6]), "must differ in accuracy; got 0.5"),
        (lambda: fit_baseline([0.4, 0.5, 0.6], [0.4, 0.5, 0.6]).effective_robustness(0.5, 1.2), "got 1.2"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(call, said):
    with pytest.raises(InputError) as caught:
        call()
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
