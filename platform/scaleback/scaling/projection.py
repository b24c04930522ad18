"""Least squares for ``error = offset + scale * n ** -exponent`` with n = real + worth(synthetic), many samples at once.

Offset and scale follow in closed form, without negative parts, from what is searched: the exponent, and the law of
the worth (variable projection, Golub and Pereyra, 1973). A grid gives the start, Levenberg-Marquardt the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

# Shapes: N runs, R samples (rows of weights), G points of the grid, P searched parameters as logarithms, in the order
# exponent, rate, saturation; a form with fewer parameters has the first of them. X is R or G.

Float64: TypeAlias = NDArray[np.float64]

EXPONENTS = (0.02, 5.0)
POINTS = (24, 33, 10)
"""Of the grid, for each parameter; Levenberg-Marquardt needs no more than the right valley."""
STEPS = 60
NUDGE = 1e-6
SETTLED = 1e-7
"""A search ends when its logarithms move by less."""
AT_END = 1e-3
"""Share of a range, on its logarithm, that counts as its end."""
GRID_VALUES = 1 << 22
"""Numbers of the grid's squares held at a time."""


@dataclass(frozen=True, slots=True)
class Runs:
    """One row a run: real and synthetic images, error; (N,) each. Some row has real images, and some synthetic ones."""

    real_N: Float64
    synthetic_N: Float64
    error_N: Float64

    @property
    def reference(self) -> float:
        """The least number of real images: powers are of n over it, so that they are near 1."""
        return float(self.real_N[self.real_N > 0].min())

    def bounds(self, parameters: int) -> tuple[Float64, Float64]:
        """Ends of the search, as logarithms.

        At the low end all synthetic images are worth a thousandth of the least real set; at the high one, the fewest
        are worth ten times the largest. Saturation runs from a fifth of the fewest synthetic images to ten times the
        most.
        """
        fewest, most = float(self.synthetic_N[self.synthetic_N > 0].min()), float(self.synthetic_N.max())
        rates = (1e-3 * self.reference / most, 10 * float(self.real_N.max()) / fewest)
        low_P, high_P = np.log(np.array([EXPONENTS, rates, (fewest / 5, 10 * most)])[:parameters]).T
        return low_P, high_P


@dataclass(frozen=True, slots=True)
class Solved:
    """The best parameters of every sample."""

    theta_RP: Float64
    offset_R: Float64
    scale_R: Float64
    """Of the powers of n over ``Runs.reference``."""
    square_R: Float64
    """Weighted sum of squares that is left."""


def worth(theta_XP: Float64, synthetic_N: Float64) -> Float64:
    """(X, N) real images that synthetic ones are worth: nothing, ``c S``, or ``c S0 (1 - exp(-S / S0))``."""
    parameters = theta_XP.shape[1]
    if parameters == 1:
        return np.zeros((len(theta_XP), len(synthetic_N)))
    rate_X1 = np.exp(theta_XP[:, 1:2])
    if parameters == 2:
        return rate_X1 * synthetic_N
    most_X1 = np.exp(theta_XP[:, 2:3])
    worth_XN: Float64 = -rate_X1 * most_X1 * np.expm1(-synthetic_N / most_X1)
    return worth_XN


class Search:
    """All searches of one form over one table of runs: the grid and its powers are computed once."""

    def __init__(self, runs: Runs, parameters: int) -> None:
        self._runs = runs
        self._low_P, self._high_P = runs.bounds(parameters)
        axes = [
            np.linspace(low, high, points) for low, high, points in zip(self._low_P, self._high_P, POINTS, strict=False)
        ]
        self._grid_GP = np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], axis=1)
        self._power_GN = self._powers(self._grid_GP)

    def solve(self, weight_RN: Float64) -> Solved:
        """The best parameters for each row of weights of the runs."""
        size = max(1, GRID_VALUES // len(self._grid_GP))
        starts = [self._start(weight_RN[row : row + size]) for row in range(0, len(weight_RN), size)]
        theta_RP = self._refined(np.concatenate(starts), weight_RN)
        offset_R, scale_R, left_RN = self._projected(theta_RP, weight_RN)
        return Solved(theta_RP, offset_R, scale_R, (left_RN**2).sum(1))

    def predicted(self, solved: Solved) -> Float64:
        """(R, N) errors of the runs by the solution of each sample."""
        predicted_RN: Float64 = solved.offset_R[:, None] + solved.scale_R[:, None] * self._powers(solved.theta_RP)
        return predicted_RN

    def ends(self, theta_RP: Float64) -> NDArray[np.int8]:
        """(R, P) -1 or 1 where a parameter is at the low or high end of its range, else 0."""
        place_RP = (theta_RP - self._low_P) / (self._high_P - self._low_P)
        return (place_RP > 1 - AT_END).astype(np.int8) - (place_RP < AT_END).astype(np.int8)

    def _powers(self, theta_XP: Float64) -> Float64:
        count_XN = self._runs.real_N + worth(theta_XP, self._runs.synthetic_N)
        power_XN: Float64 = (count_XN / self._runs.reference) ** -np.exp(theta_XP[:, :1])
        return power_XN

    def _start(self, weight_RN: Float64) -> Float64:
        """The best point of the grid for each sample."""
        error_N, power_GN = self._runs.error_N, self._power_GN
        sums = (
            weight_RN.sum(1),
            power_GN @ weight_RN.T,
            power_GN**2 @ weight_RN.T,
            weight_RN @ error_N,
            power_GN @ (weight_RN * error_N).T,
        )
        offset_GR, scale_GR = _linear(*sums)
        w_R, p_GR, pp_GR, y_R, py_GR = sums
        # Less the sum of squared errors, which is the same for all points.
        square_GR = offset_GR**2 * w_R + scale_GR**2 * pp_GR - 2 * offset_GR * y_R - 2 * scale_GR * py_GR
        square_GR += 2 * offset_GR * scale_GR * p_GR
        start_RP: Float64 = self._grid_GP[square_GR.argmin(0)]
        return start_RP

    def _projected(self, theta_RP: Float64, weight_RN: Float64) -> tuple[Float64, Float64, Float64]:
        """Offset, scale, and weighted residuals at the best of both."""
        error_N, power_RN = self._runs.error_N, self._powers(theta_RP)
        offset_R, scale_R = _linear(
            weight_RN.sum(1),
            (weight_RN * power_RN).sum(1),
            (weight_RN * power_RN**2).sum(1),
            weight_RN @ error_N,
            (weight_RN * power_RN * error_N).sum(1),
        )
        left_RN = np.sqrt(weight_RN) * (offset_R[:, None] + scale_R[:, None] * power_RN - error_N)
        return offset_R, scale_R, left_RN

    def _refined(self, theta_RP: Float64, weight_RN: Float64) -> Float64:
        """Levenberg-Marquardt on the projected residuals, every sample with its own damping."""
        left_RN = self._projected(theta_RP, weight_RN)[2]
        damping_R = np.full(len(theta_RP), 1e-3)
        eye_PP = np.eye(theta_RP.shape[1])
        for _ in range(STEPS):
            slopes = [self._projected(theta_RP + NUDGE * unit_P, weight_RN)[2] - left_RN for unit_P in eye_PP]
            slope_RNP = np.stack(slopes, axis=2) / NUDGE
            gradient_RP = np.einsum("rnp,rn->rp", slope_RNP, left_RN)
            # A parameter at an end of its range that would leave it stays there.
            held_RP = (theta_RP <= self._low_P) & (gradient_RP > 0) | (theta_RP >= self._high_P) & (gradient_RP < 0)
            slope_RNP = np.where(held_RP[:, None], 0.0, slope_RNP)
            normal_RPP = np.einsum("rnp,rnq->rpq", slope_RNP, slope_RNP)
            diagonal_RP = np.einsum("rpp->rp", normal_RPP)
            floor_R1 = 1e-12 * diagonal_RP.max(1, keepdims=True) + 1e-30
            damped_RPP = normal_RPP + (damping_R[:, None] * diagonal_RP + floor_R1)[:, :, None] * eye_PP
            step_RP = np.linalg.solve(damped_RPP, np.where(held_RP, 0.0, -gradient_RP)[:, :, None])[:, :, 0]
            trial_RP = np.clip(theta_RP + np.clip(step_RP, -1, 1), self._low_P, self._high_P)
            trial_RN = self._projected(trial_RP, weight_RN)[2]
            better_R = (trial_RN**2).sum(1) < (left_RN**2).sum(1)
            settled_R = np.abs(trial_RP - theta_RP).max(1) < SETTLED
            theta_RP = np.where(better_R[:, None], trial_RP, theta_RP)
            left_RN = np.where(better_R[:, None], trial_RN, left_RN)
            if settled_R.all():
                break
            damping_R = np.clip(damping_R * np.where(better_R, 0.2, 5.0), 1e-12, 1e12)
        return theta_RP


def _linear(w: Float64, p: Float64, pp: Float64, y: Float64, py: Float64) -> tuple[Float64, Float64]:
    """Offset and scale, none negative, from weighted sums of 1, the power, its square, the error, and their product."""
    determinant = w * pp - p * p
    # A power that is the same for all runs leaves no scale; rounding must not make one up.
    flat = determinant <= 1e-13 * w * pp
    scale = np.where(flat, 0.0, (w * py - p * y) / np.where(flat, 1.0, determinant))
    offset = (y - scale * p) / w
    # Where the free solution has a negative part, the best one with none lies on an edge.
    scale = np.where(offset < 0, np.maximum(py / pp, 0), scale)
    offset = np.where(scale < 0, np.maximum(y / w, 0), np.maximum(offset, 0))
    return offset, np.maximum(scale, 0)
