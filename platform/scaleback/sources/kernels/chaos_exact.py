"""The pictures of ``chaos`` byte for byte, in gray, sixteen images at a time.

Images with equal chances take the same maps in the same order, so sixteen orbits advance together, one in each lane
of a vector, in float64 and in the reference's order of operations: nothing is fused, no rounding differs. Opaque 3x3
masks are then pasted in order as the reference pastes them, three bits in each of three rows of a picture of bits.

An orbit that leaves the range of numbers is drawn by ``chaos`` itself, which knows what the reference does with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from scaleback.sources.ifs import PARAMETERS, System
from scaleback.sources.kernels import philox
from scaleback.sources.kernels.bit_canvas import BitCanvas
from scaleback.sources.kernels.chaos import FILL_MASK, Canvas, Stamp, choices, equal_chances
from scaleback.sources.kernels.simd import LANES, least, load, minus, most, over, place, plus, splat, store, times
from scaleback.sources.pictures import Pictures

# Shapes: T points of an orbit, M maps, L lanes, K words of 64 pixels in a row.

TILE_STEPS = 64
"""Steps of sixteen orbits between two visits to one image."""
_MAP = PARAMETERS * LANES


class ExactCanvas(BitCanvas):
    """Draws systems exactly as the reference does; holds the scratch memory, so use one per thread."""

    def __init__(self, *, size_px: int, points: int, pad_px: int, stamp: Stamp) -> None:
        super().__init__(size_px=size_px, points=points, pad_px=pad_px, stamp=stamp)
        self._scalar = Canvas(size_px=size_px, points=points, pad_px=pad_px, stamp=stamp, colour=False)
        self._tile = np.empty(TILE_STEPS * LANES, np.int32)
        self._masks = np.full(TILE_STEPS, FILL_MASK, np.uint64)

    def draw_batch(
        self,
        systems: Sequence[System],
        probabilities: Sequence[NDArray[np.float64]],
        mask_key: int,
        indices: Sequence[int],
        flips: Sequence[int] | None = None,
    ) -> Pictures:
        """See ``BitCanvas``."""
        sink = self.sink(len(systems))
        index_B, flip_B = np.asarray(indices, np.uint64), np.asarray(flips or [0] * len(systems))
        for group in equal_chances(probabilities, LANES):
            lost_L = self._cover(
                [systems[number] for number in group], probabilities[group[0]], mask_key, index_B[group]
            )
            for lane in np.flatnonzero(lost_L):
                number = group[lane]
                image = self._scalar.draw(systems[number], probabilities[number], mask_key, indices[number])
                self.put(image[::-1, :, 0], int(lane))
            self.light(np.arange(len(group)), np.array(group), flip_B, sink)
        return sink.pictures()

    def _cover(
        self, systems: Sequence[System], probability_M: NDArray[np.float64], mask_key: int, index_L: NDArray[np.uint64]
    ) -> NDArray[np.bool_]:
        """Draw into the first rows of ``bits_LX``, the lowest row of pixels first; (L,) which are left to ``chaos``."""
        bits_LX = self.bits_LX[: len(systems)]
        bits_LX[:] = 0
        system_M6L = np.zeros((len(probability_M), PARAMETERS, LANES))
        for lane, system in enumerate(systems):
            system_M6L[:, :, lane] = system
        choice_T = choices(probability_M, self.points, "float64")
        box_4L, end_2L = np.empty(4 * LANES), np.empty(2 * LANES)
        _bounds(system_M6L.ravel(), choice_T, box_4L, end_2L)
        low_2L, high_2L = box_4L.reshape(2, 2, LANES)
        with np.errstate(over="ignore", invalid="ignore"):
            span_2L = high_2L - low_2L
        # A number that left the range never comes back, so the last point tells.
        fine_2L = np.isfinite(end_2L.reshape(2, LANES)) & np.isfinite(span_2L) & (span_2L > 0)
        lost_L = np.logical_not(fine_2L.all(axis=0))
        system_M6L[:, :, lost_L] = 0
        view_X = np.concatenate([np.where(lost_L, 0, low_2L), np.where(lost_L, 1, span_2L)]).ravel()
        _paste(
            system_M6L.ravel(), choice_T, view_X, float(self.size - 2 * self.pad), float(self.pad), self.stamp,
            np.uint64(mask_key), index_L, self.row_words, self._tile, self._masks, bits_LX,
        )  # fmt: skip
        return lost_L[: len(systems)]


# Kernels. No fastmath and no fused operations: float64 as written, so pictures are the same on every machine.


@njit(cache=True, nogil=True)
def _next(system_X: Any, choice: Any, x: Any, y: Any) -> Any:
    at = np.intp(choice) * _MAP
    return (
        plus(plus(times(load(system_X, at), x), times(load(system_X, at + LANES), y)), load(system_X, at + 4 * LANES)),
        plus(
            plus(times(load(system_X, at + 2 * LANES), x), times(load(system_X, at + 3 * LANES), y)),
            load(system_X, at + 5 * LANES),
        ),
    )


@njit(cache=True, nogil=True)
def _bounds(system_X: Any, choice_T: Any, box_4L: Any, end_2L: Any) -> None:
    """Bounding boxes (low x, low y, high x, high y) of the orbits from the origin, and where they end."""
    x = splat(0.0)
    y = x
    low_x, low_y, high_x, high_y = x, x, x, x
    for t in range(len(choice_T) - 1):
        x, y = _next(system_X, choice_T[t], x, y)
        low_x, low_y, high_x, high_y = least(x, low_x), least(y, low_y), most(x, high_x), most(y, high_y)
    store(box_4L, 0, low_x)
    store(box_4L, LANES, low_y)
    store(box_4L, 2 * LANES, high_x)
    store(box_4L, 3 * LANES, high_y)
    store(end_2L, 0, x)
    store(end_2L, LANES, y)


@njit(cache=True, nogil=True)
def _paste(
    system_X: Any, choice_T: Any, view_X: Any, extent: float, pad: float, stamp: str, key: Any, index_L: Any,
    row_words: int, tile: Any, masks: Any, bits_LX: Any,
) -> None:  # fmt: skip
    """``view_X`` holds low x, low y, span x, span y."""
    low_x, low_y = load(view_X, 0), load(view_X, LANES)
    span_x, span_y = load(view_X, 2 * LANES), load(view_X, 3 * LANES)
    extents, pads = splat(extent), splat(pad)
    x = splat(0.0)
    y = x
    row_bits, points = np.int32(64 * row_words), len(choice_T)
    for start in range(0, points, TILE_STEPS):
        steps = min(points - start, TILE_STEPS)
        for step in range(steps):
            row = plus(times(over(minus(y, low_y), span_y), extents), pads)
            column = plus(times(over(minus(x, low_x), span_x), extents), pads)
            store(tile, step * LANES, place(row, column, row_bits))
            x, y = _next(system_X, choice_T[start + step], x, y)
        for lane in range(len(bits_LX)):
            if stamp == "random":
                for block in range((steps + 3) // 4):
                    words = philox.block(key, index_L[lane], start // 4 + block)
                    for word in range(4):
                        masks[4 * block + word] = np.uint64(1) + (words[word] * np.uint64(FILL_MASK) >> np.uint64(32))
            elif stamp == "stencil":
                word = philox.block(key, index_L[lane], 0)[0]
                masks[:] = np.uint64(1) + (word * np.uint64(FILL_MASK) >> np.uint64(32))
            if stamp == "point":
                for step in range(steps):
                    at = np.uint64(tile[step * LANES + lane])
                    bits_LX[lane][at >> np.uint64(6)] |= np.uint64(1) << (at & np.uint64(63))
            else:
                _stamp(bits_LX[lane], tile, lane, steps, masks, stamp == "stencil", row_words)


@njit(cache=True, nogil=True)
def _stamp(bits_X: Any, tile: Any, lane: int, steps: int, masks: Any, transparent: bool, row_words: int) -> None:
    """Pastes a 3x3 mask one pixel right of and above each point (rows are turned over later), in order."""
    seven, last, wide = np.uint64(7), np.uint64(61), np.uint64(64)
    for step in range(steps):
        at = np.uint64(tile[np.uint64(step * LANES + lane)]) + np.uint64(1)
        mask, shift, word = masks[step], at & np.uint64(63), at >> np.uint64(6)
        hidden = np.uint64(0) if transparent else seven
        for _ in range(3):
            word += np.uint64(row_words)
            row = mask & seven
            mask >>= np.uint64(3)
            bits_X[word] = (bits_X[word] & ~(hidden << shift)) | (row << shift)
            if shift > last:  # the mask goes on in the next word
                rest = wide - shift
                bits_X[word + np.uint64(1)] = (bits_X[word + np.uint64(1)] & ~(hidden >> rest)) | (row >> rest)
