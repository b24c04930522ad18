"""The compiled half of ``dead_leaves``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def lay(
    centre_N2: Any, radius_N: Any, angle_N: Any, colour_NC: Any, square: bool, left: int, bare_HW: Any, image_HWC: Any
) -> Any:
    """Paints what is bare; returns how much is left bare and how many leaves it took."""
    height, width = bare_HW.shape
    for n in range(len(radius_N)):
        y, x, r = centre_N2[n, 0], centre_N2[n, 1], radius_N[n]
        cos, sin = np.cos(angle_N[n]), np.sin(angle_N[n])
        reach = r * 1.4142135623730951 if square else r
        for row in range(max(0, int(np.floor(y - reach))), min(height, int(np.ceil(y + reach)) + 1)):
            for column in range(max(0, int(np.floor(x - reach))), min(width, int(np.ceil(x + reach)) + 1)):
                if not bare_HW[row, column]:
                    continue
                down, across = row + 0.5 - y, column + 0.5 - x
                if square:
                    inside = abs(cos * across + sin * down) <= r and abs(cos * down - sin * across) <= r
                else:
                    inside = down * down + across * across <= r * r
                if inside:
                    bare_HW[row, column] = False
                    image_HWC[row, column] = colour_NC[n]
                    left -= 1
        if left == 0:
            return left, n + 1
    return left, len(radius_N)
