"""The line rasteriser and its noise against plain Python; that no mathematics library decides a pixel."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scaleback.sources.kernels import contours
from scaleback.sources.radial import UNIT, turn
from tests.sources import reference_contours as reference

SIZE = 24
COORDINATES = st.integers(-SIZE, 2 * SIZE)
POINTS = st.lists(st.tuples(COORDINATES, COORDINATES), min_size=1, max_size=12)


def drawn(points, gray=7, size=SIZE):
    columns, rows = np.array(points, np.int64).T.copy()
    canvas_P = np.zeros(size * size, np.uint8)
    contours.polyline(columns, rows, gray, size, canvas_P)
    return canvas_P.reshape(size, size)


def expected(points, gray=7, size=SIZE):
    canvas = [[0] * size for _ in range(size)]
    reference.polyline(points, gray, size, canvas)
    return np.array(canvas)


@given(POINTS)
@example([(3, 4)])
@example([(5, 5), (5, 5), (5, 5)])
@example([(-1, 0), (24, 23), (0, -1), (23, 24)])
@example([(-9, -9), (-9, 40)])
@settings(max_examples=150, deadline=None)
def test_a_closed_line_is_that_of_the_reference(points):
    assert (drawn(points) == expected(points)).all()


def test_every_slope_within_the_canvas_and_across_its_border_is_that_of_the_reference():
    for to in range(SIZE):
        for corner in ((to, 0), (0, to), (to, SIZE - 1), (SIZE - 1, to)):
            for start in ((11, 12), (-13, 12), (11, 35)):
                assert (drawn([start, corner]) == expected([start, corner])).all()


def test_far_points_cost_no_more_and_are_clipped_exactly():
    points = [(-3_000, 11), (2_900, 14), (7, -2_001), (12, 4_500)]
    assert (drawn(points) == expected(points)).all()
    very_far = [(-(10**9), 11), (10**9, 11)]
    assert (drawn(very_far)[11] == 7).all()


def test_a_later_line_covers_an_earlier_one():
    canvas_P = np.zeros(SIZE * SIZE, np.uint8)
    for gray in (9, 5):
        contours.polyline(np.array([2, 20]), np.array([3, 3]), gray, SIZE, canvas_P)
    assert set(canvas_P.tolist()) == {0, 5}


def test_noise_is_that_of_the_reference_for_all_bits():
    made = [contours.perlin(np.uint64(bits)) for bits in range(0, 1 << 16, 7)]
    assert made == [reference.perlin(bits) for bits in range(0, 1 << 16, 7)]


def test_noise_has_the_law_of_perlin_noise_at_a_uniform_place():
    values = np.array([contours.perlin(np.uint64(bits)) for bits in range(1 << 16)]) / UNIT
    rng = np.random.default_rng(0)
    place = rng.random(400_000)
    slope = np.where(rng.random((2, 400_000)) < 0.5, -1, rng.integers(1, 9, (2, 400_000)))
    fade = place**3 * (place * (place * 6 - 15) + 10)
    law = 0.4 * ((1 - fade) * slope[0] * place + fade * slope[1] * (place - 1))
    assert abs(values.mean()) < 1e-6
    assert values.std() == pytest.approx(law.std(), rel=0.01)
    for share in (0.02, 0.1, 0.3, 0.7, 0.9, 0.98):
        assert np.quantile(values, share) == pytest.approx(np.quantile(law, share), abs=0.005)


def test_no_cosine_or_sine_lies_where_a_last_digit_decides_its_rounding():
    for vertices in range(3, 2_001):
        angle = np.arange(vertices) * (2 * np.pi) / vertices
        for wave, rounded in zip((np.cos, np.sin), turn(vertices), strict=True):
            exact = wave(angle) * UNIT
            assert abs(exact - rounded).max() < 0.5 - 1e-8  # a last digit is worth 1e-11
