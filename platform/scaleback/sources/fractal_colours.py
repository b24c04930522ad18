"""Colours of ``fractal_scenes``: what each of 256 levels becomes.

Anderson and Farrell, "Improving Fractal Pre-training" (WACV 2022), who colour in bytes of hue, saturation and value, so
more levels would show no more.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Shapes: L levels, 3 for hue, saturation and value, or for red, green and blue.

COLOURS = 256
GRAYS = np.arange(COLOURS, dtype=np.uint8)[:, None]


def rgb(hue_L: NDArray[np.float64], saturation: Any, value: Any) -> NDArray[np.uint8]:
    """(L, 3) bytes of colours whose hue, saturation and value are in [0, 1]; hue 1 is hue 0."""
    sector_L3 = (np.array([5.0, 3.0, 1.0]) + 6 * hue_L[:, None]) % 6
    fall_L3 = np.clip(np.minimum(sector_L3, 4 - sector_L3), 0, 1)
    saturation_L3, value_L3 = np.reshape(saturation, (-1, 1)), np.reshape(value, (-1, 1))
    colour_L3: NDArray[np.float64] = 255 * value_L3 * (1 - saturation_L3 * fall_L3)
    return (colour_L3 + 0.5).astype(np.uint8)


def fractal_palette(colour_3: NDArray[np.float64]) -> NDArray[np.uint8]:
    """(256, 3) colours of the levels of gray: hue (level + 255 offset) mod 256, in parts of 256."""
    hue_L = (np.arange(COLOURS) + 255 * colour_3[0]) % 256 / 256
    return rgb(hue_L, colour_3[1], colour_3[2])


def ground_palette(scale_3: NDArray[np.float64], shift_3: NDArray[np.float64]) -> NDArray[np.uint8]:
    """(256, 3) colours of the heights of a background, from the lowest to the highest."""
    height_L = np.arange(COLOURS) / (COLOURS - 1)
    _, saturation_L, value_L = ((height_L - 0.5) * scale_3[:, None] + shift_3[:, None]).clip(0, 1)
    return rgb((height_L * scale_3[0] + shift_3[0]) % 1, saturation_L, value_L)
