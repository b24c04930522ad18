"""Distances between two sets of feature vectors: neighbours, kernels, means and covariances.

The vectors are of any backbone, or pixels; no number below compares with one of another backbone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from scaleback.core import seeds
from scaleback.core.errors import DataError

# Shapes: N real vectors, M synthetic ones, D values of a vector, A and B vectors of any two sets, R rows of a
# block of A, K nearest neighbours.

Float64: TypeAlias = NDArray[np.float64]
Kernel: TypeAlias = Callable[[Float64, Float64], Float64]

BLOCK_VALUES = 1 << 22
"""Distances held at a time: 32 MB, whatever the number of vectors."""
ROUNDING = 1e-12
"""A squared distance by products is off by less than this share of the largest squared norm."""
MEDIAN_VECTORS = 2_000
"""Vectors, evenly spaced, whose 2 million distances give the median."""
KID_SUBSETS, KID_IMAGES = 10, 1_000
"""At least so many subsets, of at most so many images; Binkowski et al. (2018) also compare 1,000 at a time."""


def squared_distances(first_AD: Float64, second_BD: Float64) -> Iterator[tuple[slice, Float64]]:
    """Blocks of (rows of the first set, (R, B) squared distances to the second), rounded as ``ROUNDING`` says."""
    return ((rows, _squares(first_AD[rows], second_BD)) for rows in _blocks(len(first_AD), len(second_BD)))


def nearest(query_AD: Float64, base_BD: Float64 | None = None, count: int = 1) -> tuple[NDArray[np.int64], Float64]:
    """Rows of the ``count`` nearest vectors of the base and their distances, (A, K) each, nearest first.

    Without a base, of the other vectors of the query. Distances are exact: copies are at 0.

    Raises:
        DataError: the base has fewer vectors.
    """
    alone = base_BD is None
    base_BD = query_AD if base_BD is None else base_BD
    if count > len(base_BD) - alone:
        raise DataError(f"{count} nearest images are asked for, of {len(base_BD) - alone}")
    # Products lose what the distance of both sets to the origin has in common.
    centre_D = base_BD.mean(0)
    index_AK, distance_AK = np.empty((len(query_AD), count), np.int64), np.empty((len(query_AD), count))
    for rows, square_RB in squared_distances(query_AD - centre_D, base_BD - centre_D):
        if alone:
            square_RB[np.arange(len(square_RB)), np.arange(rows.start, rows.stop)] = np.inf
        found_RK = np.argpartition(square_RB, count - 1, axis=1)[:, :count]
        exact_RK = np.stack(
            [np.linalg.norm(query_AD[rows] - base_BD[found_R], axis=1) for found_R in found_RK.T], axis=1
        )
        order_RK = np.argsort(exact_RK, axis=1, kind="stable")
        index_AK[rows] = np.take_along_axis(found_RK, order_RK, axis=1)
        distance_AK[rows] = np.take_along_axis(exact_RK, order_RK, axis=1)
    return index_AK, distance_AK


def mmd2(real_ND: Float64, synthetic_MD: Float64) -> float:
    """Squared maximum mean discrepancy with a Gaussian kernel: 0 in expectation for equal laws, so at times negative.

    The unbiased estimate of Gretton et al. (2012), with k(x, y) = exp(-|x - y|^2 / (2 s^2)) and s the median
    distance of the real images.

    Raises:
        DataError: half of the real images or more are alike.
    """
    spaced_ND = real_ND[np.linspace(0, len(real_ND) - 1, min(len(real_ND), MEDIAN_VECTORS)).astype(np.int64)]
    median = _median_distance(spaced_ND)
    if median == 0:
        raise DataError("the median distance of the real images is 0, so it is no width of a kernel")

    def gaussian(first_RD: Float64, second_BD: Float64) -> Float64:
        value_RB: Float64 = np.exp(_squares(first_RD, second_BD) / (-2 * median**2))
        return value_RB

    centre_D = real_ND.mean(0)
    return _unbiased(real_ND - centre_D, synthetic_MD - centre_D, gaussian)


def linear_mmd2(real_ND: Float64, synthetic_MD: Float64) -> float:
    """Squared distance of the two means: the discrepancy that Real-Fake reduces (Yuan et al., 2024).

    Sampling adds the sum of variances over n, so compare it at equal n.
    """
    return float(((real_ND.mean(0) - synthetic_MD.mean(0)) ** 2).sum())


def kid(real_ND: Float64, synthetic_MD: Float64) -> tuple[float, float]:
    """Kernel inception distance and its standard error: unbiased squared MMD with the kernel (x.y / D + 1)^3.

    The mean over subsets (Binkowski et al., 2018). Subsets share no image, so that they are independent
    and their spread is the error of the mean.

    Raises:
        DataError: too few images for subsets of two.
    """
    count = min(len(real_ND), len(synthetic_MD))
    if count < 2 * KID_SUBSETS:
        raise DataError(f"{KID_SUBSETS} subsets of two need {2 * KID_SUBSETS} images of each kind; got {count}")
    subsets = max(KID_SUBSETS, count // KID_IMAGES)
    drawn_SR, made_SR = (
        seeds.permutation(seeds.key("subsets of kid", kind), len(set_AD))[: count // subsets * subsets].reshape(
            subsets, -1
        )
        for kind, set_AD in (("real", real_ND), ("synthetic", synthetic_MD))
    )

    def cubic(first_RD: Float64, second_BD: Float64) -> Float64:
        value_RB: Float64 = (first_RD @ second_BD.T / first_RD.shape[1] + 1) ** 3
        return value_RB

    pairs = zip(drawn_SR, made_SR, strict=True)
    value_S = np.array([_unbiased(real_ND[drawn_R], synthetic_MD[made_R], cubic) for drawn_R, made_R in pairs])
    return float(value_S.mean()), float(value_S.std(ddof=1) / math.sqrt(subsets))


def frechet_distance(real_ND: Float64, synthetic_ND: Float64) -> float:
    """Squared Frechet distance of Gaussians with the two means and covariances (Heusel et al., 2017).

    It is biased upwards, by an amount that falls with n and differs between sets (Binkowski et al., 2018;
    Chong and Forsyth, 2020): compare at equal n only, and distrust it where n is not many times D.

    Raises:
        DataError: unequal numbers of images, or fewer than two.
    """
    if len(real_ND) != len(synthetic_ND) or len(real_ND) < 2:
        raise DataError(
            "a Frechet distance is biased in n, so it needs equal numbers of images, two or more; "
            f"got {len(real_ND)} and {len(synthetic_ND)}"
        )
    # With covariances U'U and V'V, the trace of the root of their product is the sum of singular values of U V'. The
    # factors come from the data by QR, so nothing is squared before its root is taken.
    real_DD, synthetic_DD = _root(real_ND), _root(synthetic_ND)
    spread = float((real_DD**2).sum() + (synthetic_DD**2).sum())
    shared = float(np.linalg.norm(real_DD @ synthetic_DD.T, "nuc"))
    return max(0.0, linear_mmd2(real_ND, synthetic_ND) + spread - 2 * shared)


def _root(set_AD: Float64) -> Float64:
    """U of the covariance U'U, with min(A, D) rows."""
    root: Float64 = np.asarray(np.linalg.qr((set_AD - set_AD.mean(0)) / math.sqrt(len(set_AD) - 1), mode="r"))
    return root


def _median_distance(set_AD: Float64) -> float:
    from scipy.spatial.distance import pdist

    return float(np.median(pdist(set_AD)))


def _unbiased(real_ND: Float64, synthetic_MD: Float64, kernel: Kernel) -> float:
    """Mean of the kernel within each set, an image with itself left out, less twice its mean between the sets."""
    within = sum(
        _total(set_AD, set_AD, kernel, itself=False) / (len(set_AD) * (len(set_AD) - 1))
        for set_AD in (real_ND, synthetic_MD)
    )
    return within - 2 * _total(real_ND, synthetic_MD, kernel) / (len(real_ND) * len(synthetic_MD))


def _total(first_AD: Float64, second_BD: Float64, kernel: Kernel, *, itself: bool = True) -> float:
    total = 0.0
    for rows in _blocks(len(first_AD), len(second_BD)):
        value_RB = kernel(first_AD[rows], second_BD)
        if not itself:
            value_RB[np.arange(len(value_RB)), np.arange(rows.start, rows.stop)] = 0
        total += float(value_RB.sum())
    return total


def _squares(first_RD: Float64, second_BD: Float64) -> Float64:
    square_RB = first_RD @ second_BD.T
    square_RB *= -2
    square_RB += (first_RD**2).sum(1)[:, None]
    square_RB += (second_BD**2).sum(1)
    return np.maximum(square_RB, 0, out=square_RB)


def _blocks(rows: int, columns: int) -> Iterator[slice]:
    size = max(1, BLOCK_VALUES // columns)
    return (slice(start, min(start + size, rows)) for start in range(0, rows, size))
