"""Noise of each value by itself."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from scaleback.evaluations.corrupting.draws import Draws

# Shapes: B images, C channels, H rows, W columns.


def gaussian(image_BCHW: Tensor, strength: tuple[float, ...], draws: Draws) -> Tensor:
    return image_BCHW + strength[0] * draws.normal("noise", *image_BCHW.shape[1:])


def speckle(image_BCHW: Tensor, strength: tuple[float, ...], draws: Draws) -> Tensor:
    return image_BCHW + image_BCHW * strength[0] * draws.normal("noise", *image_BCHW.shape[1:])


def impulse(image_BCHW: Tensor, strength: tuple[float, ...], draws: Draws) -> Tensor:
    """Salt and pepper, half and half."""
    share = draws.uniform("which", *image_BCHW.shape[1:])
    white = (draws.uniform("white", *image_BCHW.shape[1:]) < 0.5).float()
    return torch.where(share < strength[0], white, image_BCHW)


def shot(image_BCHW: Tensor, strength: tuple[float, ...], draws: Draws) -> Tensor:
    """Photons are Poisson: how many of the distribution's steps lie at or below a uniform number."""
    photons = strength[0]
    share = draws.uniform("photons", *image_BCHW.shape[1:]).double()
    rate = image_BCHW.double() * photons
    chance = torch.exp(-rate)
    passed, count = chance.clone(), torch.zeros_like(rate)
    # Ten standard deviations beyond white; the numbers have 24 bits, which end at five and a half.
    for step in range(1, math.ceil(photons + 10 * math.sqrt(photons) + 10)):
        count += share >= passed
        chance *= rate / step
        passed += chance
    return (count / photons).to(image_BCHW.dtype)
