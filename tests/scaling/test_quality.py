"""Fidelity, variety, duplicates and copies against loops, known sets, and what must not change them."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaleback.core.errors import DataError
from scaleback.scaling import distances
from scaleback.scaling.quality import (
    copy_rate,
    duplicate_rate,
    nearest_real,
    prdc,
    quality,
    vendi,
    within_class_spread,
)

SETS = st.tuples(st.integers(0, 10_000), st.integers(8, 30), st.integers(8, 30), st.integers(1, 5))


def two_sets(seed, real, synthetic, width, shift=0.5):
    rng = np.random.default_rng(seed)
    return rng.normal(0, 1, (real, width)), rng.normal(shift, 1.2, (synthetic, width))


def turned(seed, width):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(width, width)))[0]


def radius(images, i, k):
    return sorted(math.dist(images[i], other) for j, other in enumerate(images) if j != i)[k - 1]


def overlap_by_hand(real, synthetic, k):
    """Precision, recall, density, coverage: loops over images and balls."""
    real_radii = [radius(real, i, k) for i in range(len(real))]
    made_radii = [radius(synthetic, j, k) for j in range(len(synthetic))]
    holds = [[math.dist(x, y) <= r for y in synthetic] for x, r in zip(real, real_radii, strict=True)]
    precise = [any(row[j] for row in holds) for j in range(len(synthetic))]
    recalled = [any(math.dist(x, y) <= r for y, r in zip(synthetic, made_radii, strict=True)) for x in real]
    dense = [sum(row[j] for row in holds) / k for j in range(len(synthetic))]
    covered = [any(row) for row in holds]
    return [sum(values) / len(values) for values in (precise, recalled, dense, covered)]


def numbers(found):
    return [found.precision, found.recall, found.density, found.coverage]


@given(sets=SETS, k=st.integers(1, 7), block=st.integers(1, 100))
@settings(deadline=None, max_examples=40)
def test_overlap_is_that_of_loops_over_balls(sets, k, block):
    real, synthetic = two_sets(*sets)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distances, "BLOCK_VALUES", block)
        found = prdc(real, synthetic, k)
    assert numbers(found) == pytest.approx(overlap_by_hand(real, synthetic, k))


@given(sets=SETS, turn=st.integers(0, 100))
@settings(deadline=None, max_examples=25)
def test_overlap_is_a_share_and_blind_to_rotation_shift_scale_and_order(sets, turn):
    real, synthetic = two_sets(*sets)
    found, rng = prdc(real, synthetic), np.random.default_rng(turn)
    assert all(0 <= share <= 1 for share in (found.precision, found.recall, found.coverage))
    assert 0 <= found.density <= len(real) / 5
    matrix = 3 * turned(turn, sets[3])
    moved = [rng.permutation(part) @ matrix + 7 for part in (real, synthetic)]
    assert numbers(prdc(*moved)) == pytest.approx(numbers(found))


@pytest.mark.parametrize("offset", [0, 1e4])
def test_a_copy_of_the_real_set_overlaps_wholly(offset):
    real = two_sets(0, 50, 50, 4)[0] + offset
    assert numbers(prdc(real, real[::-1])) == [1, 1, pytest.approx(1), 1]


def test_sets_far_apart_do_not_overlap():
    real, synthetic = two_sets(0, 50, 40, 4)
    assert numbers(prdc(real, synthetic + 1_000)) == [0, 0, 0, 0]


def test_one_mode_of_two_is_precise_and_covers_half():
    rng = np.random.default_rng(0)
    modes = np.repeat([[0.0, 0], [1_000, 0]], 200, axis=0)
    real, synthetic = modes + rng.normal(size=(400, 2)), rng.normal(size=(400, 2))
    found = prdc(real, synthetic)
    assert found.precision > 0.9
    assert found.recall == pytest.approx(0.5, abs=0.05)
    assert found.coverage == pytest.approx(0.5, abs=0.05)


def test_an_outlier_raises_precision_more_than_density():
    rng = np.random.default_rng(1)
    real, synthetic = rng.normal(0, 0.1, (60, 2)), rng.normal(50, 1, (60, 2))
    real[0] = [100, 100]  # its ball reaches back to the others and holds all in between
    found = prdc(real, synthetic)
    assert found.precision == 1
    assert found.density == pytest.approx(0.2)


def test_two_draws_of_one_law_have_density_one():
    found = prdc(*(np.random.default_rng(seed).normal(size=(2_000, 3)) for seed in (0, 1)))
    assert found.density == pytest.approx(1, abs=0.05)
    assert found.coverage == pytest.approx(1 - 0.5**5, abs=0.02)  # each of the nearest 5 is real or not by a coin


@pytest.mark.parametrize("groups", [1, 2, 5])
@pytest.mark.parametrize("width", [5, 60], ids=["by values", "by images"])
def test_the_vendi_score_of_orthogonal_groups_is_their_number(groups, width):
    images = np.repeat(np.eye(width)[:groups], 8, axis=0) * np.linspace(1, 9, 8 * groups)[:, None]
    assert vendi(images) == pytest.approx(groups)


@given(sets=SETS, turn=st.integers(0, 100))
@settings(deadline=None, max_examples=30)
def test_the_vendi_score_is_that_of_the_kernel_of_images(sets, turn):
    images = two_sets(*sets)[1]
    kernel = [[x @ y / math.sqrt((x @ x) * (y @ y)) / len(images) for y in images] for x in images]
    values = [value for value in np.linalg.eigvals(np.array(kernel)).real if value > 1e-12]
    found = vendi(images)
    assert found == pytest.approx(math.exp(-sum(value * math.log(value) for value in values)), rel=1e-6)
    assert 1 - 1e-9 <= found <= min(images.shape) + 1e-9
    order = np.random.default_rng(turn).permutation(len(images))
    assert vendi(images[order] @ turned(turn, sets[3])) == pytest.approx(found)


def test_a_vector_of_zeros_has_no_cosine():
    with pytest.raises(DataError, match="the cosine of a vector of zeros is not defined"):
        vendi(np.eye(3) - np.eye(3)[0])


@pytest.mark.parametrize("factor", [0.25, 1.0, 2.0])
def test_a_set_drawn_in_towards_its_class_means_has_that_spread(factor):
    rng = np.random.default_rng(0)
    label = np.repeat([4, 1, 2], 20)
    centre = rng.normal(0, 50, (5, 6))[label]
    noise = rng.normal(size=(60, 6))
    assert within_class_spread(centre + noise, label, centre + factor * noise, label) == pytest.approx(factor)


def test_the_spread_is_the_mean_over_shared_classes_of_distances_to_the_mean():
    real, synthetic = two_sets(5, 12, 9, 3)
    real_label = np.array([0, 0, 0, 1, 1, 1, 1, 2, 2, -1, -1, 3])
    made_label = np.array([0, 0, 1, 1, 1, 2, 4, 4, -1])

    def spread(images, label, own):
        chosen = [image for image, its in zip(images, label, strict=True) if its == own]
        mean = sum(chosen) / len(chosen)
        distance = sum(math.dist(image, mean) for image in chosen) / len(chosen)
        return distance * math.sqrt(len(chosen) / (len(chosen) - 1))

    by_hand = [spread(synthetic, made_label, own) for own in (0, 1)], [spread(real, real_label, own) for own in (0, 1)]
    found = within_class_spread(real, real_label, synthetic, made_label)
    assert found == pytest.approx(sum(by_hand[0]) / sum(by_hand[1]))


def test_the_spread_does_not_depend_on_the_number_of_images():
    rng = np.random.default_rng(0)
    many, few = np.repeat(np.arange(300), 20), np.repeat(np.arange(300), 2)
    found = within_class_spread(rng.normal(size=(6_000, 4)), many, rng.normal(size=(600, 4)), few)
    assert found == pytest.approx(1, abs=0.04)


def test_no_class_in_both_sets_has_no_spread():
    real, synthetic = two_sets(5, 10, 10, 3)
    with pytest.raises(DataError, match="a spread within classes needs a class"):
        within_class_spread(real, np.zeros(10, np.int64), synthetic, np.ones(10, np.int64))


def percentile(values, percent):
    values = sorted(values)
    place = (len(values) - 1) * percent / 100
    low = math.floor(place)
    return values[low] + (place - low) * (values[min(low + 1, len(values) - 1)] - values[low])


def least(image, others):
    return min(math.dist(image, other) for other in others)


@given(sets=SETS, copies=st.integers(0, 5))
@settings(deadline=None, max_examples=30)
def test_duplicates_and_copies_are_those_of_loops(sets, copies):
    real, synthetic = two_sets(*sets, shift=0)
    held_out = two_sets(sets[0] + 1, 12, 8, sets[3])[0]
    synthetic[:copies] = real[-1]
    others = [np.delete(real, i, axis=0) for i in range(len(real))]
    close = percentile([least(x, rest) for x, rest in zip(real, others, strict=True)], 1)
    twice = [least(y, [z for j, z in enumerate(synthetic) if j != i]) <= close for i, y in enumerate(synthetic)]
    assert duplicate_rate(real, synthetic) == pytest.approx(sum(twice) / len(twice))
    close = percentile([least(x, real) for x in held_out], 1)
    copied = [least(y, real) <= close for y in synthetic]
    assert copy_rate(real, synthetic, held_out) == pytest.approx(sum(copied) / len(copied))
    index, distance = nearest_real(real, synthetic)
    assert distance == pytest.approx([least(y, real) for y in synthetic])
    assert [math.dist(real[i], y) for i, y in zip(index, synthetic, strict=True)] == pytest.approx(distance.tolist())


def test_the_rates_of_a_fresh_draw_are_one_in_a_hundred_and_those_of_copies_are_seen():
    real, synthetic, held_out = (np.random.default_rng(seed).normal(size=(3_000, 4)) for seed in range(3))
    assert duplicate_rate(real, synthetic) == pytest.approx(0.01, abs=0.008)
    assert copy_rate(real, synthetic, held_out) == pytest.approx(0.01, abs=0.008)
    synthetic[:300] = real[:300]
    assert copy_rate(real, synthetic, held_out) == pytest.approx(0.109, abs=0.01)
    synthetic[1_000:1_600] = synthetic[1_000]
    assert duplicate_rate(real, synthetic) == pytest.approx(0.208, abs=0.01)


@pytest.fixture
def three():
    rng = np.random.default_rng(0)
    return rng.normal(size=(60, 6)), rng.normal(0.2, 1, (80, 6)), rng.normal(size=(40, 6))


def test_quality_holds_each_measure_of_the_first_images_of_both(three):
    real, synthetic, held_out = three
    label, made = np.arange(60) % 5, np.arange(80) % 5
    found, first = quality(real, synthetic, held_out_HD=held_out, labels=(label, made)), synthetic[:60]
    overlap = prdc(real, first)
    expected = {
        "images": 60,
        "mmd2": distances.mmd2(real, first),
        "mmd2_linear": distances.linear_mmd2(real, first),
        "kid": distances.kid(real, first)[0],
        "kid_standard_error": distances.kid(real, first)[1],
        "frechet": distances.frechet_distance(real, first),
        "precision": overlap.precision,
        "recall": overlap.recall,
        "density": overlap.density,
        "coverage": overlap.coverage,
        "vendi": vendi(first),
        "vendi_real": vendi(real),
        "duplicate_rate": duplicate_rate(real, first),
        "copy_rate": copy_rate(real, first, held_out),
        "nearest_real": np.median([least(y, real) for y in first]) / np.median([least(x, real) for x in held_out]),
        "within_class_spread": within_class_spread(real, label, first, made[:60]),
    }
    assert found == pytest.approx(expected)
    assert "within_class_spread" not in quality(real, synthetic, held_out_HD=held_out)
    assert all(type(value) is float for value in found.values())


def test_copies_are_sought_among_all_real_images(three):
    real, _, held_out = three
    found = quality(real, real[40:].copy(), held_out_HD=held_out)
    assert (found["images"], found["copy_rate"], found["nearest_real"]) == (20, 1, 0)


def test_a_set_beside_itself_is_at_no_distance(three):
    real, _, held_out = three
    found = quality(real, real.copy(), held_out_HD=held_out)
    assert found["frechet"] == pytest.approx(0, abs=1e-9)
    assert found["mmd2"] < 0  # unbiased, and each image is met by its own copy
    assert [found[name] for name in ("precision", "recall", "density", "coverage", "copy_rate")] == [1, 1, 1, 1, 1]
    assert found["vendi"] == pytest.approx(found["vendi_real"])


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda r, s, h: (r, s[:, :5], h, None), "synthetic images must be rows of 6 values"),
        (lambda r, s, h: (r, s, h[:0], None), "held-out images must be rows of 6 values"),
        (lambda r, s, h: (r.reshape(60, 2, 3), s, h, None), "real images must be rows of"),
        (lambda r, s, h: (r, s.astype(np.float32), h, None), "must be finite float64 values; got float32"),
        (lambda r, s, h: (r * np.inf, s, h, None), "real images must be finite float64 values"),
        (lambda r, s, h: (r, s[:19], h, None), "10 subsets of two need 20 images of each kind; got 19"),
        (lambda r, s, h: (r, s, r, None), "half of the held-out images are copies of real ones"),
        (lambda r, s, h: (r, s, h, (np.zeros(60, int), np.zeros(60, int))), "80 synthetic images need as many labels"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(three, change, line):
    real, synthetic, held_out, labels = change(*three)
    with np.errstate(invalid="ignore"), pytest.raises(DataError, match=line) as caught:
        quality(real, synthetic, held_out_HD=held_out, labels=labels)
    assert "\n" not in str(caught.value)
