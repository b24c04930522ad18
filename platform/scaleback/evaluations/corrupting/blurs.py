"""Blur of the lens, of motion, of a zoom, and of glass."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from scaleback.evaluations.corrupting.draws import Draws
from scaleback.evaluations.corrupting.filters import blur, convolve, displaced, streaked

# Shapes: B images, C channels, H rows, W columns.

ZOOMS = 11
"""As many as ImageNet-C has at severities 1, 3 and 5."""
SUBPIXELS = 16
"""Samples a pixel and axis of the disk's area."""


def gaussian(image_BCHW: Tensor, strength: tuple[float, ...], draws: Draws) -> Tensor:
    return blur(image_BCHW, strength[0])


def defocus(image_BCHW: Tensor, strength: tuple[float, ...], draws: Draws) -> Tensor:
    return convolve(image_BCHW, disk(strength[0], image_BCHW.device))


def disk(radius_px: float, device: torch.device) -> Tensor:
    """Share of each pixel's area that lies in a disk, with sum 1."""
    reach = math.ceil(radius_px - 0.5)
    side = 2 * reach + 1
    at = (torch.arange(side * SUBPIXELS, device=device) + 0.5) / SUBPIXELS - side / 2
    inside = (at[:, None] ** 2 + at**2 <= radius_px**2).float()
    area = inside.view(side, SUBPIXELS, side, SUBPIXELS).mean((1, 3))
    return area / area.sum()


def motion(image_BCHW: Tensor, strength: tuple[float, ...], draws: Draws) -> Tensor:
    angle_B = (draws.uniform("angle", 1)[:, 0] - 0.5) * (math.pi / 2)
    return streaked(image_BCHW, strength[0], strength[1], angle_B)


def zoom(image_BCHW: Tensor, strength: tuple[float, ...], draws: Draws) -> Tensor:
    """Mean of the image and of its zooms, the first of which is the image again."""
    rows, columns = image_BCHW.shape[-2:]
    x = torch.arange(columns, device=image_BCHW.device) + 0.5 - columns / 2
    y = (torch.arange(rows, device=image_BCHW.device) + 0.5 - rows / 2)[:, None]
    total = image_BCHW.clone()
    for number in range(ZOOMS):
        shrink = 1 / (1 + strength[0] * number / (ZOOMS - 1)) - 1
        total += displaced(image_BCHW, shrink * x, shrink * y)
    return total / (ZOOMS + 1)


def glass(image_BCHW: Tensor, strength: tuple[float, ...], draws: Draws) -> Tensor:
    sigma_px, reach_px = strength
    right, down = (2 * draws.uniform(way, *image_BCHW.shape[-2:]) - 1 for way in ("right", "down"))
    return blur(displaced(blur(image_BCHW, sigma_px), reach_px * right, reach_px * down), sigma_px)
