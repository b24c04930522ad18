"""VisualAtom: pictures against plain Python, its waves, what a category fixes."""

import math

import numpy as np
import pytest

from scaleback.core import seeds
from scaleback.core.errors import SpecError
from scaleback.sources.radial import turn
from scaleback.sources.visual_atom import VisualAtom
from tests.sources.reference_contours import UNIT, picture

SMALL = VisualAtom(categories=3, instances=4, vertices=(20, 90), lines=(1, 12), size_px=48)


def by_hand(source, seed, index, facts):
    """The picture of an image from its facts."""
    instance, category = divmod(index, source.categories)
    vertices, noise = int(facts["vertices"]), round(facts["noise"] * UNIT)
    growth = []
    for vertex in range(vertices):
        # n turns of a / n are the same angle; of equal angles the sine is rounded alike.
        waves = sum(
            round(math.sin(2 * math.pi * (vertex * int(periods) % vertices) / vertices) * UNIT)
            for periods in facts["frequencies"]
        )
        growth.append(round(facts["spacing"] * UNIT) + noise + round(source.amplitude * UNIT) * waves // UNIT)
    return picture(
        source.size_px,
        vertices,
        int(facts["lines"]),
        [facts["radius"] * oval for oval in facts["oval"]],
        facts["centre"],
        growth,
        noise,
        seeds.key("visual-atom lines", seed),
        category * 2**32 + instance,
        0,
    )


@pytest.mark.parametrize("size", [16, 48, 67])
def test_pictures_are_those_of_the_reference(size):
    source = SMALL.model_copy(update={"size_px": size})
    indices = np.array([0, 1, 5, 11])
    samples = source.open(2)(indices)
    for number, index in enumerate(indices):
        facts = {name: value[number] for name, value in samples.facts.items()}
        assert samples.image_BHWC[number, :, :, 0].tolist() == by_hand(source, 2, int(index), facts)


def test_one_of_the_default_is_that_of_the_reference():
    source = VisualAtom()
    samples = source.open(0)(np.array([12]))
    facts = {name: value[0] for name, value in samples.facts.items()}
    assert samples.image_BHWC[0, :, :, 0].tolist() == by_hand(source, 0, 12, facts)


def test_an_orbit_grows_by_two_waves():
    angle = np.arange(300) * 2 * np.pi / 300
    facts = {"vertices": 300, "noise": 1.5, "spacing": 0.05, "frequencies": (3, 20)}
    growth, noise = VisualAtom(amplitude=0.7).growth(facts, turn(300)[1])
    expected = 0.05 + 1.5 + 0.7 * (np.sin(3 * angle) + np.sin(20 * angle))
    assert growth / UNIT == pytest.approx(expected, abs=4 / UNIT)
    assert noise == 1.5 * UNIT


def test_instances_of_a_category_vary_the_centre_and_the_noise_only():
    samples = SMALL.open(0)(np.arange(12))
    for name, value in samples.facts.items():
        rows = value.reshape(4, 3, -1)
        assert ((rows == rows[0]).all()) == (name != "centre")
    assert len({image.tobytes() for image in samples.image_BHWC}) == 12
    assert samples.label_B.tolist() == [0, 1, 2] * 4
    still = SMALL.model_copy(update={"shift": 0.0}).open(0)(np.arange(12)).image_BHWC
    assert len({image.tobytes() for image in still}) == 12


def test_parameters_fill_the_published_ranges():
    rng = np.random.default_rng(0)
    drawn = VisualAtom().parameters(rng.random((20_000, 10)), rng.random((20_000, 10)))
    for name, low, high in (
        ("vertices", 200, 1_000),
        ("lines", 1, 200),
        ("noise", 0, 4),
        ("spacing", 0, 0.1),
        ("radius", 10, 60),
        ("oval", 1, 2),
        ("centre", 0, 512),
    ):
        value = drawn[name]
        assert low <= value.min() <= low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) <= value.max() <= high
        assert value.mean() == pytest.approx((low + high) / 2, abs=0.01 * (high - low))


def test_every_pair_of_different_frequencies_is_as_likely():
    rng = np.random.default_rng(0)
    source = VisualAtom(frequencies=(2, 5))
    pairs = source.parameters(rng.random((24_000, 10)), rng.random((24_000, 10)))["frequencies"]
    found, counts = np.unique(pairs, axis=0, return_counts=True)
    assert sorted(map(tuple, found.tolist())) == [(a, b) for a in range(2, 6) for b in range(2, 6) if a != b]
    assert abs(counts - 2_000).max() < 5 * 2_000**0.5


@pytest.mark.parametrize(
    ("plain", "line"),
    [
        ({"frequencies": [4, 4]}, "frequencies: must leave two to choose; got (4, 4)"),
        ({"frequencies": [9, 3]}, "frequencies: must lie within 0 to 1000, the lower first; got (9, 3)"),
        ({"vertices": [200, 5_000]}, "vertices: must lie within 3 to 2000, the lower first; got (200, 5000)"),
        ({"amplitude": 9.0}, "amplitude: must be less than or equal to 8; got 9.0"),
    ],
)
def test_what_cannot_be_drawn_is_refused(plain, line):
    with pytest.raises(SpecError) as caught:
        VisualAtom.parse(plain)
    assert str(caught.value) == line
