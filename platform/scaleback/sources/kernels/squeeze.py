"""Taking zeros out of bytes, and putting them back: the compiled half of ``pictures``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from scaleback.sources.kernels.simd import BYTES, ones, spread_out, squeeze

# Shapes: B rows of X bytes, K words of their masks, N bytes that are not zero.


def squeezed(byte_BX: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.int32], NDArray[np.uint8]]:
    """What is not zero of contiguous rows.

    Returns:
        the bytes that are not zero, of one row after the other; (B + 1,) where each row's begin, and the last one's
        end; which they are, a bit each, least bit first, as if rows went on with zeros to whole vectors of 64.
    """
    if short := -byte_BX.shape[1] % BYTES:
        byte_BX = np.pad(byte_BX, ((0, 0), (0, short)))
    byte_N = np.empty(byte_BX.size + BYTES, np.uint8)  # so many are written before they are counted
    end_B = np.zeros(len(byte_BX) + 1, np.int32)
    mask_BK = np.empty((len(byte_BX), byte_BX.shape[1] // BYTES), np.uint64)
    _squeeze(byte_BX, byte_N, end_B[1:], mask_BK)
    return byte_N[: end_B[-1]].copy(), end_B, mask_BK.view(np.uint8)


def spread(byte_N: NDArray[np.uint8], end_B: NDArray[np.int32], mask_BX: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(B, X) the reverse of ``squeezed``, in whole vectors.

    Raises:
        ValueError: the masks say that there are other bytes than are there.
    """
    if len(end_B) != len(mask_BX) + 1 or end_B[0] != 0 or end_B[-1] != len(byte_N):
        raise ValueError("bytes and their ends are not of one kind")
    byte_BX = np.empty((len(mask_BX), 8 * mask_BX.shape[1]), np.uint8)
    # Contiguous words, since a mask may lie anywhere in a file.
    mask_BK = np.ascontiguousarray(mask_BX).view(np.uint64)
    if not _spread(byte_N, end_B, mask_BK, byte_BX):
        raise ValueError("a mask says that there are other bytes than are there")
    return byte_BX


def gathered(
    byte_N: NDArray[np.uint8], start_B: NDArray[Any], stop_B: NDArray[Any]
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Pieces of bytes one after the other, and where each begins and the last one ends."""
    end_B = np.zeros(len(start_B) + 1, np.int32)
    np.cumsum(stop_B - start_B, out=end_B[1:])
    if (start_B[1:] == stop_B[:-1]).all() and len(start_B):
        return byte_N[start_B[0] : stop_B[-1]].copy(), end_B
    out_N = np.empty(end_B[-1], np.uint8)
    _gather(byte_N, start_B, stop_B, out_N)
    return out_N, end_B


def lit(byte_N: NDArray[np.uint8], end_B: NDArray[np.int32]) -> NDArray[np.int64]:
    """(B,) how many bits are set, up to each end."""
    lit_B = np.empty(len(end_B) - 1, np.int64)
    _count(byte_N, end_B, lit_B)
    return lit_B


@njit(cache=True, nogil=True)
def squeeze_row(byte_X: Any, byte_N: Any, place: Any, mask_K: Any) -> Any:
    """Put those of whole vectors of bytes that are not zero at a place; returns the place after them."""
    for k in range(len(mask_K)):
        mask_K[k] = squeeze(byte_X, BYTES * k, byte_N, place)
        place += np.intp(ones(mask_K[k]))
    return place


@njit(cache=True, nogil=True)
def _squeeze(byte_BX: Any, byte_N: Any, end_B: Any, mask_BK: Any) -> None:
    place = 0
    for row in range(len(mask_BK)):
        place = squeeze_row(byte_BX[row], byte_N, place, mask_BK[row])
        end_B[row] = place


@njit(cache=True, nogil=True)
def _spread(byte_N: Any, end_B: Any, mask_BK: Any, byte_BX: Any) -> Any:
    """Whether each row has as many bytes as its mask says; nothing else is read or written."""
    for row in range(len(mask_BK)):
        mask_K, byte_X, place = mask_BK[row], byte_BX[row], np.intp(end_B[row])
        filled = place
        for k in range(len(mask_K)):
            filled += np.intp(ones(mask_K[k]))
        if filled != end_B[row + 1] or filled > len(byte_N):
            return False
        for k in range(len(mask_K)):
            spread_out(byte_N, place, mask_K[k], byte_X, BYTES * k)
            place += np.intp(ones(mask_K[k]))
    return True


@njit(cache=True, nogil=True)
def _gather(byte_N: Any, start_B: Any, stop_B: Any, out_N: Any) -> None:
    place = 0
    for row in range(len(start_B)):
        length = stop_B[row] - start_B[row]
        out_N[place : place + length] = byte_N[start_B[row] : stop_B[row]]
        place += length


@njit(cache=True, nogil=True)
def _count(byte_N: Any, end_B: Any, lit_B: Any) -> None:
    for row in range(len(lit_B)):
        count, byte_X = 0, byte_N[end_B[row] : end_B[row + 1]]
        for at in range(len(byte_X)):
            count += int(ones(byte_X[at]))
        lit_B[row] = count
