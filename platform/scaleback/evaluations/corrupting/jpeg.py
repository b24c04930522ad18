"""JPEG on the device: colour transform, chroma at half resolution, quantised block DCT, and back (ITU-T T.81, JFIF).

The steps that round do so where libjpeg's do. Its transform is in fixed point and this one is not, so now and then a
coefficient near the middle of a step goes the other way.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from scaleback.evaluations.corrupting.draws import Draws

# Shapes: B images, C channels, H rows, W columns; 8 rows and columns of a block, V and U its frequencies.

BLOCK = 8
LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
"""T.81, table K.1."""
CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    (99, 99, 99, 99, 99, 99, 99, 99),
    (99, 99, 99, 99, 99, 99, 99, 99),
    (99, 99, 99, 99, 99, 99, 99, 99),
    (99, 99, 99, 99, 99, 99, 99, 99),
)
"""T.81, table K.2."""
TIE = 1e-6
"""Halves lie well to one side of where rounding changes, so that they do not depend on the order of a sum."""


def jpeg(image_BCHW: Tensor, strength: tuple[float, ...], draws: Draws) -> Tensor:
    quality = round(strength[0])
    level = _rounded(image_BCHW.double() * 255)
    if level.shape[1] == 1:
        return (_component(level, _table(LUMINANCE, quality, level)) / 255).to(image_BCHW.dtype)
    rows, columns = level.shape[-2:]
    # The edge fills up blocks of chroma, which cover twice as many pixels.
    full = F.pad(level, (0, -columns % (2 * BLOCK), 0, -rows % (2 * BLOCK)), mode="replicate")
    red, green, blue = full.unbind(1)
    light = _rounded(0.299 * red + 0.587 * green + 0.114 * blue)
    blueness = _half_down(128 - 0.168735892 * red - 0.331264108 * green + 0.5 * blue)
    redness = _half_down(128 + 0.5 * red - 0.418687589 * green - 0.081312411 * blue)
    light = _component(light[:, None], _table(LUMINANCE, quality, level))[:, 0, :rows, :columns]
    coarse = _component(_halved(torch.stack([blueness, redness], dim=1)), _table(CHROMINANCE, quality, level))
    chroma = _doubled(coarse[:, :, : -(-rows // 2), : -(-columns // 2)])[:, :, :rows, :columns] - 128
    blueness, redness = chroma.unbind(1)
    coloured = torch.stack(
        [light + 1.402 * redness, light - 0.344136286 * blueness - 0.714136286 * redness, light + 1.772 * blueness],
        dim=1,
    )
    return (_rounded(coloured).clamp(0, 255) / 255).to(image_BCHW.dtype)


def _halved(level_BCHW: Tensor) -> Tensor:
    """Means of four pixels; halves go down in even columns and up in odd ones, as in libjpeg."""
    mean = F.avg_pool2d(level_BCHW, 2)
    mean[..., 0::2] = (mean[..., 0::2] + 0.25).floor()
    mean[..., 1::2] = (mean[..., 1::2] + 0.5).floor()
    return mean


def _doubled(level_BCHW: Tensor) -> Tensor:
    """Three quarters of the nearest and one of the next, each way; halves up in even columns, down in odd ones."""
    fine = F.interpolate(level_BCHW, scale_factor=2.0, mode="bilinear", align_corners=False)
    fine[..., 0::2] = _rounded(fine[..., 0::2])
    fine[..., 1::2] = _half_down(fine[..., 1::2])
    return fine


def _component(level_BCHW: Tensor, table_VU: Tensor) -> Tensor:
    """Levels of 0 to 255 through the quantised DCT of blocks."""
    images, channels, rows, columns = level_BCHW.shape
    padded = F.pad(level_BCHW, (0, -columns % BLOCK, 0, -rows % BLOCK), mode="replicate") - 128
    tall, wide = padded.shape[-2] // BLOCK, padded.shape[-1] // BLOCK
    block = padded.view(images, channels, tall, BLOCK, wide, BLOCK).transpose(3, 4)
    basis = _cosines(level_BCHW)
    frequency = basis @ block @ basis.T
    frequency = _rounded(frequency * 8) / 8  # libjpeg's coefficients are eighths before they are quantised
    kept = frequency.sign() * _rounded(frequency.abs() / table_VU) * table_VU
    whole = (basis.T @ kept @ basis).transpose(3, 4).reshape(padded.shape) + 128
    return _rounded(whole).clamp(0, 255)[:, :, :rows, :columns]


def _cosines(like: Tensor) -> Tensor:
    """(8, 8) the orthonormal DCT: a row a frequency."""
    at = torch.arange(BLOCK, device=like.device, dtype=like.dtype)
    basis = torch.cos(math.pi / BLOCK * (at + 0.5) * at[:, None]) / 2
    basis[0] /= math.sqrt(2)
    return basis


def _table(base: tuple[tuple[int, ...], ...], quality: int, like: Tensor) -> Tensor:
    """Steps of a quality of 1 to 100, by the rule of the Independent JPEG Group."""
    scale = 5_000 // quality if quality < 50 else 200 - 2 * quality
    return ((like.new_tensor(base) * scale + 50) / 100).floor().clamp(1, 255)


def _rounded(value: Tensor) -> Tensor:
    return (value + 0.5 + TIE).floor()


def _half_down(value: Tensor) -> Tensor:
    return (value + 0.5 - TIE).floor()
