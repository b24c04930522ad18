"""The compiled half of ``exfractaldb``: orbits of three-dimensional systems, and points seen by a camera.

No fastmath: float64 operations happen as written, in a fixed order, so pictures are the same on every machine.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

# Shapes: T points of an orbit, M maps, P = 12 parameters of a map, V views, B images, H rows, X bytes of a row.


def choices(probability_M: NDArray[np.float64], uniform_T: NDArray[np.float64]) -> NDArray[np.uint8]:
    """(T,) the map of every step: the first whose cumulative chance is not below the step's number."""
    choice_T = np.zeros(len(uniform_T), np.uint8)
    for chance in np.cumsum(probability_M)[:-1]:
        choice_T += uniform_T > chance
    return choice_T


def cloud(system_MP: NDArray[np.float64], choice_T: NDArray[np.uint8]) -> NDArray[np.float64] | None:
    """(3, T) points that a system visits after the origin, normalised; None if they leave the range of numbers.

    All coordinates together are stretched to [-1, 1], so proportions are kept; then the centroid is moved to the
    origin. Where all coordinates are one number there is no extent to stretch, and None is returned as well.
    """
    cloud_3T = np.empty((3, len(choice_T)))
    low, high = _orbit(system_MP, choice_T, cloud_3T)
    # A number that left the range never comes back, so the last point tells.
    if not (np.isfinite(cloud_3T[:, -1]).all() and 0 < high - low < np.inf):
        return None
    _normalise(cloud_3T, low, high - low)
    return cloud_3T


# Kernels.


@njit(cache=True, nogil=True)
def _orbit(system_MP: Any, choice_T: Any, cloud_3T: Any) -> Any:
    """Fills in the points; returns the lowest and the highest of all coordinates."""
    x, y, z = 0.0, 0.0, 0.0
    low_x, low_y, low_z = np.inf, np.inf, np.inf
    high_x, high_y, high_z = -np.inf, -np.inf, -np.inf
    for t in range(len(choice_T)):
        m = np.uint64(choice_T[t])
        x, y, z = (
            x * system_MP[m, 0] + y * system_MP[m, 1] + z * system_MP[m, 2] + system_MP[m, 9],
            x * system_MP[m, 3] + y * system_MP[m, 4] + z * system_MP[m, 5] + system_MP[m, 10],
            x * system_MP[m, 6] + y * system_MP[m, 7] + z * system_MP[m, 8] + system_MP[m, 11],
        )
        cloud_3T[0, t], cloud_3T[1, t], cloud_3T[2, t] = x, y, z
        low_x, low_y, low_z = min(low_x, x), min(low_y, y), min(low_z, z)
        high_x, high_y, high_z = max(high_x, x), max(high_y, y), max(high_z, z)
    return min(low_x, low_y, low_z), max(high_x, high_y, high_z)


@njit(cache=True, nogil=True, error_model="numpy")
def _normalise(cloud_3T: Any, low: float, span: float) -> None:
    points = cloud_3T.shape[1]
    every = cloud_3T.ravel()
    for n in range(len(every)):
        every[n] = (every[n] - low) / span * 2.0 - 1.0
    # The three axes side by side: a sum has an order and waits for itself, three sums do not wait for each other.
    x, y, z = 0.0, 0.0, 0.0
    for t in range(points):
        x, y, z = x + cloud_3T[0, t], y + cloud_3T[1, t], z + cloud_3T[2, t]
    x, y, z = x / points, y / points, z / points
    for t in range(points):
        cloud_3T[0, t] -= x
        cloud_3T[1, t] -= y
        cloud_3T[2, t] -= z


@njit(cache=True, nogil=True)
def least_variance(cloud_3T: Any) -> Any:
    """The smallest of the variances along the three axes of points whose centroid is the origin."""
    points = cloud_3T.shape[1]
    x, y, z = 0.0, 0.0, 0.0
    for t in range(points):
        x += cloud_3T[0, t] * cloud_3T[0, t]
        y += cloud_3T[1, t] * cloud_3T[1, t]
        z += cloud_3T[2, t] * cloud_3T[2, t]
    return min(x, y, z) / points


@njit(cache=True, nogil=True)
def scatter(
    cloud_3T: Any, cos_V: Any, sin_V: Any, image_V: Any, distance: float, near: float, focal: float, bits_BHX: Any
) -> None:
    """Sets the bit of every point that a camera sees, view v on image ``image_V[v]``; the lowest row comes first.

    The camera looks at the origin from ``distance``, along (cos, 0, -sin) with y up; at any depth the picture's half
    side is depth / ``focal``. Points nearer than ``near`` are left out.
    """
    size = bits_BHX.shape[1]
    stride = np.uint64(bits_BHX.shape[2])
    half = size / 2
    for v in range(len(image_V)):
        cos, sin = cos_V[v], sin_V[v]
        bits_X = bits_BHX[image_V[v]].ravel()
        for t in range(cloud_3T.shape[1]):
            x, y, z = cloud_3T[0, t], cloud_3T[1, t], cloud_3T[2, t]
            depth = distance + x * cos - z * sin
            if depth < near:
                continue
            scale = half * focal / depth
            column = half + scale * (x * sin + z * cos)
            row = half + scale * y
            if 0 <= column < size and 0 <= row < size:
                across = np.uint64(column)
                at = np.uint64(row) * stride + (across >> np.uint64(3))
                bits_X[at] |= np.uint8(1) << (across & np.uint64(7))
