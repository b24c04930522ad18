"""The compiled rasterisers against the plain Python reference, byte for byte."""

import numpy as np
import pytest

from scaleback.core import seeds
from scaleback.sources import ifs
from scaleback.sources.kernels import chaos, chaos_exact
from tests.sources.reference import picture

POINTS, SIZE, PAD, KEY = 3_000, 64, 6, seeds.key("test mask", 5)
STAMPS = ["point", "fill", "random", "stencil"]
BLACK = [
    np.array([[3.0, 1, 1, 3.0, 1, 1], [2.0, 1, 1, 2.0, 0, 1]]),  # explodes, and stays infinite
    np.zeros((2, 6)),  # one point
    np.array([[0.5, 0, 0, 0.0, 0.3, 0.0]]),  # a line along x: no extent in y
    np.full((2, 6), np.nan),
]
ENDING_IN_NAN = [
    np.array([[3.0, 0, 0, 3.0, 1, 1], [2.0, 1, 1, 2.0, 0, 1]]),  # zero times infinity
    np.array([[2.0, -0.5, 0.5, 2.0, 1, 1]]),  # infinity less infinity
    np.array([[0.9, 0, 0, 2.0, 1, -1]]),  # y leaves the range of numbers, x does not
]


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


def expected_picture(system, chances, stamp, index, points=POINTS, size=SIZE, pad=PAD):
    drawn = masks(index, points)
    bits = {"point": None, "fill": [511] * points, "random": drawn, "stencil": drawn[:1] * points}[stamp]
    return picture(system, chances, points, size, pad, bits, transparent=stamp == "stencil")


def in_lanes(drawn, chances, indices, stamp, flips=None, points=POINTS, size=SIZE, pad=PAD):
    """(B, H, W) of the canvas that draws sixteen at a time."""
    canvas = chaos_exact.ExactCanvas(size_px=size, points=points, pad_px=pad, stamp=stamp)
    bits = canvas.draw_batch(drawn, chances, KEY, indices, flips)
    return canvas.samples(bits, np.zeros(len(drawn), int), {}).image_BHWC[..., 0]


@pytest.mark.parametrize("number", range(13))
@pytest.mark.parametrize("stamp", STAMPS)
def test_pictures_equal_the_reference(number, stamp):
    system = list(systems())[number]
    chances = ifs.probabilities(system)
    canvas = chaos.Canvas(size_px=SIZE, points=POINTS, pad_px=PAD, stamp=stamp, colour=False)
    expected = expected_picture(system, chances, stamp, number)
    assert (canvas.draw(system, chances, KEY, number)[:, :, 0] == expected).all()


@pytest.mark.parametrize("stamp", STAMPS)
def test_pictures_drawn_in_lanes_equal_the_reference(stamp):
    # Twenty perturbations of one base with its chances fill more than a vector; others bring chances of their own.
    base, *others = systems()
    rng = np.random.default_rng(0)
    drawn = [base * rng.uniform(0.8, 1.2, base.shape) for _ in range(20)] + others
    chances = [ifs.probabilities(base)] * 20 + [ifs.probabilities(other) for other in others]
    mine = in_lanes(drawn, chances, range(len(drawn)), stamp)
    for number, system in enumerate(drawn):
        assert (mine[number] == expected_picture(system, chances[number], stamp, number)).all()


@pytest.mark.parametrize("size", [61, 64, 67, 130])
def test_flips_and_widths_in_lanes(size):
    system = next(systems())
    chances = ifs.probabilities(system)
    for points in (100, 257):  # 257 leaves one point for the last tile
        expected = expected_picture(system, chances, "random", 7, points, size)
        mine = in_lanes([system] * 4, [chances] * 4, [7] * 4, "random", [0, 1, 2, 3], points, size)
        for flip, image in enumerate(mine):
            assert (image == expected[:: -1 if flip & 1 else 1, :: -1 if flip & 2 else 1]).all()


def test_lanes_beside_an_orbit_that_leaves_the_range_of_numbers():
    good = list(systems())[:2]
    for lost in (*BLACK, *ENDING_IN_NAN):
        if len(lost) != 2:
            lost = np.vstack([lost, lost])
        drawn, chances = [good[0], lost, good[1]], [np.array([0.5, 0.5])] * 3
        mine = in_lanes(drawn, chances, range(3), "random")
        for number, system in enumerate(drawn):
            assert (mine[number] == expected_picture(system, chances[number], "random", number)).all()


def test_masks_are_never_empty_and_use_all_bits():
    bits = np.array(masks(0, 50_000))
    assert bits.min() == 1
    assert bits.max() == 511
    share = ((bits[:, None] >> np.arange(9)) & 1).mean(axis=0)
    assert share == pytest.approx([256 / 511] * 9, abs=0.01)


@pytest.mark.parametrize("system", BLACK)
def test_systems_that_cannot_be_drawn_leave_black(system):
    canvas = chaos.point_canvas(size_px=SIZE, points=POINTS, pad_px=PAD)
    assert not canvas.draw(system, np.array([0.5, 0.5][: len(system)]), KEY, 0).any()


@pytest.mark.parametrize("system", ENDING_IN_NAN)
def test_an_orbit_that_ends_in_nan_keeps_the_points_before(system):
    # Growth leaves the range of numbers after some hundred steps. The reference drops the hundred points before the
    # first NaN; what is left is finite, and drawn.
    chances = np.full(len(system), 1 / len(system))
    canvas = chaos.Canvas(size_px=SIZE, points=POINTS, pad_px=PAD, stamp="fill", colour=False)
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
    canvas = chaos.Canvas(size_px=SIZE, points=2_000, pad_px=PAD, stamp="point", colour=True)
    image = canvas.draw(system, chances, KEY, 0)
    assert {tuple(colour) for colour in image.reshape(-1, 3)} <= {(0, 0, 0), *map(tuple, chaos.palette())}
    assert len({tuple(colour) for colour in image.reshape(-1, 3)}) > 50


def test_a_canvas_can_be_used_again():
    canvas = chaos.point_canvas(size_px=SIZE, points=POINTS, pad_px=PAD)
    first, second = list(systems())[:2]
    alone = canvas.draw(first, ifs.probabilities(first), KEY, 0)
    canvas.draw(second, ifs.probabilities(second), KEY, 0)
    assert (canvas.draw(first, ifs.probabilities(first), KEY, 0) == alone).all()
