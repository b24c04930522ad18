"""RandAugment on whole batches, in timm's variant with increasing severities.

Each image draws its own operations; the images of a batch that drew the same one are done together. Magnitudes are
normal around the set one, cut to 0..10, and mapped to arguments as in timm's ``rand-m9-mstd0.5-inc1``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from scaleback.core import seeds
from scaleback.recipes.augmentation import RandAugment

# Shapes: B images, C channels, H rows, W columns. ``level`` is the magnitude over 10, in [0, 1]; ``signed`` is it or
# its negative, half and half.

SLOTS = 5
"""Draws an operation: which, whether, two for the magnitude, sign."""
CHANCE = 0.5
LARGEST_MAGNITUDE = 10.0


def randaugment(
    image_BCHW: Tensor, spec: RandAugment, key: int, counter_B: NDArray[np.int64], *, fill: float
) -> Tensor:
    """Apply ``spec.operations`` random operations to images in [0, 1]; ``fill`` is the value beyond the edges."""
    draw_BKS = seeds.uniform(key, counter_B, SLOTS * spec.operations).reshape(-1, spec.operations, SLOTS)
    names = list(OPERATIONS)
    for layer in range(spec.operations):
        which, chance, first, second, sign = draw_BKS[:, layer].T
        normal = np.sqrt(-2 * np.log1p(-first)) * np.cos(2 * np.pi * second)
        level = np.clip(spec.magnitude + spec.magnitude_std * normal, 0, LARGEST_MAGNITUDE) / LARGEST_MAGNITUDE
        signed = np.where(sign < 0.5, level, -level)
        chosen_B = np.where(chance < CHANCE, (which * len(names)).astype(int), -1)
        for number in np.unique(chosen_B[chosen_B >= 0]):
            places = np.flatnonzero(chosen_B == number)
            at = torch.from_numpy(places).to(image_BCHW.device)
            arguments = torch.from_numpy(np.stack([level[places], signed[places]])).to(image_BCHW)
            done = OPERATIONS[names[number]](image_BCHW[at], arguments[0], arguments[1], fill)
            image_BCHW = image_BCHW.index_copy(0, at, done)
    return image_BCHW


def _warp(image_BCHW: Tensor, rows: list[Tensor], fill: float) -> Tensor:
    """Sample at an affine map given in coordinates of [-1, 1]; outside lies ``fill``."""
    affine = torch.stack(rows, dim=1).view(-1, 2, 3)
    grid = F.affine_grid(affine, list(image_BCHW.shape), align_corners=False)
    return F.grid_sample(image_BCHW - fill, grid, padding_mode="zeros", align_corners=False) + fill


def _rotate(image: Tensor, level: Tensor, signed: Tensor, fill: float) -> Tensor:
    angle = signed * math.radians(30)
    zero, cos, sin = torch.zeros_like(angle), angle.cos(), angle.sin()
    return _warp(image, [cos, -sin, zero, sin, cos, zero], fill)


def _shear_x(image: Tensor, level: Tensor, signed: Tensor, fill: float) -> Tensor:
    # PIL shears about the upper left corner, which lies at -1.
    one, zero, slope = torch.ones_like(signed), torch.zeros_like(signed), 0.3 * signed
    return _warp(image, [one, slope, slope, zero, one, zero], fill)


def _shear_y(image: Tensor, level: Tensor, signed: Tensor, fill: float) -> Tensor:
    one, zero, slope = torch.ones_like(signed), torch.zeros_like(signed), 0.3 * signed
    return _warp(image, [one, zero, zero, slope, one, slope], fill)


def _translate_x(image: Tensor, level: Tensor, signed: Tensor, fill: float) -> Tensor:
    one, zero = torch.ones_like(signed), torch.zeros_like(signed)
    return _warp(image, [one, zero, 2 * 0.45 * signed, zero, one, zero], fill)


def _translate_y(image: Tensor, level: Tensor, signed: Tensor, fill: float) -> Tensor:
    one, zero = torch.ones_like(signed), torch.zeros_like(signed)
    return _warp(image, [one, zero, zero, zero, one, 2 * 0.45 * signed], fill)


def _autocontrast(image: Tensor, level: Tensor, signed: Tensor, fill: float) -> Tensor:
    low, high = image.amin((2, 3), keepdim=True), image.amax((2, 3), keepdim=True)
    span = high - low
    return torch.where(span > 0, (image - low) / span.clamp(min=1e-6), image)


def _equalize(image: Tensor, level: Tensor, signed: Tensor, fill: float) -> Tensor:
    from kornia.enhance import equalize

    return equalize(image.clamp(0, 1))


def _invert(image: Tensor, level: Tensor, signed: Tensor, fill: float) -> Tensor:
    return 1 - image


def _posterize(image: Tensor, level: Tensor, signed: Tensor, fill: float) -> Tensor:
    kept_bits = 4 - (4 * level).floor()
    step = torch.pow(2.0, 8 - kept_bits)[:, None, None, None]
    return torch.floor((image * 255).round() / step) * step / 255


def _solarize(image: Tensor, level: Tensor, signed: Tensor, fill: float) -> Tensor:
    threshold = (256 - (256 * level).floor())[:, None, None, None]
    return torch.where((image * 255).round() < threshold, image, 1 - image)


def _solarize_add(image: Tensor, level: Tensor, signed: Tensor, fill: float) -> Tensor:
    add = (110 * level).floor()[:, None, None, None] / 255
    return torch.where((image * 255).round() < 128, (image + add).clamp(max=1), image)


def _enhance(degenerate: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor, Tensor, float], Tensor]:
    """PIL's enhancers: away from (or beyond) a degenerate image by a factor of 1 + 0.9 level, either way."""

    def operation(image: Tensor, level: Tensor, signed: Tensor, fill: float) -> Tensor:
        factor = (1 + 0.9 * signed).clamp(min=0.1)[:, None, None, None]
        other = degenerate(image)
        return (other + (image - other) * factor).clamp(0, 1)

    return operation


def _gray(image: Tensor) -> Tensor:
    if image.shape[1] == 1:
        return image
    weight = image.new_tensor([0.299, 0.587, 0.114])[:, None, None]
    return (image * weight).sum(1, keepdim=True)


def _smooth(image: Tensor) -> Tensor:
    """PIL's SMOOTH filter, which leaves the border as it is."""
    kernel = image.new_tensor([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13
    channels = image.shape[1]
    inner = F.conv2d(image, kernel.expand(channels, 1, 3, 3), groups=channels)
    smooth = image.clone()
    smooth[:, :, 1:-1, 1:-1] = inner
    return smooth


OPERATIONS: dict[str, Callable[[Tensor, Tensor, Tensor, float], Tensor]] = {
    "AutoContrast": _autocontrast,
    "Equalize": _equalize,
    "Invert": _invert,
    "Rotate": _rotate,
    "PosterizeIncreasing": _posterize,
    "SolarizeIncreasing": _solarize,
    "SolarizeAdd": _solarize_add,
    "ColorIncreasing": _enhance(_gray),
    "ContrastIncreasing": _enhance(lambda image: _gray(image).mean((1, 2, 3), keepdim=True)),
    "BrightnessIncreasing": _enhance(torch.zeros_like),
    "SharpnessIncreasing": _enhance(_smooth),
    "ShearX": _shear_x,
    "ShearY": _shear_y,
    "TranslateXRel": _translate_x,
    "TranslateYRel": _translate_y,
}
