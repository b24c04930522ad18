"""The pictures of ``chaos_exact`` by torch, for a GPU: many images at once, and nothing in order.

An orbit is a chain of affine maps, and maps can be composed before they are applied: steps are cut into as many blocks
as a block has steps, the composition of each block is found for all blocks at once, a short chain over the blocks gives
the point each begins at, and from there all blocks advance together. Opaque 3x3 masks need no order either: what a
pixel shows is the bit of the last mask over it, the largest of (step, bit).

Every operation is one that IEEE 754 defines, so a GPU and a CPU make the same bytes. They are those of ``chaos_exact``
unless a point lies within rounding, a few parts in 10^16, of the border between two pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scaleback.sources.ifs import System
from scaleback.sources.kernels.bit_canvas import BitCanvas
from scaleback.sources.kernels.chaos import FILL_MASK, Canvas, choices, equal_chances
from scaleback.sources.pictures import Pictures

if TYPE_CHECKING:
    from scaleback.sources.kernels.chaos import Stamp

# Shapes: B images, T points of an orbit, K blocks of S steps, M maps, H rows, W columns, N blocks of Philox.

IMAGES_AT_ONCE = {"cuda": 256, "cpu": 16}
"""Of 100,000 points, 256 images take 3 GB."""
LOW = 0xFFFFFFFF


class TorchCanvas(BitCanvas):
    """Draws systems on the GPU that torch finds, or else on the CPU."""

    def __init__(self, *, size_px: int, points: int, pad_px: int, stamp: Stamp) -> None:
        super().__init__(size_px=size_px, points=points, pad_px=pad_px, stamp=stamp)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._scalar = Canvas(size_px=size_px, points=points, pad_px=pad_px, stamp=stamp, colour=False)

    def draw_batch(
        self,
        systems: Sequence[System],
        probabilities: Sequence[NDArray[np.float64]],
        mask_key: int,
        indices: Sequence[int],
        flips: Sequence[int] | None = None,
    ) -> Pictures:
        """See ``BitCanvas``."""
        byte_BHX = np.empty((len(systems), self.size, -(-self.size // 8)), np.uint8)
        flip_B = np.asarray(flips or [0] * len(systems))
        for group in equal_chances(probabilities, IMAGES_AT_ONCE[self._device.type]):
            system_BM6 = torch.from_numpy(np.stack([systems[number] for number in group])).to(self._device)
            choice_T = torch.from_numpy(choices(probabilities[group[0]], self.points, "float64").astype(np.int64))
            orbit_2BT = orbits(system_BM6, choice_T.to(self._device))
            index_B = torch.tensor([indices[number] for number in group], device=self._device)
            lit_BHW, lost_B = self._rasterised(orbit_2BT, mask_key, index_B)
            for place in np.flatnonzero(lost_B.cpu().numpy()):
                number = group[place]
                image_HWC = self._scalar.draw(systems[number], probabilities[number], mask_key, indices[number])
                lit_BHW[place] = torch.from_numpy(image_HWC[:, :, 0] > 0)
            for flip, axes in ((1, [1]), (2, [2]), (3, [1, 2])):
                turned = torch.from_numpy(flip_B[group] == flip)
                if turned.any():
                    lit_BHW[turned] = lit_BHW[turned].flip(axes)
            byte_BHX[group] = packed(lit_BHW).cpu().numpy()
        return Pictures.of(byte_BHX, self.size)

    def _rasterised(self, orbit_2BT: Tensor, mask_key: int, index_B: Tensor) -> tuple[Tensor, Tensor]:
        """(B, H, W) booleans, and (B,) which are no pictures: those whose orbit leaves the range of numbers."""
        size, (images, points) = self.size, orbit_2BT.shape[1:]
        low_2B1, high_2B1 = orbit_2BT.amin(2, keepdim=True), orbit_2BT.amax(2, keepdim=True)
        span_2B1 = high_2B1 - low_2B1
        fine_2B1 = torch.isfinite(orbit_2BT[:, :, -1:]) & torch.isfinite(span_2B1) & (span_2B1 > 0)
        lost_B = ~fine_2B1.all(0)[:, 0]
        place_2BT = (orbit_2BT - low_2B1) / span_2B1 * (size - 2 * self.pad) + self.pad
        place_2BT = torch.where(lost_B[:, None], torch.zeros_like(place_2BT), place_2BT).long()
        corner_BT = place_2BT[1] * size + place_2BT[0]
        if self.stamp == "point":
            # What lies under a point is no matter, so the last step may be any.
            shown_BX = torch.zeros(images, size * size, dtype=torch.int32, device=orbit_2BT.device)
            shown_BX.scatter_(1, corner_BT, 1)
            return shown_BX.view(images, size, size).flip(1) > 0, lost_B
        shown_BX = torch.zeros(images, (size + 3) * size, dtype=torch.int32, device=orbit_2BT.device)
        mask_BT = self._masks(mask_key, index_B, points)
        step_T = 2 * torch.arange(1, points + 1, dtype=torch.int32, device=orbit_2BT.device)
        for cell in range(9):
            bit_BT = (mask_BT >> cell & 1).to(torch.int32)
            # A transparent mask says nothing where it is zero, so no step hides another.
            value_BT = bit_BT if self.stamp == "stencil" else step_T + bit_BT
            at_BT = corner_BT + (cell // 3 + 1) * size + (cell % 3 + 1)
            shown_BX.scatter_reduce_(1, at_BT, value_BT, "amax")
        return (shown_BX[:, : size * size] & 1).bool().view(images, size, size).flip(1), lost_B

    def _masks(self, key: int, index_B: Tensor, points: int) -> Tensor:
        """(B, T) nine bits of each point."""
        if self.stamp == "fill":
            return torch.full((1, 1), FILL_MASK, device=index_B.device).expand(len(index_B), points)
        blocks = 1 if self.stamp == "stencil" else -(-points // 4)
        word_BT = philox(key, index_B, blocks).view(len(index_B), -1)
        word_BT = word_BT[:, :1].expand(-1, points) if self.stamp == "stencil" else word_BT[:, :points]
        return 1 + (word_BT * FILL_MASK >> 32)


def orbits(system_BM6: Tensor, choice_T: Tensor) -> Tensor:
    """(2, B, T) x and y of the orbits from the origin; all take the same maps."""
    images, points = len(system_BM6), len(choice_T)
    steps = max(1, round(points**0.5))
    blocks = -(-points // steps)
    choice_KS = torch.nn.functional.pad(choice_T, (0, blocks * steps - points)).view(blocks, steps)
    linear_BM22, shift_BM2 = system_BM6[:, :, :4].unflatten(2, (2, 2)), system_BM6[:, :, 4:]

    # The composition of each block's maps, as 2 x 3 matrices.
    made_BK23 = torch.eye(2, 3, dtype=torch.float64, device=system_BM6.device).expand(images, blocks, 2, 3)
    for step in range(steps):
        a_BK22, t_BK2 = linear_BM22[:, choice_KS[:, step]], shift_BM2[:, choice_KS[:, step]]
        made_BK23 = a_BK22[..., :1] * made_BK23[:, :, :1] + a_BK22[..., 1:] * made_BK23[:, :, 1:]
        made_BK23[..., 2] += t_BK2

    start_BK2 = torch.zeros(images, blocks, 2, dtype=torch.float64, device=system_BM6.device)
    for block in range(blocks - 1):
        x_B1, y_B1 = start_BK2[:, block, :1], start_BK2[:, block, 1:]
        made_B23 = made_BK23[:, block]
        start_BK2[:, block + 1] = made_B23[..., 0] * x_B1 + made_B23[..., 1] * y_B1 + made_B23[..., 2]

    orbit_2BKS = torch.empty(2, images, blocks, steps, dtype=torch.float64, device=system_BM6.device)
    point_BK2 = start_BK2
    for step in range(steps):
        orbit_2BKS[..., step] = point_BK2.movedim(2, 0)
        a_BK22, t_BK2 = linear_BM22[:, choice_KS[:, step]], shift_BM2[:, choice_KS[:, step]]
        point_BK2 = a_BK22[..., 0] * point_BK2[..., :1] + a_BK22[..., 1] * point_BK2[..., 1:] + t_BK2
    return orbit_2BKS.view(2, images, -1)[..., :points]


def philox(key: int, index_B: Tensor, blocks: int) -> Tensor:
    """(B, N, 4) words of Philox 4x32-10 as int64, those of ``core.seeds.words``."""
    c0 = torch.arange(blocks, device=index_B.device).expand(len(index_B), -1)
    c1 = torch.zeros_like(c0)
    c2, c3 = (index_B & LOW)[:, None].expand_as(c0), (index_B >> 32 & LOW)[:, None].expand_as(c0)
    k0, k1 = key & LOW, key >> 32
    for _ in range(10):
        # Products of two 32-bit words fill the sign bit; shifted with a mask, they are right.
        p0, p1 = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = (p1 >> 32 & LOW) ^ c1 ^ k0, p1 & LOW, (p0 >> 32 & LOW) ^ c3 ^ k1, p0 & LOW
        k0, k1 = (k0 + 0x9E3779B9) & LOW, (k1 + 0xBB67AE85) & LOW
    return torch.stack([c0, c1, c2, c3], dim=2)


def packed(lit_BHW: Tensor) -> Tensor:
    """(B, H, ceil(W / 8)) bits of booleans, least bit first."""
    padded_BHW = torch.nn.functional.pad(lit_BHW.to(torch.uint8), (0, -lit_BHW.shape[2] % 8))
    weight_8 = 2 ** torch.arange(8, dtype=torch.uint8, device=lit_BHW.device)
    byte_BHX: Tensor = (padded_BHW.unflatten(2, (-1, 8)) * weight_8).sum(3, dtype=torch.uint8)
    return byte_BHX
