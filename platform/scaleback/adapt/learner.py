"""Learning to predict noise: the denoising loss, and matching of its mean to that of the true noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from scaleback.objectives.learners.base import Batch, Learner, Losses
from scaleback.objectives.learners.gather import summed_with_gradient, workers
from scaleback.objectives.learners.heads import full
from scaleback.sources.diffusing.guide import Guide
from scaleback.sources.diffusing.lora import add_lora
from scaleback.sources.diffusing.model import Diffuser, normal, signal_and_noise
from scaleback.sources.generators import Adaptation, Schedule

# Shapes: B images, C channels of a latent, H rows, W columns.

HIDDEN = (0.1, 0.2)
"""Shares of images of which a generator in training is not told the class (Ho and Salimans, 2022), and the look."""


class DenoisingLearner(Learner):
    """Predicts the noise in latents of real images, at steps drawn evenly from the noise schedule."""

    kept = "diffuser"
    signal_S: Tensor
    noise_S: Tensor
    weight_S: Tensor

    def __init__(self, diffuser: Diffuser, schedule: Schedule, guide: Guide, *, labels: bool, hides: bool) -> None:
        super().__init__()
        self.diffuser = diffuser
        self._guide, self._labels, self._hides = guide, labels, hides
        signal_S, noise_S = signal_and_noise(diffuser.noise_schedule)
        self.register_buffer("signal_S", signal_S.float(), persistent=False)
        self.register_buffer("noise_S", noise_S.float(), persistent=False)
        self.register_buffer("weight_S", snr_weights(signal_S, noise_S, schedule.snr_gamma).float(), persistent=False)
        self._mmd_weight, self._mmd_form = 0.0, "mean"

    @property
    def backbone(self) -> nn.Module:  # type: ignore[override]
        """The UNet, which the diffuser holds."""
        unet: nn.Module = self.diffuser.unet
        return unet

    def forward(self, batch: Batch) -> Losses:
        diffuser, image_BCHW = self.diffuser, batch.view_VBCHW[0]
        with torch.no_grad():
            latent_BCHW = diffuser.encode(image_BCHW)
        noise_BCHW = normal(batch.draw("noise", latent_BCHW[0].numel())).view_as(latent_BCHW)
        step_B = (batch.draw("step", 1)[:, 0] * len(self.signal_S)).long()
        noisy_BCHW = _rows(self.signal_S, step_B) * latent_BCHW + _rows(self.noise_S, step_B) * noise_BCHW
        error_BCHW = full(diffuser(noisy_BCHW, step_B, self._told(batch))) - noise_BCHW
        total, parts = denoising_loss(
            error_BCHW, self.weight_S[step_B], mmd_weight=self._mmd_weight, mmd_form=self._mmd_form
        )
        return Losses(total=total, features_BD=(error_BCHW + noise_BCHW).detach().flatten(1), parts=parts)

    def _told(self, batch: Batch) -> Tensor:
        device = batch.index_B.device
        look_BF = self._guide(batch.index_B.cpu().numpy(), batch.counter_B)
        label_B = batch.label_B if self._labels else torch.full_like(batch.label_B, -1)
        hidden_B2 = None
        if self._hides:
            hidden_B2 = batch.draw("hidden", 2) < torch.tensor(HIDDEN, device=device)
        return self.diffuser.told(label_B, batch.index_B, None if look_BF is None else look_BF.to(device), hidden_B2)


class AdaptingLearner(DenoisingLearner):
    """Trains low-rank weights only, and those are all that its checkpoint holds."""

    def __init__(
        self,
        diffuser: Diffuser,
        adaptation: Adaptation,
        guide: Guide,
        *,
        generator: torch.Generator,
    ) -> None:
        super().__init__(diffuser, adaptation.schedule, guide, labels=True, hides=False)
        diffuser.requires_grad_(False)
        trained = [*add_lora(diffuser.unet, adaptation.rank, generator), *diffuser.adapted_parts()]
        for parameter in trained:
            parameter.requires_grad_(True)
        ids = {id(parameter) for parameter in trained}
        self._trained = {name for name, parameter in self.named_parameters() if id(parameter) in ids}
        self._mmd_weight, self._mmd_form = adaptation.mmd_weight, adaptation.mmd_form

    def state_dict(self, *args: Any, **keywords: Any) -> dict[str, Any]:  # type: ignore[override]
        """Of what is trained."""
        return {name: value for name, value in super().state_dict(*args, **keywords).items() if name in self._trained}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Of what is trained."""
        assert state_dict.keys() == self._trained, "a checkpoint of the same adaptation"
        return super().load_state_dict(state_dict, strict=False, assign=assign)


def snr_weights(signal_S: Tensor, noise_S: Tensor, gamma: float | None) -> Tensor:
    """Weight of each step, min(ratio, gamma) / ratio of the ratio of signal to noise (Hang et al., 2023)."""
    ratio_S = (signal_S / noise_S).square()
    return torch.ones_like(ratio_S) if gamma is None else ratio_S.clamp(max=gamma) / ratio_S


def denoising_loss(
    error_BCHW: Tensor, weight_B: Tensor, *, mmd_weight: float = 0.0, mmd_form: str = "mean"
) -> tuple[Tensor, dict[str, Tensor]]:
    """Weighted mean square error of the noise, plus the discrepancy of its batch mean (Real-Fake, section 3).

    Two images with opposite errors have a discrepancy of 0. ``mean`` is over the batch of all workers; ``sum``, the
    released form, is over this worker's images.
    """
    total = (weight_B * error_BCHW.square().flatten(1).mean(1)).mean()
    parts = {"denoising": total.detach()}
    if mmd_weight:
        weighted_BCHW = weight_B[:, None, None, None] * error_BCHW
        if mmd_form == "sum":
            discrepancy = weighted_BCHW.sum(0).square().mean()
        else:
            discrepancy = (summed_with_gradient(weighted_BCHW.mean(0)) / workers()).square().mean()
        total = total + mmd_weight * discrepancy
        parts["discrepancy"] = discrepancy.detach()
    return total, parts


def _rows(value_S: Tensor, step_B: Tensor) -> Tensor:
    return value_S[step_B][:, None, None, None]
