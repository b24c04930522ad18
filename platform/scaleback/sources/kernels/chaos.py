"""The chaos game and its rasteriser, as FractalDB, OFDB and 1p-frac draw it, compiled, one image at a time.

Every step of the reference is kept, in its order and in float64: the origin is the first point and stays in the
bounding box, the map of step i is chosen by element i of numpy's MT19937 with seed 100 whatever the image, the
picture is stretched to its box, and 3x3 masks are pasted opaquely in order, one pixel down and right of the point.
Only the mask draws differ: the reference takes them from an unseeded generator, we take word t of the image's stream.
``chaos_exact`` draws the same gray pictures sixteen at a time; this is for colour, for the category search, and for
orbits that leave the range of numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

from scaleback.core import seeds
from scaleback.sources.base import Samples
from scaleback.sources.ifs import System, probabilities
from scaleback.sources.kernels import philox

# Shapes: T points of an orbit, M maps, P colours of a palette, H rows, W columns, C channels.

ORBIT_SEED = 100
"""The reference re-seeds numpy with 100 before every image."""
GRAY = 127
NAN_MARGIN = 100
"""Points dropped before the first that is not a number."""
FILL_MASK = 511
Precision: TypeAlias = Literal["float32", "float64"]
Stamp: TypeAlias = Literal["point", "fill", "random", "stencil"]
"""What is drawn at a point: one pixel; a full 3x3 patch; a patch with a mask of its own, zeros hiding what lies under
them; a patch with the image's one mask, which hides nothing (as Anderson and Farrell draw)."""
PALETTE_COLOURS = 128


class Canvas:
    """Draws systems exactly as the reference does; holds the scratch memory, so use one per thread."""

    def __init__(self, *, size_px: int, points: int, pad_px: int, stamp: Stamp, colour: bool) -> None:
        self._size, self._pad, self._stamp = size_px, pad_px, stamp
        self._palette_PC = palette() if colour else np.full((1, 1), GRAY, np.uint8)
        self._x_T, self._y_T = np.empty(points), np.empty(points)

    def draw(
        self, system_M6: System, probability_M: NDArray[np.float64], mask_key: int, index: int
    ) -> NDArray[np.uint8]:
        """One (H, W, C) picture; all zero if the system leaves the range of numbers or has no extent."""
        image_HWC = np.zeros((self._size, self._size, self._palette_PC.shape[1]), np.uint8)
        kept = _orbit(system_M6, choices(probability_M, len(self._x_T), "float64"), self._x_T, self._y_T)
        if kept > 0:
            _paste(
                self._x_T[:kept],
                self._y_T[:kept],
                self._pad,
                self._stamp,
                np.uint64(mask_key),
                np.uint64(index),
                self._palette_PC,
                image_HWC,
            )
        return image_HWC[::-1].copy()  # the reference flips top to bottom when it saves

    def draw_batch(
        self,
        systems: Sequence[System],
        probabilities: Sequence[NDArray[np.float64]],
        mask_key: int,
        indices: Sequence[int],
        flips: Sequence[int] | None = None,
    ) -> NDArray[np.uint8]:
        """(B, H, W, C) pictures, one by one; a flip is 0 for none, 1 top to bottom, 2 left to right, 3 both."""
        image_BHWC = np.stack(
            [
                self.draw(system, chances, mask_key, index)
                for system, chances, index in zip(systems, probabilities, indices, strict=True)
            ]
        )
        for image, flip in zip(image_BHWC, flips or [], strict=False):
            image[:] = image[:: -1 if flip & 1 else 1, :: -1 if flip & 2 else 1].copy()
        return image_BHWC

    @staticmethod
    def fills(image_BHWC: NDArray[np.uint8]) -> NDArray[np.float64]:
        """(B,) share of pixels that are not black."""
        return np.array([fill(image) for image in image_BHWC])

    @staticmethod
    def replaced(
        image_BHWC: NDArray[np.uint8], place_N: NDArray[np.int64], others_NHWC: NDArray[np.uint8]
    ) -> NDArray[np.uint8]:
        """Pictures with others in some places."""
        image_BHWC[place_N] = others_NHWC
        return image_BHWC

    @staticmethod
    def samples(
        image_BHWC: NDArray[np.uint8], label_B: NDArray[np.int64], facts: Mapping[str, NDArray[Any]]
    ) -> Samples:
        """Pictures with their labels and facts."""
        return Samples(image_BHWC=image_BHWC, label_B=label_B, facts=facts)


def fill(image_HWC: NDArray[np.uint8]) -> float:
    """Share of pixels that are not black."""
    lit_HW = image_HWC[:, :, 0] if image_HWC.shape[2] == 1 else image_HWC.any(axis=2)
    return float(np.count_nonzero(lit_HW) / lit_HW.size)


def point_canvas(*, size_px: int, points: int, pad_px: int) -> Canvas:
    """The canvas of FractalDB's category search: single gray points."""
    return Canvas(size_px=size_px, points=points, pad_px=pad_px, stamp="point", colour=False)


def point_fill(canvas: Canvas, system_M6: System) -> float:
    """The filling rate of FractalDB's category search."""
    return fill(canvas.draw(system_M6, probabilities(system_M6), 0, 0))


@lru_cache(maxsize=4)
def uniform(points: int) -> NDArray[np.float64]:
    """(T,) the numbers that choose the map of every step, of every image."""
    return np.random.RandomState(ORBIT_SEED).random(points)


def choices(probability_M: NDArray[np.float64], points: int, dtype: Precision) -> NDArray[np.uint8]:
    """(T,) the map of every step: the first whose cumulative chance is not below the step's number, both rounded."""
    return _choices(probability_M.tobytes(), points, dtype)


@lru_cache(maxsize=2)
def _choices(probability_bytes: bytes, points: int, dtype: Precision) -> NDArray[np.uint8]:
    choice_T = np.empty(points, np.uint8)
    _choose(np.cumsum(np.frombuffer(probability_bytes)).astype(dtype), uniform(points).astype(dtype), choice_T)
    return choice_T


def equal_chances(probabilities: Sequence[NDArray[np.float64]], most: int) -> Iterator[list[int]]:
    """Places of equal chances together, up to ``most`` at a time: their orbits take the same maps."""
    groups: dict[bytes, list[int]] = {}
    for number, chances in enumerate(probabilities):
        groups.setdefault(np.ascontiguousarray(chances).tobytes(), []).append(number)
    for group in groups.values():
        for start in range(0, len(group), most):
            yield group[start : start + most]


def stencil(mask_key: int, index: int) -> int:
    """The nine bits of an image's one mask."""
    return 1 + (int(seeds.words(mask_key, [index], 1)[0, 0]) * FILL_MASK >> 32)


@lru_cache(maxsize=1)
def palette() -> NDArray[np.uint8]:
    """FractalDB's colour wheel: 128 hues at saturation and intensity 0.75, six sectors, written blue first."""
    hue_P = 6 * np.arange(PALETTE_COLOURS) / PALETTE_COLOURS
    high, low = 0.75, 0.75 * (1 - 0.75)
    up_P = low + (high - low) * (hue_P % 1)
    down_P = high - (high - low) * (hue_P % 1)
    sector = hue_P.astype(int)
    flat_high, flat_low = np.full(PALETTE_COLOURS, high), np.full(PALETTE_COLOURS, low)
    red = np.choose(sector, [flat_high, down_P, flat_low, flat_low, up_P, flat_high])
    green = np.choose(sector, [up_P, flat_high, flat_high, down_P, flat_low, flat_low])
    blue = np.choose(sector, [flat_low, flat_low, up_P, flat_high, flat_high, down_P])
    return (255 * np.stack([blue, green, red], axis=1)).astype(np.uint8)


# Kernels. No fastmath: float64 operations happen as written, so pictures are the same on every machine.


@njit(cache=True, nogil=True)
def _choose(cumulative_M: Any, uniform_T: Any, choice_T: Any) -> None:
    last = len(cumulative_M) - 1
    for t in range(len(uniform_T)):
        j = 0
        while j < last and uniform_T[t] > cumulative_M[j]:
            j += 1
        choice_T[t] = j


@njit(cache=True, nogil=True)
def _orbit(system_M6: Any, choice_T: Any, x_T: Any, y_T: Any) -> int:
    """Fills the orbit; returns how many points are kept, 0 if the orbit left the range of numbers."""
    x, y = 0.0, 0.0
    x_T[0], y_T[0] = x, y
    kept = len(x_T)
    for t in range(len(x_T) - 1):
        m = choice_T[t]
        x, y = (
            system_M6[m, 0] * x + system_M6[m, 1] * y + system_M6[m, 4],
            system_M6[m, 2] * x + system_M6[m, 3] * y + system_M6[m, 5],
        )
        x_T[t + 1], y_T[t + 1] = x, y
        if np.isnan(x) or np.isnan(y):
            # Once one coordinate is not a number both are, from the next step on; the reference drops the 100
            # points before the first in x and all after it.
            first = t + 1 if np.isnan(x) else t + 2
            kept = max(0, first - NAN_MARGIN)
            break
    for t in range(kept):
        if not (np.isfinite(x_T[t]) and np.isfinite(y_T[t])):
            return 0
    return kept


@njit(cache=True, nogil=True)
def _paste(x_T: Any, y_T: Any, pad: int, stamp: str, key: Any, index: Any, palette_PC: Any, image_HWC: Any) -> None:
    height, width, channels = image_HWC.shape
    # Shifted only if something lies left of or below the origin, as in the reference.
    low_x, low_y = min(0.0, x_T.min()), min(0.0, y_T.min())
    span_x, span_y = (x_T - low_x).max(), (y_T - low_y).max()
    if not (np.isfinite(span_x) and np.isfinite(span_y) and span_x > 0 and span_y > 0):
        return
    flat = image_HWC.ravel()
    colours = palette_PC.ravel()
    wide, deep = np.uint64(width * channels), np.uint64(channels)
    patch, transparent = stamp != "point", stamp == "stencil"
    origin = wide + deep if patch else np.uint64(0)  # a patch lies one pixel down and right of its point
    hue = np.uint64(0)
    words = philox.block(key, index, 0)
    for block in range((len(x_T) + 3) // 4):
        if stamp == "random" and block:
            words = philox.block(key, index, block)
        for lane in range(min(4, len(x_T) - 4 * block)):
            t = 4 * block + lane
            column = np.uint64((x_T[t] - low_x) / span_x * (width - 2 * pad) + pad)
            row = np.uint64((y_T[t] - low_y) / span_y * (height - 2 * pad) + pad)
            place = row * wide + column * deep + origin
            word = words[0] if transparent else words[lane]
            mask = np.uint64(FILL_MASK)
            if stamp != "fill":
                mask = np.uint64(1) + ((word * np.uint64(FILL_MASK)) >> np.uint64(32))
            for c in range(deep):
                value = colours[hue + c]
                bits = mask
                if patch:
                    for cell_row in range(3):
                        at = place + np.uint64(cell_row) * wide + c
                        for _ in range(3):
                            if bits & np.uint64(1) or not transparent:
                                flat[at] = value * np.uint8(bits & np.uint64(1))
                            bits >>= np.uint64(1)
                            at += deep
                else:
                    flat[place + c] = value
            hue += deep
            if hue == np.uint64(len(colours)):
                hue = np.uint64(0)
