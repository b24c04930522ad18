"""Counter-based randomness: every draw is a pure function of what it is for.

A *stream* is named by a tuple such as ``("mask", seed)``; within it, draw ``(index, slot)`` is word ``slot`` of
counter ``index``. No state, so any worker draws any part in any order, and nothing depends on a global seed.

The generator is Philox 4x32-10 of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC11), checked in the
tests against the authors' known answers.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
UInt32 = NDArray[np.uint32]

# Multipliers and Weyl constants of Philox 4x32 (SC11, table 2 and section 4.3).
MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
WEYL = 0x9E3779B9, 0xBB67AE85
_LOW, _SHIFT = np.uint64(0xFFFFFFFF), np.uint64(32)
ROUNDS = 10


def key(*stream: int | str) -> int:
    """The 64-bit key of a stream: the first 8 bytes of SHA-256 over its parts as JSON."""
    text = json.dumps(stream, separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def philox(stream_key: int, counter_N4: NDArray[np.uint64]) -> UInt32:
    """Philox 4x32-10. ``counter_N4`` holds 32-bit words; returns (N, 4) words."""
    c0, c1, c2, c3 = (counter_N4[:, word] for word in range(4))
    m0, m1 = (np.uint64(multiplier) for multiplier in MULTIPLIERS)
    k0, k1 = stream_key & 0xFFFFFFFF, stream_key >> 32
    for _ in range(ROUNDS):
        low, high = m0 * c0, m1 * c2
        c0, c1, c2, c3 = (
            (high >> _SHIFT) ^ c1 ^ np.uint64(k0),
            high & _LOW,
            (low >> _SHIFT) ^ c3 ^ np.uint64(k1),
            low & _LOW,
        )
        k0, k1 = (k0 + WEYL[0]) & 0xFFFFFFFF, (k1 + WEYL[1]) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=1).astype(np.uint32)


def words(stream_key: int, indices_N: ArrayLike, slots: int) -> UInt32:
    """(N, slots) uniform 32-bit words; row n belongs to ``indices_N[n]``, a 64-bit counter."""
    index_N = np.asarray(indices_N, dtype=np.int64).astype(np.uint64).ravel()
    blocks = -(-slots // 4)
    counter_NK4 = np.zeros((len(index_N), blocks, 4), dtype=np.uint64)
    counter_NK4[:, :, 0] = np.arange(blocks, dtype=np.uint64)
    counter_NK4[:, :, 2] = (index_N & _LOW)[:, None]
    counter_NK4[:, :, 3] = (index_N >> _SHIFT)[:, None]
    words_NK4 = philox(stream_key, counter_NK4.reshape(-1, 4))
    return words_NK4.reshape(len(index_N), blocks * 4)[:, :slots]


def uniform(stream_key: int, indices_N: ArrayLike, slots: int) -> Float64:
    """(N, slots) numbers in [0, 1) with 53 bits, like numpy's ``random_sample``."""
    pairs_NS2 = words(stream_key, indices_N, 2 * slots).reshape(-1, slots, 2).astype(np.uint64)
    bits = (pairs_NS2[:, :, 0] >> np.uint64(5)) * np.uint64(1 << 26) + (pairs_NS2[:, :, 1] >> np.uint64(6))
    return bits.astype(np.float64) / float(1 << 53)


def permutation(stream_key: int, length: int) -> Int64:
    """A permutation of ``range(length)``: the order of one 64-bit draw per index (ties keep index order)."""
    pairs_N2 = words(stream_key, np.arange(length), 2).astype(np.uint64)
    return np.argsort((pairs_N2[:, 0] << _SHIFT) | pairs_N2[:, 1], kind="stable").astype(np.int64)


def counter(epoch_N: ArrayLike, index_N: ArrayLike) -> Int64:
    """(N,) one 64-bit counter of an index in some pass over the data: 34 bits of index, 29 of epoch."""
    return (np.asarray(epoch_N, np.int64) << 34) + np.asarray(index_N, np.int64)


def generator(*stream: int | str) -> np.random.Generator:
    """A sequential numpy generator for code that draws an unknown number of times (rejection, redraws)."""
    return np.random.Generator(np.random.Philox(key=key(*stream)))
