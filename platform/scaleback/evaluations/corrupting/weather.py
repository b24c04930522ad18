"""Snow, fog, and mud on the lens."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from scaleback.evaluations.corrupting.draws import Draws
from scaleback.evaluations.corrupting.filters import bell, blur, streaked
from scaleback.recipes.pixels import gray

# Shapes: B images, C channels, H rows, W columns, S side of a fractal.

MUD = (63 / 255, 42 / 255, 20 / 255)
"""The original's brown."""
EDGE = 0.25
"""Standard deviations over which a drop becomes opaque; ours."""


def snow(image_BCHW: Tensor, strength: tuple[float, ...], draws: Draws) -> Tensor:
    """Falling streaks, and the image itself whiter; the same streaks fall upside down too."""
    threshold, flake_px, streak_px, kept = strength
    rows, columns = image_BCHW.shape[-2:]
    noise = draws.normal("flakes", 1, math.ceil(rows / flake_px), math.ceil(columns / flake_px))
    noise = F.interpolate(noise, (rows, columns), mode="bilinear", align_corners=False)
    flakes = torch.where(noise > threshold, (0.5 + 0.3 * (noise - threshold)).clamp(max=1), 0)
    angle_B = math.pi * (0.25 + 0.5 * draws.uniform("angle", 1)[:, 0])
    layer = streaked(flakes, 2 * streak_px, streak_px, angle_B)
    whiter = torch.maximum(image_BCHW, 1.5 * gray(image_BCHW) + 0.5)
    return kept * image_BCHW + (1 - kept) * whiter + layer + layer.rot90(2, (2, 3))


def fog(image_BCHW: Tensor, strength: tuple[float, ...], draws: Draws) -> Tensor:
    thickness, decay = strength
    rows, columns = image_BCHW.shape[-2:]
    cloud = plasma(2 ** math.ceil(math.log2(max(rows, columns))), decay, draws)[:, None, :rows, :columns]
    brightest = image_BCHW.amax((1, 2, 3), keepdim=True)
    return (image_BCHW + thickness * cloud) * brightest / (brightest + thickness)


def plasma(side: int, decay: float, draws: Draws) -> Tensor:
    """(B, S, S) fractal noise in [0, 1] that tiles (diamond-square; Fournier, Fussell and Carpenter, 1982).

    The variation falls by ``decay`` squared from one scale to the next, as in the original, whose decay acts twice.
    """
    height = torch.zeros_like(draws.uniform("corner", 1)).view(-1, 1, 1)
    variation = 1.0
    while height.shape[-1] < side:
        size = height.shape[-1]
        shift_B3SS = variation * (2 * draws.uniform(f"plasma {size}", 3, size, size) - 1)
        right, below = height.roll(-1, 2), height.roll(-1, 1)
        centre = (height + right + below + right.roll(-1, 1)) / 4 + shift_B3SS[:, 0]
        top = (height + right + centre + centre.roll(1, 1)) / 4 + shift_B3SS[:, 1]
        left = (height + below + centre + centre.roll(1, 2)) / 4 + shift_B3SS[:, 2]
        even, odd = torch.stack([height, top], dim=3), torch.stack([left, centre], dim=3)
        height = torch.stack([even, odd], dim=2).view(-1, 2 * size, 2 * size)
        variation /= decay**2
    height = height - height.amin((1, 2), keepdim=True)
    return height / height.amax((1, 2), keepdim=True)


def spatter(image_BCHW: Tensor, strength: tuple[float, ...], draws: Draws) -> Tensor:
    drop_px, threshold = strength
    kernel = bell(drop_px, image_BCHW.device)
    # Smoothing both ways leaves this much of the noise's standard deviation.
    noise = blur(draws.normal("drops", 1, *image_BCHW.shape[-2:]), drop_px) / (kernel**2).sum()
    opaque = ((noise - threshold) / EDGE).clamp(0, 1)
    mud = image_BCHW.new_tensor(MUD).view(1, 3, 1, 1)
    return image_BCHW + opaque * ((mud if image_BCHW.shape[1] == 3 else gray(mud)) - image_BCHW)
