"""RandAugment on whole batches, in timm's variant with increasing severities.

Each image draws its own operations; the images of a batch that drew the same one are done together. Magnitudes are
normal around the set one, cut to 0..10, and mapped to arguments as in timm's ``rand-m9-mstd0.5-inc1``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from scaleback.core import seeds
from scaleback.recipes.augmentation import RandAugment
from scaleback.recipes.pixels import Change, affine_grid, blend_, cast, changed, gray, mean_gray

# Shapes: B images, C channels, H rows, W columns. ``level`` is the magnitude over 10, in [0, 1]; ``signed`` is it or
# its negative, half and half.

SLOTS = 5
"""Draws an operation: which, whether, two for the magnitude, sign."""
CHANCE = 0.5
LARGEST_MAGNITUDE = 10.0
LEVELS = 256

Operation: TypeAlias = Callable[[Tensor, Tensor, Tensor, float], Tensor]
"""Of images, ``level``, ``signed`` and ``fill``; it may write over the images."""


def randaugment(
    image_BCHW: Tensor, spec: RandAugment, key: int, counter_B: NDArray[np.int64], *, fill: float
) -> Tensor:
    """Apply ``spec.operations`` random operations to images in [0, 1], writing over them.

    ``fill`` is the value beyond the edges.
    """
    draw_BKS = seeds.uniform(key, counter_B, SLOTS * spec.operations).reshape(-1, spec.operations, SLOTS)
    names = list(OPERATIONS)
    for layer in range(spec.operations):
        which, chance, first, second, sign = draw_BKS[:, layer].T
        normal = np.sqrt(-2 * np.log1p(-first)) * np.cos(2 * np.pi * second)
        level = np.clip(spec.magnitude + spec.magnitude_std * normal, 0, LARGEST_MAGNITUDE) / LARGEST_MAGNITUDE
        strength_2B = torch.from_numpy(np.stack([level, np.where(sign < 0.5, level, -level)])).float()
        chosen_B = np.where(chance < CHANCE, (which * len(names)).astype(int), -1)
        for number in sorted(set(chosen_B.tolist()) - {-1}):
            image_BCHW = changed(image_BCHW, chosen_B == number, strength_2B, _at(OPERATIONS[names[number]], fill))
    return image_BCHW


def _at(operation: Operation, fill: float) -> Change:
    return lambda image_BCHW, strength_2B: operation(image_BCHW, strength_2B[0], strength_2B[1], fill)


def _warp(image_BCHW: Tensor, rows: list[Tensor], fill: float) -> Tensor:
    """Sample at an affine map given in coordinates of [-1, 1]; outside lies ``fill``."""
    grid = affine_grid(torch.stack(rows, dim=1).view(-1, 2, 3), image_BCHW.shape[-1])
    return F.grid_sample(image_BCHW.sub_(fill), grid, padding_mode="zeros", align_corners=False).add_(fill)


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
    flat = span == 0
    return image.sub_(low.masked_fill(flat, 0)).div_(span.clamp(min=1e-6).masked_fill(flat, 1))


def _equalize(image: Tensor, level: Tensor, signed: Tensor, fill: float) -> Tensor:
    """PIL's, on the levels 0 to 255 of each image and channel; where PIL's step is 0, nothing changes."""
    value = image.clamp_(0, 1).mul_(255).flatten(0, 1).flatten(1)
    level_NP = value.long()
    count_NL = value.new_zeros(len(value), LEVELS).scatter_add_(1, level_NP, torch.ones_like(value))
    below_NL = count_NL.cumsum(1) - count_NL
    # All pixels but those of the highest level are spread over 255 steps.
    step = torch.floor(below_NL.gather(1, value.amax(1, keepdim=True).long()) / (LEVELS - 1))
    flat = (step == 0).to(value)
    table_NL = torch.floor((below_NL + torch.floor(step / 2)) / step.clamp(min=1)).clamp_(max=LEVELS - 1)
    spread = (table_NL * (1 - flat)).gather(1, level_NP).addcmul_(value, flat)
    return spread.div_(LEVELS - 1).view_as(image)


def _invert(image: Tensor, level: Tensor, signed: Tensor, fill: float) -> Tensor:
    return 1 - image


def _posterize(image: Tensor, level: Tensor, signed: Tensor, fill: float) -> Tensor:
    kept_bits = 4 - (4 * level).floor()
    step = cast(torch.pow(2.0, 8 - kept_bits))
    return image.mul_(255).round_().div_(step).floor_().mul_(step).div_(255)


def _solarize(image: Tensor, level: Tensor, signed: Tensor, fill: float) -> Tensor:
    threshold = cast(256 - (256 * level).floor())
    inverted = (image * 255).round_().ge_(threshold)
    return inverted.sub_(image).abs_()  # 1 - image or image: on a CPU a tenth to a third of the time of a ``where``


def _solarize_add(image: Tensor, level: Tensor, signed: Tensor, fill: float) -> Tensor:
    add = cast((110 * level).floor()) / 255
    dark = (image * 255).round_().lt_(128)
    return image.addcmul_(dark, add).clamp_(max=1)


def _factor(signed: Tensor) -> Tensor:
    return (1 + 0.9 * signed).clamp(min=0.1)


def _enhance(degenerate: Callable[[Tensor], Tensor]) -> Operation:
    """PIL's enhancers: away from (or beyond) a degenerate image by a factor of 1 + 0.9 level, either way."""

    def operation(image: Tensor, level: Tensor, signed: Tensor, fill: float) -> Tensor:
        return blend_(image, degenerate(image), _factor(signed))

    return operation


def _brightness(image: Tensor, level: Tensor, signed: Tensor, fill: float) -> Tensor:
    return image.mul_(cast(_factor(signed))).clamp_(0, 1)


def _sharpness(image: Tensor, level: Tensor, signed: Tensor, fill: float) -> Tensor:
    """Enhanced against PIL's SMOOTH filter, which leaves the border as it is."""
    inner = image[:, :, 1:-1, 1:-1]
    rows = (image[:, :, :-2] + image[:, :, 1:-1]).add_(image[:, :, 2:])
    smooth = (rows[..., :-2] + rows[..., 1:-1]).add_(rows[..., 2:]).add_(inner, alpha=4).div_(13)
    blend_(inner, smooth, _factor(signed))
    return image.clamp_(0, 1)


OPERATIONS: dict[str, Operation] = {
    "AutoContrast": _autocontrast,
    "Equalize": _equalize,
    "Invert": _invert,
    "Rotate": _rotate,
    "PosterizeIncreasing": _posterize,
    "SolarizeIncreasing": _solarize,
    "SolarizeAdd": _solarize_add,
    "ColorIncreasing": _enhance(gray),
    "ContrastIncreasing": _enhance(mean_gray),
    "BrightnessIncreasing": _brightness,
    "SharpnessIncreasing": _sharpness,
    "ShearX": _shear_x,
    "ShearY": _shear_y,
    "TranslateXRel": _translate_x,
    "TranslateYRel": _translate_y,
}
