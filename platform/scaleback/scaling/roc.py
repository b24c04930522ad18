"""How well scores tell members from others, over all thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scaleback.core import seeds
from scaleback.core.errors import InputError, refusal
from scaleback.scaling.intervals import CONFIDENCE, Interval

# Shapes: M models, N samples, T thresholds.

FALSE_POSITIVE_RATES = (1e-4, 1e-3, 1e-2)
CURVE_POINTS = 61
DRAWS = 1_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Roc:
    """Rates at every threshold, from none called a member to all."""

    false_positive_T: NDArray[np.float64]
    true_positive_T: NDArray[np.float64]

    @property
    def area(self) -> float:
        return float(np.trapezoid(self.true_positive_T, self.false_positive_T))

    @property
    def balanced_accuracy(self) -> float:
        """At the threshold where it is best."""
        return float((1 + (self.true_positive_T - self.false_positive_T).max()) / 2)

    def true_positive(self, rate: float) -> float:
        """The largest true-positive rate at no more than this false-positive rate."""
        last = np.searchsorted(self.false_positive_T, rate, side="right") - 1
        return float(self.true_positive_T[last])


def roc(score: NDArray[np.float64], member: NDArray[np.bool_]) -> Roc:
    """The curve of scores of any shape; equal scores are passed together."""
    _check_scores(score, member)
    level, place = np.unique(-score.ravel(), return_inverse=True)
    inside, outside = (np.bincount(place, chosen, len(level)) for chosen in (member.ravel(), ~member.ravel()))
    return Roc(
        false_positive_T=np.concatenate([[0.0], outside.cumsum() / outside.sum()]),
        true_positive_T=np.concatenate([[0.0], inside.cumsum() / inside.sum()]),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Attack:
    """How well members are told from others."""

    area: Interval
    """Under the curve; the interval is over samples, each with all its models. 0.5 is no attack."""
    balanced_accuracy: float
    """At its best threshold, so a little above 0.5 where there is no attack."""
    true_positive: Mapping[float, float | None]
    """At each false-positive rate; None where there are too few non-members to have that rate."""
    curve: tuple[tuple[float, float], ...]
    """False- and true-positive rates for a figure of two logarithmic axes."""


def attack_summary(
    score_MN: NDArray[np.float64], member_MN: NDArray[np.bool_], *, draws: int = DRAWS, seed: int = 0
) -> Attack:
    """Summarise the scores of all targets. InputError as ``roc``."""
    found = roc(score_MN, member_MN)
    outside = int((~member_MN).sum())
    rates = np.geomspace(1 / outside, 1, CURVE_POINTS)
    low, high = _bootstrap(score_MN, member_MN, draws, seed)
    return Attack(
        area=Interval(found.area, low, high, score_MN.shape[-1]),
        balanced_accuracy=found.balanced_accuracy,
        true_positive={
            rate: found.true_positive(rate) if outside * rate >= 1 else None for rate in FALSE_POSITIVE_RATES
        },
        curve=tuple((float(rate), found.true_positive(rate)) for rate in rates),
    )


def _bootstrap(
    score_MN: NDArray[np.float64], member_MN: NDArray[np.bool_], draws: int, seed: int
) -> tuple[float, float]:
    """Ends of the interval of the area over draws of samples: each sample counts as often as it is drawn."""
    samples = score_MN.shape[1]
    level, place = np.unique(score_MN, return_inverse=True)
    place_MN = place.reshape(score_MN.shape)
    inside_at, outside_at = place_MN[member_MN], place_MN[~member_MN]
    inside_sample, outside_sample = np.nonzero(member_MN)[1], np.nonzero(~member_MN)[1]
    rng = seeds.generator("bootstrap of an attack", seed)
    areas = []
    for _ in range(draws):
        times_N = np.bincount(rng.integers(0, samples, samples), minlength=samples).astype(float)
        inside = np.bincount(inside_at, times_N[inside_sample], len(level))
        outside = np.bincount(outside_at, times_N[outside_sample], len(level))
        below = outside.cumsum() - outside / 2
        pairs = inside.sum() * outside.sum()
        if pairs:
            areas.append(float((inside * below).sum() / pairs))
    low, high = np.quantile(areas, (0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2))
    return float(low), float(high)


def _check_scores(score: NDArray[np.float64], member: NDArray[np.bool_]) -> None:
    if score.shape != member.shape:
        raise InputError(refusal("scores and memberships must have one shape", (score.shape, member.shape)))
    if not np.isfinite(score).all():
        raise InputError("scores must be finite")
    if not member.any() or member.all():
        raise InputError("an attack is judged on members and on others; one of them is missing")
