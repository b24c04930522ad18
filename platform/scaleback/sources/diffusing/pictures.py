"""Images as bytes, as numbers in [-1, 1], and as a CLIP encoder wants them."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

# Shapes: B images, H rows, W columns, C channels.

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def scaled(image_BHWC: NDArray[np.uint8]) -> Tensor:
    """(B, C, H, W) float32 in [-1, 1]."""
    return torch.from_numpy(image_BHWC).permute(0, 3, 1, 2).float() / 127.5 - 1


def pixels(image_BCHW: Tensor) -> NDArray[np.uint8]:
    """(B, H, W, C) bytes of images in [-1, 1]."""
    whole = ((image_BCHW.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return np.ascontiguousarray(whole.permute(0, 2, 3, 1).cpu().numpy())


def in_colour(image_BCHW: Tensor, shape: tuple[int, int]) -> Tensor:
    """(B, 3, H, W) of a shape: bicubic and antialiased, cut to [-1, 1], whatever the aspect."""
    return resized(image_BCHW.expand(-1, 3, -1, -1), shape)


def resized(image_BCHW: Tensor, shape: tuple[int, int]) -> Tensor:
    """Bicubic and antialiased, cut to [-1, 1], whatever the aspect."""
    if image_BCHW.shape[2:] == shape:
        return image_BCHW
    return F.interpolate(image_BCHW.float(), shape, mode="bicubic", antialias=True).clamp(-1, 1)


def for_clip(image_BCHW: Tensor, side: int) -> Tensor:
    """(B, 3, side, side) as CLIP and BLIP-2 were trained on, of images in [-1, 1]."""
    unit_BCHW = (in_colour(image_BCHW, (side, side)) + 1) / 2
    mean, std = (unit_BCHW.new_tensor(value)[:, None, None] for value in (CLIP_MEAN, CLIP_STD))
    return (unit_BCHW - mean) / std
