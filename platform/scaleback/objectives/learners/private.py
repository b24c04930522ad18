"""Gradients that are private: one image's is held below a norm, and their sum is hidden under noise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, grad_and_value, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from scaleback.objectives.learners.base import Batch, Learner, Losses

# Shapes: B images of a batch, E of them whose gradients are in memory together, V views of an image, C channels,
# H rows, W columns, D width.

TOGETHER_NUMBERS = 1 << 26
"""So many numbers of single images' gradients are in memory together: 256 MiB."""

Gradients = dict[str, Tensor]


class PrivateLearner(Learner):
    """Another learner, with the gradient of DP-SGD (Abadi et al., CCS 2016, algorithm 1).

    The gradient of each image's loss by itself is scaled down to the norm ``clip`` where it is longer; to the sum comes
    Gaussian noise of ``noise`` times ``clip``; all is divided by the number of images that a batch is expected to have,
    since the number that it has is itself private. The noise is a function of (seed, step).

    Gradients of single images are torch's own (``vmap``), so that any backbone has them whose images keep to
    themselves: Opacus' hooks know neither a ViT's bare parameters nor timm's norms.
    """

    def __init__(self, learner: Learner, *, noise: float, clip: float, batch_images: int) -> None:
        super().__init__()
        assert learner.slice_multiple == 1, "a loss over several images is no image's own"
        for name, part in learner.named_children():
            self.add_module(name, part)
        # Out of torch's sight, so that every parameter keeps the one name that it has without privacy.
        self._whole = (learner,)
        self._noise, self._clip, self._batch_images = noise, clip, batch_images

    def forward(self, batch: Batch) -> Losses:
        trained = {name: value for name, value in self.named_parameters() if value.requires_grad}
        held = {name: value.detach() for name, value in trained.items()}
        total = {name: torch.zeros_like(value) for name, value in held.items()}
        together = max(1, TOGETHER_NUMBERS // sum(value.numel() for value in held.values()))
        found = [
            self._clipped(held, total, _part(batch, slice(first, first + together)))
            for first in range(0, len(batch.index_B), together)
        ]
        self._finish(total, batch)
        loss_B = torch.cat([losses.total for losses in found])
        return Losses(
            total=_Given.apply(loss_B.mean(), list(total.values()), *trained.values()),  # type: ignore[no-untyped-call]
            features_BD=torch.cat([losses.features_BD for losses in found]),
            parts={name: torch.cat([losses.parts[name] for losses in found]).mean() for name in found[0].parts},
        )

    def _clipped(self, held: Gradients, total: Gradients, batch: Batch) -> Losses:
        """Add the clipped gradients of some images to the total; losses and parts are (E,)."""

        def of_one(held: Gradients, view_VCHW: list[Tensor], label: Tensor, index: Tensor) -> tuple[Tensor, Any]:
            views = [view_CHW[None] for view_CHW in view_VCHW]
            one = replace(batch, view_VBCHW=views, label_B=label[None], index_B=index[None])
            losses: Losses = functional_call(self._whole[0], held, (one,))
            return losses.total, (losses.features_BD[0], losses.parts)

        # What a network drops is dropped for each image by itself.
        each = vmap(grad_and_value(of_one, has_aux=True), in_dims=(None, 0, 0, 0), randomness="different")
        with sdpa_kernel(SDPBackend.MATH):  # of the fused kernels, vmap would call one for each image
            gradients, (loss_E, (features_ED, parts)) = each(held, batch.view_VBCHW, batch.label_B, batch.index_B)
        squares_E = torch.stack([gradient.flatten(1).square().sum(1) for gradient in gradients.values()]).sum(0)
        share_E = (self._clip / squares_E.sqrt()).clamp(max=1.0)
        for name, gradient in gradients.items():
            total[name] += torch.tensordot(share_E, gradient, dims=1)
        return Losses(total=loss_E, features_BD=features_ED, parts=parts)

    def _finish(self, total: Gradients, batch: Batch) -> None:
        """Add the noise and divide, in place."""
        rng = batch.generator("noise of private training")
        for sum_of_all in total.values():
            noise = torch.from_numpy(rng.standard_normal(tuple(sum_of_all.shape), dtype=np.float32))
            sum_of_all += self._noise * self._clip * noise.to(sum_of_all.device)
            sum_of_all /= self._batch_images


class _Given(torch.autograd.Function):
    """A number whose gradient is given, so that the loop goes back from it as from any other loss."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: list[Tensor], *parameters: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> Any:
        return None, None, *(outer[0] * gradient for gradient in ctx.gradients)


def _part(batch: Batch, few: slice) -> Batch:
    """Some images of a batch."""
    return replace(
        batch,
        view_VBCHW=[view_BCHW[few] for view_BCHW in batch.view_VBCHW],
        label_B=batch.label_B[few],
        index_B=batch.index_B[few],
        counter_B=batch.counter_B[few],
    )
