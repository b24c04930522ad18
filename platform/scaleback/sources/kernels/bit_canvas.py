"""What the fast and the exact renderer share: pictures of bits, turned over, mirrored and squeezed.

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
from scaleback.sources.kernels.simd import BYTES, LANES, turned_over
from scaleback.sources.kernels.squeeze import gathered, squeeze_row
from scaleback.sources.pictures import Pictures, mask_bytes

# Shapes: B images, M maps, L lanes, H rows, X words of 64 pixels, row after row; N bytes that are not zero.

FORCED = 511
"""One pixel in so many is lit whatever its bit: 1/2 + 1/2 * 1/511 = 256/511, the chance of a bit in a mask that is
not empty."""


class BitCanvas(ABC):
    """Draws systems on gray pictures of one kind; holds the scratch memory, so use one per thread.

    Its pictures stay bits without their zeros: most of them are stored before they are looked at, and writing a byte a
    pixel to memory would take longer than drawing.
    """

    def __init__(self, *, size_px: int, points: int, pad_px: int, stamp: Stamp) -> None:
        self.size, self.points, self.pad, self.stamp = size_px, points, pad_px, stamp
        self.row_words = -(-size_px // 64)
        self.words = size_px * self.row_words
        self.bits_LX = np.empty((LANES, self.words), np.uint64)
        self._noise = np.full(2 * -(-self.words // 2), ~np.uint64(0))
        self._forced = np.empty(2 * ((64 * self.words // FORCED + 3) // 4), np.uint64)
        self._finished = np.zeros(mask_bytes(size_px, size_px), np.uint64)  # a bit of the mask is a byte of the picture
        self._squeezed = np.empty(0, np.uint8)

    @abstractmethod
    def draw_batch(
        self,
        systems: Sequence[System],
        probabilities: Sequence[NDArray[np.float64]],
        mask_key: int,
        indices: Sequence[int],
        flips: Sequence[int] | None = None,
    ) -> Pictures:
        """Pictures of systems; no pixel is lit where one leaves the range of numbers or has no extent.

        Args:
            systems: (M, 6) each, of any number of maps; the same array with the same probabilities may be given
                several times, and what its pictures share is computed once.
            probabilities: (M,) each; fastest where all are the same, and that changes no picture.
            mask_key: stream of the masks.
            indices: each image's place in that stream.
            flips: 0 for none, 1 top to bottom, 2 left to right, 3 both.
        """

    def sink(self, images: int) -> Sink:
        """Where the pictures of a batch go; it is good until the next batch."""
        needed = images * self._finished.nbytes + BYTES  # a vector more: it is written before it is counted
        if needed > len(self._squeezed):
            self._squeezed = np.empty(needed, np.uint8)
        return Sink(self._squeezed, images, self.size)

    def light(
        self,
        lane_B: NDArray[np.int64],
        place_B: NDArray[np.int64],
        flip_B: NDArray[np.int64],
        sink: Sink,
        noise: tuple[int, NDArray[np.int64]] | None = None,
    ) -> None:
        """Finish the picture of lane ``lane_B[n]`` as image ``place_B[n]`` of the batch.

        Args:
            lane_B: lanes.
            place_B: where in the batch.
            flip_B: flips of the whole batch.
            sink: the batch.
            noise: stream, and places in it of the whole batch; only so many of the lane's pixels are lit.
        """
        key, index_B = noise if noise is not None else (0, np.zeros_like(flip_B))
        sink.filled = _light(
            self.bits_LX, lane_B, np.uint64(key), index_B.astype(np.uint64), flip_B, place_B,
            noise is not None, self._noise, self._forced, self.row_words, self.size,
            self._finished, self._finished.view(np.uint8),
            sink.byte_N, sink.filled, sink.start_B, sink.stop_B, sink.mask_BK,
        )  # fmt: skip

    def put(self, image_HW: NDArray[np.uint8], lane: int) -> None:
        """Put a picture, its lowest row first, into a lane."""
        byte_HX = self.bits_LX[lane].view(np.uint8).reshape(self.size, -1)
        byte_HX[:] = 0
        packed_HX = np.packbits(image_HW > 0, axis=1, bitorder="little")
        byte_HX[:, : packed_HX.shape[1]] = packed_HX

    @staticmethod
    def fills(pictures: Pictures) -> NDArray[np.float64]:
        """(B,) share of pixels that are lit."""
        return pictures.fills

    @staticmethod
    def replaced(pictures: Pictures, place_N: NDArray[np.int64], others: Pictures) -> Pictures:
        """Pictures with others in some places."""
        return pictures.replaced(place_N, others)

    @staticmethod
    def samples(pictures: Pictures, label_B: NDArray[np.int64], facts: Mapping[str, NDArray[Any]]) -> BitSamples:
        """Pictures with their labels and facts."""
        return BitSamples(pictures=pictures, level=GRAY, label_B=label_B, facts=facts)


class Sink:
    """Squeezed pictures of a batch, in the order in which they are finished."""

    def __init__(self, byte_N: NDArray[np.uint8], images: int, size: int) -> None:
        self._size = size
        self.byte_N, self.filled = byte_N, 0
        self.start_B, self.stop_B = np.zeros(images, np.int64), np.zeros(images, np.int64)
        self.mask_BK = np.empty((images, mask_bytes(size, size) // 8), np.uint64)

    def pictures(self) -> Pictures:
        """All of them, in the order of the batch."""
        byte_N, end_B = gathered(self.byte_N, self.start_B, self.stop_B)
        mask_BX = self.mask_BK.view(np.uint8)
        return Pictures(height=self._size, width=self._size, byte_N=byte_N, end_B=end_B, mask_BX=mask_BX)


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
    noisy: bool, noise: Any, forced: Any, row_words: int, size: int, word_X: Any, byte_X: Any,
    byte_N: Any, filled: Any, start_B: Any, stop_B: Any, mask_BK: Any,
) -> Any:  # fmt: skip
    """See ``BitCanvas.light``; ``word_X`` and ``byte_X`` are the same memory. Returns how many bytes are filled."""
    length = size * row_words
    short = np.uint64(64 * row_words - size)
    for number in range(len(place_B)):
        image = place_B[number]
        bits_X, flip = bits_LX[lane_B[number]], flip_B[image]
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
        start_B[image] = filled
        filled = squeeze_row(byte_X, byte_N, filled, mask_BK[image])
        stop_B[image] = filled
    return filled
