"""The exchange rate without a law: the real images that reach the error which synthetic ones reach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from scaleback.scaling.exchange import DRAWS, Run, resampled, widened
from scaleback.scaling.intervals import Interval
from scaleback.scaling.laws import FitError

# Shapes: N runs, C numbers of real images of the curve, R bootstrap samples.

Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class EqualError:
    """What S synthetic images beside R0 real ones replace; 95 % intervals over seeds."""

    real: float
    synthetic: float
    extra: Interval | None
    """Real images, beyond R0, that give the same error without synthetic ones; negative where those do harm.
    An interval that runs off the curve ends at no image, or at infinity."""
    unidentified: str | None
    """Why there is no number, if so."""

    @property
    def per_real(self) -> Interval | None:
        """Synthetic images worth one real image; infinite where they are worth none."""
        if self.extra is None:
            return None
        low, high = (None if end is None else self._rate(end) for end in (self.extra.high, self.extra.low))
        return Interval(self._rate(self.extra.mean), low, high, self.extra.count)

    def _rate(self, extra: float) -> float:
        return self.synthetic / extra if extra > 0 else np.inf


def equal_error(runs: Sequence[Run], real: float, synthetic: float, *, draws: int = DRAWS, seed: int = 0) -> EqualError:
    """Read the runs at (R0, S) off the curve of the runs with real images alone.

    The curve is the mean error over seeds, made to fall by isotonic regression (Barlow et al., 1972) and interpolated
    over the logarithm of the number of images; it is never extrapolated. Seeds are resampled with all their runs.

    Raises:
        FitError: no runs at (R0, S), or fewer than two numbers of real images without synthetic ones.
    """
    table = np.array([(run.real, run.synthetic, run.error) for run in runs], float).reshape(-1, 3)
    if not np.isfinite(table).all():
        raise FitError("an exchange rate needs finite numbers of images and errors")
    here_N = (table[:, 0] == real) & (table[:, 1] == synthetic)
    if not here_N.any() or synthetic <= 0:
        raise FitError(f"there are no runs with {real:g} real and {synthetic:g} synthetic images")
    count_C = np.unique(table[(table[:, 1] == 0) & (table[:, 0] > 0), 0])
    if len(count_C) < 2:
        raise FitError(f"a curve needs two numbers of real images without synthetic ones; got {len(count_C)}")
    alone_CN = (table[:, 1] == 0) & (table[:, 0] == count_C[:, None])
    own = np.array([run.seed for run in runs])
    weight_RN = np.vstack([np.ones(len(own)), resampled(own, draws, seed)])
    equal_R = np.array([_equal(weight_N, table[:, 2], alone_CN, here_N, count_C) for weight_N in weight_RN])
    equal_R = equal_R[~np.isnan(equal_R)]
    if equal_R[0] in (0, np.inf):
        end, most = ("below", count_C[-1]) if equal_R[0] else ("above", count_C[0])
        reason = f"the error is {end} that of {most:g} real images, where the curve ends"
        return EqualError(real, synthetic, None, reason)
    around = widened(equal_R, len(np.unique(own)))
    low, high = (None if end is None else end - real for end in (around.low, around.high))
    return EqualError(real, synthetic, Interval(around.mean - real, low, high, around.count), None)


def _equal(
    weight_N: Float64, error_N: Float64, alone_CN: NDArray[np.bool_], here_N: NDArray[np.bool_], count_C: Float64
) -> float:
    """Real images with the error of the runs ``here_N``: infinite or 0 off the ends of the curve; NaN if not drawn."""
    weight_C, weight = alone_CN @ weight_N, float(here_N @ weight_N)
    drawn_C = weight_C > 0
    if weight == 0 or drawn_C.sum() < 2:
        return np.nan
    weight_C, log_C = weight_C[drawn_C], np.log(count_C[drawn_C])
    curve_C = isotonic_regression(
        (alone_CN[drawn_C] @ (weight_N * error_N)) / weight_C, weights=weight_C, increasing=False
    ).x
    error = float(here_N @ (weight_N * error_N)) / weight
    if error > curve_C[0]:
        return 0.0
    if error < curve_C[-1]:
        return np.inf
    # The fewest images with no larger error: a flat stretch counts by its start.
    after = int(np.argmax(curve_C <= error))
    if after == 0:
        return float(np.exp(log_C[0]))
    share = (curve_C[after - 1] - error) / (curve_C[after - 1] - curve_C[after])
    return float(np.exp(log_C[after - 1] + share * (log_C[after] - log_C[after - 1])))
