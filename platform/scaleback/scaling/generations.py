"""The laws of collapse: how error grows with the generation, where each one learns from images that others drew.

``error = level + slope g`` grows without end, ``error = bound - rise rate ** g`` towards a bound: what Gerstgrasser et
al. (2024, "Is model collapse inevitable?") find where generations replace the data before them, and where they are
added to them. Every seed has a level of its own; the growth is what all seeds share. Both forms, and that of no growth,
are compared by AICc.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scaleback.scaling.exchange import DRAWS, aicc, resampled
from scaleback.scaling.intervals import Interval, of_samples
from scaleback.scaling.laws import FitError

# Shapes: N runs, K seeds, R bootstrap samples (the first is the runs themselves), G candidate rates.

Float64 = NDArray[np.float64]

FORMS = {"none": 0, "linear": 1, "bounded": 2}
"""Parameters of each beside the levels of the seeds and the noise."""
GENERATIONS = 4
"""Generations at the least: one more than the parameters of the bounded form."""
RATES = (0.05, 0.95)
"""Below, all has happened in the first generation; above, the curve of any few generations is a line."""
GRID = 1_801


@dataclass(frozen=True, slots=True)
class Observed:
    """What one run measured."""

    generation: float
    error: float
    seed: int


@dataclass(frozen=True, slots=True)
class Growth:
    """The growth of error over generations, with 95 % intervals over seeds."""

    form: str
    """One of ``FORMS``, the least AICc."""
    aicc: Mapping[str, float]
    """Of each form, above the least."""
    level: float
    """Mean error over seeds and generations: all that there is to the form ``none``."""
    start: float
    """Error of the linear form at generation 0."""
    slope: Interval
    """Of the linear form: what one generation adds."""
    rise: float
    rate: float
    bound: Interval
    """Of the bounded form: error after any number of generations; infinite where its rate is at the upper end."""

    @property
    def course(self) -> str:
        """``grows``, ``falls``, or ``none`` where the slope's interval or the best form leaves none to be seen."""
        low, high = self.slope.low, self.slope.high
        assert low is not None, "a law is of two seeds or more"
        assert high is not None, "a law is of two seeds or more"
        if self.form == "none" or low <= 0 <= high:
            return "none"
        return "grows" if low > 0 else "falls"

    def __call__(self, generation_N: Float64) -> Float64:
        """Error by the best form, mean over seeds."""
        generation_N = np.asarray(generation_N, float)
        if self.form == "bounded":
            return self.bound.mean - self.rise * self.rate**generation_N
        if self.form == "linear":
            return self.start + self.slope.mean * generation_N
        return np.full_like(generation_N, self.level)


def fit_growth(runs: Sequence[Observed], *, draws: int = DRAWS, seed: int = 0) -> Growth:
    """Fit all forms by variable projection (only the rate is searched), choose one, resample seeds with all their runs.

    Raises:
        FitError: errors that are not finite, or a design that cannot determine a law.
    """
    generation_N, error_N = (np.array([getattr(run, name) for run in runs], float) for name in ("generation", "error"))
    if not (np.isfinite(generation_N).all() and np.isfinite(error_N).all()):
        raise FitError("a law of collapse needs finite errors of finite generations")
    if len(np.unique(generation_N)) < GENERATIONS:
        raise FitError(
            f"a law of collapse needs at least {GENERATIONS} generations; got {len(np.unique(generation_N))}"
        )
    names_K, place_N = np.unique([run.seed for run in runs], return_inverse=True)
    own_KN = (place_N == np.arange(len(names_K))[:, None]).astype(float)
    most = len(names_K) + FORMS["bounded"] + 1
    if len(names_K) < 2 or len(runs) < most + 2:
        raise FitError(
            f"a law of collapse needs two seeds, and {most + 2} runs at least; got {len(names_K)}, {len(runs)}"
        )
    weight_RN = np.vstack([np.ones(len(runs)), resampled(place_N, draws, seed)])
    grid_G = np.linspace(*RATES, GRID)
    line = _projected(generation_N[None], error_N, own_KN, weight_RN)
    curve = _projected(-(grid_G[:, None] ** generation_N), error_N, own_KN, weight_RN)
    square = {
        "none": float(((error_N - _means(error_N, own_KN)) ** 2).sum()),
        "linear": float(line.square_R[0]),
        "bounded": float(curve.square_R[0]),
    }
    score = {form: aicc(square[form], len(runs), len(names_K) + free + 1) for form, free in FORMS.items()}
    best = min(score, key=score.__getitem__)
    bound_R = np.where(curve.best_R == GRID - 1, np.inf, curve.level_R)
    return Growth(
        form=best,
        aicc={form: value - score[best] for form, value in score.items()},
        level=float(error_N.mean()),
        start=float(line.level_R[0]),
        slope=of_samples(line.scale_R, len(names_K)),
        rise=float(curve.scale_R[0]),
        rate=float(grid_G[curve.best_R[0]]),
        bound=of_samples(bound_R, len(names_K)),
    )


@dataclass(frozen=True, slots=True)
class _Projected:
    """``error = level + scale basis`` for the best candidate basis of each sample."""

    best_R: NDArray[np.int64]
    scale_R: Float64
    level_R: Float64
    """Mean over the seeds of the sample."""
    square_R: Float64


def _projected(basis_GN: Float64, error_N: Float64, own_KN: Float64, weight_RN: Float64) -> _Projected:
    """Least squares with a level for each seed: those drop out of deviations from the means of a seed's runs."""
    apart_GN, left_N = basis_GN - _means(basis_GN, own_KN), error_N - _means(error_N, own_KN)
    both_RG, own_RG = (weight_RN * left_N) @ apart_GN.T, weight_RN @ (apart_GN**2).T
    scale_RG = np.divide(both_RG, own_RG, out=np.zeros_like(both_RG), where=own_RG > 0)
    best_R, row_R = (scale_RG * both_RG).argmax(1), np.arange(len(weight_RN))
    scale_R = scale_RG[row_R, best_R]
    square_R = ((error_N - _means(error_N, own_KN) - scale_R[:, None] * apart_GN[best_R]) ** 2 * weight_RN).sum(1)
    level_RN = error_N - scale_R[:, None] * basis_GN[best_R]
    return _Projected(best_R, scale_R, (weight_RN * level_RN).sum(1) / weight_RN.sum(1), square_R)


def _means(value_XN: Float64, own_KN: Float64) -> Float64:
    """(X, N) the mean over the runs of each run's seed."""
    means_XN: Float64 = value_XN @ (own_KN / own_KN.sum(1, keepdims=True)).T @ own_KN
    return means_XN
