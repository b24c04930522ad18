"""Brightness, contrast, colour, elastic displacement, coarse pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from scaleback.evaluations.corrupting.draws import Draws
from scaleback.evaluations.corrupting.filters import bell, blur, displaced

# Shapes: B images, C channels, H rows, W columns.

LEAST_CORRELATION_PX = 0.8
"""Elastic displacements of neighbours are alike at any size; ours."""


def brightness(image_BCHW: Tensor, strength: tuple[float, ...], draws: Draws) -> Tensor:
    """More value in HSV, at the same hue and saturation: all channels by one factor."""
    value = image_BCHW.amax(1, keepdim=True)
    raised = (value + strength[0]).clamp(max=1)
    return torch.where(value > 0, image_BCHW * (raised / value.clamp(min=1e-12)), raised)


def contrast(image_BCHW: Tensor, strength: tuple[float, ...], draws: Draws) -> Tensor:
    mean = image_BCHW.mean((2, 3), keepdim=True)
    return mean + strength[0] * (image_BCHW - mean)


def saturate(image_BCHW: Tensor, strength: tuple[float, ...], draws: Draws) -> Tensor:
    """More saturation in HSV, at the same hue and value: the distances to the largest channel by one factor."""
    value = image_BCHW.amax(1, keepdim=True)
    chroma = value - image_BCHW.amin(1, keepdim=True)
    saturation = chroma / value.clamp(min=1e-12)
    raised = (strength[0] * saturation + strength[1]).clamp(max=1)
    factor = torch.where(saturation > 0, raised / saturation.clamp(min=1e-12), 1)
    return value - (value - image_BCHW) * factor


def elastic(image_BCHW: Tensor, strength: tuple[float, ...], draws: Draws) -> Tensor:
    """Smooth random displacements (Simard et al., 2003)."""
    rows, columns = image_BCHW.shape[-2:]
    side = min(rows, columns)
    sigma_px = max(LEAST_CORRELATION_PX, strength[1] * side)
    # Smoothing both ways leaves this much of the noise's standard deviation.
    scale = strength[0] * side / (bell(sigma_px, image_BCHW.device) ** 2).sum()
    field = [blur(draws.normal(way, 1, rows, columns), sigma_px)[:, 0] for way in ("right", "down")]
    return displaced(image_BCHW, scale * field[0], scale * field[1])


def pixelate(image_BCHW: Tensor, strength: tuple[float, ...], draws: Draws) -> Tensor:
    share, fewer = strength
    rows, columns = (
        _box_means(length, min(int(length * share), length - round(fewer)), image_BCHW)
        for length in image_BCHW.shape[-2:]
    )
    return rows @ image_BCHW @ columns.T


def _box_means(length: int, boxes: int, like: Tensor) -> Tensor:
    """(length, length) matrix that gives each pixel the mean of its box; a pixel lies where its centre does."""
    box = ((torch.arange(length, device=like.device, dtype=torch.float64) + 0.5) * boxes / length).floor()
    same = (box[:, None] == box).to(like.dtype)
    return same / same.sum(1, keepdim=True)
