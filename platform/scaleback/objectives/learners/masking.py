"""Which patches are hidden: pure functions of each image's own draws."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scaleback.core.errors import RunError

# Shapes: B images, H rows and W columns of patches, T = H x W patches, S draws.

FAILURES = 10
"""Blocks in a row that may not fit before no more are tried (BEiT's released code)."""
ATTEMPTS = 40
"""Blocks that are tried in all; of 3,000 masks of the paper's kind the longest took 36."""
DRAWS_A_BLOCK = 4
BLOCK_DRAWS = ATTEMPTS * DRAWS_A_BLOCK + 1
"""Draws an image that ``block_masks`` takes."""


def hidden_patches(patches: int, share: float) -> int:
    """How many of an image's patches are hidden: at least one, and one is left.

    Raises:
        RunError: the image is one patch.
    """
    if patches < 2:
        raise RunError("an image is a single patch: there is no other to predict it from")
    return min(max(1, round(patches * share)), patches - 1)


def block_masks(
    draw_BS: NDArray[np.float32], grid: tuple[int, int], *, hidden: int, least_area: float, narrowest: float
) -> NDArray[np.bool_]:
    """(B, T) masks that are unions of rectangles, ``hidden`` patches each (Bao et al., 2022, algorithm 1).

    The area of a block is uniform between the least and what is left to hide, the logarithm of its aspect ratio
    between that of ``narrowest`` and of its inverse. A block is taken if it is smaller than the grid either way, hides
    something new and not too much. Where no block fits any more, BEiT's code leaves an image with fewer hidden patches
    (a third of all images, by 1.6 of 75 on average); here the next ones row by row from a random place on make up the
    number, so that all images weigh the same.
    """
    height, width = grid
    images, patches = len(draw_BS), height * width
    draw_BA4 = draw_BS[:, :-1].reshape(images, ATTEMPTS, DRAWS_A_BLOCK).astype(np.float64)
    free_BHW = np.ones((images, height, width), np.float32)
    left_B, failures_B = np.full(images, hidden), np.zeros(images, int)
    for attempt in range(ATTEMPTS):
        active = np.flatnonzero((left_B > 0) & (failures_B < FAILURES))
        if not len(active):
            break
        area, ratio, down, across = draw_BA4[active, attempt].T
        area = least_area + area * (left_B[active] - least_area)
        aspect = np.exp((2 * ratio - 1) * -math.log(narrowest))
        tall, wide = (np.rint(np.sqrt(value)).astype(int) for value in (area * aspect, area / aspect))
        row_BH1, column_B1W = _interval(down, tall, height)[:, :, None], _interval(across, wide, width)[:, None]
        new = (column_B1W @ (free_BHW[active].transpose(0, 2, 1) @ row_BH1))[:, 0, 0].astype(int)
        taken = (tall < height) & (wide < width) & (new > 0) & (new <= left_B[active])
        free_BHW[active[taken]] *= 1 - row_BH1[taken] * column_B1W[taken]
        left_B[active[taken]] -= new[taken]
        failures_B[active] = np.where(taken, 0, failures_B[active] + 1)
    mask_BT: NDArray[np.bool_] = free_BHW.reshape(images, patches) == 0
    start_B1 = (draw_BS[:, -1:] * patches).astype(int)
    turn_BT = (np.arange(patches) - start_B1) % patches - patches * mask_BT
    np.put_along_axis(mask_BT, np.argsort(turn_BT, axis=1)[:, :hidden], True, axis=1)
    return mask_BT


def _interval(draw_B: NDArray[np.float64], length_B: NDArray[np.int64], whole: int) -> NDArray[np.float32]:
    """(B, whole) one in a stretch of each length, uniformly placed, zero beside it."""
    places_B = np.maximum(whole - length_B + 1, 1)
    start_B = np.minimum((draw_B * places_B).astype(int), places_B - 1)[:, None]  # a draw may round to 1
    place = np.arange(whole)
    inside: NDArray[np.bool_] = (place >= start_B) & (place < start_B + length_B[:, None])
    return inside.astype(np.float32)


def shuffled(draw_BT: Tensor) -> Tensor:
    """(B, T) int64 the places of each image's patches in random order."""
    return torch.argsort(draw_BT, dim=1, stable=True)
