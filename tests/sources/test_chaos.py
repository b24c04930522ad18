"""The compiled rasteriser against the plain Python reference, byte for byte."""

import numpy as np
import pytest

from scaleback.core import seeds
from scaleback.sources import chaos, ifs
from tests.sources.reference import picture

POINTS, SIZE, PAD, KEY = 3_000, 64, 6, seeds.key("test mask", 5)


def masks(index, points=POINTS):
    """Bits from the image's stream: 1 + word * 511 / 2^32."""
    return [1 + int(word) * 511 // 2**32 for word in seeds.words(KEY, [index], points)[0]]


def systems():
    rng = seeds.generator("test systems", 0)
    for _ in range(6):
        yield ifs.sigma_system(rng, maps=2, sigma=3.5)
    for maps in (1, 3, 5):
        yield ifs.sigma_system(rng, maps=maps, sigma=1.7 * maps)
    for _ in range(4):
        yield ifs.uniform_system(rng)


@pytest.mark.parametrize("number", range(13))
@pytest.mark.parametrize("mode", ["points", "fill", "random"])
def test_pictures_equal_the_reference(number, mode):
    system = list(systems())[number]
    chances = ifs.probabilities(system)
    canvas = chaos.Canvas(
        size_px=SIZE, points=POINTS, pad_px=PAD, patch=mode != "points", random_mask=mode == "random", colour=False
    )
    bits = {"points": None, "fill": [511] * POINTS, "random": masks(number)}[mode]
    expected = picture(system, chances, POINTS, SIZE, PAD, bits)
    assert (canvas.draw(system, chances, KEY, number)[:, :, 0] == expected).all()


def test_masks_are_never_empty_and_use_all_bits():
    bits = np.array(masks(0, 50_000))
    assert bits.min() == 1
    assert bits.max() == 511
    share = ((bits[:, None] >> np.arange(9)) & 1).mean(axis=0)
    assert share == pytest.approx([256 / 511] * 9, abs=0.01)


@pytest.mark.parametrize(
    "system",
    [
        np.array([[3.0, 1, 1, 3.0, 1, 1], [2.0, 1, 1, 2.0, 0, 1]]),  # explodes, and stays infinite
        np.zeros((2, 6)),  # one point
        np.array([[0.5, 0, 0, 0.0, 0.3, 0.0]]),  # a line along x: no extent in y
        np.full((2, 6), np.nan),
    ],
)
def test_systems_that_cannot_be_drawn_leave_black(system):
    canvas = chaos.point_canvas(size_px=SIZE, points=POINTS, pad_px=PAD)
    assert not canvas.draw(system, np.array([0.5, 0.5][: len(system)]), KEY, 0).any()


@pytest.mark.parametrize(
    "system",
    [
        np.array([[3.0, 0, 0, 3.0, 1, 1], [2.0, 1, 1, 2.0, 0, 1]]),  # zero times infinity
        np.array([[2.0, -0.5, 0.5, 2.0, 1, 1]]),  # infinity less infinity
        np.array([[0.9, 0, 0, 2.0, 1, -1]]),  # y leaves the range of numbers, x does not
    ],
)
def test_an_orbit_that_ends_in_nan_keeps_the_points_before(system):
    # Growth leaves the range of numbers after some hundred steps. The reference drops the hundred points before the
    # first NaN; what is left is finite, and drawn.
    chances = np.full(len(system), 1 / len(system))
    canvas = chaos.Canvas(size_px=SIZE, points=POINTS, pad_px=PAD, patch=True, random_mask=False, colour=False)
    expected = picture(system, chances, POINTS, SIZE, PAD, [511] * POINTS)
    assert expected.any()
    assert (canvas.draw(system, chances, KEY, 0)[:, :, 0] == expected).all()


def test_the_palette_is_a_wheel_of_128_hues():
    wheel = chaos.palette().astype(int)
    assert wheel.shape == (128, 3)
    assert len({tuple(colour) for colour in wheel}) > 120
    assert wheel[0].tolist() == [47, 47, 191]  # red, blue first
    assert wheel.max() == 191
    assert wheel.min() == 47
    assert (abs(np.diff(np.vstack([wheel, wheel[:1]]), axis=0)).max(axis=1) <= 8).all()


def test_colour_follows_the_point_index():
    system = np.array([[0.5, 0, 0, 0.5, 0, 0], [0.5, 0, 0, 0.5, 1, 0], [0.5, 0, 0, 0.5, 0, 1]])
    chances = ifs.probabilities(system)
    canvas = chaos.Canvas(size_px=SIZE, points=2_000, pad_px=PAD, patch=False, random_mask=False, colour=True)
    image = canvas.draw(system, chances, KEY, 0)
    assert {tuple(colour) for colour in image.reshape(-1, 3)} <= {(0, 0, 0), *map(tuple, chaos.palette())}
    assert len({tuple(colour) for colour in image.reshape(-1, 3)}) > 50


def test_a_canvas_can_be_used_again():
    canvas = chaos.point_canvas(size_px=SIZE, points=POINTS, pad_px=PAD)
    first, second = list(systems())[:2]
    alone = canvas.draw(first, ifs.probabilities(first), KEY, 0)
    canvas.draw(second, ifs.probabilities(second), KEY, 0)
    assert (canvas.draw(first, ifs.probabilities(first), KEY, 0) == alone).all()
