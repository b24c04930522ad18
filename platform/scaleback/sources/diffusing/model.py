"""A diffusion model as the stages see it, whichever it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

# Shapes: B images, C channels, H rows, W columns, T tokens, D width of a token, F numbers of a look.


class Diffuser(nn.Module):
    """A UNet that predicts the noise in a latent, with what goes in and comes out of it."""

    unet: Any
    latent_shape: tuple[int, int, int]
    """(channels, rows, columns)."""
    noise_schedule: Mapping[str, Any]
    """Config of a scheduler of diffusers, of any kind."""
    together: Mapping[str, int] = {"cpu": 32, "cuda": 128}
    """Images drawn at once on a kind of device."""
    together_steered: Mapping[str, int] = {"cpu": 8, "cuda": 128}
    """The same where a judge steers, and never fewer."""

    def encode(self, image_BCHW: Tensor) -> Tensor:
        """Latents of images in [-1, 1]."""
        raise NotImplementedError

    def decode(self, latent_BCHW: Tensor) -> Tensor:
        """Images in [-1, 1], cut to it."""
        raise NotImplementedError

    def looks(self, image_BCHW: Tensor) -> Tensor:
        """(B, F) how images in [-1, 1] look: what guidance is made of."""
        raise NotImplementedError

    def told(self, label_B: Tensor, real_B: Tensor, look_BF: Tensor | None, hidden_B2: Tensor | None = None) -> Tensor:
        """(B, T, D) tokens of what the UNet is told.

        Args:
            label_B: classes, -1 for none.
            real_B: which real images are meant, for what is known of each; -1 for none.
            look_BF: how the images look; None to say nothing of it.
            hidden_B2: whose class, and whose look, is left out.
        """
        raise NotImplementedError

    def untold(self, images: int) -> Tensor:
        """(B, T, D) tokens that say nothing, or what an image should not be."""
        raise NotImplementedError

    def adapted_parts(self) -> list[nn.Parameter]:
        """What is trained beside low-rank weights when it is adapted."""
        return []

    def forward(self, latent_BCHW: Tensor, step_B: Tensor, told_BTD: Tensor) -> Tensor:
        """Predicted noise."""
        noise: Tensor = self.unet(latent_BCHW, step_B, told_BTD, return_dict=False)[0]
        return noise


def signal_and_noise(schedule: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """What a latent and the noise are multiplied by at each step, float64; their squares add up to 1."""
    from diffusers import DDPMScheduler

    kept: Tensor = DDPMScheduler.from_config(dict(schedule)).alphas_cumprod.double()
    return kept.sqrt(), (1 - kept).sqrt()


def normal(uniform: Tensor) -> Tensor:
    """Normal numbers of uniform ones in [0, 1), by the inverse of the distribution."""
    found: Tensor = torch.special.ndtri(uniform.clamp(min=2**-25))
    return found
