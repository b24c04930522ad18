"""Fractals on a background against a slow second implementation, and against the laws they are drawn from."""

import colorsys
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaleback.core import seeds
from scaleback.core.errors import RenderError, SpecError
from scaleback.sources import fractal_scenes, ifs
from scaleback.sources.base import UNLABELLED
from scaleback.sources.fractal_colours import ground_palette
from scaleback.sources.fractal_scenes import MultiClassFractals, MultiInstanceFractals, blur_weight
from scaleback.sources.jitter import jittered, singular_values
from scaleback.sources.kernels import fractal_paint

SIZE = 24
ONE = MultiClassFractals(categories=5, points=1_003, size_px=SIZE, background="none", blur=0.0)
MANY = MultiInstanceFractals(categories=5, points=1_003, size_px=SIZE, sizes=(0.3, 0.9), background="none", blur=0.0)
SEED = 6


def drawn(source, count=12, seed=SEED):
    return source.open(seed)(np.arange(count))


def orbit(system, words):
    """Eight orbits side by side, all from the fixed point of the first map."""
    chances = [abs(a * d - b * c) for a, b, c, d, _, _ in system]
    bounds = np.cumsum(chances) / sum(chances)
    a, b, c, d, e, f = system[0]
    start = np.linalg.solve([[1 - a, -b], [-c, 1 - d]], [e, f])
    at, points = [start] * 8, []
    for t, word in enumerate(words):
        points.append(at[t % 8])
        m = next((j for j in range(len(system) - 1) if word / 2**32 < bounds[j]), len(system) - 1)
        x, y = points[-1]
        a, b, c, d, e, f = system[m]
        at[t % 8] = (a * x + b * y + e, c * x + d * y + f)
    return points


def visits(points, window, side, stencil):
    left, top, width, height = window
    count = np.zeros((side, side), int)
    for x, y in points:
        row, column = (x - left) * (side - 1) / width, (y - top) * (side - 1) / height
        if not (0 <= row <= side - 1 and 0 <= column <= side - 1):
            continue
        for cell in range(9):
            at = int(row) + cell // 3 - 1, int(column) + cell % 3 - 1
            if stencil >> cell & 1 and min(at) >= 0 and max(at) < side:
                count[at] += 1
    return count


def picture(spec, seed, index, facts):
    """An image without background or blur, painted from the back, and how many pixels of each fractal are left."""
    channels = spec.shape[2]
    image, owner = np.zeros((*spec.shape[:2], 3)), np.full(spec.shape[:2], -1)
    number = np.sum(np.isfinite(facts["category"]))
    for slot in reversed(range(number)):
        row = {name: value[slot] for name, value in facts.items() if name not in ("background", "blur_px")}
        system = row["system"][np.isfinite(row["system"][:, 0])].tolist()
        words = seeds.words(seeds.key("fractal orbit", seed, slot), [index], spec.points)[0].tolist()
        top, left, side = row["place"].astype(int)
        count = visits(orbit(system, words), row["window"], side, int(row["stencil"]))
        most = max(1, count.max())
        if int(row["turn"]) & 1:
            count = count.T
        count = count[:: -1 if int(row["turn"]) & 2 else 1, :: -1 if int(row["turn"]) & 4 else 1]
        hue, saturation, value = row["colour"]
        for y, x in np.argwhere(count):
            if 0 <= y + top < spec.size_px and 0 <= x + left < spec.size_px:
                level = math.ceil(255 * count[y, x] / most)
                colour = colorsys.hsv_to_rgb((level + 255 * hue) % 256 / 256, saturation, value)
                image[y + top, x + left] = [255 * part for part in colour] if channels == 3 else level
                owner[y + top, x + left] = slot
    return np.rint(image[..., :channels]), [int((owner == slot).sum()) for slot in range(number)]


def row_of(samples, index):
    """The facts of one image, each with a row for every fractal."""
    single = samples.label_B.ndim == 1
    alone = ("background", "blur_px")
    return {
        name: value[index][None] if single and name not in alone else value[index]
        for name, value in samples.facts.items()
    }


@pytest.mark.parametrize("changes", [{}, {"draw": "point"}, {"colour": "gray"}, {"jitter": "svd"}])
@pytest.mark.parametrize("source", [ONE, MANY], ids=["one", "many"])
def test_images_agree_with_a_slow_painter(source, changes):
    source = source.replace(changes)
    samples = drawn(source, 6)
    for index in range(6):
        facts = row_of(samples, index)
        expected, pixels = picture(source, SEED, index, facts)
        # A point on the edge of a pixel may fall to either side by rounding, and move the most visits by one.
        same = (abs(samples.image_BHWC[index] - expected) <= 1).all(axis=2)
        assert same.mean() > 0.995
        assert facts["pixels"][: len(pixels)] == pytest.approx(pixels, abs=1)
        assert sum(pixels) > 0


def test_windows_are_boxes_zoomed_and_shifted():
    samples = drawn(ONE, 150)
    zooms, shifts = [], []
    for index in range(150):
        system = row_of(samples, index)["system"][0]
        words = seeds.words(seeds.key("fractal orbit", SEED, 0), [index], ONE.points)[0].tolist()
        points = np.array(orbit(system[np.isfinite(system[:, 0])].tolist(), words))
        low, high = points.min(axis=0), points.max(axis=0)
        left_top, width = samples.facts["window"][index].reshape(2, 2)
        zooms.append(width / (high - low))
        shifts.append((left_top + width / 2 - (low + high) / 2) / (high - low))
    for values, bounds in ((zooms, (0.5, 2)), (shifts, (-0.2, 0.2))):
        middle, wide = sum(bounds) / 2, bounds[1] - bounds[0]
        assert (abs(np.array(values) - middle) <= wide / 2 + 1e-9).all()
        assert np.mean(values) == pytest.approx(middle, abs=0.08 * wide)
        assert np.std(values) == pytest.approx(wide / math.sqrt(12), rel=0.12)


def test_every_turn_and_stencil_comes_up_and_no_stencil_is_empty():
    facts = drawn(ONE, 800).facts
    assert np.bincount(facts["turn"].astype(int), minlength=8) == pytest.approx(np.full(8, 100), abs=45)
    assert facts["stencil"].min() >= 1
    assert facts["stencil"].max() <= 511
    assert len(set(facts["stencil"])) == pytest.approx(511 * (1 - math.exp(-800 / 511)), abs=20)
    cells = facts["stencil"].astype(int)[:, None] >> np.arange(9) & 1
    assert cells.mean(axis=0) == pytest.approx(np.full(9, 256 / 511), abs=0.05)
    colour = facts["colour"]
    assert (colour.min(axis=0) >= [0, 0.3, 0.5]).all()
    assert (colour.max(axis=0) <= 1).all()
    assert colour.mean(axis=0) == pytest.approx([0.5, 0.65, 0.75], abs=0.04)


def test_systems_have_the_papers_sigma():
    samples = drawn(MultiClassFractals(jitter="none", points=1_000, size_px=16, blur=0.0), 400)
    maps = np.isfinite(samples.facts["system"][:, :, 0]).sum(axis=1)
    assert np.bincount(maps)[2:] == pytest.approx(np.full(3, 400 / 3), abs=40)
    for system, sigma, count in zip(samples.facts["system"], samples.facts["sigma"], maps, strict=True):
        values = singular_values(system[:count])
        assert (5 + count) / 2 <= sigma <= (6 + count) / 2
        assert values[:, 0].sum() + 2 * values[:, 1].sum() == pytest.approx(sigma)
        assert np.linalg.svd(system[:count, :4].reshape(-1, 2, 2), compute_uv=False) == pytest.approx(values, abs=1e-9)


@pytest.mark.parametrize("systems", [1, 3])
def test_a_class_is_as_many_systems_as_asked_for(systems):
    source = ONE.replace({"categories": 2, "systems_per_class": systems, "jitter": "none"})
    samples = drawn(source, 4 * systems)
    assert samples.label_B.tolist() == [index % 2 for index in range(4 * systems)]
    seen = {}
    for label, number, system in zip(samples.label_B, samples.facts["number"], samples.facts["system"], strict=True):
        seen.setdefault((int(label), int(number)), set()).add(system.tobytes())
    assert sorted(seen) == [(label, number) for label in (0, 1) for number in range(systems)]
    assert all(len(found) == 1 for found in seen.values())
    assert len(set.union(*seen.values())) == 2 * systems


def test_a_class_is_the_same_in_both_kinds_and_another_under_another_seed():
    one, many = ONE.open(1), MANY.open(1)
    assert (one.system(3, 0)[0] == many.system(3, 0)[0]).all()
    assert (one.system(3, 0)[0] != ONE.open(2).system(3, 0)[0][:1]).all()


def test_labels_are_the_classes_that_are_seen():
    source = MANY.replace({"categories": 50, "instances": [1, 12], "sizes": [0.5, 1.0], "systems_per_class": 2})
    samples = drawn(source, 120)
    category, pixels = samples.facts["category"], samples.facts["pixels"]
    assert (pixels == 0).sum() > 5  # some are hidden or outside
    for index, label in enumerate(samples.label_B):
        seen = sorted({int(one) for one, lit in zip(category[index], pixels[index], strict=True) if lit > 0})
        assert label.tolist() == seen + [UNLABELLED] * (12 - len(seen))
        assert index % 50 in seen
    assert samples.facts["number"][:, 0].tolist() == [index // 50 % 2 for index in range(120)]


def test_scenes_have_as_many_fractals_of_such_sizes_as_asked_for():
    source = MANY.replace({"categories": 7, "size_px": 100, "sizes": [0.15, 0.6], "points": 1_000})
    samples = drawn(source, 300)
    count = np.isfinite(samples.facts["category"]).sum(axis=1)
    assert np.bincount(count)[1:] == pytest.approx(np.full(5, 60), abs=30)
    top, left, side = (samples.facts["place"][..., part][np.isfinite(samples.facts["category"])] for part in range(3))
    assert side.min() >= 15
    assert side.max() <= 60
    assert side.mean() == pytest.approx(37.5, abs=1.5)
    for middle in (top + side // 2, left + side // 2):
        assert middle.min() >= 0
        assert middle.max() < 100
        assert middle.mean() == pytest.approx(49.5, abs=4)
    others = samples.facts["category"][:, 1:]
    assert np.bincount(others[np.isfinite(others)].astype(int)) / 600 == pytest.approx(np.full(7, 1 / 7), abs=0.06)
    alone = drawn(source.replace({"instances": [1, 1]}), 9)
    assert alone.label_B.tolist() == [index % 7 for index in range(9)]


def test_a_background_stands_where_no_fractal_is():
    for source in (ONE, MANY):
        bare, full = drawn(source), drawn(source.replace({"background": "diamond-square"}))
        lit = bare.image_BHWC.any(axis=3)
        assert 0.02 < lit.mean() < 0.9
        assert (full.image_BHWC[lit] == bare.image_BHWC[lit]).all()
        assert (full.image_BHWC[~lit].max(axis=1) > 0).mean() > 0.9
        assert np.isnan(bare.facts["background"]).all()
        decay, row, column, *scales_shifts = full.facts["background"].T
        assert decay.min() >= 0.4
        assert decay.max() <= 0.8
        assert {*row, *column} <= set(range(33 - SIZE + 1))
        assert (np.array(scales_shifts[:3]) >= 0.25).all()
        assert (abs(np.array(scales_shifts[4:]) - 0.5) <= 0.1).all()


@pytest.mark.parametrize("levels", [1, 2, 5])
def test_diamond_square_agrees_with_a_dictionary(levels):
    side, amplitude = 2**levels + 1, [0.5 * 0.6**k for k in range(levels)]
    noise = np.random.default_rng(levels).random((side, side))
    height = {(row, column): noise[row, column] for row in (0, side - 1) for column in (0, side - 1)}
    for k in range(levels):
        half = 2 ** (levels - k - 1)
        diagonal, straight = [(-1, -1), (-1, 1), (1, -1), (1, 1)], [(-1, 0), (1, 0), (0, -1), (0, 1)]
        for steps, odd in ((diagonal, 2), (straight, 1)):
            new = {}
            for row in range(0, side, half):
                for column in range(0, side, half):
                    if row // half % 2 + column // half % 2 == odd:
                        near = [height.get((row + half * down, column + half * right)) for down, right in steps]
                        near = [value for value in near if value is not None]
                        new[row, column] = sum(near) / len(near) + amplitude[k] * (2 * noise[row, column] - 1)
            height.update(new)
    made = noise.copy()
    fractal_paint.diamond_square(np.array(amplitude), made)
    assert made == pytest.approx(np.array([[height[row, column] for column in range(side)] for row in range(side)]))


def test_heights_have_the_colours_of_the_background():
    scale, shift = np.array([0.7, 0.9, 1.0]), np.array([0.8, 0.45, 0.55])
    height = np.random.default_rng(0).normal(size=(30, 20))
    image, bare = np.zeros((30, 20, 3), np.uint8), np.random.default_rng(1).random((30, 20)) < 0.8
    fractal_paint.fill(height, ground_palette(scale, shift), bare, image)
    for row in range(30):
        for column in range(20):
            level = round((height[row, column] - height.min()) / (height.max() - height.min()) * 255) / 255
            saturation, value = (min(1, max(0, scale[k] * (level - 0.5) + shift[k])) for k in (1, 2))
            colour = colorsys.hsv_to_rgb((scale[0] * level + shift[0]) % 1, saturation, value)
            expected = [round(255 * part) for part in colour] if bare[row, column] else [0, 0, 0]
            assert image[row, column].tolist() == pytest.approx(expected, abs=1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (9, 2), (20, 17)])
def test_a_blur_is_a_gaussian_with_repeated_borders(size, channels):
    image = np.random.default_rng(2).integers(0, 256, (*size, channels)).astype(np.uint8)
    weights = [math.exp(-(k**2) / (2 * 0.7**2)) for k in (-1, 0, 1)]
    padded = np.pad(image.astype(float), ((1, 1), (1, 1), (0, 0)), mode="edge")
    expected = np.zeros(image.shape)
    for down in range(3):
        for right in range(3):
            share = weights[down] * weights[right] / sum(weights) ** 2
            expected += share * padded[down : down + size[0], right : right + size[1]]
    blurred = image.copy()
    fractal_paint.blur(blurred, blur_weight(0.7, fractal_paint.BLUR_BITS))
    assert abs(blurred - expected).max() <= 1
    white = np.full((5, 5, 1), 255, np.uint8)
    fractal_paint.blur(white, blur_weight(1.0, fractal_paint.BLUR_BITS))
    assert (white == 255).all()


def test_half_of_all_images_are_blurred_and_only_they_differ():
    sharp, some = drawn(ONE, 200), drawn(ONE.replace({"blur": 0.5}), 200)
    blur = some.facts["blur_px"]
    blurred = np.isfinite(blur)
    assert blurred.mean() == pytest.approx(0.5, abs=0.12)
    assert (blur[blurred] >= 0.5).all()
    assert (blur[blurred] <= 1).all()
    assert ((sharp.image_BHWC != some.image_BHWC).any(axis=(1, 2, 3)) == blurred).all()


@pytest.mark.parametrize("jitter", ["scale", "fractaldb", "svd", "sval"])
def test_a_jitter_changes_what_it_says_and_leaves_a_contraction(jitter):
    rng, moved = np.random.default_rng(4), 0
    for _ in range(300):
        bounds = (4.0, 4.5)
        before = ifs.sigma_system(rng, maps=3, sigma=rng.uniform(*bounds))
        after = jittered(rng, before, jitter, bounds)
        values = singular_values(after)
        assert values[:, 0].max() <= 1 + 1e-8
        rows = (before != after).any(axis=1)
        moved += bool(rows.any())
        if jitter == "fractaldb":
            assert ((before != after).sum(axis=1) <= 1).all()
            steps = (after / before - 1) / 0.4
            assert steps == pytest.approx(np.rint(steps), abs=1e-9)
            assert abs(steps).max() < 2.1
            continue
        assert rows.sum() <= 1
        if not rows.any():
            continue
        old, new = before[rows][0], after[rows][0]
        if jitter == "scale":
            assert new / old == pytest.approx(np.full(6, new[0] / old[0]))
            assert 0.8 <= new[0] / old[0] <= 1.1
        elif jitter == "svd":
            assert singular_values(before) == pytest.approx(values, abs=1e-9)
            assert (old[:4] == new[:4]).all() != (old[4:] == new[4:]).all()
            assert abs(new[4:] - old[4:]).max() <= 0.5
            assert np.linalg.norm(new[:4] - old[:4]) <= 2 * math.sin(0.25) * np.linalg.norm(old[:4]) + 1e-9
        else:
            assert new[:4] / old[:4] == pytest.approx(np.full(4, new[0] / old[0]))
            assert (old[4:] == new[4:]).all()
            assert bounds[0] - 1e-9 <= values[:, 0].sum() + 2 * values[:, 1].sum() <= bounds[1] + 1e-9
    assert moved > 200


def test_a_jitter_is_drawn_four_times_and_then_left_out():
    rng = np.random.default_rng(5)
    full = ifs.sigma_system(rng, maps=2, sigma=6.0)  # every singular value is 1, so a factor in (1, 1.1) is too much
    kept = sum((jittered(rng, full, "scale", (6.0, 6.0)) == full).all() for _ in range(4_000))
    assert kept / 4_000 == pytest.approx((1 / 3) ** 4, abs=0.006)


@settings(max_examples=25, deadline=None)
@given(
    jitter=st.sampled_from(["none", "scale", "fractaldb", "svd", "sval"]),
    draw=st.sampled_from(["point", "patch"]),
    colour=st.sampled_from(["gray", "hsv"]),
    background=st.sampled_from(["none", "diamond-square"]),
    maps=st.sampled_from([(2, 2), (2, 8), (8, 8)]),
    sigma=st.sampled_from([(-1.9, -1.9), (5.0, 6.0), (10.0, 10.0)]),
    size_px=st.sampled_from([16, 17, 33]),
    kind=st.sampled_from([MultiClassFractals, MultiInstanceFractals]),
)
def test_anything_allowed_can_be_drawn(kind, **fields):
    fields["sizes"] = (0.3, 1.0)
    if kind is MultiClassFractals:
        del fields["sizes"]
    source = kind(categories=3, points=1_000, **fields)
    samples = drawn(source, 3)
    assert samples.image_BHWC.shape == (3, *source.shape)
    assert samples.image_BHWC.any(axis=(1, 2, 3)).all()


def test_a_fractal_that_is_never_seen_is_refused_and_named(monkeypatch):
    monkeypatch.setattr(fractal_scenes, "window", lambda *_: np.zeros(4))
    with pytest.raises(RenderError) as caught:
        ONE.open(2)(np.array([8]))
    assert str(caught.value) == "multi-class-fractals: image 8 of seed 2 shows nothing of class 3 in 64 draws"


@pytest.mark.parametrize(
    ("kind", "plain", "line"),
    [
        (MultiClassFractals, {"maps": [1, 4]}, "maps: must be a range within 2 to 8; got (1, 4)"),
        (MultiClassFractals, {"maps": [4, 3]}, "maps: must be a range within 2 to 8; got (4, 3)"),
        (
            MultiClassFractals,
            {"sigma": [5.0, 11.0]},
            "sigma: must be a range above -2, up to 10, for 2 maps; got (5.0, 11.0)",
        ),
        (
            MultiClassFractals,
            {"sigma": [-2.0, 3.0]},
            "sigma: must be a range above -2, up to 10, for 2 maps; got (-2.0, 3.0)",
        ),
        (MultiInstanceFractals, {"instances": [0, 2]}, "instances: must be a range within 1 to 64; got (0, 2)"),
        (MultiInstanceFractals, {"sizes": [0.5, 0.2]}, "sizes: must be a range above 0, up to 1; got (0.5, 0.2)"),
        (
            MultiInstanceFractals,
            {"size_px": 20},
            "sizes: must begin at 4 pixels or more; got 3.0",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused(kind, plain, line):
    with pytest.raises(SpecError) as caught:
        kind.parse(plain)
    assert str(caught.value) == line
