"""What the fast and the exact renderer share: pictures of bits, turned over, mirrored and counted.

Pictures are drawn one a lane with the lowest row of pixels first, and turned over when they are finished, as the
reference turns them over when it saves.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from scaleback.sources.base import BitSamples
from scaleback.sources.ifs import System
from scaleback.sources.kernels import philox
from scaleback.sources.kernels.chaos import GRAY, Stamp
from scaleback.sources.kernels.simd import LANES, ones, turned_over

# Shapes: B images, M maps, L lanes, H rows, X words of 64 pixels (or their bytes), row after row.

FORCED = 511
"""One pixel in so many is lit whatever its bit: 1/2 + 1/2 * 1/511 = 256/511, the chance of a bit in a mask that is
not empty."""


class BitCanvas(ABC):
    """Draws systems on gray pictures of one kind; holds the scratch memory, so use one per thread.

    Its pictures are bits, (B, H, ceil(W / 8)), least bit first: most of them are stored before they are looked at, and
    writing a byte a pixel to memory would take longer than drawing.
    """

    def __init__(self, *, size_px: int, points: int, pad_px: int, stamp: Stamp) -> None:
        self.size, self.points, self.pad, self.stamp = size_px, points, pad_px, stamp
        self.row_words = -(-size_px // 64)
        self.words = size_px * self.row_words
        self.bits_LX = np.empty((LANES, self.words), np.uint64)
        self._noise = np.full(2 * -(-self.words // 2), ~np.uint64(0))
        self._forced = np.empty(2 * ((64 * self.words // FORCED + 3) // 4), np.uint64)

    @abstractmethod
    def draw_batch(
        self,
        systems: Sequence[System],
        probabilities: Sequence[NDArray[np.float64]],
        mask_key: int,
        indices: Sequence[int],
        flips: Sequence[int] | None = None,
    ) -> NDArray[np.uint8]:
        """Pictures as bits; none is set where a system leaves the range of numbers or has no extent.

        Args:
            systems: (M, 6) each, of any number of maps; the same array with the same probabilities may be given
                several times, and what its pictures share is computed once.
            probabilities: (M,) each; fastest where all are the same, and that changes no picture.
            mask_key: stream of the masks.
            indices: each image's place in that stream.
            flips: 0 for none, 1 top to bottom, 2 left to right, 3 both.
        """

    def light(
        self,
        lane_B: NDArray[np.int64],
        place_B: NDArray[np.int64],
        flip_B: NDArray[np.int64],
        word_BX: NDArray[np.uint64],
        noise: tuple[int, NDArray[np.int64]] | None = None,
    ) -> None:
        """Finish the picture of lane ``lane_B[n]`` as image ``place_B[n]`` of ``word_BX``.

        Args:
            lane_B: lanes.
            place_B: where in the batch.
            flip_B: flips of the whole batch.
            word_BX: the batch.
            noise: stream, and places in it of the whole batch; only so many of the lane's pixels are lit.
        """
        key, index_B = noise if noise is not None else (0, np.zeros_like(flip_B))
        _light(
            self.bits_LX, lane_B, np.uint64(key), index_B.astype(np.uint64), flip_B, place_B,
            noise is not None, self._noise, self._forced, self.row_words, self.size, word_BX,
        )  # fmt: skip

    def put(self, image_HW: NDArray[np.uint8], lane: int) -> None:
        """Put a picture, its lowest row first, into a lane."""
        byte_HX = self.bits_LX[lane].view(np.uint8).reshape(self.size, -1)
        byte_HX[:] = 0
        packed_HX = np.packbits(image_HW > 0, axis=1, bitorder="little")
        byte_HX[:, : packed_HX.shape[1]] = packed_HX

    def as_bytes(self, word_BX: NDArray[np.uint64]) -> NDArray[np.uint8]:
        """(B, H, ceil(W / 8)) of whole words."""
        byte_BHX = word_BX.view(np.uint8).reshape(len(word_BX), self.size, 8 * self.row_words)
        return np.ascontiguousarray(byte_BHX[:, :, : -(-self.size // 8)])

    def fills(self, bits_BHX: NDArray[np.uint8]) -> NDArray[np.float64]:
        """(B,) share of pixels that are lit."""
        lit_B = np.empty(len(bits_BHX), np.int64)
        _count(bits_BHX.reshape(len(bits_BHX), -1), lit_B)
        return lit_B / self.size**2

    def samples(
        self, bits_BHX: NDArray[np.uint8], label_B: NDArray[np.int64], facts: Mapping[str, NDArray[Any]]
    ) -> BitSamples:
        """Pictures with their labels and facts."""
        return BitSamples(bits_BHX=bits_BHX, width=self.size, level=GRAY, label_B=label_B, facts=facts)


@njit(cache=True, nogil=True)
def _noise(key: Any, index: Any, first: int, words: Any) -> None:
    """Blocks ``first``, ``first`` + 1, ... of the image's stream: halves of each in the halves of ``words``."""
    half, blocks = np.uint64(32), len(words) // 2
    for number in range(blocks):
        c0, c1, c2, c3 = philox.block(key, index, first + number)
        words[number] = c0 | (c1 << half)
        words[blocks + number] = c2 | (c3 << half)


@njit(cache=True, nogil=True)
def _light(
    bits_LX: Any, lane_B: Any, key: Any, index_B: Any, flip_B: Any, place_B: Any,
    noisy: bool, noise: Any, forced: Any, row_words: int, size: int, word_BX: Any,
) -> None:  # fmt: skip
    """See ``BitCanvas.light``."""
    length = size * row_words
    short = np.uint64(64 * row_words - size)
    for number in range(len(place_B)):
        image = place_B[number]
        bits_X, word_X, flip = bits_LX[lane_B[number]], word_BX[image], flip_B[image]
        if noisy:
            _noise(key, index_B[image], 0, noise)
            _noise(key, index_B[image], len(noise) // 2, forced)
            for word in forced:
                for part in (word & np.uint64(0xFFFFFFFF), word >> np.uint64(32)):
                    at = part * np.uint64(64 * length) >> np.uint64(32)
                    noise[at >> np.uint64(6)] |= np.uint64(1) << (at & np.uint64(63))
        for row in range(size):
            start = row * row_words
            out = start if flip & 1 else (size - 1 - row) * row_words
            if flip & 2:
                # All bits of the row backwards, then down by what the last word is short of.
                carried = np.uint64(0)
                for k in range(row_words):
                    at = start + k
                    turned = turned_over(bits_X[at] & noise[at])
                    word_X[out + row_words - 1 - k] = (turned >> short) | carried
                    carried = turned << (np.uint64(64) - short) if short else np.uint64(0)
            else:
                for k in range(row_words):
                    word_X[out + k] = bits_X[start + k] & noise[start + k]


@njit(cache=True, nogil=True)
def _count(bits_BX: Any, lit_B: Any) -> None:
    for image in range(len(bits_BX)):
        lit, bits_X = 0, bits_BX[image]
        for at in range(len(bits_X)):
            lit += int(ones(bits_X[at]))
        lit_B[image] = lit
