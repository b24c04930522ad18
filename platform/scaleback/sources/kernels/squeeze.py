"""Pictures of bits without their bytes of nothing: the compiled half of ``block_file``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from scaleback.sources.kernels.simd import BYTES, ones, squeeze

# Shapes: B images, X bytes of an image, Y bytes of a mask, N bytes that are not zero.


class Squeezed:
    """The bytes that are not zero, of one image after the other, in memory that is used again."""

    def __init__(self) -> None:
        self._byte_N = np.empty(0, np.uint8)
        self._ends: list[NDArray[np.int32]] = []
        self._filled = 0

    def add(self, byte_BX: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Take images; returns which of their bytes are not zero, (B, Y), a bit each, least bit first."""
        self._make_room(byte_BX.size)
        end_B = np.empty(len(byte_BX), np.int32)
        mask_BK = np.empty((len(byte_BX), -(-byte_BX.shape[1] // BYTES)), np.uint64)
        rest = np.zeros(BYTES, np.uint8)
        self._filled = _squeeze(byte_BX, rest, self._byte_N, self._filled, end_B, mask_BK)
        self._ends.append(end_B)
        return mask_BK.view(np.uint8)

    def take(self) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
        """The bytes so far, until images are added again, and where each image's begin and the last one's end."""
        end_B = np.concatenate([np.zeros(1, np.int32), *self._ends])
        self._ends, self._filled = [], 0
        return self._byte_N[: end_B[-1]], end_B

    def _make_room(self, more: int) -> None:
        needed = self._filled + more + BYTES  # more, since so many are written before they are counted
        if needed > len(self._byte_N):
            held_N, self._byte_N = self._byte_N, np.empty(2 * needed, np.uint8)
            self._byte_N[: self._filled] = held_N[: self._filled]


@njit(cache=True, nogil=True)
def _squeeze(byte_BX: Any, rest: Any, byte_N: Any, place: Any, end_B: Any, mask_BK: Any) -> Any:
    whole, tail = byte_BX.shape[1] // BYTES, byte_BX.shape[1] % BYTES
    for image in range(len(byte_BX)):
        byte_X, mask_K = byte_BX[image], mask_BK[image]
        for k in range(whole):
            mask_K[k] = squeeze(byte_X, BYTES * k, byte_N, place)
            place += np.intp(ones(mask_K[k]))
        if tail:
            rest[:tail] = byte_X[BYTES * whole :]
            mask_K[whole] = squeeze(rest, 0, byte_N, place)
            place += np.intp(ones(mask_K[whole]))
        end_B[image] = place
    return place
