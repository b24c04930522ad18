"""The renderer for GPUs against the exact one, here on the CPU; on a GPU where there is one."""

import numpy as np
import pytest
import torch

from scaleback.core import seeds
from scaleback.sources import ifs
from scaleback.sources.fractaldb import OFDB
from scaleback.sources.kernels import chaos_exact, chaos_torch
from scaleback.sources.one_fractal import OnePFrac
from tests.sources.reference import orbit
from tests.sources.test_chaos import BLACK, ENDING_IN_NAN, STAMPS, systems

POINTS, KEY = 3_000, seeds.key("test torch", 5)


def draw(canvas, drawn, chances, indices, flips=None, **fields):
    kind = {"size_px": 61, "points": POINTS, "pad_px": 6, "stamp": "random"} | fields
    return canvas(**kind).draw_batch(drawn, chances, KEY, indices, flips).bits_BHX


def alike(drawn, chances, indices, flips=None, **fields):
    """Whether both renderers make the same bytes, and not none."""
    mine = draw(chaos_torch.TorchCanvas, drawn, chances, indices, flips, **fields)
    exact = draw(chaos_exact.ExactCanvas, drawn, chances, indices, flips, **fields)
    return mine.any() and (mine == exact).all()


@pytest.mark.parametrize("stamp", STAMPS)
def test_pictures_are_the_exact_ones(stamp):
    base, *others = systems()
    rng = np.random.default_rng(0)
    drawn = [base * rng.uniform(0.8, 1.2, base.shape) for _ in range(20)] + others
    chances = [ifs.probabilities(base)] * 20 + [ifs.probabilities(other) for other in others]
    flips = [number % 4 for number in range(len(drawn))]
    assert alike(drawn, chances, range(len(drawn)), flips, stamp=stamp)


@pytest.mark.parametrize("points", [100, 101, 2_500, 100_000])
def test_any_number_of_points(points):
    system = next(systems())
    assert alike([system], [ifs.probabilities(system)], [2**40], points=points)


@pytest.mark.parametrize("lost", [*BLACK, *ENDING_IN_NAN])
def test_orbits_that_leave_the_range_of_numbers_are_left_to_the_exact_renderer(lost):
    good = list(systems())[:2]
    lost = lost if len(lost) == 2 else np.vstack([lost, lost])
    assert alike([good[0], lost, good[1]], [np.array([0.5, 0.5])] * 3, range(3))


def test_orbits_in_blocks_are_the_orbits_in_sequence():
    drawn = list(systems())[:5]
    chances = ifs.probabilities(drawn[0])
    numbers = np.random.RandomState(100).random(500)
    choice = torch.from_numpy((numbers > chances[0]).astype(np.int64))
    found = chaos_torch.orbits(torch.from_numpy(np.stack(drawn)), choice).numpy()
    for number, system in enumerate(drawn):
        np.testing.assert_allclose(found[:, number], orbit(system, chances, 500), atol=1e-13)


def test_words_are_those_of_the_streams():
    index = [0, 5, 2**34 + 7, 2**60]
    mine = chaos_torch.philox(KEY, torch.tensor(index), 9).reshape(4, -1)
    assert (mine.numpy() == seeds.words(KEY, index, 36)).all()


@pytest.mark.parametrize("source", [OnePFrac(size_px=48, points=POINTS), OFDB(categories=3, points=POINTS, size_px=48)])
def test_a_source_is_the_same_population_by_torch(source):
    exact, mine = (source.replace({"renderer": name}) for name in ("exact", "torch"))
    assert (mine.wants_gpu, exact.wants_gpu) == (True, False)
    first, second = (one.open(2)(np.arange(3)) for one in (exact, mine))
    assert (first.image_BHWC == second.image_BHWC).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_a_gpu_makes_the_bytes_of_the_cpu():
    rng = np.random.default_rng(0)
    base = next(systems())
    drawn = [base * rng.uniform(0.9, 1.1, base.shape) for _ in range(300)]
    chances = [ifs.probabilities(base)] * 300
    kind = {"size_px": 512, "points": 100_000}
    assert chaos_torch.TorchCanvas(pad_px=6, stamp="random", **kind)._device.type == "cuda"
    assert alike(drawn, chances, range(300), **kind)
