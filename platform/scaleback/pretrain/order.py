"""Which images make up a batch: a function of (seed, step) only, whatever the number of workers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scaleback.core import seeds

# Shapes: B images of a global batch, E epochs, N images.

TOGETHER_IMAGES = 4_096
"""Epochs of small sets are shuffled together, about this many images at a time: one call for many tiny permutations."""


class BatchOrder:
    """An endless concatenation of epochs, each a fresh permutation; batches are cut from it end to end.

    No image is dropped at the end of an epoch, and a batch larger than the set spans several.
    """

    def __init__(self, *, images: int, batch_images: int, seed: int) -> None:
        self._images, self._batch, self._key = images, batch_images, seeds.key("order of training", seed)
        self._together = max(1, TOGETHER_IMAGES // images)
        self._shuffled: dict[int, NDArray[np.int64]] = {}

    def batch(self, step: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(index of each image, epoch of each image), both (B,)."""
        position_B = step * self._batch + np.arange(self._batch)
        epoch_B, place_B = np.divmod(position_B, self._images)
        index_B = np.empty(self._batch, np.int64)
        for group in np.unique(epoch_B // self._together):
            inside = epoch_B // self._together == group
            index_B[inside] = self._group(int(group))[epoch_B[inside] % self._together, place_B[inside]]
        return index_B, epoch_B

    def _group(self, group: int) -> NDArray[np.int64]:
        """(E, N) permutations of the epochs that are shuffled together."""
        if group not in self._shuffled:
            for old in [number for number in self._shuffled if number < group - 1]:
                del self._shuffled[old]
            epoch_E1 = (group * self._together + np.arange(self._together))[:, None]
            counter_EN = seeds.counter(epoch_E1, np.arange(self._images))
            words_EN2 = seeds.words(self._key, counter_EN.ravel(), 2).astype(np.uint64).reshape(*counter_EN.shape, 2)
            draw_EN = (words_EN2[..., 0] << np.uint64(32)) | words_EN2[..., 1]
            self._shuffled[group] = np.argsort(draw_EN, axis=1, kind="stable")
        return self._shuffled[group]


class PoissonOrder:
    """Each image is in each batch by a draw of its own, at the rate at which ``batch_images`` are expected in it.

    What DP-SGD's accountant assumes (Abadi et al., CCS 2016). Batches differ in size, and one may be empty.
    """

    def __init__(self, *, images: int, batch_images: int, seed: int) -> None:
        assert batch_images <= images, "a rate is at most 1"
        self._images, self._rate = images, batch_images / images
        self._key = seeds.key("draws of training", seed)

    def batch(self, step: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(index of each image, the step in place of its epoch), both (B,)."""
        draw_N = seeds.uniform(self._key, seeds.counter(step, np.arange(self._images)), 1)[:, 0]
        index_B = np.flatnonzero(draw_N < self._rate)
        return index_B, np.full(len(index_B), step)
