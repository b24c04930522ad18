"""The reference algorithm in plain Python, written from the papers' description; slow on purpose."""

import math

import numpy as np


def orbit(system, probabilities, points):
    """Chaos game from the origin; element i of MT19937(100) drives step i."""
    draws = np.random.RandomState(100).random(points)
    thresholds = np.cumsum(probabilities)
    x, y = 0.0, 0.0
    xs, ys = [x], [y]
    for i in range(points - 1):
        j = 0
        while j < len(thresholds) - 1 and draws[i] > thresholds[j]:
            j += 1
        a, b, c, d, e, f = map(float, system[j])  # plain floats overflow without a warning
        x, y = a * x + b * y + e, c * x + d * y + f
        xs.append(x)
        ys.append(y)
    return xs, ys


def without_nan(xs, ys):
    """First for x, then for y: the hundred points before the first that is not a number go, and all that are none."""
    for _ in range(2):
        first = next((place for place, x in enumerate(xs) if math.isnan(x)), None)
        if first is not None:
            kept = [place for place, x in enumerate(xs) if not math.isnan(x) and not first - 100 <= place < first]
            xs, ys = [xs[place] for place in kept], [ys[place] for place in kept]
        xs, ys = ys, xs
    return xs, ys


def picture(system, probabilities, points, size, pad, masks, transparent=False):
    """Masks is None for points, else nine bits for each point, pasted one right of and below the point: opaquely, so
    that zeros hide what lies under them, or transparent.
    """
    xs, ys = without_nan(*orbit(system, probabilities, points))
    if not xs or not all(map(math.isfinite, xs + ys)):
        return np.zeros((size, size), np.uint8)
    low_x, low_y = min(xs), min(ys)
    xs = [x - low_x for x in xs] if low_x < 0 else xs
    ys = [y - low_y for y in ys] if low_y < 0 else ys
    span_x, span_y = max(xs) - min(xs), max(ys) - min(ys)
    image = np.zeros((size, size), np.uint8)
    if not (span_x > 0 and span_y > 0):
        return image
    for t in range(len(xs)):
        column = int(xs[t] / span_x * (size - 2 * pad) + pad)
        row = int(ys[t] / span_y * (size - 2 * pad) + pad)
        if masks is None:
            image[row, column] = 127
            continue
        for cell in range(9):
            if masks[t] >> cell & 1 or not transparent:
                image[row + 1 + cell // 3, column + 1 + cell % 3] = 127 if masks[t] >> cell & 1 else 0
    return image[::-1]
