"""Mixed crops for DINO's student and teacher, and the two losses on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from scaleback.objectives.dino import GLOBAL_CROPS
from scaleback.objectives.learners.base import Batch, Losses
from scaleback.objectives.learners.dino import DINOLearner, pair_cross_entropy
from scaleback.objectives.learners.mixing import Mix, draw_mix, mixed, partner

if TYPE_CHECKING:
    from scaleback.objectives.sdmp_dino import SDMPDINO

# Shapes: V views, U of them global, B images, C channels, H rows, W columns, D width, K prototypes.


class SDMPDINOLearner(DINOLearner):
    """DINO's student and teacher, which look at mixed global crops too."""

    def __init__(self, spec: SDMPDINO, backbone: nn.Module, *, width: int, generator: torch.Generator) -> None:
        super().__init__(spec, backbone, width=width, generator=generator)
        self.slice_multiple = spec.slice_multiple
        self._spec = spec

    def forward(self, batch: Batch) -> Losses:
        clean_UBCHW = batch.view_VBCHW[:GLOBAL_CROPS]
        features_VBD, log_VBK = self.student(batch.view_VBCHW)
        chance_UBK = self.taught(clean_UBCHW, batch.progress, remembered=True)
        dino = pair_cross_entropy(chance_UBK, log_VBK)

        mix = draw_mix(self._spec, batch, GLOBAL_CROPS)
        mixed_UBCHW = [mixed(image_BCHW, mix, view) for view, image_BCHW in enumerate(clean_UBCHW)]
        _, log_mixed_UBK = self.student(mixed_UBCHW)
        chance_mixed_UBK = self.taught(mixed_UBCHW, batch.progress, remembered=False)
        source = cross_entropy(source_target(chance_UBK, mix).flip(0), log_mixed_UBK)
        shared = cross_entropy(mixed_target(chance_mixed_UBK, mix).flip(0), log_mixed_UBK)

        parts = {"dino_loss": dino, "source_loss": source, "mix_loss": shared, "lambda_c": mix.in_common.mean()}
        if batch.watched:
            parts |= self.watched(dino, chance_UBK, features_VBD)
        return Losses(
            total=dino + self._spec.mix_weight * (source + shared),
            features_BD=features_VBD[0].detach(),
            parts={name: value.detach() for name, value in parts.items()},
        )


def source_target(chance_UBK: Tensor, mix: Mix) -> Tensor:
    """(U, B, K) what clean teacher views say of a mixed image: its two sources' distributions, by their shares."""
    share_B1 = mix.share_B[:, None]
    return share_B1 * chance_UBK + (1 - share_B1) * _partners(chance_UBK, mix)


def mixed_target(chance_UBK: Tensor, mix: Mix) -> Tensor:
    """(U, B, K) what mixed teacher views say of one: its own distribution and its partner's, 1 to lambda_c."""
    common_B1 = mix.in_common[:, None]
    return (chance_UBK + common_B1 * _partners(chance_UBK, mix)) / (1 + common_B1)


def cross_entropy(chance_UBK: Tensor, log_UBK: Tensor) -> Tensor:
    """Mean over views and images."""
    return -(chance_UBK * log_UBK).sum(-1).mean()


def _partners(chance_UBK: Tensor, mix: Mix) -> Tensor:
    return partner(chance_UBK.transpose(0, 1).contiguous(), mix.pairing).transpose(0, 1)
