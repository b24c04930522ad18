"""The compiled half of ``fractal_scenes``: orbits, visits of pixels, layers, backgrounds, blur.

Only integers and correctly rounded float64 operations, so that images are the same on every machine.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from scaleback.sources.kernels import philox

# Shapes: T points, M maps, S side of a fractal, G side of a grid, K levels of fineness, L colours of a palette, H rows,
# W columns, C channels.

ORBITS = 8
"""Orbits of one system that advance together: a step waits for the last one of its own orbit only."""
LEVELS = 255
"""Gray of the most visited pixel."""
BLUR_BITS = 10
"""Weights of the blur are whole numbers that sum to 2^10 along each axis."""
TRANSPOSED, UPSIDE_DOWN, MIRRORED = 1, 2, 4


@njit(cache=True, nogil=True)
def orbit(system_M6: Any, probability_M: Any, key: Any, index: Any, x_T: Any, y_T: Any) -> None:
    """Fills ``x_T`` and ``y_T``, whose length is a multiple of eight, from the stream's words.

    Point t belongs to orbit t % 8, and each orbit begins at the fixed point of the first map, which lies on the
    attractor. Word t chooses the map after point t: the first whose cumulative chance is above word / 2^32.
    """
    # The last one may be 2^32 or, by rounding, a little off it; no word is compared with it.
    chance_M = np.ceil(np.cumsum(probability_M)[:-1] * 4294967296.0).astype(np.uint64)
    a, b, c, d, e, f = system_M6[0]
    determinant = (1 - a) * (1 - d) - b * c
    x, y = 0.0, 0.0
    if determinant != 0:
        x, y = ((1 - d) * e + b * f) / determinant, (c * e + (1 - a) * f) / determinant
    x_L, y_L = np.full(ORBITS, x), np.full(ORBITS, y)
    flat = system_M6.ravel()
    for number in range(np.uint64(len(x_T)) // np.uint64(4)):
        words = philox.block(key, index, number)
        for k in range(4):
            t = np.uint64(4) * number + np.uint64(k)
            lane = t % np.uint64(ORBITS)
            x, y = x_L[lane], y_L[lane]
            x_T[t], y_T[t] = x, y
            m = np.uint64(0)
            for chance in chance_M:
                m += np.uint64(6) * np.uint64(words[k] >= chance)
            x_L[lane] = flat[m] * x + flat[m + np.uint64(1)] * y + flat[m + np.uint64(4)]
            y_L[lane] = flat[m + np.uint64(2)] * x + flat[m + np.uint64(3)] * y + flat[m + np.uint64(5)]


@njit(cache=True, nogil=True)
def visits(x_T: Any, y_T: Any, window_4: Any, side: int, visits_X: Any) -> Any:
    """(S, S) points over each pixel of a window, its left, top, width and height: row from x, column from y.

    So has the released code it. Points outside are skipped, and all are where the window has no extent. ``visits_X`` is
    scratch of S * S + 1 numbers or more; one counts the points outside, so that no branch depends on where a point is.
    """
    visits_X[: side * side + 1] = 0
    left, top, width, height = window_4
    if width > 0 and height > 0:
        scale_x, scale_y = (side - 1) / width, (side - 1) / height
        last, outside = np.float64(side - 1), np.uint64(side * side)
        for t in range(len(x_T)):
            row, column = (x_T[t] - left) * scale_x, (y_T[t] - top) * scale_y
            inside = (row >= 0) & (row <= last) & (column >= 0) & (column <= last)
            at = np.uint64(np.int64(row) * side + np.int64(column)) if inside else outside
            visits_X[at] += np.uint32(1)
    return visits_X[: side * side].reshape(side, side)


@njit(cache=True, nogil=True)
def stamped(visits_SS: Any, stencil: int) -> Any:
    """Visits where every point visits the pixels of a 3x3 stencil about it: bit 0 is above and left, bit 4 its own."""
    side = len(visits_SS)
    sum_SS = np.zeros_like(visits_SS)
    for cell in range(9):
        if stencil >> cell & 1:
            down, across = cell // 3 - 1, cell % 3 - 1
            first, length = max(0, across), side - abs(across)
            for row in range(max(0, down), min(side, side + down)):
                to = sum_SS[row, first : first + length]
                source = visits_SS[row - down, max(0, -across) : max(0, -across) + length]
                for column in range(length):
                    to[column] += source[column]
    return sum_SS


@njit(cache=True, nogil=True)
def paint(visits_SS: Any, palette_LC: Any, turn: int, top: int, left: int, bare_HW: Any, image_HWC: Any) -> int:
    """Paints what is visited where the image is bare; returns how many pixels that were.

    The colour is that of level ceil(255 visits / most visits), so a pixel visited once is level 1 at least.
    """
    side = len(visits_SS)
    height, width, channels = image_HWC.shape
    most = np.uint64(max(1, visits_SS.max()))
    painted = 0
    for row in range(max(0, top), min(height, top + side)):
        for column in range(max(0, left), min(width, left + side)):
            down, across = row - top, column - left
            if turn & UPSIDE_DOWN:
                down = side - 1 - down
            if turn & MIRRORED:
                across = side - 1 - across
            count = np.uint64(visits_SS[across, down] if turn & TRANSPOSED else visits_SS[down, across])
            if count and bare_HW[row, column]:
                level = (np.uint64(LEVELS) * count + most - np.uint64(1)) // most
                for channel in range(channels):
                    image_HWC[row, column, channel] = palette_LC[level, channel]
                bare_HW[row, column] = False
                painted += 1
    return painted


@njit(cache=True, nogil=True)
def diamond_square(amplitude_K: Any, height_GG: Any) -> None:
    """Turns noise in [0, 1] into heights, in place; the side is 2^K + 1.

    The corners are their noise. Each level sets the middles of squares, then those of edges, to the mean of their four
    neighbours, three at the border, plus its amplitude times (2 noise - 1).
    """
    last = len(height_GG) - 1
    step = last
    for amplitude in amplitude_K:
        half = step // 2
        for row in range(half, last, step):
            for column in range(half, last, step):
                above = height_GG[row - half, column - half] + height_GG[row - half, column + half]
                below = height_GG[row + half, column - half] + height_GG[row + half, column + half]
                height_GG[row, column] = (above + below) / 4 + amplitude * (2 * height_GG[row, column] - 1)
        for row in range(0, last + 1, half):
            for column in range((row + half) % step, last + 1, step):
                total, neighbours = 0.0, 0
                if row >= half:
                    total, neighbours = total + height_GG[row - half, column], neighbours + 1
                if row + half <= last:
                    total, neighbours = total + height_GG[row + half, column], neighbours + 1
                if column >= half:
                    total, neighbours = total + height_GG[row, column - half], neighbours + 1
                if column + half <= last:
                    total, neighbours = total + height_GG[row, column + half], neighbours + 1
                height_GG[row, column] = total / neighbours + amplitude * (2 * height_GG[row, column] - 1)
        step = half


@njit(cache=True, nogil=True)
def fill(height_HW: Any, palette_LC: Any, bare_HW: Any, image_HWC: Any) -> None:
    """Paints what is bare: the lowest height has the palette's first colour, the highest its last."""
    low, high = height_HW.min(), height_HW.max()
    scale = (len(palette_LC) - 1) / (high - low) if high > low else 0.0
    height, width, channels = image_HWC.shape
    for row in range(height):
        height_W, bare_W, image_WC = height_HW[row], bare_HW[row], image_HWC[row]
        for column in range(np.uint64(width)):
            if bare_W[column]:
                level = np.uint64(np.int64((height_W[column] - low) * scale + 0.5))
                for channel in range(np.uint64(channels)):
                    image_WC[column, channel] = palette_LC[level, channel]


@njit(cache=True, nogil=True)
def blur(image_HWC: Any, side: int) -> None:
    """Blurs in place with weights (side, 2^10 - 2 side, side) / 2^10 along both axes; the border is repeated."""
    height, width, channels = image_HWC.shape
    outer, middle = np.uint32(side), np.uint32((1 << BLUR_BITS) - 2 * side)
    rounding, bits = np.uint32(1 << (2 * BLUR_BITS - 1)), np.uint32(2 * BLUR_BITS)
    image_HX = image_HWC.reshape(height, width * channels)
    above_X, here_X = image_HX[0].copy(), image_HX[0].copy()
    down_X = np.empty((width + 2) * channels, np.uint32)  # a row blurred downwards, its ends repeated
    for row in range(height):
        here_X[:] = image_HX[row]
        below_X, to_X = image_HX[min(height - 1, row + 1)], image_HX[row]
        for at in range(width * channels):
            down_X[at + channels] = outer * (np.uint32(above_X[at]) + np.uint32(below_X[at])) + middle * np.uint32(
                here_X[at]
            )
        down_X[:channels] = down_X[channels : 2 * channels]
        down_X[-channels:] = down_X[-2 * channels : -channels]
        for at in range(width * channels):
            ends = outer * (down_X[at] + down_X[at + 2 * channels])
            to_X[at] = np.uint8((ends + middle * down_X[at + channels] + rounding) >> bits)
        above_X, here_X = here_X, above_X
