"""Distances of two sets against loops, known Gaussians, and what must not change them."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from scaleback.core.errors import DataError
from scaleback.scaling import distances as module
from scaleback.scaling.distances import (
    frechet_distance,
    kid,
    linear_mmd2,
    mmd2,
    nearest,
    squared_distances,
)

SETS = st.tuples(st.integers(0, 10_000), st.integers(20, 40), st.integers(1, 6))


def two_sets(seed, count, width, shift=0.5):
    rng = np.random.default_rng(seed)
    return rng.normal(0, 1, (count, width)), rng.normal(shift, 1.5, (count, width))


def turned(seed, width):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(width, width)))[0]


def unbiased_by_hand(real, synthetic, kernel):
    def mean(pairs):
        values = [kernel(x, y) for x, y in pairs]
        return sum(values) / len(values)

    within = mean(itertools.permutations(real, 2)) + mean(itertools.permutations(synthetic, 2))
    return within - 2 * mean(itertools.product(real, synthetic))


def gaussian_of(real):
    width = np.median([math.dist(x, y) for x, y in itertools.combinations(real, 2)])
    return lambda x, y: math.exp(-(math.dist(x, y) ** 2) / (2 * width**2))


@given(sets=SETS, block=st.integers(1, 200))
@settings(deadline=None, max_examples=25)
def test_squared_distances_are_those_of_a_loop_in_blocks_of_any_size(sets, block):
    real, synthetic = two_sets(*sets)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_VALUES", block)
        found = np.full((len(real), len(synthetic)), np.nan)
        for rows, square in squared_distances(real, synthetic):
            found[rows] = square
    by_hand = [[math.dist(x, y) ** 2 for y in synthetic] for x in real]
    np.testing.assert_allclose(found, by_hand, atol=1e-11)


@given(sets=SETS, block=st.integers(1, 200), count=st.integers(1, 7), alone=st.booleans())
@settings(deadline=None, max_examples=25)
def test_neighbours_are_those_of_a_sorted_list(sets, block, count, alone):
    real, synthetic = two_sets(*sets)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_VALUES", block)
        index, distance = nearest(synthetic, None if alone else real, count)
    for i, x in enumerate(synthetic):
        base = synthetic if alone else real
        known = sorted((math.dist(x, y), j) for j, y in enumerate(base) if not (alone and i == j))[:count]
        assert index[i].tolist() == [j for _, j in known]
        np.testing.assert_allclose(distance[i], [d for d, _ in known], rtol=1e-12)


def test_a_copy_is_at_zero_however_far_from_the_origin():
    real = two_sets(0, 30, 4)[0] + 1e6
    index, distance = nearest(real[::-1], real)
    assert index[:, 0].tolist() == list(range(29, -1, -1))
    assert (distance == 0).all()


def test_more_neighbours_than_images_are_refused():
    real, synthetic = two_sets(0, 20, 3)
    assert nearest(synthetic, real, 20)[0].shape == (20, 20)
    with pytest.raises(DataError, match="20 nearest images are asked for, of 19"):
        nearest(real, count=20)


@given(sets=SETS, block=st.integers(1, 300))
@settings(deadline=None, max_examples=20)
def test_the_discrepancy_is_that_of_loops_over_pairs(sets, block):
    real, synthetic = two_sets(*sets)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_VALUES", block)
        found = mmd2(real, synthetic)
    assert found == pytest.approx(unbiased_by_hand(real, synthetic, gaussian_of(real)), abs=1e-10)


def test_the_discrepancy_of_two_draws_of_one_law_is_zero_in_the_mean_and_not_by_force():
    found = np.array([mmd2(*two_sets(seed, 30, 3, 0)[:1], two_sets(seed + 1_000, 30, 3)[0]) for seed in range(300)])
    assert abs(found.mean()) < 3 * found.std() / math.sqrt(300)
    assert (found < 0).any()


def test_images_that_are_mostly_alike_have_no_kernel():
    with pytest.raises(DataError, match="the median distance of the real images is 0"):
        mmd2(np.ones((20, 3)), two_sets(0, 20, 3)[0])


def test_the_linear_discrepancy_is_the_squared_distance_of_the_means():
    real, synthetic = two_sets(3, 25, 4)
    means = [[sum(row[d] for row in rows) / 25 for d in range(4)] for rows in (real, synthetic)]
    assert linear_mmd2(real, synthetic) == pytest.approx(math.dist(*means) ** 2)


def test_kid_is_the_mean_of_subsets_that_share_no_image_with_its_standard_error():
    real, synthetic = two_sets(1, 43, 5)

    def cubic(x, y):
        return (sum(a * b for a, b in zip(x, y, strict=True)) / 5 + 1) ** 3

    orders = [module.seeds.permutation(module.seeds.key("subsets of kid", kind), 43) for kind in ("real", "synthetic")]
    values = [
        unbiased_by_hand(
            *(part[order[start : start + 4]] for part, order in zip((real, synthetic), orders, strict=True)), cubic
        )
        for start in range(0, 40, 4)
    ]
    mean = sum(values) / 10
    error = math.sqrt(sum((value - mean) ** 2 for value in values) / 9 / 10)
    assert kid(real, synthetic) == (pytest.approx(mean), pytest.approx(error))


def test_the_standard_error_of_kid_is_its_spread_over_draws():
    found = np.array([kid(two_sets(seed, 80, 3)[0], two_sets(seed + 5_000, 80, 3)[1]) for seed in range(200)])
    assert found[:, 0].std() == pytest.approx(np.sqrt((found[:, 1] ** 2).mean()), rel=0.2)


def test_kid_is_blind_to_the_number_of_images_where_frechet_is_not():
    few = np.array([kid(two_sets(seed, 20, 8)[0], two_sets(seed + 900, 20, 8)[0])[0] for seed in range(300)])
    assert abs(few.mean()) < 3 * few.std() / math.sqrt(300)
    small, large = (
        np.mean([frechet_distance(two_sets(s, n, 8)[0], two_sets(s + 900, n, 8)[0]) for s in range(20)])
        for n in (20, 400)
    )
    assert small > 10 * large > 0


def test_kid_needs_subsets_of_two():
    with pytest.raises(DataError, match="10 subsets of two need 20 images of each kind; got 19"):
        kid(*two_sets(0, 19, 3))


def exactly(mean, covariance, count, seed):
    """A set with just this mean and covariance."""
    raw = np.random.default_rng(seed).normal(size=(count, len(mean)))
    raw -= raw.mean(0)
    white = raw @ np.linalg.inv(np.linalg.cholesky(np.cov(raw.T))).T
    return white @ np.linalg.cholesky(covariance).T + mean


def test_frechet_of_gaussians_along_the_axes_is_known():
    first = exactly(np.array([0.0, 1, 2]), np.diag([1.0, 4, 9]), 50, 0)
    second = exactly(np.array([1.0, 1, 0]), np.diag([4.0, 4, 1]), 50, 1)
    assert frechet_distance(first, second) == pytest.approx((1 + 4) + (1 + 0 + 4), rel=1e-9)


@pytest.mark.parametrize("case", range(5))
def test_frechet_is_that_of_a_matrix_root(case):
    first, second = two_sets(case, 60, 5)
    second = second @ np.random.default_rng(case).normal(size=(5, 5))
    covariances = [np.cov(part.T) for part in (first, second)]
    root = np.trace(sqrtm(covariances[0] @ covariances[1]).real)
    by_root = linear_mmd2(first, second) + sum(map(np.trace, covariances)) - 2 * root
    assert frechet_distance(first, second) == pytest.approx(by_root, rel=1e-8)


def test_frechet_of_fewer_images_than_values_is_that_in_the_space_they_span():
    first, second = two_sets(2, 6, 4)
    wide = np.concatenate([np.eye(4), np.zeros((4, 46))], axis=1) @ turned(0, 50)
    assert frechet_distance(first @ wide, second @ wide) == pytest.approx(frechet_distance(first, second), rel=1e-9)
    assert frechet_distance(first @ wide, first @ wide) == pytest.approx(0, abs=1e-9)


def test_frechet_refuses_unequal_counts():
    first, second = two_sets(2, 20, 4)
    with pytest.raises(DataError, match="equal numbers of images, two or more; got 20 and 19"):
        frechet_distance(first, second[:-1])


@given(sets=SETS, turn=st.integers(0, 100))
@settings(deadline=None, max_examples=25)
def test_rotation_and_order_change_no_distance(sets, turn):
    real, synthetic = two_sets(*sets)
    turn_matrix, order = turned(turn, sets[2]), np.random.default_rng(turn).permutation(sets[1])
    for measure in (mmd2, linear_mmd2, frechet_distance):
        straight = measure(real, synthetic)
        assert measure(real @ turn_matrix, synthetic @ turn_matrix) == pytest.approx(straight, rel=1e-7, abs=1e-9)
        assert measure(real[order], synthetic[order[::-1]]) == pytest.approx(straight, rel=1e-7, abs=1e-9)
    turned_kid = kid(real @ turn_matrix, synthetic @ turn_matrix)
    assert turned_kid == (pytest.approx(kid(real, synthetic)[0]), pytest.approx(kid(real, synthetic)[1]))


@given(sets=SETS)
@settings(deadline=None, max_examples=25)
def test_distances_are_symmetric_and_none_is_negative_that_cannot_be(sets):
    real, synthetic = two_sets(*sets)
    for measure in (linear_mmd2, frechet_distance):
        assert measure(real, synthetic) == pytest.approx(measure(synthetic, real))
        assert measure(real, synthetic) >= 0
        assert measure(real, real) == pytest.approx(0, abs=1e-9)
    assert -2 / (len(real) - 1) <= mmd2(real, synthetic) <= 2
    assert mmd2(real, synthetic + 1e3) > 0.2
