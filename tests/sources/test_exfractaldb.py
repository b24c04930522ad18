"""ExFractalDB and 3D-OFDB against the released algorithm in plain Python, and the rules of their instances."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scaleback.core import seeds
from scaleback.core.errors import RenderError, SpecError
from scaleback.sources import exfractaldb
from scaleback.sources.exfractaldb import OFDB3D, ExFractalDB, probabilities, weights
from scaleback.sources.kernels import chaos_3d

CATEGORIES = 3
SMALL = ExFractalDB(categories=CATEGORIES, points=1_000, size_px=48)
DIVERGING = 108
"""The weight row, parameter i x 1.6, under which category 0 of seed 1 leaves the range of numbers."""
EARLY = 6
"""A category of seed 0 that is found after few candidates."""


@pytest.fixture(scope="module")
def reader():
    return SMALL.open(0)


def visited(system, chances, draws):
    """Points after the origin, one by one; plain floats overflow without a warning."""
    thresholds = np.cumsum(chances)
    point = [0.0, 0.0, 0.0]
    points = []
    for draw in draws:
        j = 0
        while j < len(thresholds) - 1 and draw > thresholds[j]:
            j += 1
        numbers = [float(number) for number in system[j]]
        matrix, shift = [numbers[0:3], numbers[3:6], numbers[6:9]], numbers[9:]
        point = [sum(m * p for m, p in zip(row, point, strict=True)) + s for row, s in zip(matrix, shift, strict=True)]
        points.append(point)
    return points


def normalised(points):
    low, high = min(map(min, points)), max(map(max, points))
    stretched = [[(number - low) / (high - low) * 2 - 1 for number in point] for point in points]
    centre = [sum(column) / len(points) for column in zip(*stretched, strict=True)]
    return np.array([[number - mean for number, mean in zip(point, centre, strict=True)] for point in stretched])


def window(points, degrees, size):
    """(column, row, depth) by OpenGL's matrices: a camera 4 from the origin, looking at it, 45 degrees wide."""
    turn = math.radians(degrees)
    around_y = np.array([[math.cos(turn), 0, math.sin(turn)], [0, 1, 0], [-math.sin(turn), 0, math.cos(turn)]])
    forward = around_y @ np.array([1.0, 0, 0])
    right = np.cross(forward, [0, 1, 0])
    look_at = np.eye(4)
    look_at[:3, :3] = right, np.cross(right, forward), -forward
    look_at[:3, 3] = look_at[:3, :3] @ (4 * forward)
    perspective = np.zeros((4, 4))
    perspective[0, 0] = perspective[1, 1] = 1 / math.tan(math.radians(45) / 2)
    perspective[3, 2] = -1
    for point in points:
        x, y, _, w = perspective @ look_at @ [*point, 1.0]
        yield (x / w + 1) / 2 * size, (y / w + 1) / 2 * size, w


def seen(points, degrees, size):
    image = np.zeros((size, size), np.uint8)
    for column, row, depth in window(points, degrees, size):
        if depth >= 1 and 0 <= column < size and 0 <= row < size:
            image[math.floor(row), math.floor(column)] = 255
    return image


def draws(seed, category, points):
    return seeds.generator("exfractaldb orbit", seed, category).random(points)


def determinants(system):
    sizes = [abs(np.linalg.det(numbers[:9].reshape(3, 3))) for numbers in system]
    return np.array(sizes) / sum(sizes)


def instances(reader, numbers, category=1):
    return reader(np.array([number * CATEGORIES + category for number in numbers]))


def test_images_are_what_the_algorithm_draws_point_by_point(reader):
    samples, base = instances(reader, (0, 6, 20, 144, 500)), reader.system(1)
    for number in range(5):
        system = samples.facts["system"][number, : len(base)]
        cloud = normalised(visited(system, determinants(base), draws(0, 1, 1_000)))
        expected = seen(cloud, samples.facts["angle_deg"][number], 48)
        assert expected.any()
        assert (samples.image_BHWC[number, :, :, 0] == expected).all()


@given(
    points=st.lists(st.tuples(*3 * [st.floats(-2.7, 2.7)]), min_size=1, max_size=8),
    degrees=st.floats(-400, 400),
    size=st.integers(16, 70),
)
@example(points=[(-2.99, 0.1, 0.1), (-3.01, -0.1, 0.1)], degrees=0.0, size=32)  # just beyond and before the near plane
@settings(max_examples=150, deadline=None)
def test_the_camera_is_opengls_wherever_points_lie(points, degrees, size):
    bits = np.zeros((2, size, -(-size // 8)), np.uint8)
    turn = math.radians(degrees)
    chaos_3d.scatter(
        np.array(points).T.copy(), np.array([math.cos(turn)]), np.array([math.sin(turn)]), np.array([1]),
        exfractaldb.CAMERA_DISTANCE, exfractaldb.CAMERA_NEAR, exfractaldb.CAMERA_FOCAL, bits,
    )  # fmt: skip
    drawn = np.unpackbits(bits, axis=2, bitorder="little")
    # A point on the edge of a pixel may fall to either side of it.
    must, may = set(), set()
    for column, row, depth in window(points, degrees, size):
        around = {(math.floor(row + e), math.floor(column + f)) for e in (-1e-9, 1e-9) for f in (-1e-9, 1e-9)}
        inside = {place for place in around if min(place) >= 0 and max(place) < size and depth > 1 - 1e-9}
        may |= inside
        must |= inside if len(around) == 1 and depth > 1 + 1e-9 else set()
    assert must <= set(zip(*np.nonzero(drawn[1]), strict=True)) <= may
    assert not drawn[0].any()


@given(seed=st.integers(0, 2**31), maps=st.integers(1, 7))
@settings(max_examples=50, deadline=None)
def test_points_are_centred_and_keep_their_proportions(seed, maps):
    rng = np.random.default_rng(seed)
    system = rng.uniform(-0.33, 0.33, (maps, 12))  # no row of a matrix sums to one, so every map contracts
    uniform = rng.random(300)
    cloud = chaos_3d.cloud(system, chaos_3d.choices(probabilities(system), uniform))
    raw = np.array(visited(system, determinants(system), uniform))
    assert cloud.shape == (3, 300)
    np.testing.assert_allclose(cloud.T, normalised(raw.tolist()), atol=1e-9)
    assert abs(cloud.mean(axis=1)).max() < 1e-12
    span = np.ptp(raw, axis=0).max() / (raw.max() - raw.min())
    assert np.ptp(cloud, axis=1).max() == pytest.approx(2 * span, rel=1e-9)
    assert chaos_3d.least_variance(cloud) == pytest.approx(cloud.var(axis=1).min(), rel=1e-9)


def test_what_has_no_extent_or_no_number_is_no_cloud():
    choice = np.zeros(2_000, np.uint8)
    still = np.zeros((1, 12))
    assert chaos_3d.cloud(still, choice) is None
    still[0, 9:] = 0.5  # one point, and all its coordinates are one number
    assert chaos_3d.cloud(still, choice) is None
    growing = np.array([[2.0, 0, 0, 0, 2, 0, 0, 0, 2, 1, 1, -1]])
    assert chaos_3d.cloud(growing, choice) is None
    assert chaos_3d.cloud(growing, choice[:1_000]) is not None
    wide = np.array([[1.2, 0, 0, 0, 1.2, 0, 0, 0, 1.2, 1e308, 0, -1e308]])  # finite, but not from end to end
    assert chaos_3d.cloud(wide, choice[:1]) is None


def test_an_accepted_category_varies_along_every_axis(reader):
    for category in range(CATEGORIES):
        system = reader.system(category)
        cloud = normalised(visited(system, determinants(system), draws(0, category, 10_000)))
        assert cloud.var(axis=0).min() > 0.05
        assert 2 <= len(system) <= 7
        assert abs(system).max() <= 1


def test_a_category_is_the_first_candidate_that_spreads_out_enough(reader):
    rng, steps = seeds.generator("exfractaldb category", 0, EARLY), draws(0, EARLY, 10_000)
    candidates = [exfractaldb.uniform_system(rng) for _ in range(15)]
    place = next(n for n, candidate in enumerate(candidates) if np.array_equal(candidate, reader.system(EARLY)))
    assert place > 5
    for candidate in candidates[:place]:
        points = np.array(visited(candidate, determinants(candidate), steps))
        with np.errstate(all="ignore"):
            stretched = (points - points.min()) / (points.max() - points.min()) * 2 - 1
            assert not stretched.var(axis=0).min() > 0.05


def test_a_category_depends_on_no_other(reader):
    backwards = SMALL.open(0)
    found = [backwards.system(category) for category in (2, 1, 0)][::-1]
    assert all((reader.system(category) == system).all() for category, system in enumerate(found))
    assert len({system.tobytes() for system in found}) == 3
    assert not np.array_equal(SMALL.open(1).system(0), found[0])


def test_145_rows_multiply_one_parameter_of_every_map(reader):
    samples, base = instances(reader, range(145)), reader.system(1)
    factors = [0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6]
    expected = [(place, factor) for place in range(12) for factor in factors if place == 0 or factor != 1]
    assert len(expected) == 145 == len(weights())
    for row, (parameter, factor) in enumerate(expected):
        by_hand = [[x * factor if place == parameter else x for place, x in enumerate(numbers)] for numbers in base]
        assert samples.facts["weight_row"][row] == row
        assert (samples.facts["system"][row, : len(base)] == by_hand).all()
        assert np.isnan(samples.facts["system"][row, len(base) :]).all()
    assert (weights()[exfractaldb.IDENTITY_ROW] == 1).all()


def test_a_category_has_a_thousand_instances_and_every_prefix_is_balanced():
    assert SMALL.available() == 3_000
    every = [SMALL.instance(index, 0) for index in range(3_000)]
    assert len(set(every)) == 3_000
    assert [instance.category for instance in every[:7]] == [0, 1, 2, 0, 1, 2, 0]
    for instances_of_it in (every[category::3] for category in range(3)):
        for used, kinds in (([i.weight_row for i in instances_of_it], 145), ([i.view for i in instances_of_it], 12)):
            counts = np.bincount(used, minlength=kinds)
            assert len(counts) == kinds
            assert counts.max() - counts.min() <= 1


def test_labels_are_categories(reader):
    assert reader(np.array([0, 4, 2_999, 3])).label_B.tolist() == [0, 1, 2, 0]
    assert [SMALL.classes(images) for images in (1, 2, 3, 1_000)] == [1, 2, 3, 3]


def test_views_are_30_degrees_apart_and_each_image_turns_its_own_a_little():
    samples = ExFractalDB(categories=1, points=100, size_px=16).open(2)(np.arange(1_000))
    turn = samples.facts["angle_deg"] - 30 - 30 * samples.facts["view"]
    assert abs(turn).max() <= math.pi
    assert len(np.unique(turn)) == 1_000
    assert np.sort(turn) == pytest.approx(np.linspace(-math.pi, math.pi, 1_000), abs=0.3)  # Kolmogorov: 4.8 %
    still = ExFractalDB(categories=1, points=100, size_px=16, view_jitter_deg=0).open(2)(np.arange(12))
    assert still.facts["angle_deg"].tolist() == [30.0 + 30 * view for view in range(12)]


def test_an_orbit_is_computed_once_for_all_its_views(reader, monkeypatch):
    computed = []
    cloud = chaos_3d.cloud
    monkeypatch.setattr(chaos_3d, "cloud", lambda system, choice: computed.append(system) or cloud(system, choice))
    numbers = [10 + 145 * view for view in range(6)]
    together = instances(reader, [*numbers, 11])
    assert len(computed) == 2
    assert set(together.facts["weight_row"]) == {10, 11}
    for place, number in enumerate(numbers):
        assert (instances(reader, [number]).image_BHWC[0] == together.image_BHWC[place]).all()
    assert len({image.tobytes() for image in together.image_BHWC}) == 7


def test_a_weighted_system_that_diverges_gives_way_to_the_categorys_own():
    reader, number = ExFractalDB(categories=1, size_px=32).open(1), 145 + DIVERGING
    base = reader.system(0)
    choice = chaos_3d.choices(probabilities(base), draws(1, 0, 10_000))
    assert chaos_3d.cloud(base * weights()[DIVERGING], choice) is None
    samples = reader(np.array([number, number + 1]))
    assert samples.facts["weight_row"].tolist() == [exfractaldb.IDENTITY_ROW, DIVERGING + 1]
    assert samples.facts["view"].tolist() == [number % 12, (number + 1) % 12]
    assert (samples.facts["system"][0, : len(base)] == base).all()
    own = seen(chaos_3d.cloud(base, choice).T, samples.facts["angle_deg"][0], 32)
    assert (samples.image_BHWC[0, :, :, 0] == own).all()
    assert samples.image_BHWC.any(axis=(1, 2, 3)).all()


def test_a_category_that_cannot_be_drawn_at_all_is_refused_and_named(monkeypatch):
    reader, growing = SMALL.open(0), [5.0, 0, 0, 0, 5, 0, 0, 0, 5, 1, 1, 1]
    monkeypatch.setattr(reader, "system", lambda category: np.array([growing, growing]))
    with pytest.raises(RenderError, match=r"^exfractaldb: category 2 shows no point when seen from \d+\.\d degrees$"):
        reader(np.array([2]))


def test_a_category_that_no_candidate_meets_is_refused_and_named(monkeypatch):
    monkeypatch.setattr(exfractaldb, "CANDIDATES", 3)
    reader = SMALL.model_copy(update={"search_min_variance": 0.99}).open(0)
    line = r"^exfractaldb: none of 3 candidates of category 1 has a variance above 0\.99 along every axis$"
    with pytest.raises(RenderError, match=line):
        reader(np.array([1]))


def test_3d_ofdb_is_one_image_a_category():
    source = OFDB3D(categories=4, points=1_000, size_px=32)
    assert source.available() == 4
    assert [source.classes(images) for images in (1, 4)] == [1, 4]
    samples = source.open(0)(np.arange(4))
    assert samples.label_B.tolist() == [0, 1, 2, 3]
    base = source.open(0).system(0)
    drifted = samples.facts["system"][0, : len(base)]
    assert (drifted[:, 0] == 0.4 * base[:, 0]).all()
    assert (drifted[:, 1:] == base[:, 1:]).all()
    own = source.model_copy(update={"weight_row": 6}).open(0)(np.array([0]))
    assert (own.facts["system"][0, : len(base)] == base).all()


def test_3d_ofdb_is_the_view_of_exfractaldb_with_its_row_and_view():
    fixed = OFDB3D(categories=4, points=1_000, size_px=32, weight_row=17, view=5).open(0)(np.arange(4))
    assert fixed.facts["view"].tolist() == [5, 5, 5, 5]
    whole = ExFractalDB(categories=4, points=1_000, size_px=32).open(0)(4 * 17 + np.arange(4))
    assert whole.facts["view"].tolist() == [17 % 12] * 4
    assert (fixed.image_BHWC == whole.image_BHWC).all()


def test_3d_ofdb_draws_a_view_for_each_category():
    source = OFDB3D()
    drawn = [[source.instance(index, seed).view for index in range(1_200)] for seed in (0, 1)]
    assert drawn[0] != drawn[1]
    for views in drawn:
        counts = np.bincount(views, minlength=12)
        assert ((counts - 100) ** 2 / 100).sum() < 31.3  # chi-squared of 11 degrees of freedom: 0.1 %
    assert source.open(0)(np.array([7])).facts["view"][0] == drawn[0][7]


@pytest.mark.parametrize(
    ("kind", "plain", "line"),
    [
        (ExFractalDB, {"points": 10}, "points: must be greater than or equal to 100; got 10"),
        (ExFractalDB, {"search_min_variance": 1.0}, "search_min_variance: must be less than 1; got 1.0"),
        (ExFractalDB, {"view_jitter_deg": 181.0}, "view_jitter_deg: must be less than or equal to 180; got 181.0"),
        (OFDB3D, {"weight_row": 145}, "weight_row: must be less than 145; got 145"),
        (OFDB3D, {"view": 12}, "view: must be less than 12; got 12"),
    ],
)
def test_what_cannot_be_drawn_is_refused(kind, plain, line):
    with pytest.raises(SpecError) as caught:
        kind.parse(plain)
    assert str(caught.value) == line
