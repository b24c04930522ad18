"""Augmentation of whole batches on the device, every parameter a pure function of (seed, epoch, index, view).

Images are float32 in [0, 1], (B, C, H, W), until they are normalised. Parameters are drawn on the CPU by counters, so
a picture does not change with its batch, its worker or its device (up to the device's arithmetic).
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
from scaleback.recipes.augmentation import Augmentation
from scaleback.recipes.randaugment import randaugment

# Shapes: B images, C channels, H rows, W columns, S source rows or columns, 3 the columns of an affine map.

GEOMETRY_SLOTS = 8
COLOUR_SLOTS = 12
ERASE_SLOTS = 7
ERASE_AREA = (0.02, 1 / 3)
ERASE_RATIO = (0.3, 1 / 0.3)
"""timm's RandomErasing: area and aspect ratio of the box."""
MOST_SUPERSAMPLING = 4

Change: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""What is done to some images, with their draws; it may write over the images."""


class Augmenter:
    """Turns stored images into one view of a batch."""

    def __init__(self, spec: Augmentation, *, seed: int, view: int, image_px: int, device: torch.device) -> None:
        self._spec, self._size, self._device = spec, image_px, device
        self._keys = {
            purpose: seeds.key("augment", purpose, seed, view)
            for purpose in ("geometry", "randaugment", "colour", "erase")
        }
        self._noise = _noise_tile(self._keys["erase"], 2 * image_px).to(device) if spec.erase_chance else None

    def __call__(self, image_BCHW: Tensor, index_B: NDArray[np.int64], epoch_B: NDArray[np.int64]) -> Tensor:
        """uint8 images (B, C, S, S) to normalised float32 views (B, C, image_px, image_px)."""
        spec, counter_B = self._spec, seeds.counter(epoch_B, index_B)
        unit_BCHW = image_BCHW.float().div_(255)
        view = resample(unit_BCHW, self._affine(counter_B), self._size, self._supersampling(image_BCHW))
        if spec.randaugment is not None:
            view = randaugment(view, spec.randaugment, self._keys["randaugment"], counter_B, fill=spec.mean)
        if any(spec.jitter) or spec.gray_chance or spec.blur_chance or spec.solarize_chance:
            view = self._colour(view, counter_B)
        view = normalise(view, spec.mean, spec.std)
        return self._erase(view, counter_B) if self._noise is not None else view

    def _draw(self, purpose: str, counter_B: NDArray[np.int64], slots: int) -> Tensor:
        draw_BK = seeds.uniform(self._keys[purpose], counter_B, slots)
        return torch.from_numpy(draw_BK).to(self._device, torch.float32)

    def _affine(self, counter_B: NDArray[np.int64]) -> Tensor:
        """(B, 2, 3): where each point of the view lies in the image, both in [-1, 1]."""
        spec = self._spec
        draw = seeds.uniform(self._keys["geometry"], counter_B, GEOMETRY_SLOTS).T
        low, high = spec.crop_scale
        area = low + (high - low) * draw[0]
        # A crop of this area lies in the image if its aspect ratio is within [area, 1 / area]; torchvision redraws
        # until it is. Where no declared ratio fits, the sides are cut to the image's.
        narrow, wide = (np.clip(math.log(bound), np.log(area), -np.log(area)) for bound in spec.crop_ratio)
        ratio = np.exp(narrow + (wide - narrow) * draw[1])
        width, height = np.minimum(np.sqrt(area * ratio), 1), np.minimum(np.sqrt(area / ratio), 1)
        shift_x, shift_y = (2 * draw[2] - 1) * (1 - width), (2 * draw[3] - 1) * (1 - height)
        sign_x = np.where(draw[4] < spec.flip_horizontal, -1.0, 1.0)
        sign_y = np.where(draw[5] < spec.flip_vertical, -1.0, 1.0)
        angle = math.radians(spec.rotate_deg) * (2 * draw[6] - 1)
        cos, sin = np.cos(angle), np.sin(angle)
        rows = [
            width * sign_x * cos,
            -width * sign_y * sin,
            shift_x,
            height * sign_x * sin,
            height * sign_y * cos,
            shift_y,
        ]
        affine_B23 = np.stack(rows, axis=1).reshape(-1, 2, 3).astype(np.float32)
        return torch.from_numpy(affine_B23).to(self._device)

    def _supersampling(self, image_BCHW: Tensor) -> int:
        """Samples a pixel and axis: enough that the largest crop skips no source pixel."""
        step = image_BCHW.shape[-1] * math.sqrt(self._spec.crop_scale[1]) / self._size
        return max(1, min(MOST_SUPERSAMPLING, math.ceil(step - 1e-6)))

    def _colour(self, view_BCHW: Tensor, counter_B: NDArray[np.int64]) -> Tensor:
        spec = self._spec
        draw = torch.from_numpy(seeds.uniform(self._keys["colour"], counter_B, COLOUR_SLOTS)).float().T
        view = (
            self._changed(view_BCHW, draw[4] < spec.jitter_chance, draw, self._jitter)
            if any(spec.jitter)
            else view_BCHW
        )
        view = self._changed(view, draw[5] < spec.gray_chance, draw, lambda image, _: image.copy_(gray(image)))
        view = self._changed(view, draw[7] < spec.blur_chance, draw, self._blur)
        return self._changed(
            view, draw[8] < spec.solarize_chance, draw, lambda image, _: torch.where(image >= 0.5, 1 - image, image)
        )

    def _changed(self, view_BCHW: Tensor, chosen_B: Tensor, draw_KB: Tensor, change: Change) -> Tensor:
        """Views with the chosen ones changed, and only these computed; who is chosen is known on the CPU."""
        if not chosen_B.any():
            return view_BCHW
        if chosen_B.all():
            return change(view_BCHW, draw_KB.to(self._device))
        rows = chosen_B.nonzero()[:, 0]
        on_device = rows.to(self._device)
        changed = change(view_BCHW[on_device], draw_KB[:, rows].to(self._device))
        return view_BCHW.index_copy_(0, on_device, changed)

    def _jitter(self, view_BCHW: Tensor, draw_KB: Tensor) -> Tensor:
        jitter = self._spec.jitter
        lows = [max(0.0, 1 - strength) for strength in jitter[:3]]  # a negative factor would invert
        factor = [
            low + (1 + strength - low) * draw_KB[slot]
            for slot, (low, strength) in enumerate(zip(lows, jitter, strict=False))
        ]
        view = view_BCHW.mul_(_cast(factor[0])).clamp_(0, 1)
        view = _blend(gray(view).mean((1, 2, 3), keepdim=True), view, factor[1])
        view = _blend(gray(view), view, factor[2])
        if jitter[3] and view_BCHW.shape[1] == 3:
            view = turn_hue(view, jitter[3] * (2 * draw_KB[3] - 1))
        return view

    def _blur(self, view_BCHW: Tensor, draw_KB: Tensor) -> Tensor:
        low, high = self._spec.blur_sigma_px
        return blur(view_BCHW, low + (high - low) * draw_KB[6], math.ceil(2 * high))

    def _erase(self, view_BCHW: Tensor, counter_B: NDArray[np.int64]) -> Tensor:
        assert self._noise is not None
        draw, size = self._draw("erase", counter_B, ERASE_SLOTS).T, self._size
        area = size * size * (ERASE_AREA[0] + (ERASE_AREA[1] - ERASE_AREA[0]) * draw[1])
        narrow, wide = math.log(ERASE_RATIO[0]), math.log(ERASE_RATIO[1])
        ratio = torch.exp(narrow + (wide - narrow) * draw[2])
        height, width = (area * ratio).sqrt().clamp(max=size - 1), (area / ratio).sqrt().clamp(max=size - 1)
        top, left = draw[3] * (size - height), draw[4] * (size - width)
        at = torch.arange(size, device=self._device) + 0.5
        rows = (at >= top[:, None]) & (at < (top + height)[:, None])
        columns = (at >= left[:, None]) & (at < (left + width)[:, None])
        box = rows[:, None, :, None] & columns[:, None, None, :] & (_cast(draw[0]) < self._spec.erase_chance)
        # Noise of a pixel: one fixed tile, read from a place of the image's own.
        offset = (draw[5:7] * size).long()
        row, column = offset[0][:, None] + at.long(), offset[1][:, None] + at.long()
        noise = self._noise[: view_BCHW.shape[1], row[:, :, None], column[:, None, :]].transpose(0, 1)
        return torch.where(box, noise, view_BCHW)


def resample(image_BCHW: Tensor, affine_B23: Tensor, size: int, supersampling: int) -> Tensor:
    """Cut views of ``size`` px by an affine map: bilinear samples on a finer grid, averaged, edges mirrored."""
    grid = affine_grid(affine_B23, size * supersampling)
    fine = F.grid_sample(image_BCHW, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return pool(fine, supersampling)


def pool(fine_BCHW: Tensor, factor: int) -> Tensor:
    """Torch's ``avg_pool2d`` over squares of ``factor`` px; eight times as fast on a CPU, as it adds whole rows."""
    if factor == 1:
        return fine_BCHW
    rows = fine_BCHW[:, :, ::factor].clone()
    for start in range(1, factor):
        rows += fine_BCHW[:, :, start::factor]
    both = rows[..., ::factor].clone()
    for start in range(1, factor):
        both += rows[..., start::factor]
    return both.div_(factor * factor)


def blur(image_BCHW: Tensor, sigma_B: Tensor, reach: int) -> Tensor:
    """Blur with a Gaussian that is cut ``reach`` px from its middle, edges mirrored.

    Rows and columns are shifted, weighted and added: on a CPU, torch's convolution by a column takes seven times as
    long.
    """
    at_K = torch.arange(reach + 1, device=image_BCHW.device)
    weight_KB = torch.exp(-(at_K[:, None] ** 2) / (2 * sigma_B**2))
    weight_KB = weight_KB / (weight_KB[0] + 2 * weight_KB[1:].sum(0))
    for dim, padding in ((2, (0, 0, reach, reach)), (3, (reach, reach, 0, 0))):
        size, wide = image_BCHW.shape[dim], F.pad(image_BCHW, padding, mode="reflect")
        image_BCHW = wide.narrow(dim, reach, size) * _cast(weight_KB[0])
        for at in range(1, reach + 1):
            both = wide.narrow(dim, reach - at, size) + wide.narrow(dim, reach + at, size)
            image_BCHW.addcmul_(both, _cast(weight_KB[at]))
    return image_BCHW


def affine_grid(affine_B23: Tensor, size: int) -> Tensor:
    """Torch's ``affine_grid`` with corners not aligned, (B, size, size, 2); eight times as fast on a CPU."""
    at = (2 * torch.arange(size, device=affine_B23.device, dtype=affine_B23.dtype) + 1) / size - 1
    across_B2W = affine_B23[:, :, 0, None] * at
    down_B2H = affine_B23[:, :, 1, None] * at + affine_B23[:, :, 2, None]
    return (across_B2W[:, :, None, :] + down_B2H[:, :, :, None]).permute(0, 2, 3, 1)


def resize(image_BCHW: Tensor, size: int) -> Tensor:
    """uint8 images to float32 in [0, 1] of ``size`` px: the view that evaluations look at."""
    image = image_BCHW.float() / 255
    if image.shape[-2:] == (size, size):
        return image
    return F.interpolate(image, (size, size), mode="bilinear", align_corners=False, antialias=True)


def normalise(image_BCHW: Tensor, mean: float, std: float) -> Tensor:
    """From [0, 1] to the range the model sees."""
    return (image_BCHW - mean).div_(std)


def gray(image_BCHW: Tensor) -> Tensor:
    """Luminance (ITU-R 601), (B, 1, H, W)."""
    if image_BCHW.shape[1] == 1:
        return image_BCHW
    red, green, blue = image_BCHW.split(1, dim=1)
    luminance: Tensor = red * 0.299
    return luminance.add_(green, alpha=0.587).add_(blue, alpha=0.114)


def turn_hue(image_BCHW: Tensor, turn_B: Tensor) -> Tensor:
    """Colours of [0, 1] with another hue, in HSV; ``turn_B`` in turns of the circle (Smith, 1978)."""
    red, green, blue = image_BCHW.unbind(1)
    most, least = image_BCHW.amax(1), image_BCHW.amin(1)
    chroma = most - least
    share = chroma.clamp(min=1e-12).reciprocal_()
    sixth = torch.where(most == green, (blue - red).mul_(share).add_(2), (red - green).mul_(share).add_(4))
    sixth = torch.where(most == red, (green - blue).mul_(share), sixth).add_(6 * turn_B[:, None, None])
    sixth -= (sixth / 6).floor_().mul_(6)  # a third of the time of ``remainder``
    # How much of the chroma a channel has falls from 1 to 0 between one sixth and two from its own place.
    shares = [(sixth - 3).abs_().sub_(1), (sixth - 2).abs_().neg_().add_(2), (sixth - 4).abs_().neg_().add_(2)]
    return torch.stack([torch.addcmul(least, chroma, part.clamp_(0, 1)) for part in shares], dim=1)


def _blend(other: Tensor, image_BCHW: Tensor, factor_B: Tensor) -> Tensor:
    return torch.lerp(other, image_BCHW, _cast(factor_B)).clamp_(0, 1)


def _cast(value_B: Tensor) -> Tensor:
    return value_B[:, None, None, None]


def _noise_tile(key: int, size: int) -> Tensor:
    draw = seeds.generator("erase tile", key).standard_normal((3, size, size), dtype=np.float32)
    return torch.from_numpy(draw)
