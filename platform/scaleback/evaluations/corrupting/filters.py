"""Filters and displacements that several corruptions share. Beyond the edge lies the edge."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# Shapes: B images, C channels, H rows, W columns, T taps of a kernel.


def bell(sigma_px: float, device: torch.device) -> Tensor:
    """(T,) a sampled Gaussian of sum 1, cut at four standard deviations."""
    reach = max(1, math.floor(4 * sigma_px + 0.5))
    at = torch.arange(-reach, reach + 1, device=device, dtype=torch.float32)
    weight = torch.exp(-0.5 * (at / sigma_px) ** 2)
    return weight / weight.sum()


def blur(image_BCHW: Tensor, sigma_px: float) -> Tensor:
    """Gaussian blur, columns and then rows."""
    kernel = bell(sigma_px, image_BCHW.device)
    return convolve(convolve(image_BCHW, kernel[:, None]), kernel[None])


def convolve(image_BCHW: Tensor, kernel: Tensor) -> Tensor:
    """Every channel by one kernel of odd sides."""
    rows, columns = kernel.shape
    padding = (columns // 2, columns // 2, rows // 2, rows // 2)
    padded = F.pad(image_BCHW, padding, mode="replicate")
    single = padded.flatten(0, 1)[:, None]
    return F.conv2d(single, kernel[None, None]).view(image_BCHW.shape)


def displaced(image_BCHW: Tensor, right_BHW: Tensor, down_BHW: Tensor) -> Tensor:
    """Bilinear samples at each pixel's place plus a displacement in pixels that broadcasts to (B, H, W)."""
    rows, columns = image_BCHW.shape[-2:]
    x = torch.arange(columns, device=image_BCHW.device) + 0.5 + right_BHW
    y = torch.arange(rows, device=image_BCHW.device)[:, None] + 0.5 + down_BHW
    places = [(2 * at / length - 1).expand(len(image_BCHW), rows, columns) for at, length in ((x, columns), (y, rows))]
    grid = torch.stack(places, dim=-1)
    return F.grid_sample(image_BCHW, grid, padding_mode="border", align_corners=False)


def streaked(image_BCHW: Tensor, radius_px: float, sigma_px: float, angle_B: Tensor) -> Tensor:
    """One-sided Gaussian along a direction of each image's own, over two radii (ImageMagick's motion blur)."""
    cos, sin = angle_B.cos()[:, None, None], angle_B.sin()[:, None, None]
    result, total = torch.zeros_like(image_BCHW), 0.0
    for tap in range(round(2 * radius_px) + 1):
        weight = math.exp(-0.5 * (tap / sigma_px) ** 2)
        result += weight * displaced(image_BCHW, tap * cos, tap * sin)
        total += weight
    return result / total
