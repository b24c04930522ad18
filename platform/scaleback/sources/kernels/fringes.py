"""The compiled half of ``moire``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

# Shapes: L layers, Q steps of a period, H rows, W columns.

STEPS = 1 << 12
LEVEL_BITS = 14
_COSINE_Q = np.rint(np.cos(np.arange(STEPS) * (2 * np.pi) / STEPS) * (1 << LEVEL_BITS)).astype(np.int64)


@njit(cache=True, nogil=True)
def interfere(centre_L2: Any, frequency_L: Any, phase_L: Any, product: bool, image_HW: Any) -> None:
    """Rings around each centre (row, column), in pixels; frequencies in steps a pixel, phases in steps.

    Additions, products and square roots are those of IEEE 754 and the cosine is a table, so that no machine's own
    decides a pixel.
    """
    height, width = image_HW.shape
    layers = len(phase_L)
    for row in range(height):
        for column in range(width):
            total = np.int64(1 << LEVEL_BITS) if product else np.int64(0)
            for layer in range(layers):
                down, across = row - centre_L2[layer, 0], column - centre_L2[layer, 1]
                step = np.int64(frequency_L[layer] * np.sqrt(down * down + across * across) + phase_L[layer])
                wave = _COSINE_Q[step & (STEPS - 1)]
                total = (total * wave) >> LEVEL_BITS if product else total + wave
            highest = (1 if product else layers) << LEVEL_BITS
            image_HW[row, column] = (255 * (total + highest) + highest) // (2 * highest)
