"""Philox 4x32-10 for numba kernels: the words of ``core.seeds``, drawn where they are used."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def block(key: Any, index: Any, number: Any) -> Any:
    """Four 32-bit words, the same as ``core.seeds.words(key, [index], ...)[0, 4 * number :]``; all uint64."""
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    c0, c1 = np.uint64(number), np.uint64(0)
    c2, c3 = index & low, index >> half
    k0, k1 = key & low, key >> half
    for _ in range(10):
        p0 = np.uint64(0xD2511F53) * c0
        p1 = np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (p1 >> half) ^ c1 ^ k0, p1 & low, (p0 >> half) ^ c3 ^ k1, p0 & low
        k0 = (k0 + np.uint64(0x9E3779B9)) & low
        k1 = (k1 + np.uint64(0xBB67AE85)) & low
    return c0, c1, c2, c3
