"""The compiled half of ``radial``: closed polylines on a gray canvas, in integers only, so the same bytes everywhere.

A segment from pixel (c0, r0) to (c1, r1) has n + 1 pixels, n the larger of |c1 - c0| and |r1 - r0|; pixel i is

    (c0 + floor(i (c1 - c0) / n + 1/2), r0 + floor(i (r1 - r0) / n + 1/2)).

A polyline is closed by a segment from its last vertex to its first. Pixels off the canvas are left out and change no
other; a later line covers an earlier one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from scaleback.sources.kernels.philox import block

# Shapes: V vertices of a line, P places of a canvas row by row, J places within a cell of Perlin noise.

UNIT_BITS = 16
"""Numbers are multiples of 2^-16; products of two, and so positions, of 2^-32."""
SIDE_BITS = 9
"""Positions are in pixels of a canvas of 2^9 = 512, whatever the size that is drawn."""

_AT_J = (np.arange(256) + 0.5) / 256
_BLEND_J = _AT_J * _AT_J * _AT_J * (_AT_J * (6 * _AT_J - 15) + 10)
# One-dimensional Perlin noise is g0 (1 - s) f + g1 s (f - 1), at f of a cell with slopes g0 and g1 at its ends, s the
# quintic of f. Its height of 0.4, and slopes that are 1 to 8 or, half of the time, -1, are those of the package that
# both released renderers call, each vertex at a random place: the noise of neighbours is independent.
_LEFT_J = np.rint(0.4 * (1 - _BLEND_J) * _AT_J * (1 << UNIT_BITS)).astype(np.int64)
_RIGHT_J = np.rint(0.4 * _BLEND_J * (_AT_J - 1) * (1 << UNIT_BITS)).astype(np.int64)
_SLOPES = np.array([*range(1, 9), *8 * [-1]], np.int64)


@njit(cache=True, nogil=True)
def perlin(bits: Any) -> Any:
    """Perlin noise at a random place: eight of sixteen bits say where in its cell, four and four the slopes there."""
    place = (bits >> np.uint64(8)) & np.uint64(255)
    first, second = _SLOPES[bits & np.uint64(15)], _SLOPES[(bits >> np.uint64(4)) & np.uint64(15)]
    return first * _LEFT_J[place] + second * _RIGHT_J[place]


@njit(cache=True, nogil=True)
def segment(c0: int, r0: int, c1: int, r1: int, gray: Any, size: int, canvas_P: Any) -> None:
    """One segment, both ends included."""
    across, down = 2 * abs(c1 - c0), 2 * abs(r1 - r0)
    right, below = (1 if c1 >= c0 else -1), (1 if r1 >= r0 else -1)
    length = max(across, down) // 2
    whole = 2 * length
    # After i pixels: i across + length less the whole pixels moved, in units of 1 / (2 length) of a pixel. Leftwards
    # and upwards a floor is a ceiling, one unit less.
    part_c, part_r = length - (right < 0), length - (below < 0)
    if (c0 | c1 | r0 | r1) < 0 or max(c0, c1, r0, r1) >= size:
        if max(c0, c1) < 0 or max(r0, r1) < 0 or min(c0, c1) >= size or min(r0, r1) >= size:
            return
        start, forward = (c0, right > 0) if across >= down else (r0, below > 0)
        first = max(0, -start if forward else start - size + 1)
        last = min(length, size - 1 - start if forward else start)
        for i in range(first, last + 1):
            column = c0 + right * ((i * across + part_c) // whole)
            row = r0 + below * ((i * down + part_r) // whole)
            if 0 <= column < size and 0 <= row < size:
                canvas_P[np.uint64(row * size + column)] = gray
        return
    place, under = r0 * size + c0, below * size
    canvas_P[np.uint64(place)] = gray
    for _ in range(length):
        part_c, part_r = part_c + across - whole, part_r + down - whole
        stay_c, stay_r = part_c >> 63, part_r >> 63  # all bits or none; a branch here is a coin that costs 3 ns a pixel
        part_c, part_r = part_c + (whole & stay_c), part_r + (whole & stay_r)
        place += (right & ~stay_c) + (under & ~stay_r)
        canvas_P[np.uint64(place)] = gray


@njit(cache=True, nogil=True)
def polyline(column_V: Any, row_V: Any, gray: Any, size: int, canvas_P: Any) -> None:
    """A closed line of at least one vertex."""
    last = len(column_V) - 1
    c0, r0 = column_V[last], row_V[last]
    for vertex in range(last + 1):
        c1, r1 = column_V[vertex], row_V[vertex]
        segment(c0, r0, c1, r1, gray, size, canvas_P)
        c0, r0 = c1, r1


@njit(cache=True, nogil=True)
def draw(
    x_V: Any,
    y_V: Any,
    cos_V: Any,
    sin_V: Any,
    growth_V: Any,
    noise: int,
    lines: int,
    key: Any,
    stream: Any,
    ground: int,
    size: int,
    canvas_P: Any,
) -> None:
    """Lines around one another; ``x_V`` and ``y_V`` are where the first starts from, and are moved.

    From line to line vertex v moves along its ray by ``growth_V[v]`` less ``noise`` times Perlin noise, drawn anew for
    each of the two coordinates. Line l takes its words from block l (1 + ceil(V / 4)) of the stream on: one block for
    its gray, then a word a vertex.
    """
    vertices = len(x_V)
    quads = (vertices + 3) // 4
    bits_V = np.empty(4 * quads, np.uint64)
    column_V, row_V = np.empty(vertices, np.int64), np.empty(vertices, np.int64)
    for line in range(lines):
        number = line * (1 + quads)
        gray = 1 + np.int64((block(key, stream, number)[0] * np.uint64(255)) >> np.uint64(32))
        for quad in range(quads):
            at = 4 * quad
            bits_V[at], bits_V[at + 1], bits_V[at + 2], bits_V[at + 3] = block(key, stream, number + 1 + quad)
        for vertex in range(vertices):
            bits = bits_V[vertex]
            x_V[vertex] += cos_V[vertex] * (growth_V[vertex] - ((noise * perlin(bits)) >> UNIT_BITS))
            y_V[vertex] += sin_V[vertex] * (growth_V[vertex] - ((noise * perlin(bits >> np.uint64(16))) >> UNIT_BITS))
            column_V[vertex] = (x_V[vertex] * size) >> (2 * UNIT_BITS + SIDE_BITS)
            row_V[vertex] = (y_V[vertex] * size) >> (2 * UNIT_BITS + SIDE_BITS)
        polyline(column_V, row_V, abs(ground - gray), size, canvas_P)
