"""Small changes of a system's parameters, by which the images of one class differ.

Anderson and Farrell, "Improving Fractal Pre-training" (WACV 2022), and the four modes of the code released with it.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from scaleback.sources.ifs import PARAMETERS, System

Jitter: TypeAlias = Literal["none", "scale", "fractaldb", "svd", "sval"]

DRAWS = 4
"""A system that a change takes beyond a contraction is changed anew, so often in all; then it stays as it was."""
SCALE = (0.8, 1.1)
FRACTALDB_WEIGHT = 0.4
"""The released code takes the weight from the name of the mode; this is the one that FractalDB recommends."""
REACH = 0.5
"""Largest turn, in radians, and largest shift of a translation."""
ROUNDING = 1e-9


def jittered(rng: np.random.Generator, system_M6: System, jitter: Jitter, sigma: tuple[float, float]) -> System:
    """The system under one random change, or as it is where none of four keeps every singular value at 1 or below.

    ``sigma`` is the range in which ``sval`` keeps sum(s1 + 2 s2).
    """
    if jitter == "none":
        return system_M6
    for _ in range(DRAWS):
        changed = system_M6.copy()
        row = changed[rng.integers(len(changed))]
        match jitter:
            case "scale":
                row *= rng.uniform(*SCALE)
            case "fractaldb":
                steps_M = rng.integers(-2, 3, len(changed))
                changed[np.arange(len(changed)), rng.integers(0, PARAMETERS, len(changed))] *= (
                    1 + FRACTALDB_WEIGHT * steps_M
                )
            case "svd":
                _turn_or_shift(rng, row)
            case "sval":
                row[:4] *= rng.uniform(*_room(changed, row, sigma))
        if singular_values(changed)[:, 0].max() <= 1 + ROUNDING:
            return changed
    return system_M6


def singular_values(system_M6: System) -> NDArray[np.float64]:
    """(M, 2) singular values of each map's matrix, the larger one first."""
    a, b, c, d = system_M6[:, :4].T
    near_M, far_M = np.hypot(a + d, b - c), np.hypot(a - d, b + c)
    return np.stack([near_M + far_M, np.abs(near_M - far_M)], axis=1) / 2


def _turn_or_shift(rng: np.random.Generator, row: NDArray[np.float64]) -> None:
    """Of A = U diag(s) V either U or V is turned, or the translation is shifted; a third of the time each."""
    part = rng.integers(3)
    if part == 2:
        row[4:] += rng.uniform(-REACH, REACH, 2)
        return
    angle = rng.uniform(-REACH, REACH)
    turn_22 = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix_22 = row[:4].reshape(2, 2)
    row[:4] = (turn_22 @ matrix_22 if part == 0 else matrix_22 @ turn_22).ravel()


def _room(system_M6: System, row: NDArray[np.float64], sigma: tuple[float, float]) -> tuple[float, float]:
    """Factors of one map that leave sum(s1 + 2 s2) in its range and that map a contraction; 1 is always one of them."""
    values_M2 = singular_values(system_M6)
    first, second = singular_values(row[None])[0]
    own = first + 2 * second
    if not own > 0:
        return 1.0, 1.0
    rest = float((values_M2 @ [1.0, 2.0]).sum()) - own
    low, high = max(0.0, (sigma[0] - rest) / own), min((sigma[1] - rest) / own, 1 / first)
    return min(low, 1.0), max(high, 1.0)
