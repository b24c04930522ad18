"""How far apart the classes of a population are, in pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Shapes: N images, H rows, W columns, C channels, X values of an image, P = N (N - 1) / 2 pairs of images.

BLOCK_VALUES = 4_096
"""Values of each image compared at a time, so that float64 copies of 256 images take 8 MB."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Distinctness:
    """Distances between images: the mean over all values of a pixel difference without its sign, 0 to 255.

    An image without a label is a class of its own; images of several classes are of one class if they share one.
    """

    images: int
    """N, the images that are compared, each with every other."""
    between: float | None
    """Mean distance of the pairs of images of different classes; None where there is one class."""
    within: float | None
    """Mean distance of the pairs of images of one class; None where no class has two images."""
    margin: float | None
    """Mean over the N images of the distance to the nearest image of another class, over ``between``. It falls as N
    grows, so compare it at equal N. None where ``between`` is None or 0."""
    least_margin: float | None
    """The least instead of the mean: the pair of classes that is hardest to tell apart."""


def distinctness(image_NHWC: NDArray[np.uint8], label_N: NDArray[np.int64]) -> Distinctness:
    """Compare every image with every other; labels are (N,), or (N, L) where an image may show L classes."""
    from scipy.spatial.distance import squareform

    count = len(image_NHWC)
    first_P, second_P = np.triu_indices(count, 1)
    distance_P = _distances(image_NHWC.reshape(count, -1))
    same_P = _related(label_N.reshape(count, -1))[first_P, second_P]
    between, within = (float(distance_P[chosen].mean()) if chosen.any() else None for chosen in (~same_P, same_P))
    margin_N = None
    if between:
        nearest_N = squareform(np.where(same_P, np.inf, distance_P)) + np.diag(np.full(count, np.inf))
        margin_N = nearest_N.min(axis=1) / between
    return Distinctness(
        images=count,
        between=between,
        within=within,
        margin=None if margin_N is None else float(margin_N.mean()),
        least_margin=None if margin_N is None else float(margin_N.min()),
    )


def _related(label_NL: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(N, N) which images have a class in common."""
    shown_NK = label_NL[:, :, None] == np.unique(label_NL[label_NL >= 0])
    member_NK = shown_NK.any(axis=1).astype(np.float32)
    related_NN: NDArray[np.bool_] = member_NK @ member_NK.T > 0
    return related_NN


def _distances(value_NX: NDArray[np.uint8]) -> NDArray[np.float64]:
    from scipy.spatial.distance import pdist

    sum_P = np.zeros(len(value_NX) * (len(value_NX) - 1) // 2)
    for start in range(0, value_NX.shape[1], BLOCK_VALUES):
        if len(sum_P):
            sum_P += pdist(value_NX[:, start : start + BLOCK_VALUES].astype(np.float64), "cityblock")
    sum_P /= value_NX.shape[1]
    return sum_P
