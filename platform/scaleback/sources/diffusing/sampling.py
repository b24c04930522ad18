"""From noise to images: UniPC steps of diffusers, with guidance, a latent prior, and steering by a judge."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from scaleback.sources.diffusing.judge import Judge
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
    judge: Judge | None = None,
    steering_scale: float = 0.0,
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
        judge: what is to be unsure of the images; None not to ask.
        steering_scale: how strongly it steers.
    """
    scheduler = _scheduler(diffuser)
    scheduler.set_timesteps(steps, device=noise_BCHW.device)
    first, remaining = 0, scheduler.timesteps
    latent_BCHW = noise_BCHW * scheduler.init_noise_sigma
    if prior_BCHW is not None:
        first = (steps - min(int(steps * strength), steps)) * scheduler.order
        remaining = remaining[first:]
        scheduler.set_begin_index(first)
        latent_BCHW = scheduler.add_noise(prior_BCHW, noise_BCHW, remaining[:1]) if len(remaining) else prior_BCHW
    guided = guidance_scale != 1
    tokens = torch.cat([diffuser.untold(len(told_BTD)).to(told_BTD), told_BTD]) if guided else told_BTD

    def predict(latent_BCHW: Tensor) -> Tensor:
        shown = torch.cat([latent_BCHW] * 2) if guided else latent_BCHW
        predicted: Tensor = diffuser(scheduler.scale_model_input(shown, step), step, tokens)
        if guided:
            without, told = predicted.chunk(2)
            predicted = without + guidance_scale * (told - without)
        return predicted

    for place, step in enumerate(remaining, first):
        if judge is None:
            predicted_BCHW = predict(latent_BCHW)
        else:
            ratio = float(scheduler.sigmas[place])  # of noise to signal
            predicted_BCHW = steered(diffuser, judge, latent_BCHW, predict, ratio, steering_scale)
        latent_BCHW = scheduler.step(predicted_BCHW, step, latent_BCHW, return_dict=False)[0]
    return diffuser.decode(latent_BCHW)


def steered(
    diffuser: Diffuser,
    judge: Judge,
    latent_BCHW: Tensor,
    predict: Callable[[Tensor], Tensor],
    ratio: float,
    scale: float,
) -> Tensor:
    """Predicted noise, moved so that the judge is less sure of the image that it leads to.

    Args:
        diffuser: what decodes.
        judge: in evaluation mode, so that an image's answer is its own.
        latent_BCHW: noisy latents.
        predict: their noise.
        ratio: of noise to signal in them; the squares of both add up to 1.
        scale: strength.
    """
    signal = (1 + ratio**2) ** -0.5
    noise = ratio * signal
    with torch.enable_grad():
        noisy_BCHW = latent_BCHW.detach().requires_grad_()
        predicted_BCHW = predict(noisy_BCHW)
        image_BCHW = diffuser.decode((noisy_BCHW - noise * predicted_BCHW) / signal)
        # A sum, not a mean: the gradient of an image is that of its own entropy, whatever its batch.
        (gradient_BCHW,) = torch.autograd.grad(judge.entropy(image_BCHW).sum(), noisy_BCHW)
    moved_BCHW: Tensor = predicted_BCHW.detach() - scale * noise * gradient_BCHW
    return moved_BCHW


def _scheduler(diffuser: Diffuser) -> Any:
    from diffusers import UniPCMultistepScheduler

    return UniPCMultistepScheduler.from_config(dict(diffuser.noise_schedule))
