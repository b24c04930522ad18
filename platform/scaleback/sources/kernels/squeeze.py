"""Pictures of bits without their words of nothing: the compiled half of ``block_file``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

# Shapes: B images, K words of 64 bits of an image, N words that are not zero.


def squeezed(words_BK: NDArray[np.uint64]) -> tuple[NDArray[np.uint8], NDArray[np.int32], NDArray[np.uint64]]:
    """Which words are not zero, (B, ceil(K / 8)), most bit first; where each image's bytes end, (B + 1,); the words."""
    occupied_BX = np.zeros((len(words_BK), -(-words_BK.shape[1] // 8)), np.uint8)
    end_B = np.zeros(len(words_BK) + 1, np.int32)
    _occupied(words_BK, occupied_BX, end_B)
    word_N = np.empty(int(end_B[-1]) // 8 + 1, np.uint64)  # one more, since each word is written before it is judged
    _gather(words_BK, word_N)
    return occupied_BX, end_B, word_N[:-1]


@njit(cache=True, nogil=True)
def _occupied(words_BK: Any, occupied_BX: Any, end_B: Any) -> None:
    total = np.int64(0)
    for image in range(len(words_BK)):
        word_K, byte_X = words_BK[image], occupied_BX[image]
        for k in range(len(word_K)):
            filled = np.uint8(word_K[k] != 0)
            byte_X[k >> 3] |= filled << np.uint8(7 - (k & 7))
            total += np.int64(filled)
        end_B[image + 1] = 8 * total


@njit(cache=True, nogil=True)
def _gather(words_BK: Any, word_N: Any) -> None:
    place = np.uint64(0)
    for image in range(len(words_BK)):
        word_K = words_BK[image]
        for k in range(len(word_K)):
            word_N[place] = word_K[k]
            place += np.uint64(word_K[k] != 0)
