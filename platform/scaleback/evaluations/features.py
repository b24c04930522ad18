"""Features of a frozen backbone."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scaleback.evaluations.base import Task
from scaleback.pretrain.loop import fit_channels
from scaleback.recipes.augment import normalise_, resize
from scaleback.sources.population import Images

# Shapes: B images of a batch, N images of a split, C channels, H rows, W columns, D width.

EVALUATION_BATCH_IMAGES = 256


def batches(
    task: Task,
    images: Images,
    mean: float,
    std: float,
    changed: Callable[[Tensor, NDArray[np.int64]], Tensor] = lambda image_BCHW, index_B: image_BCHW,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Whole images resized to the backbone's size and normalised, with their labels, on the device.

    ``changed`` is done to images in [0, 1] before they are normalised, with their places.
    """
    device = task.world.device
    for start in range(0, len(images), EVALUATION_BATCH_IMAGES):
        part = slice(start, start + EVALUATION_BATCH_IMAGES)
        pixels_BCHW = torch.from_numpy(images.image_NHWC[part]).permute(0, 3, 1, 2)
        view = resize(fit_channels(pixels_BCHW, task.channels).to(device), task.image_px)
        label_B = torch.from_numpy(images.label_N[part]).to(device)
        view = changed(view, np.arange(start, start + len(view)))
        yield normalise_(view, mean, std).expand(-1, task.channels, -1, -1), label_B


def features(task: Task, images: Images, mean: float, std: float) -> Tensor:
    """(N, D) pooled features in float32, on the CPU."""
    backbone = task.backbone.to(task.world.device).eval()
    with torch.inference_mode():
        parts = [backbone(image_BCHW).float().cpu() for image_BCHW, _ in batches(task, images, mean, std)]
    return torch.cat(parts)
