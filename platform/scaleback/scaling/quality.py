"""What a synthetic set is worth before anything is trained on it: fidelity, variety, and copies of real images.

All on feature vectors of any backbone, or on pixels, (images, values) float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scaleback.core.errors import DataError
from scaleback.scaling.distances import (
    ROUNDING,
    Float64,
    frechet_distance,
    kid,
    linear_mmd2,
    mmd2,
    nearest,
    squared_distances,
)

# Shapes: N real vectors, M synthetic ones, H held-out real ones, D values of a vector, A vectors of any set, C classes.

Int64 = NDArray[np.int64]

NEIGHBOURS = 5
"""The k of Naeem et al. (2020)."""
CLOSE_PERCENT = 1
"""An image is a duplicate or a copy where real images come as close in one case of a hundred."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifolds:
    """How two sets overlap, by balls around every image that reach to its k-th nearest neighbour in its own set."""

    precision: float
    """Share of synthetic images inside some real ball (Kynkaanniemi et al., 2019): fidelity."""
    recall: float
    """Share of real images inside some synthetic ball (same): variety."""
    density: float
    """Real balls that hold a synthetic image, mean over synthetic images, over k (Naeem et al., 2020): 1 in
    expectation for equal laws; outliers of the real set, with their large balls, count less than in precision."""
    coverage: float
    """Share of real images whose ball holds a synthetic image (same); for equal laws it depends on k and n."""


def prdc(real_ND: Float64, synthetic_MD: Float64, neighbours: int = NEIGHBOURS) -> Manifolds:
    """Precision, recall, density and coverage; all in blocks, so memory grows with N + M.

    An image on the border of a ball is inside, but for density: so, as in its authors' code, a copy of the real set
    has density 1.

    Raises:
        DataError: a set has no more than ``neighbours`` images.
    """
    centre_D = real_ND.mean(0)
    real_ND, synthetic_MD = real_ND - centre_D, synthetic_MD - centre_D
    radius2_N, radius2_M = (nearest(set_AD, count=neighbours)[1][:, -1] ** 2 for set_AD in (real_ND, synthetic_MD))
    rounding = ROUNDING * max(float((set_AD**2).sum(1).max()) for set_AD in (real_ND, synthetic_MD))
    held_M, inside_M = np.zeros(len(synthetic_MD), np.int64), np.zeros(len(synthetic_MD), bool)
    recalled_N, covered_N = np.zeros(len(real_ND), bool), np.zeros(len(real_ND), bool)
    for rows, square_RM in squared_distances(real_ND, synthetic_MD):
        closed_RM = square_RM <= radius2_N[rows, None] + rounding
        inside_M |= closed_RM.any(0)
        covered_N[rows] = closed_RM.any(1)
        held_M += (square_RM < radius2_N[rows, None] - rounding).sum(0)
        recalled_N[rows] = (square_RM <= radius2_M + rounding).any(1)
    return Manifolds(
        precision=float(inside_M.mean()),
        recall=float(recalled_N.mean()),
        density=float(held_M.mean() / neighbours),
        coverage=float(covered_N.mean()),
    )


def vendi(set_AD: Float64) -> float:
    """Effective number of different images, 1 to A: exp of the entropy of the eigenvalues of the kernel over A.

    Cosine kernel (Friedman and Dieng, 2023). It grows with A, so compare it at equal A.

    Raises:
        DataError: a vector is zero, so it has no direction.
    """
    norm_A = np.linalg.norm(set_AD, axis=1, keepdims=True)
    if not norm_A.all():
        raise DataError("the cosine of a vector of zeros is not defined")
    unit_AD = set_AD / norm_A
    # Both products have the same eigenvalues but for zeros.
    product = unit_AD.T @ unit_AD if set_AD.shape[1] < len(set_AD) else unit_AD @ unit_AD.T
    share = np.linalg.eigvalsh(product / len(set_AD))
    share = share[share > ROUNDING]
    return float(np.exp(-(share * np.log(share)).sum()))


def within_class_spread(real_ND: Float64, real_N: Int64, synthetic_MD: Float64, synthetic_M: Int64) -> float:
    """Distance of synthetic images to the mean of their class, over that of real images: below 1, too little variety.

    The diversity of Fan et al. (2024). Mean over images, then over the classes with two or more labelled
    images in both sets (a negative label is none); a mean of few images is near each of them, which is made good.

    Raises:
        DataError: no such class, or the real images of each class are all alike.
    """
    spreads = [_class_spreads(real_ND, real_N), _class_spreads(synthetic_MD, synthetic_M)]
    shared = sorted(spreads[0].keys() & spreads[1].keys())
    real, synthetic = (sum(spread[label] for label in shared) for spread in spreads)
    if real == 0:
        raise DataError("a spread within classes needs a class with two different real and two synthetic images")
    return synthetic / real


def duplicate_rate(real_ND: Float64, synthetic_MD: Float64) -> float:
    """Share of synthetic images with another synthetic image as near as the nearest 1 % of real neighbours.

    About 0.01 for images like the real ones at N = M; distances to neighbours shrink with n, so compare at equal n.
    """
    return float((nearest(synthetic_MD)[1] <= _close(nearest(real_ND)[1])).mean())


def nearest_real(real_ND: Float64, synthetic_MD: Float64) -> tuple[Int64, Float64]:
    """For each synthetic image the row of the nearest real image and the distance to it, (M,) each."""
    index_M1, distance_M1 = nearest(synthetic_MD, real_ND)
    return index_M1[:, 0], distance_M1[:, 0]


def copy_rate(real_ND: Float64, synthetic_MD: Float64, held_out_HD: Float64) -> float:
    """Share of synthetic images as near to a real training image as the nearest 1 % of held-out real images.

    About 0.01 for a generator that copies nothing. Ask in pixels (copies bit by bit) and in features (crops, flips,
    new colours); ``real_ND`` is everything that the generator has seen. Fewer than 100 held-out images make the
    threshold one of their distances, the least.
    """
    return float((nearest_real(real_ND, synthetic_MD)[1] <= _close(nearest_real(real_ND, held_out_HD)[1])).mean())


def quality(
    real_ND: Float64,
    synthetic_MD: Float64,
    *,
    held_out_HD: Float64,
    labels: tuple[Int64, Int64] | None = None,
) -> dict[str, float]:
    """Every measure, at equal n: of the first min(N, M) images of each set; copies are sought among all N.

    Args:
        real_ND: what the generator was trained on.
        synthetic_MD: what it made.
        held_out_HD: real images that it has not seen.
        labels: of real and synthetic images, where they have some.

    Returns:
        ``images``: n.
        ``mmd2``, ``mmd2_linear``, ``kid`` with ``kid_standard_error``, ``frechet``: distances of the two laws, 0 for
        equal ones; see ``mmd2``, ``linear_mmd2``, ``kid``, ``frechet_distance`` in ``distances``.
        ``precision``, ``recall``, ``density``, ``coverage``: see ``Manifolds``.
        ``vendi``, ``vendi_real``: effective numbers of different images in each set; see ``vendi``.
        ``within_class_spread``: over the real one; see there; left out without labels.
        ``duplicate_rate``, ``copy_rate``: shares of synthetic images; see there.
        ``nearest_real``: median distance to the nearest real image, over that of held-out images; 1 for new images of
        the same law, 0 for copies (the three sets of Meehan et al., 2020, compared by medians instead of ranks).

    Raises:
        DataError: arrays that do not belong together, that are not finite, or that are too small for a measure.
    """
    for name, set_AD in (("real", real_ND), ("synthetic", synthetic_MD), ("held-out", held_out_HD)):
        _check(name, set_AD, real_ND.shape[-1])
    count = min(len(real_ND), len(synthetic_MD))
    first_ND, made_ND = real_ND[:count], synthetic_MD[:count]
    kernel, error = kid(first_ND, made_ND)
    overlap = prdc(first_ND, made_ND)
    found_M, usual_H = (nearest_real(real_ND, set_AD)[1] for set_AD in (made_ND, held_out_HD))
    if np.median(usual_H) == 0:
        raise DataError("half of the held-out images are copies of real ones: they are not held out")
    values = {
        "images": float(count),
        "mmd2": mmd2(first_ND, made_ND),
        "mmd2_linear": linear_mmd2(first_ND, made_ND),
        "kid": kernel,
        "kid_standard_error": error,
        "frechet": frechet_distance(first_ND, made_ND),
        "precision": overlap.precision,
        "recall": overlap.recall,
        "density": overlap.density,
        "coverage": overlap.coverage,
        "vendi": vendi(made_ND),
        "vendi_real": vendi(first_ND),
        "duplicate_rate": duplicate_rate(first_ND, made_ND),
        "copy_rate": float((found_M <= _close(usual_H)).mean()),
        "nearest_real": float(np.median(found_M) / np.median(usual_H)),
    }
    if labels is not None:
        _check_labels("real", labels[0], len(real_ND))
        _check_labels("synthetic", labels[1], len(synthetic_MD))
        values["within_class_spread"] = within_class_spread(first_ND, labels[0][:count], made_ND, labels[1][:count])
    return values


def _close(distance: Float64) -> float:
    return float(np.percentile(distance, CLOSE_PERCENT))


def _class_spreads(set_AD: Float64, label_A: Int64) -> dict[int, float]:
    spreads = {}
    for label in np.unique(label_A[label_A >= 0]):
        own_AD = set_AD[label_A == label]
        if len(own_AD) > 1:
            # Exact for Gaussians: an image less the mean of A has (A - 1) / A of the variance.
            made_good = np.sqrt(len(own_AD) / (len(own_AD) - 1))
            spreads[int(label)] = float(np.linalg.norm(own_AD - own_AD.mean(0), axis=1).mean() * made_good)
    return spreads


def _check(name: str, set_AD: Float64, width: int) -> None:
    if set_AD.ndim != 2 or set_AD.shape[1] != width or not len(set_AD):
        raise DataError(f"{name} images must be rows of {width} values, as the real ones; got shape {set_AD.shape}")
    if set_AD.dtype != np.float64 or not np.isfinite(set_AD).all():
        raise DataError(f"{name} images must be finite float64 values; got {set_AD.dtype}")


def _check_labels(name: str, label_A: Int64, count: int) -> None:
    if label_A.shape != (count,):
        raise DataError(f"{count} {name} images need as many labels; got shape {label_A.shape}")
