"""The fast renderer against the plain Python reference: the same area, and noise of the same law on it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaleback.core import seeds
from scaleback.core.errors import SpecError
from scaleback.sources import ifs
from scaleback.sources.fractaldb import FractalDB
from scaleback.sources.kernels import chaos, chaos_exact, chaos_fast
from scaleback.sources.one_fractal import OnePFrac
from tests.sources.reference import picture

POINTS, PAD, KEY = 3_000, 6, seeds.key("test fast", 5)


def draw(drawn, chances, indices, *, size=64, points=POINTS, stamp="random", pad=PAD, flips=None):
    """(B, H, W) booleans."""
    canvas = chaos_fast.FastCanvas(size_px=size, points=points, pad_px=pad, stamp=stamp)
    bits = canvas.draw_batch(drawn, chances, KEY, indices, flips)
    samples = canvas.samples(bits, np.zeros(len(drawn), int), {})
    image = samples.image_BHWC
    assert set(np.unique(image)) <= {0, 127}
    assert (canvas.fills(bits) == (image > 0).mean(axis=(1, 2, 3))).all()
    return image[..., 0] > 0


def systems(count, seed=0, maps=2, sigma=3.5):
    rng = seeds.generator("test fast systems", seed)
    return [ifs.sigma_system(rng, maps=maps, sigma=sigma) for _ in range(count)]


def chances(systems):
    return [ifs.probabilities(system) for system in systems]


def areas(systems, size, stamp):
    """(B, H, W) booleans, by the reference."""
    found = []
    for number, system in enumerate(systems):
        own = 1 + int(seeds.words(KEY, [number], 1)[0, 0]) * 511 // 2**32
        masks = {"point": None, "fill": [511] * POINTS, "stencil": [own] * POINTS}[stamp]
        found.append(picture(system, ifs.probabilities(system), POINTS, size, PAD, masks, stamp == "stencil") > 0)
    return np.array(found)


@pytest.mark.parametrize("size", [33, 64, 100])
@pytest.mark.parametrize("stamp", ["point", "fill", "stencil"])
def test_the_area_is_that_of_the_reference_but_for_float32(size, stamp):
    # Of one, two and seven maps in one call, each with its own chances; twenty fill more than one vector.
    drawn = [*systems(18), *systems(1, maps=1, sigma=1.7), *systems(1, maps=7, sigma=9.0)]
    mine = draw(drawn, chances(drawn), range(20), size=size, stamp=stamp)
    reference = areas(drawn, size, stamp)
    assert mine.shape == (20, size, size)
    assert (mine != reference).mean() < 0.002  # points within a millionth of the border between two pixels
    assert mine.sum() == pytest.approx(reference.sum(), rel=0.01)


def test_systems_of_one_base_share_their_steps_and_are_drawn_alike():
    base = systems(1)[0]
    rng = np.random.default_rng(0)
    drawn = [base * rng.uniform(0.8, 1.2, base.shape) for _ in range(20)]
    shared = [ifs.probabilities(base)] * 20
    together = draw(drawn, shared, range(20), stamp="fill")
    for number, system in enumerate(drawn):
        # Beside a system with other chances, a lane chooses its own maps.
        pair = draw([system, systems(1, 9)[0]], [shared[0], np.array([1.0, 0.0])], [0, 1], stamp="fill")
        assert (pair[0] == together[number]).all()


def test_a_step_that_rounding_decides_is_the_same_alone_and_beside_others():
    system, other = systems(2)
    number = chaos.uniform(POINTS)[500]
    tied = np.array([number - 1e-12, 1 - number + 1e-12])  # above the threshold as float64, on it as float32
    assert chaos.choices(tied, POINTS, "float64")[500] != chaos.choices(tied, POINTS, "float32")[500]
    alone = draw([system], [tied], [0], stamp="fill")
    beside = draw([system, other], [tied, ifs.probabilities(other)], [0, 1], stamp="fill")
    assert (alone[0] == beside[0]).all()


def test_each_pixel_of_the_area_is_lit_with_the_chance_of_a_bit():
    drawn = systems(1)
    area = draw(drawn, chances(drawn), [0], stamp="fill")[0]
    lit = draw(drawn * 4_000, chances(drawn) * 4_000, range(4_000))
    assert not lit[:, ~area].any()
    share = lit[:, area].mean(axis=0)
    assert share.mean() == pytest.approx(256 / 511, abs=4 * 0.5 / np.sqrt(4_000 * area.sum()))
    assert abs(share - 256 / 511).max() < 5 * 0.5 / np.sqrt(4_000)
    noise = lit[:, area] - 256 / 511
    beside = (noise[:, 1:] * noise[:, :-1]).mean() / 0.25
    assert abs(beside) < 4 / np.sqrt(noise[:, 1:].size)


def test_fill_and_visits_have_the_law_of_the_exact_renderer():
    """Over many draws: mean and spread of the fill, and how often each pixel is lit."""
    base = systems(1, 3)[0]
    rng = np.random.default_rng(1)
    drawn = [base * rng.uniform(0.9, 1.1, base.shape) for _ in range(400)]
    shared = [ifs.probabilities(base)] * 400
    fast = draw(drawn, shared, range(400), size=48)
    canvas = chaos_exact.ExactCanvas(size_px=48, points=POINTS, pad_px=PAD, stamp="random")
    bits = canvas.draw_batch(drawn, shared, KEY, range(400))
    exact = canvas.samples(bits, np.zeros(400, int), {}).image_BHWC[..., 0] > 0
    fills = [pictures.mean(axis=(1, 2)) for pictures in (fast, exact)]
    assert np.mean(fills[0] - fills[1]) == pytest.approx(0, abs=4 * np.std(fills[0] - fills[1]) / 20)
    assert np.std(fills[0]) == pytest.approx(np.std(fills[1]), rel=0.1)
    visits = [pictures.mean(axis=0) for pictures in (fast, exact)]
    assert abs(visits[0] - visits[1]).max() < 5 * np.sqrt(0.5 / 400)
    assert (visits[0] > 0).sum() == pytest.approx((visits[1] > 0).sum(), rel=0.03)


def test_noise_is_the_stream_of_the_image():
    """Bits of Philox by its slow implementation; one pixel in 511 is lit besides."""
    size, drawn = 64, systems(1)
    area = draw(drawn, chances(drawn), [0], stamp="fill")[0, ::-1]
    for index in (0, 7, 2**40):
        words = seeds.words(KEY, [index], 2 * size + 2 * size)[0].astype(np.uint64).reshape(-1, 4)
        halves = np.concatenate([words[: size // 2, 0::2], words[: size // 2, 1::2]], axis=1)
        rows = np.concatenate(
            [halves[:, 0] | halves[:, 2] << np.uint64(32), halves[:, 1] | halves[:, 3] << np.uint64(32)]
        )
        bits = ((rows[:, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)).astype(bool)
        lit = draw(drawn, chances(drawn), [index])[0, ::-1]
        besides = lit & ~(bits & area)
        assert (lit[bits & area]).all()
        assert besides.sum() <= 8  # of 4,096 / 511


@pytest.mark.parametrize(
    "system",
    [
        np.array([[3.0, 1, 1, 3.0, 1, 1], [2.0, 1, 1, 2.0, 0, 1]]),  # explodes
        np.zeros((2, 6)),  # one point
        np.array([[0.5, 0, 0, 0.0, 0.3, 0.0]]),  # a line along x: no extent in y
        np.full((2, 6), np.nan),
        np.full((2, 6), 1e300),
        np.array([[1.0, 0, 0, 1.0, 1e30, 1e30]] * 2),
    ],
)
def test_systems_that_cannot_be_drawn_leave_black_and_their_neighbours_whole(system):
    good = systems(2)
    drawn = [good[0], system, good[1]]
    equal = [np.full(len(one), 1 / len(one)) for one in drawn]
    image = draw(drawn, equal, range(3))
    assert not image[1].any() or np.abs(system).max() == 1e30  # 3,000 steps of it stay within float32
    alone = draw(good, [equal[0], equal[2]], [0, 2])
    assert (image[[0, 2]] == alone).all()


@given(
    seed=st.integers(0, 2**31),
    size=st.integers(16, 140),
    pad=st.integers(4, 7),
    points=st.integers(100, 400),
    scale=st.floats(0.1, 4),
)
@settings(deadline=None, max_examples=60)
def test_nothing_is_drawn_on_the_border(seed, size, pad, points, scale):
    """Whatever the system: places are computed without a check of their bounds."""
    rng = np.random.default_rng(seed)
    drawn = [scale * rng.uniform(-1, 1, (rng.integers(1, 8), 6)) for _ in range(5)]
    image = draw(drawn, chances(drawn), range(5), size=size, points=points, pad=pad)
    inner = np.zeros((size, size), bool)
    inner[pad - 4 : size - pad, pad : size - pad + 4] = True  # a patch is right of and above its point
    assert not image[:, ~inner].any()


def test_batches_do_not_matter():
    drawn = systems(40)
    whole = draw(drawn, chances(drawn), range(40))
    for part in ([0], [3, 39, 4], list(range(17, 35))):
        some = draw([drawn[i] for i in part], [ifs.probabilities(drawn[i]) for i in part], part)
        assert (some == whole[part]).all()


@pytest.mark.parametrize("size", [61, 64, 100, 128])
def test_flips_turn_the_picture(size):
    drawn = systems(1)
    plain, down, right, both = draw(drawn * 4, chances(drawn) * 4, [3] * 4, size=size, flips=[0, 1, 2, 3])
    assert (down == plain[::-1]).all()
    assert (right == plain[:, ::-1]).all()
    assert (both == plain[::-1, ::-1]).all()
    assert plain.any()


def test_one_orbit_serves_many_masks():
    (system,), other = systems(1), systems(1, 5)[0]
    given = [system, other, system, system]
    together = draw(given, chances(given), [4, 5, 6, 4])
    for place, index in enumerate([4, 5, 6, 4]):
        assert (draw([given[place].copy()], chances(given[place : place + 1]), [index])[0] == together[place]).all()
    assert (together[0] != together[2]).any()


def test_colour_needs_the_exact_renderer():
    with pytest.raises(SpecError, match=r"^renderer: must be exact to draw patch_colour; got 'fast'$"):
        FractalDB.parse({"draw": "patch_colour"})


@pytest.mark.parametrize("mask", ["fill", "random", "stencil"])
def test_a_source_draws_the_same_population_either_way(mask):
    fast = OnePFrac(size_px=48, points=POINTS, mask=mask, delta=0.3)
    exact = fast.replace({"renderer": "exact"})
    mine, reference = fast.open(4), exact.open(4)
    assert mine.record == reference.record
    first, second = mine(np.arange(30)), reference(np.arange(30))
    assert (first.facts["redraws"] == second.facts["redraws"]).mean() > 0.9
    alike = first.facts["redraws"] == second.facts["redraws"]
    assert (first.facts["system"][alike] == second.facts["system"][alike]).all()
    share = [(samples.image_BHWC[alike] > 0).mean() for samples in (first, second)]
    assert share[0] == pytest.approx(share[1], rel=0.02)
