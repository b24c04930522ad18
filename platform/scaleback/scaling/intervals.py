"""Intervals: over seeds, of a share of test images, of a difference of pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

# Shapes: R an estimate, then samples.

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and its 95 % interval; the ends are None where one value says nothing about its spread."""

    mean: float
    low: float | None
    high: float | None
    count: int

    def apart_from(self, other: Interval) -> bool:
        """Whether the two intervals do not touch."""
        if self.low is None or self.high is None or other.low is None or other.high is None:
            return False
        return self.low > other.high or other.low > self.high

    def __str__(self) -> str:
        return f"{self.mean:.4g}" if self.low is None else f"{self.mean:.4g} [{self.low:.4g}, {self.high:.4g}]"


def over_seeds(values: Sequence[float]) -> Interval:
    """Mean over seeds with Student's interval: what another draw of fractal, weights and labels would give."""
    array = np.asarray(values, float)
    mean = float(array.mean())
    if len(array) < 2:
        return Interval(mean, None, None, len(array))
    half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, len(array) - 1) * array.std(ddof=1) / math.sqrt(len(array)))
    return Interval(mean, mean - half, mean + half, len(array))


def widening(count: int, free: int) -> float:
    """What to multiply a deviation by in a bootstrap of ``count`` residuals or groups with ``free`` degrees of freedom.

    Residuals of a fit are too small by the root of the first ratio; the second makes a normal interval Student's.
    """
    end = 0.5 + CONFIDENCE / 2
    return float(math.sqrt(count / free) * stats.t.ppf(end, free) / stats.norm.ppf(end))


def of_samples(value_R: NDArray[np.float64], count: int) -> Interval:
    """Of an estimate, the first, from samples of ``count`` groups, the others: percentiles of their difference."""
    estimate = float(value_R[0])
    if count < 2:
        return Interval(estimate, None, None, count)
    low = float(np.quantile(value_R[1:], 0.5 - CONFIDENCE / 2, method="lower"))
    high = float(np.quantile(value_R[1:], 0.5 + CONFIDENCE / 2, method="higher"))
    if math.isinf(estimate):
        return Interval(estimate, min(low, estimate), max(high, estimate), count)
    wider = widening(count, count - 1)
    return Interval(
        estimate, estimate - wider * max(0.0, estimate - low), estimate + wider * max(0.0, high - estimate), count
    )


def of_share(share: float, count: int) -> Interval:
    """Wilson's interval of a share of ``count`` test images: what another test set would give."""
    z = float(stats.norm.ppf(0.5 + CONFIDENCE / 2))
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return Interval(share, max(0.0, middle - half), min(1.0, middle + half), count)


def of_pairs(first: Sequence[float], second: Sequence[float]) -> Interval:
    """Mean of ``first - second``, pair by pair: runs of one seed share their labels and their first weights."""
    return over_seeds(np.asarray(first, float) - np.asarray(second, float))
