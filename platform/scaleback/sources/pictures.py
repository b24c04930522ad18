"""Pictures of two values, a bit a pixel, without their bytes of nothing.

Most of a fractal is nothing: of the 32 KB of 512 x 512 bits some 6 are not zero. A picture is squeezed while it is near
the core, as soon as it is finished; what follows (counting, packing, storing) then has a fifth to read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Shapes: B pictures, H rows, W columns, X bytes of a row or of a picture's mask, N bytes that are not zero.

NEAR_BYTES = 1 << 18
"""Pixels that are made of bits at a time; they stay in the second cache until they are put in place."""


def row_bytes(width: int) -> int:
    """Bytes of a row: whole words of 64 bits."""
    return 8 * -(-width // 64)


def mask_bytes(height: int, width: int) -> int:
    """Bytes of a picture's mask: a bit for every byte of it, in whole words."""
    return 8 * -(-height * row_bytes(width) // 64)


@dataclass(frozen=True, kw_only=True, slots=True)
class Pictures:
    """Some of one size; an index or a slice gives some of them."""

    height: int
    width: int
    byte_N: NDArray[np.uint8]
    """Bytes that are not zero, of one picture after the other; the least bit is the leftmost pixel."""
    end_B: NDArray[np.int32]
    """(B + 1,) where those of each picture begin, and those of the last one end."""
    mask_BX: NDArray[np.uint8]
    """Which bytes these are, a bit each, least bit first; rows are whole words of 64 pixels."""

    @classmethod
    def of(cls, bits_BHX: NDArray[np.uint8], width: int) -> Pictures:
        """Of (B, H, ceil(W / 8)) bits, least bit first."""
        from scaleback.sources.kernels.squeeze import squeezed

        count, height, given = bits_BHX.shape
        rows_BHX = np.zeros((count, height, row_bytes(width)), np.uint8)
        rows_BHX[:, :, :given] = bits_BHX
        byte_N, end_B, mask_BX = squeezed(rows_BHX.reshape(count, -1))
        return cls(height=height, width=width, byte_N=byte_N, end_B=end_B, mask_BX=mask_BX)

    def __len__(self) -> int:
        return len(self.mask_BX)

    def __getitem__(self, which: slice | NDArray[np.int64]) -> Pictures:
        from scaleback.sources.kernels.squeeze import gathered

        if isinstance(which, slice):
            start, stop, step = which.indices(len(self))
            assert step == 1, "pictures that follow one another"
            end_B = self.end_B[start : max(start, stop) + 1]
            byte_N = self.byte_N[end_B[0] : end_B[-1]]
            return self._like(byte_N, end_B - end_B[0], self.mask_BX[which])
        byte_N, end_B = gathered(self.byte_N, self.end_B[:-1][which], self.end_B[1:][which])
        return self._like(byte_N, end_B, self.mask_BX[which])

    def replaced(self, place_N: NDArray[np.int64], others: Pictures) -> Pictures:
        """These with others in some places."""
        source_B = np.arange(len(self))
        source_B[place_N] = len(self) + np.arange(len(others))
        return joined([self, others])[source_B]

    @property
    def fills(self) -> NDArray[np.float64]:
        """(B,) share of pixels that are lit."""
        from scaleback.sources.kernels.squeeze import lit

        return lit(self.byte_N, self.end_B) / (self.height * self.width)

    @property
    def bits_BHX(self) -> NDArray[np.uint8]:  # noqa: N802  # a shape ends the name
        """(B, H, ceil(W / 8)) bits, least bit first."""
        return self._rows()[:, :, : -(-self.width // 8)]

    def put(self, image_BHWC: NDArray[np.uint8], level: int) -> None:
        """Write them, a byte a pixel, into (B, H, W, 1); ``level`` is the value of a lit one."""
        together = max(1, NEAR_BYTES // (self.height * self.width))
        for start in range(0, len(self), together):
            here = slice(start, start + together)
            lit_BHW = np.unpackbits(self[here]._rows(), axis=2, count=self.width, bitorder="little")
            np.multiply(lit_BHW, np.uint8(level), out=image_BHWC[here, ..., 0])

    def images(self, level: int) -> NDArray[np.uint8]:
        """(B, H, W, 1), a byte a pixel."""
        image_BHWC = np.empty((len(self), self.height, self.width, 1), np.uint8)
        self.put(image_BHWC, level)
        return image_BHWC

    def _rows(self) -> NDArray[np.uint8]:
        """(B, H, X) bits in rows of whole words."""
        from scaleback.sources.kernels.squeeze import spread

        wide = row_bytes(self.width)
        byte_BX = spread(self.byte_N, self.end_B, self.mask_BX)
        return byte_BX[:, : self.height * wide].reshape(len(self), self.height, wide)

    def _like(self, byte_N: NDArray[np.uint8], end_B: NDArray[np.int32], mask_BX: NDArray[np.uint8]) -> Pictures:
        return Pictures(height=self.height, width=self.width, byte_N=byte_N, end_B=end_B, mask_BX=mask_BX)


def joined(parts: Sequence[Pictures]) -> Pictures:
    """Pictures of one size, one after the other."""
    first = parts[0]
    begin = np.cumsum([0, *(len(part.byte_N) for part in parts[:-1])])
    ends = [part.end_B[1:] + start for part, start in zip(parts, begin, strict=True)]
    return Pictures(
        height=first.height,
        width=first.width,
        byte_N=np.concatenate([part.byte_N for part in parts]),
        end_B=np.concatenate([np.zeros(1, np.int32), *ends]).astype(np.int32),
        mask_BX=np.concatenate([part.mask_BX for part in parts]),
    )
