"""FractalDB and OFDB: categories, the 25 weights, patch draws, flips, labels."""

import numpy as np
import pytest

from scaleback.core import seeds
from scaleback.core.errors import RenderError
from scaleback.sources import fractaldb, ifs
from scaleback.sources.fractaldb import OFDB, FractalDB
from scaleback.sources.kernels import chaos
from tests.sources.reference import picture

CATEGORIES = 3
SMALL = FractalDB(categories=CATEGORIES, points=5_000, size_px=32)
DIVERGING = 8, 4
"""(category, weight row) of seed 1 whose orbit leaves the range of numbers."""


@pytest.fixture(scope="module")
def reader():
    return SMALL.open(0)


def instances(reader, numbers, category=1):
    return reader(np.array([number * CATEGORIES + category for number in numbers]))


def test_an_accepted_category_fills_a_fifth_of_its_picture(reader):
    system = reader.system(0)
    picked = picture(system, ifs.probabilities(system), 100_000, 512, 6, None)
    assert (picked > 0).mean() >= 0.2


def test_a_category_is_the_first_candidate_that_fills_enough(reader):
    tried = []
    for fill in (0.05, 0.1, 0.2):
        loose = SMALL.model_copy(update={"search_min_fill": fill}).open(0).system(1)
        tried.append(loose)
        canvas = chaos.point_canvas(size_px=512, points=100_000, pad_px=6)
        assert chaos.point_fill(canvas, loose) >= fill
    assert (tried[-1] == reader.system(1)).all()
    assert not np.array_equal(tried[0], tried[-1])


def test_the_search_in_lanes_finds_what_the_exact_one_finds(reader):
    canvas = chaos.point_canvas(size_px=512, points=100_000, pad_px=6)
    for category in range(2):
        rng = seeds.generator("fractaldb category", 0, category)
        fills = []
        while not fills or fills[-1][0] < 0.2:
            system = ifs.uniform_system(rng)
            fills.append((chaos.point_fill(canvas, system), system))
        assert (reader.system(category) == fills[-1][1]).all()
    # At a bound that is a candidate's own rate, the exact one decides: it is enough, and a pixel more is not.
    fill, system = max(fills[:-1], key=lambda one: one[0])
    for more, same in ((0, True), (1 / 512**2, False)):
        bound = SMALL.model_copy(update={"search_min_fill": fill + more})
        assert np.array_equal(bound.open(0).system(category), system) == same


def test_a_category_depends_on_no_other(reader):
    backwards = SMALL.open(0)
    found = [backwards.system(category) for category in (2, 1, 0)][::-1]
    assert all((reader.system(category) == system).all() for category, system in enumerate(found))
    assert len({system.tobytes() for system in found}) == 3
    assert not np.array_equal(SMALL.open(1).system(0), found[0])


def test_the_first_25_instances_multiply_one_parameter_of_every_map(reader):
    samples, base = instances(reader, range(25)), reader.system(1)
    factors = [(0.2, 0.6, 1, 1.4, 1.8), *5 * [(0.2, 0.6, 1.4, 1.8)]]
    expected = [(parameter, factor) for parameter in range(6) for factor in factors[parameter]]
    assert len(expected) == 25
    for row, (parameter, factor) in enumerate(expected):
        by_hand = [[x * factor if place == parameter else x for place, x in enumerate(numbers)] for numbers in base]
        assert samples.facts["weight_row"][row] == row
        assert samples.facts["system"][row, : len(base)] == pytest.approx(np.array(by_hand))
        assert np.isnan(samples.facts["system"][row, len(base) :]).all()


def test_ten_patch_draws_are_one_orbit_under_other_masks(reader):
    samples = instances(reader, range(7, 250, 25))
    assert len({image.tobytes() for image in samples.image_BHWC}) == 10
    assert len({system.tobytes() for system in samples.facts["system"]}) == 1
    base = reader.system(1)
    system = base * ifs.fractaldb_weights(0.4)[7]
    covered = picture(system, ifs.probabilities(base), 5_000, 32, 6, [511] * 5_000) > 0
    assert not samples.image_BHWC[:, ~covered].any()
    assert (samples.image_BHWC[:, covered] > 0).mean() == pytest.approx(256 / 511, abs=0.05)


def test_the_last_three_quarters_are_flips_of_the_first(reader):
    plain, down, right, both = (instances(reader, [number]).image_BHWC[0] for number in (33, 283, 533, 783))
    assert (down == plain[::-1]).all()
    assert (right == plain[:, ::-1]).all()
    assert (both == plain[::-1, ::-1]).all()
    assert (plain != plain[::-1]).any()
    assert (plain != plain[:, ::-1]).any()


def test_a_category_has_a_thousand_instances_and_every_prefix_is_balanced():
    assert SMALL.available() == 3_000
    every = [SMALL.instance(index) for index in range(3_000)]
    assert len(set(every)) == 3_000
    assert [category for category, *_ in every[:7]] == [0, 1, 2, 0, 1, 2, 0]
    assert {field: max(column) + 1 for field, column in zip("crpf", zip(*every, strict=True), strict=True)} == {
        "c": 3,
        "r": 25,
        "p": 10,
        "f": 4,
    }


def test_labels_are_categories(reader):
    assert reader(np.array([0, 4, 2_999, 3])).label_B.tolist() == [0, 1, 2, 0]
    assert [SMALL.classes(images) for images in (1, 2, 3, 1_000)] == [1, 2, 3, 3]


def test_ofdb_is_one_image_a_category():
    source = OFDB(categories=4, points=5_000, size_px=32)
    assert source.available() == 4
    assert [source.classes(images) for images in (1, 4)] == [1, 4]
    samples = source.open(0)(np.arange(4))
    assert samples.label_B.tolist() == [0, 1, 2, 3]
    first = FractalDB(categories=4, points=5_000, size_px=32).open(0)(np.arange(4))
    assert (samples.image_BHWC == first.image_BHWC).all()  # row 0, patch draw 0, no flip


def test_ofdb_multiplies_parameter_a_as_released_unless_told_otherwise():
    released = OFDB(categories=1, points=5_000, size_px=32).open(0)
    base = released.system(0)
    drifted = released(np.array([0])).facts["system"][0, : len(base)]
    assert drifted[:, 0] == pytest.approx(0.2 * base[:, 0])
    assert (drifted[:, 1:] == base[:, 1:]).all()
    own = OFDB(categories=1, points=5_000, size_px=32, weight_row=2).open(0)(np.array([0]))
    assert (own.facts["system"][0, : len(base)] == base).all()


def test_a_weighted_system_that_diverges_gives_way_to_the_categorys_own():
    category, row = DIVERGING
    source = FractalDB(categories=category + 1, points=20_000, size_px=32)
    reader = source.open(1)
    samples = reader(np.array([category + number * (category + 1) for number in (row, 2)]))
    base = reader.system(category)
    canvas = chaos.Canvas(size_px=32, points=20_000, pad_px=6, stamp="fill", colour=False)
    assert not canvas.draw(base * ifs.fractaldb_weights(0.4)[row], ifs.probabilities(base), 0, 0).any()
    assert samples.facts["weight_row"].tolist() == [2, 2]
    assert (samples.facts["system"][0, : len(base)] == base).all()
    assert samples.label_B.tolist() == [category, category]
    assert samples.image_BHWC.any(axis=(1, 2, 3)).all()
    assert (samples.image_BHWC[0] != samples.image_BHWC[1]).any()  # its masks stay its own


@pytest.mark.parametrize(("draw", "channels"), [("point_gray", 1), ("patch_colour", 3), ("point_colour", 3)])
def test_other_ways_to_draw_have_their_colours(draw, channels):
    source = SMALL.replace({"draw": draw, "renderer": "exact"})
    assert source.shape == (32, 32, channels)
    image = source.open(0)(np.array([0])).image_BHWC[0]
    colours = {tuple(colour) for colour in image.reshape(-1, channels).tolist()} - {(0,) * channels}
    allowed = {(127,)} if channels == 1 else {tuple(colour) for colour in chaos.palette().tolist()}
    assert colours
    assert colours <= allowed


def test_a_category_that_no_candidate_fills_is_refused_and_named(monkeypatch):
    monkeypatch.setattr(fractaldb, "CANDIDATES", 3)
    reader = SMALL.model_copy(update={"search_min_fill": 0.99}).open(0)
    with pytest.raises(RenderError, match=r"^fractaldb: none of 3 candidates of category 1 fills 0\.99$"):
        reader(np.array([1]))
