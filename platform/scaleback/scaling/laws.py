"""The law ``error = offset + scale * n ** -exponent``, with an interval for each parameter.

For a given exponent the law is linear, so only the exponent is searched (variable projection, Golub and Pereyra, 1973)
and the other two follow by least squares without negative parts. Intervals are from a bootstrap of residuals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from scaleback.core import seeds
from scaleback.core.errors import InputError
from scaleback.scaling.intervals import CONFIDENCE, widening

# Shapes: N observations, G candidate exponents, R rows of errors (bootstrap samples).

PARAMETERS = 3
EXPONENTS = (0.01, 5.0)
"""Below, the law is a constant over any range we can run; above, it has ended before its second point."""
GRID = 1_000
EDGE = 0.02
"""An exponent this close to an end of its range is at the end; neighbours on the grid differ by 0.6 %."""
NOTHING = 1e-9
"""An offset or a scale below this is zero: the solver stops a little inside its bounds."""
DRAWS = 1_000


class FitError(InputError):
    """The data cannot determine the law."""


@dataclass(frozen=True, slots=True)
class PowerLaw:
    """error(n) = offset + scale * n ** -exponent."""

    offset: float
    scale: float
    exponent: float

    def __call__(self, count_N: NDArray[np.float64]) -> NDArray[np.float64]:
        """Error at n images."""
        return self.offset + self.scale * np.asarray(count_N, float) ** -self.exponent


@dataclass(frozen=True, slots=True)
class Fitted:
    """A law, what it leaves unexplained, and 95 % intervals."""

    law: PowerLaw
    residual_std: float
    explained: float
    """Share of the variance between the means of the points that the law explains; at most 1, negative if worse than
    their mean."""
    offset: tuple[float, float]
    scale: tuple[float, float]
    exponent: tuple[float, float]
    draws: tuple[PowerLaw, ...]
    """Laws fitted to bootstrap samples, for bands."""

    @property
    def determined(self) -> bool:
        """Whether the exponent's interval lies inside the range that was searched; else any exponent fits as well."""
        low, high = self.exponent
        return low > EXPONENTS[0] * (1 + EDGE) and high < EXPONENTS[1] * (1 - EDGE)

    def band(self, count_N: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Ends of the 95 % interval of the error at n images."""
        curves = np.stack([law(count_N) for law in self.draws])
        low, high = np.quantile(curves, _ends(), axis=0)
        return low, high


def fit_power_law(counts: Sequence[float], errors: Sequence[float], *, draws: int = DRAWS, seed: int = 0) -> Fitted:
    """Fit the law to one observation a run.

    Raises:
        FitError: fewer distinct numbers of images than parameters, or a number that is not positive or not finite.
    """
    count_N, error_N = np.asarray(counts, float), np.asarray(errors, float)
    if count_N.shape != error_N.shape or count_N.ndim != 1:
        raise FitError(f"a law needs one error for each number of images; got {count_N.shape} and {error_N.shape}")
    if not (np.isfinite(count_N).all() and np.isfinite(error_N).all() and (count_N > 0).all()):
        raise FitError("a law needs finite errors at positive numbers of images")
    distinct = np.unique(count_N)
    if len(distinct) < PARAMETERS + 1:
        raise FitError(
            f"offset + A n^-a has {PARAMETERS} parameters, so it needs at least {PARAMETERS + 1} numbers of images; "
            f"got {len(distinct)}"
        )
    rounded = _best(count_N, error_N[None])[0]
    law = _polished(count_N, error_N, rounded)
    residual_N = error_N - law(count_N)
    free = max(1, len(error_N) - PARAMETERS)
    wide_N = residual_N * widening(len(error_N), free)
    rng = seeds.generator("bootstrap of a law", seed)
    samples = tuple(_best(count_N, law(count_N) + rng.choice(wide_N, (draws, len(wide_N)))))
    means = np.array([error_N[count_N == count].mean() for count in distinct])
    spread = float(((means - means.mean()) ** 2).sum())
    left = float(((means - law(distinct)) ** 2).sum())
    return Fitted(
        law=law,
        residual_std=float(np.sqrt((residual_N**2).sum() / free)),
        explained=1 - left / spread if spread > 0 else 0.0,
        # Samples lie on the grid of exponents; what the grid rounds off the law itself is taken off them too.
        offset=_interval([sample.offset - rounded.offset + law.offset for sample in samples], (0, np.inf)),
        scale=_interval([sample.scale - rounded.scale + law.scale for sample in samples], (0, np.inf)),
        exponent=_interval([sample.exponent - rounded.exponent + law.exponent for sample in samples], EXPONENTS),
        draws=samples,
    )


def _best(count_N: NDArray[np.float64], error_RN: NDArray[np.float64]) -> list[PowerLaw]:
    """The law of every row of errors, its exponent on a fine grid: all rows and exponents at once."""
    grid_G = np.geomspace(*EXPONENTS, GRID)
    power_GN = count_N ** -grid_G[:, None]
    mean_G, mean_R = power_GN.mean(1), error_RN.mean(1)
    centred_GN, varied_RN = power_GN - mean_G[:, None], error_RN - mean_R[:, None]
    scale_GR = centred_GN @ varied_RN.T / (centred_GN**2).sum(1)[:, None]
    offset_GR = mean_R - scale_GR * mean_G[:, None]
    # Where the free solution has a negative part, the best one with none lies on an edge.
    edge_GR = power_GN @ error_RN.T / (power_GN**2).sum(1)[:, None]
    scale_GR = np.where(offset_GR < 0, np.maximum(edge_GR, 0), scale_GR)
    offset_GR = np.where(scale_GR < 0, np.maximum(mean_R, 0), np.maximum(offset_GR, 0))
    scale_GR = np.maximum(scale_GR, 0)
    square_GR = (
        (error_RN**2).sum(1)
        + len(count_N) * offset_GR**2
        + scale_GR**2 * (power_GN**2).sum(1)[:, None]
        - 2 * offset_GR * error_RN.sum(1)
        - 2 * scale_GR * (power_GN @ error_RN.T)
        + 2 * offset_GR * scale_GR * power_GN.sum(1)[:, None]
    )
    best_R, row_R = square_GR.argmin(0), np.arange(len(error_RN))
    chosen = zip(offset_GR[best_R, row_R], scale_GR[best_R, row_R], grid_G[best_R], strict=True)
    return [PowerLaw(float(offset), float(scale), float(exponent)) for offset, scale, exponent in chosen]


def _polished(count_N: NDArray[np.float64], error_N: NDArray[np.float64], start: PowerLaw) -> PowerLaw:
    """The law near ``start`` to machine precision."""
    found = least_squares(
        lambda p: p[0] + p[1] * count_N ** -p[2] - error_N,
        (start.offset, start.scale, start.exponent),
        bounds=([0, 0, EXPONENTS[0]], [np.inf, np.inf, EXPONENTS[1]]),
        xtol=1e-15,
        ftol=1e-15,
        gtol=1e-15,
    )
    offset, scale, exponent = (float(value) for value in found.x)
    return PowerLaw(offset if offset > NOTHING else 0.0, scale if scale > NOTHING else 0.0, exponent)


def _interval(values: Sequence[float], bounds: tuple[float, float]) -> tuple[float, float]:
    low, high = np.clip(np.quantile(np.asarray(values, float), _ends()), *bounds)
    return float(low), float(high)


def _ends() -> tuple[float, float]:
    return 0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2
