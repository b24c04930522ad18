"""RCDB: pictures against plain Python, what a category fixes, the laws of its parameters."""

import numpy as np
import pytest

from scaleback.core import seeds
from scaleback.core.errors import RenderError, SpecError
from scaleback.sources.rcdb import RCDB, exponential
from tests.sources.reference_contours import UNIT, picture

SMALL = RCDB(categories=3, instances=4, lines=(1, 12), size_px=48)


def by_hand(source, seed, index, facts):
    """The picture of an image from its facts."""
    instance, category = divmod(index, source.categories)
    noise = round(facts["noise"] * UNIT)
    return picture(
        source.size_px,
        int(facts["vertices"]),
        int(facts["lines"]),
        [facts["radius"] * oval for oval in facts["oval"]],
        facts["centre"],
        [round(facts["spacing"] * UNIT) + noise] * int(facts["vertices"]),
        2 * noise,
        seeds.key("rcdb lines", seed),
        category * 2**32 + instance,
        255 if source.ground == "white" else 0,
    )


@pytest.mark.parametrize("ground", ["white", "black"])
@pytest.mark.parametrize("size", [16, 48, 67])
def test_pictures_are_those_of_the_reference(ground, size):
    source = SMALL.model_copy(update={"ground": ground, "size_px": size})
    indices = np.array([0, 1, 5, 11])
    samples = source.open(2)(indices)
    for number, index in enumerate(indices):
        facts = {name: value[number] for name, value in samples.facts.items()}
        assert samples.image_BHWC[number, :, :, 0].tolist() == by_hand(source, 2, int(index), facts)


def test_a_category_fixes_four_parameters_and_instances_vary_the_rest():
    facts = SMALL.open(0)(np.arange(12)).facts
    for name in ("vertices", "lines", "noise", "spacing"):
        value = facts[name].reshape(4, 3)
        assert (value == value[0]).all()
        assert len(set(value[0].tolist())) == 3
    for name in ("radius", "oval", "centre"):
        assert len(np.unique(facts[name].reshape(12, -1), axis=0)) > 10


def test_a_category_is_the_same_among_more_categories_and_instances():
    more = SMALL.model_copy(update={"categories": 50, "instances": 9})
    few, many = SMALL.open(0)(np.array([2 + 3 * 1])), more.open(0)(np.array([2 + 50 * 1]))
    assert few.label_B.tolist() == many.label_B.tolist() == [2]
    assert (few.image_BHWC == many.image_BHWC).all()
    assert (SMALL.open(1)(np.array([5])).image_BHWC != few.image_BHWC).any()


def test_labels_are_categories_and_prefixes_are_balanced():
    assert SMALL.open(0)(np.arange(7)).label_B.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert SMALL.available() == 12
    assert [SMALL.classes(images) for images in (1, 3, 12)] == [1, 3, 3]


def test_parameters_fill_the_published_ranges():
    source = RCDB()
    rng = np.random.default_rng(0)
    drawn = source.parameters(rng.random((20_000, 10)), rng.random((20_000, 10)))
    for name, low, high in (
        ("vertices", 3, 200),
        ("lines", 1, 200),
        ("noise", 0, 4),
        ("spacing", 0, 0.1),
        ("radius", 0, 100),
        ("oval", 1, 2),
        ("centre", 56, 456),
    ):
        value = drawn[name]
        assert low <= value.min() <= low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) <= value.max() <= high
        if name != "vertices":
            assert value.mean() == pytest.approx((low + high) / 2, abs=0.01 * (high - low))
    # Pairs are drawn apart.
    assert abs(np.corrcoef(drawn["oval"].T)[0, 1]) < 0.03


def test_vertices_are_a_truncated_exponential_rounded_down():
    count = 200_000
    made = exponential((np.arange(count) + 0.5) / count, (3, 200))
    kept = np.floor(np.random.default_rng(0).exponential(100, count)).astype(int)
    kept = kept[(kept >= 3) & (kept <= 200)]
    for bound in (3, 10, 40, 100, 180, 199):
        assert (made <= bound).mean() == pytest.approx((kept <= bound).mean(), abs=0.005)
    assert exponential(np.array([0.0, 1 - 2**-53]), (3, 200)).tolist() == [3, 200]
    assert exponential(np.array([0.0, 0.999]), (5, 5)).tolist() == [5, 5]


def test_grays_are_uniform_and_never_the_ground():
    lines = RCDB(categories=400, vertices=(40, 40), lines=(1, 1), radius=(80, 80), size_px=16)
    for ground, level in (("white", 255), ("black", 0)):
        images = lines.model_copy(update={"ground": ground}).open(0)(np.arange(400)).image_BHWC
        grays = np.array([np.unique(image[image != level]) for image in images])
        assert grays.shape == (400, 1)
        assert abs(grays.mean() - abs(level - 128)) < 15
        assert grays.std() == pytest.approx(255 / 12**0.5, rel=0.1)


def test_one_triangle_without_noise_is_a_triangle():
    source = RCDB(
        vertices=(3, 3),
        lines=(1, 1),
        noise=(0, 0),
        spacing=(0, 0),
        radius=(100, 100),
        oval=(1, 1),
        shift=0,
        size_px=512,
    )
    row, column = np.nonzero(source.open(0)(np.array([0])).image_BHWC[0, :, :, 0] < 255)
    assert (column.max(), column.min()) == (356, 206)  # 256 + 100 and 256 - 50
    assert row[column == 206].min() == pytest.approx(256 - 86.6, abs=1)
    assert row[column == 206].max() == pytest.approx(256 + 86.6, abs=1)


def test_lines_beside_the_canvas_are_an_error_that_says_so():
    source = RCDB(lines=(1, 1), radius=(512, 512), oval=(4, 4), shift=0)
    with pytest.raises(
        RenderError, match=r"^rcdb: image 3 of seed 0 is blank; its lines from radius 512 on lie beside"
    ):
        source.open(0)(np.array([3]))


@pytest.mark.parametrize(
    ("plain", "line"),
    [
        ({"vertices": [2, 9]}, "vertices: must lie within 3 to 2000, the lower first; got (2, 9)"),
        ({"lines": [9, 2]}, "lines: must lie within 1 to 1000, the lower first; got (9, 2)"),
        ({"noise": [0.0, 9.0]}, "noise: must lie within 0 to 8, the lower first; got (0.0, 9.0)"),
        ({"oval": [0.5, 1.0]}, "oval: must lie within 1 to 4, the lower first; got (0.5, 1.0)"),
        ({"shift": -1.0}, "shift: must lie within 0 to 256, the lower first; got -1.0"),
        ({"size_px": 8}, "size_px: must be greater than or equal to 16; got 8"),
    ],
)
def test_what_cannot_be_drawn_is_refused(plain, line):
    with pytest.raises(SpecError) as caught:
        RCDB.parse(plain)
    assert str(caught.value) == line


def test_the_largest_numbers_overflow_nowhere():
    span = {name: (most, most) for name, (_, most) in RCDB.LIMITS.items() if name != "shift"}
    largest = {**span, "vertices": (50, 50), "radius": (0, 0)}
    source = RCDB(categories=1, instances=1, size_px=4_096, **largest)
    image = source.open(0)(np.array([0])).image_BHWC[0, :, :, 0]
    facts = {name: value[0] for name, value in source.open(0)(np.array([0])).facts.items()}
    growth = 2 * 8 * UNIT
    assert 2_000 * UNIT**2 * 4_096 + 1_000 * (growth + 2 * 8 * UNIT) * UNIT * 4_096 < 2**63
    assert facts["lines"] == 1_000
    assert (image < 255).any()
