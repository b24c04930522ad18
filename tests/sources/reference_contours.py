"""RCDB and VisualAtom in plain Python, from the formulas; slow on purpose."""

import math
from fractions import Fraction

from scaleback.core import seeds

UNIT = 2**16


def pixels(start, stop):
    """(column, row) of a segment's pixels."""
    steps = max(abs(stop[0] - start[0]), abs(stop[1] - start[1]))
    if steps == 0:
        return [start]
    half = Fraction(1, 2)
    return [
        tuple(a + math.floor(Fraction(i * (b - a), steps) + half) for a, b in zip(start, stop, strict=True))
        for i in range(steps + 1)
    ]


def polyline(points, gray, size, canvas):
    """``canvas`` is a list of rows."""
    for start, stop in zip(points, points[1:] + points[:1], strict=True):
        for column, row in pixels(start, stop):
            if 0 <= column < size and 0 <= row < size:
                canvas[row][column] = gray


def perlin(bits):
    """One-dimensional Perlin noise, in units, of the place and the slopes that sixteen bits name."""
    slopes = [1, 2, 3, 4, 5, 6, 7, 8, -1, -1, -1, -1, -1, -1, -1, -1]
    at = Fraction(2 * (bits // 256) + 1, 512)
    fade = 6 * at**5 - 15 * at**4 + 10 * at**3
    left, right = Fraction(2, 5) * (1 - fade) * at, Fraction(2, 5) * fade * (at - 1)
    return slopes[bits % 16] * round(left * UNIT) + slopes[bits // 16 % 16] * round(right * UNIT)


def picture(size, vertices, lines, radii, centre, growth, noise, key, stream, ground):
    """Rows of a picture. ``radii`` are those of the oval; ``growth`` is a list, in units, as is ``noise``."""
    canvas = [[ground] * size for _ in range(size)]
    quads = math.ceil(vertices / 4)
    words = [int(word) for word in seeds.words(key, [stream], 4 * lines * (1 + quads))[0]]
    angles = [2 * math.pi * vertex / vertices for vertex in range(vertices)]
    rays = [(round(math.cos(angle) * UNIT), round(math.sin(angle) * UNIT)) for angle in angles]
    at = [
        [
            round(radius * UNIT) * ray + round(middle * UNIT) * UNIT
            for radius, ray, middle in zip(radii, pair, centre, strict=True)
        ]
        for pair in rays
    ]
    for line in range(lines):
        first = 4 * line * (1 + quads)
        gray = 1 + words[first] * 255 // 2**32
        for vertex in range(vertices):
            word = words[first + 4 + vertex]
            for axis, bits in enumerate((word % UNIT, word // UNIT)):
                step = growth[vertex] - noise * perlin(bits) // UNIT
                at[vertex][axis] += rays[vertex][axis] * step
        points = [tuple(math.floor(Fraction(x * size, 512 * UNIT * UNIT)) for x in point) for point in at]
        polyline(points, abs(ground - gray), size, canvas)
    return canvas
