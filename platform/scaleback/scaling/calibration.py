"""Whether a classifier's confidence is its accuracy, and whether its accuracy holds under a shift."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scaleback.core.errors import InputError, refusal

# Shapes: N images, K classes, S bins, M models.

BINS = 15
"""Guo et al., "On calibration of modern neural networks", ICML 2017, section 4."""
LEAST_PROBABILITY = float(np.finfo(np.float32).smallest_subnormal)
"""What a probability of zero is taken for: the least number that a softmax in single precision rounds to it from."""
SUM_TOLERANCE = 1e-2
"""A softmax in half precision sums to one this nearly."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reliability:
    """Mean confidence and accuracy of images that are about equally confident; bins without images are left out."""

    count_S: NDArray[np.int64]
    confidence_S: NDArray[np.float64]
    accuracy_S: NDArray[np.float64]

    @property
    def error(self) -> float:
        """Expected calibration error: the mean over images of their bin's gap, 0 to 1."""
        gap_S = np.abs(self.confidence_S - self.accuracy_S)
        return float((self.count_S * gap_S).sum() / self.count_S.sum())


def equal_width(probability_NK: NDArray[np.floating], label_N: NDArray[np.int64], bins: int = BINS) -> Reliability:
    """Bins of the same range of confidence, each with its upper end (Guo et al., 2017, section 2)."""
    confidence_N, right_N = _guesses(probability_NK, label_N, bins)
    # Ends as numbers, not as multiples: a confidence that is an end lies below it whatever a product rounds to.
    bin_N = np.searchsorted(np.arange(1, bins) / bins, confidence_N, side="left")
    return _binned(bin_N, confidence_N, right_N)


def equal_mass(probability_NK: NDArray[np.floating], label_N: NDArray[np.int64], bins: int = BINS) -> Reliability:
    """Bins of as many images as the others (Nguyen and O'Connor, EMNLP 2015); equal confidences share a bin."""
    confidence_N, right_N = _guesses(probability_NK, label_N, bins)
    less_N = np.searchsorted(np.sort(confidence_N), confidence_N, side="left")
    return _binned(less_N * bins // len(less_N), confidence_N, right_N)


def negative_log_likelihood(probability_NK: NDArray[np.floating], label_N: NDArray[np.int64]) -> float:
    """Mean of -log of the label's probability, in nats."""
    probability = _checked(probability_NK, label_N)
    return float(-np.log(np.maximum(probability[np.arange(len(label_N)), label_N], LEAST_PROBABILITY)).mean())


def brier(probability_NK: NDArray[np.floating], label_N: NDArray[np.int64]) -> float:
    """Mean squared distance to the label, summed over classes, 0 to 2 (Brier, 1950)."""
    probability = _checked(probability_NK, label_N)
    of_label_N = probability[np.arange(len(label_N)), label_N]
    return float(((probability**2).sum(1) - of_label_N**2 + (1 - of_label_N) ** 2).mean())


@dataclass(frozen=True, kw_only=True, slots=True)
class Baseline:
    """Accuracy under a shift that accuracy in distribution promises: a line between their log-odds."""

    slope: float
    intercept: float
    models: int
    explained: float | None
    """Share of the variance of the baselines' log-odds under the shift; None where they have none."""

    def __call__(self, accuracy: float) -> float:
        """Accuracy under the shift of a baseline with this accuracy in distribution."""
        return float(1 / (1 + np.exp(-(self.slope * _log_odds(np.array([accuracy]))[0] + self.intercept))))

    def effective_robustness(self, accuracy: float, shifted: float) -> float:
        """Accuracy under the shift beyond what the line promises (Taori et al., NeurIPS 2020, section 2)."""
        if not 0 <= shifted <= 1:
            raise InputError(refusal("an accuracy under a shift must lie in [0, 1]", shifted))
        return shifted - self(accuracy)


def fit_baseline(accuracies: Sequence[float], shifted: Sequence[float]) -> Baseline:
    """Least squares over baseline models, each with its accuracy in distribution and under the shift.

    Raises:
        InputError: fewer than three models, all of one accuracy, or an accuracy without finite log-odds.
    """
    if len(accuracies) != len(shifted) or len(accuracies) < 3:
        got = (len(accuracies), len(shifted))
        raise InputError(refusal("a baseline needs two accuracies each of at least 3 models", got))
    at_M, to_M = _log_odds(np.asarray(accuracies, float)), _log_odds(np.asarray(shifted, float))
    spread = float(((at_M - at_M.mean()) ** 2).sum())
    if np.ptp(at_M) == 0:
        raise InputError(refusal("baseline models must differ in accuracy", float(accuracies[0])))
    slope = float(((at_M - at_M.mean()) * (to_M - to_M.mean())).sum() / spread)
    intercept = float(to_M.mean() - slope * at_M.mean())
    total, left = ((to_M - to_M.mean()) ** 2).sum(), ((to_M - slope * at_M - intercept) ** 2).sum()
    explained = float(1 - left / total) if np.ptp(to_M) > 0 else None
    return Baseline(slope=slope, intercept=intercept, models=len(at_M), explained=explained)


def _log_odds(accuracy_M: NDArray[np.float64]) -> NDArray[np.float64]:
    outside = accuracy_M[~((accuracy_M > 0) & (accuracy_M < 1))]
    if len(outside):
        raise InputError(refusal("an accuracy with log-odds lies strictly between 0 and 1", float(outside[0])))
    log_odds: NDArray[np.float64] = np.log(accuracy_M) - np.log1p(-accuracy_M)
    return log_odds


def _guesses(
    probability_NK: NDArray[np.floating], label_N: NDArray[np.int64], bins: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Confidence of each guess, and whether it is right."""
    if bins < 1:
        raise InputError(refusal("bins must be at least 1", bins))
    probability = _checked(probability_NK, label_N)
    return probability.max(axis=1), probability.argmax(axis=1) == label_N


def _binned(bin_N: NDArray[np.int64], confidence_N: NDArray[np.float64], right_N: NDArray[np.bool_]) -> Reliability:
    count = np.bincount(bin_N)
    used, least = count > 0, np.maximum(count, 1)
    return Reliability(
        count_S=count[used],
        confidence_S=(np.bincount(bin_N, confidence_N) / least)[used],
        accuracy_S=(np.bincount(bin_N, right_N.astype(float)) / least)[used],
    )


def _checked(probability_NK: NDArray[np.floating], label_N: NDArray[np.int64]) -> NDArray[np.float64]:
    probability, label = np.asarray(probability_NK, np.float64), np.asarray(label_N)
    if probability.ndim != 2 or not len(probability) or label.shape != probability.shape[:1]:
        got = (probability.shape, label.shape)
        raise InputError(refusal("needs probabilities (images, classes) and a label for each image", got))
    if not ((probability >= 0).all() and (np.abs(probability.sum(1) - 1) <= SUM_TOLERANCE).all()):
        raise InputError("probabilities must be at least 0 and sum to 1 over the classes")
    if not ((label >= 0) & (label < probability.shape[1])).all():
        ends = (int(label.min()), int(label.max()))
        raise InputError(refusal(f"labels must lie in 0 to {probability.shape[1] - 1}", ends))
    return probability
