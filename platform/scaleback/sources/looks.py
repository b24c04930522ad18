"""How a photograph may look: colour, gray, its edges, black and white."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Shapes: H rows, W columns, C channels.

INK = 255
BLUR_PX = 1.5
"""Standard deviation of the Gaussian before edges are looked for."""
LEAST_EDGE_PX = 16
"""A smaller side is hardly larger than the smoothed derivative that edges are found with."""


def looked_at(image_HWC: NDArray[np.uint8], look: str, blur_px: float = BLUR_PX) -> NDArray[np.uint8]:
    """The image as ``rgb``, ``gray``, ``canny`` or ``binary``; all but the first have one channel."""
    if look == "rgb":
        return image_HWC
    if image_HWC.shape[2] == 3:
        image_HWC = _gray(image_HWC)
    if look == "gray":
        return image_HWC
    if look == "binary":
        return np.where(image_HWC > np.median(image_HWC), INK, 0).astype(np.uint8)
    return _edges(image_HWC, blur_px)


def _gray(image_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Luma of ITU-R 601, by the same code that decodes files as gray."""
    from PIL import Image

    return np.asarray(Image.fromarray(image_HWC).convert("L"))[..., None]


def _edges(image_HWC: NDArray[np.uint8], blur_px: float) -> NDArray[np.uint8]:
    import torch
    from kornia.filters import canny

    pixels = torch.from_numpy(image_HWC[None, None, :, :, 0].astype(np.float32) / 255)
    reach = 2 * round(3 * blur_px) + 1
    edges = canny(pixels, kernel_size=(reach, reach), sigma=(blur_px, blur_px))[1]
    return (INK * edges[0, 0, :, :, None].numpy()).astype(np.uint8)
