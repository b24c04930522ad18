"""From noise to images: UniPC steps of diffusers, with guidance and a latent prior."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from scaleback.sources.diffusing.model import Diffuser

# Shapes: B images, C channels, H rows, W columns, T tokens, D width of a token.


@torch.no_grad()
def sample(
    diffuser: Diffuser,
    noise_BCHW: Tensor,
    told_BTD: Tensor,
    *,
    steps: int,
    guidance_scale: float,
    prior_BCHW: Tensor | None = None,
    strength: float = 1.0,
) -> Tensor:
    """Images in [-1, 1].

    Args:
        diffuser: the model.
        noise_BCHW: what the latents begin as, or what the prior is noised with.
        told_BTD: what it is told of each image.
        steps: of the whole way from noise; with a prior, ``strength`` of them are made.
        guidance_scale: of classifier-free guidance; 1 for none, which takes half of the time.
        prior_BCHW: latents of real images to begin from; None to begin from noise.
        strength: share of the way that a prior is sent back.
    """
    scheduler = _scheduler(diffuser)
    scheduler.set_timesteps(steps, device=noise_BCHW.device)
    remaining = scheduler.timesteps
    latent_BCHW = noise_BCHW * scheduler.init_noise_sigma
    if prior_BCHW is not None:
        first = (steps - min(int(steps * strength), steps)) * scheduler.order
        remaining = remaining[first:]
        scheduler.set_begin_index(first)
        latent_BCHW = scheduler.add_noise(prior_BCHW, noise_BCHW, remaining[:1]) if len(remaining) else prior_BCHW
    guided = guidance_scale != 1
    tokens = torch.cat([diffuser.untold(len(told_BTD)).to(told_BTD), told_BTD]) if guided else told_BTD
    for step in remaining:
        shown = torch.cat([latent_BCHW] * 2) if guided else latent_BCHW
        predicted = diffuser(scheduler.scale_model_input(shown, step), step, tokens)
        if guided:
            without, told = predicted.chunk(2)
            predicted = without + guidance_scale * (told - without)
        latent_BCHW = scheduler.step(predicted, step, latent_BCHW, return_dict=False)[0]
    return diffuser.decode(latent_BCHW)


def _scheduler(diffuser: Diffuser) -> Any:
    from diffusers import UniPCMultistepScheduler

    return UniPCMultistepScheduler.from_config(dict(diffuser.noise_schedule))
