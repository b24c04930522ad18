"""Iterated function systems: how they are drawn, weighted and perturbed. Numpy only; drawing is in ``chaos``.

A system of M maps is an array (M, 6): rows a, b, c, d, e, f of the affine map (x, y) -> (ax + by + e, cx + dy + f).
Sources: FractalDB (Kataoka et al., ACCV 2020), 1p-frac (Nakamura et al., ECCV 2024), the sigma-factor sampler of
Anderson and Farrell, "Improving Fractal Pre-training" (WACV 2022), section 3.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

# Shapes: M maps, 6 parameters of a map.
System: TypeAlias = NDArray[np.float64]

PARAMETERS = 6
FRACTALDB_MAPS = (2, 7)
"""FractalDB draws numpy's randint(2, 8), so two to seven maps."""


def probabilities(system_M6: System) -> NDArray[np.float64]:
    """Chance of each map, in proportion to |det A|; equal chances where every determinant is zero."""
    a, b, c, d = system_M6[:, :4].T
    weight_M = np.abs(a * d - b * c)
    total = weight_M.sum()
    return weight_M / total if total > 0 else np.full(len(system_M6), 1 / len(system_M6))


def uniform_system(rng: np.random.Generator) -> System:
    """A FractalDB candidate: two to seven maps, every parameter uniform in [-1, 1], no contraction asked for."""
    maps = int(rng.integers(FRACTALDB_MAPS[0], FRACTALDB_MAPS[1] + 1))
    return rng.uniform(-1, 1, (maps, PARAMETERS))


def sigma_system(rng: np.random.Generator, *, maps: int, sigma: float) -> System:
    """A contraction whose singular values satisfy sum(s1 + 2 s2) = sigma, with 0 <= s2 <= s1 <= 1.

    Each A = U diag(s1, s2) V with U and V a rotation by U(-pi, pi) times random signs; translations are U(-1, 1).
    """
    values_M2 = singular_values(rng, maps=maps, sigma=sigma)
    system = np.empty((maps, PARAMETERS))
    for row, pair in zip(system, values_M2, strict=True):
        row[:4] = (_orthogonal(rng) @ np.diag(pair) @ _orthogonal(rng)).ravel()
        row[4:] = rng.uniform(-1, 1, 2)
    return system


def singular_values(rng: np.random.Generator, *, maps: int, sigma: float) -> NDArray[np.float64]:
    """(maps, 2) singular values with the exact sum, drawn pair by pair.

    ``left`` is what the remaining maps must sum to, ``slack`` is ``left`` less the most that the maps after this one
    can take (3 each); the bounds keep the remainder reachable. The paper's sequential sampler, section 3.2.
    """
    if not 0 < sigma <= 3 * maps:
        raise ValueError(
            f"the singular values of {maps} maps sum to more than 0 and at most {3 * maps}; asked for {sigma}"
        )
    values = np.empty((maps, 2))
    left = sigma
    for index in range(maps - 1):
        slack = left - 3 * (maps - index - 1)
        first = _between(rng, slack / 3, min(1.0, left))
        left, slack = left - first, slack - first
        second = _between(rng, slack / 2, min(first, left / 2))
        left -= 2 * second
        values[index] = first, second
    second = _between(rng, (left - 1) / 2, left / 3)
    values[-1] = left - 2 * second, second
    return values


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    """Uniform from max(low, 0); where rounding leaves no room, ``high``."""
    return rng.uniform(min(max(0.0, low), high), high)


def multiplied(system_M6: System, delta: float, draw_M6: NDArray[np.float64]) -> System:
    """1p-frac as released: every parameter times its own U(1 - delta, 1 + delta). A zero stays zero."""
    return system_M6 * (1 + delta * (2 * draw_M6 - 1))


def shifted(system_M6: System, delta: float, draw_M6: NDArray[np.float64]) -> System:
    """1p-frac as in the paper: to every parameter its own U(-delta/2, delta/2) is added."""
    return system_M6 + delta * (draw_M6 - 0.5)


def fractaldb_weights(weight: float) -> NDArray[np.float64]:
    """(25, 6) multipliers: parameter a times 1-2w, 1-w, 1, 1+w, 1+2w, each other one times the four that are not 1.

    Row 2 is the identity; row 0 (a times 1-2w) is what OFDB's released script uses.
    """
    rows = []
    for parameter in range(PARAMETERS):
        for step in (-2, -1, 0, 1, 2):
            if step or parameter == 0:
                row = np.ones(PARAMETERS)
                row[parameter] = 1 + step * weight
                rows.append(row)
    return np.array(rows)


def _orthogonal(rng: np.random.Generator) -> NDArray[np.float64]:
    signs, angle = rng.choice([-1.0, 1.0], 2), rng.uniform(-np.pi, np.pi)
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos * signs[0], -sin * signs[1]], [sin * signs[0], cos * signs[1]]])
