"""Augmentation of whole batches on the device, every parameter a pure function of (seed, epoch, index, view).

Images are float32 in [0, 1], (B, C, H, W), until they are normalised. Parameters are drawn on the CPU by counters, so
a picture does not change with its batch, its worker or its device (up to the device's arithmetic).
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from scaleback.core import seeds
from scaleback.recipes.augmentation import Augmentation
from scaleback.recipes.pixels import affine_grid, blend_, cast, changed, gray, mean_gray
from scaleback.recipes.randaugment import randaugment

# Shapes: B images, C channels, H rows, W columns, S source rows or columns, 3 the columns of an affine map.

GEOMETRY_SLOTS = 8
COLOUR_SLOTS = 12
ERASE_SLOTS = 7
ERASE_AREA = (0.02, 1 / 3)
ERASE_RATIO = (0.3, 1 / 0.3)
"""timm's RandomErasing: area and aspect ratio of the box."""
MOST_SUPERSAMPLING = 4


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
        """Images (B, C, S, S) in [0, 1], which are left alone, to normalised views (B, C, image_px, image_px)."""
        spec, counter_B = self._spec, seeds.counter(epoch_B, index_B)
        view = resample(image_BCHW, self._affine(counter_B), self._size, self._supersampling(image_BCHW))
        if spec.randaugment is not None:
            view = randaugment(view, spec.randaugment, self._keys["randaugment"], counter_B, fill=spec.mean)
        if any(spec.jitter) or spec.gray_chance or spec.blur_chance or spec.solarize_chance:
            view = self._colour(view, self._draw("colour", counter_B, COLOUR_SLOTS))
        view = normalise_(view, spec.mean, spec.std)
        return self._erase(view, self._draw("erase", counter_B, ERASE_SLOTS)) if self._noise is not None else view

    def _draw(self, purpose: str, counter_B: NDArray[np.int64], slots: int) -> Tensor:
        """(slots, B) numbers on the CPU."""
        return torch.from_numpy(seeds.uniform(self._keys[purpose], counter_B, slots)).float().T

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

    def _colour(self, view_BCHW: Tensor, draw_KB: Tensor) -> Tensor:
        spec, draw = self._spec, draw_KB.numpy()
        view = view_BCHW
        if any(spec.jitter):
            view = changed(view, draw[4] < spec.jitter_chance, draw_KB, self._jitter)
        view = changed(view, draw[5] < spec.gray_chance, draw_KB, lambda image, _: image.copy_(gray(image)))
        view = changed(view, draw[7] < spec.blur_chance, draw_KB, self._blur)
        return changed(view, draw[8] < spec.solarize_chance, draw_KB, _solarized)

    def _jitter(self, view_BCHW: Tensor, draw_KB: Tensor) -> Tensor:
        jitter = self._spec.jitter
        lows = [max(0.0, 1 - strength) for strength in jitter[:3]]  # a negative factor would invert
        factor = [
            low + (1 + strength - low) * draw_KB[slot]
            for slot, (low, strength) in enumerate(zip(lows, jitter, strict=False))
        ]
        view = view_BCHW.mul_(cast(factor[0])).clamp_(0, 1)
        view = blend_(view, mean_gray(view), factor[1])
        view = blend_(view, gray(view), factor[2])
        if jitter[3] and view_BCHW.shape[1] == 3:
            view = turn_hue(view, jitter[3] * (2 * draw_KB[3] - 1))
        return view

    def _blur(self, view_BCHW: Tensor, draw_KB: Tensor) -> Tensor:
        low, high = self._spec.blur_sigma_px
        return blur(view_BCHW, low + (high - low) * draw_KB[6], math.ceil(2 * high))

    def _erase(self, view_BCHW: Tensor, draw_KB: Tensor) -> Tensor:
        return changed(view_BCHW, draw_KB[0].numpy() < self._spec.erase_chance, draw_KB, self._boxed)

    def _boxed(self, view_BCHW: Tensor, draw_KB: Tensor) -> Tensor:
        """Views with a box of noise in each."""
        assert self._noise is not None
        size = self._size
        area = size * size * (ERASE_AREA[0] + (ERASE_AREA[1] - ERASE_AREA[0]) * draw_KB[1])
        narrow, wide = math.log(ERASE_RATIO[0]), math.log(ERASE_RATIO[1])
        ratio = torch.exp(narrow + (wide - narrow) * draw_KB[2])
        height, width = (area * ratio).sqrt().clamp(max=size - 1), (area / ratio).sqrt().clamp(max=size - 1)
        top, left = draw_KB[3] * (size - height), draw_KB[4] * (size - width)
        at = torch.arange(size, device=self._device) + 0.5
        rows = (at >= top[:, None]) & (at < (top + height)[:, None])
        columns = (at >= left[:, None]) & (at < (left + width)[:, None])
        box = rows.float()[:, None, :, None] * columns.float()[:, None, None, :]
        # Noise of a pixel: one fixed tile, read from a place of the image's own. Taken as windows of whole rows, it is
        # read in a quarter of the time that it takes by pixels.
        row, column = (draw_KB[5:7] * size).long()
        windows = self._noise[: view_BCHW.shape[1]].unfold(1, size, 1).unfold(2, size, 1)
        return view_BCHW.mul_(1 - box).addcmul_(box, windows[:, row, column].transpose(0, 1))


def _solarized(image_BCHW: Tensor, draw_KB: Tensor) -> Tensor:
    return torch.minimum(image_BCHW, 1 - image_BCHW)


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
        image_BCHW = wide.narrow(dim, reach, size) * cast(weight_KB[0])
        for at in range(1, reach + 1):
            both = wide.narrow(dim, reach - at, size) + wide.narrow(dim, reach + at, size)
            image_BCHW.addcmul_(both, cast(weight_KB[at]))
    return image_BCHW


def resize(image_BCHW: Tensor, size: int) -> Tensor:
    """uint8 images to float32 in [0, 1] of ``size`` px: the view that evaluations look at."""
    image = image_BCHW.float() / 255
    if image.shape[-2:] == (size, size):
        return image
    return F.interpolate(image, (size, size), mode="bilinear", align_corners=False, antialias=True)


def normalise_(image_BCHW: Tensor, mean: float, std: float) -> Tensor:
    """From [0, 1] to the range the model sees, written over the images."""
    return image_BCHW.sub_(mean).div_(std)


def turn_hue(image_BCHW: Tensor, turn_B: Tensor) -> Tensor:
    """Colours of [0, 1] with another hue, in HSV; ``turn_B`` in turns of the circle (Smith, 1978)."""
    red, green, blue = image_BCHW.unbind(1)
    most, least = image_BCHW.amax(1), image_BCHW.amin(1)
    chroma = most - least
    # A hue in sixths of the circle, from red by green: with colours from 0 to 1 in shares of the chroma it is
    # 1 + green + blue - red up to half of the circle, and the negative of that beyond, where blue exceeds green.
    sixth = (green + blue).sub_(red).add_(most).sub_(least, alpha=2).div_(chroma.clamp(min=1e-12))
    sixth.copysign_(green - blue).add_(6 * turn_B[:, None, None])
    sixth -= (sixth / 6).floor_().mul_(6)  # a third of the time of ``remainder``
    turned = torch.empty_like(image_BCHW)
    # ``share`` rises from 0 to 1 between one sixth and two from a place. From their own places on, green and blue lose
    # so much of the chroma; from the place opposite to its own on, red gains it.
    for channel, place, start, sign in ((0, 3, least, 1), (1, 2, most, -1), (2, 4, most, -1)):
        share = (sixth - place).abs_().sub_(1).clamp_(0, 1)
        torch.addcmul(start, chroma, share, value=sign, out=turned[:, channel])
    return turned


def _noise_tile(key: int, size: int) -> Tensor:
    draw = seeds.generator("erase tile", key).standard_normal((3, size, size), dtype=np.float32)
    return torch.from_numpy(draw)
