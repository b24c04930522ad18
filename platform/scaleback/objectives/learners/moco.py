"""MoCo v3 at work: a query encoder with a predictor, a momentum encoder for the keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scaleback.objectives.learners import vit
from scaleback.objectives.learners.base import Batch, Learner, Losses
from scaleback.objectives.learners.gather import gathered, rank
from scaleback.objectives.learners.heads import full, mlp
from scaleback.objectives.learners.statistics import pair_statistics
from scaleback.objectives.learners.teacher import follow, momentum_at, teacher_of

if TYPE_CHECKING:
    from scaleback.objectives.moco import MoCoV3

# Shapes: B images of a worker's slice, N of the batch over all workers, C channels, H rows, W columns, D width of an
# embedding or of the backbone.


class MoCoLearner(Learner):
    """The trained backbone, projector and predictor; the teacher holds a backbone and a projector."""

    def __init__(self, spec: MoCoV3, backbone: nn.Module, *, width: int, generator: torch.Generator) -> None:
        super().__init__()
        if vit.is_plain(backbone):
            _prepare_vit(spec, backbone, generator)
        hidden, output = spec.hidden, spec.output
        self.backbone = backbone
        self.projector = mlp(
            [width, *[hidden] * (spec.projector_layers - 1), output], last=_norm(output), generator=generator
        )
        self.predictor = mlp(
            [output, *[hidden] * (spec.predictor_layers - 1), output],
            last=_norm(output) if spec.predictor_norm else nn.Identity(),
            generator=generator,
        )
        self.teacher = teacher_of(nn.ModuleDict({"backbone": self.backbone, "projector": self.projector}))
        self.slice_multiple = spec.slice_multiple
        self._spec = spec

    def forward(self, batch: Batch) -> Losses:
        first_BCHW, second_BCHW = batch.view_VBCHW
        features_BD, first_query_BD = self.query(first_BCHW)
        _, second_query_BD = self.query(second_BCHW)
        first_key_BD, second_key_BD = self.key(first_BCHW), self.key(second_BCHW)
        found = [
            self.log_chance(first_query_BD, second_key_BD),
            self.log_chance(second_query_BD, first_key_BD),
        ]
        own_B = own_rows(found[0])
        parts = {"accuracy": torch.stack([accuracy(log_chance_BN, own_B) for log_chance_BN in found]).mean()}
        if batch.watched:
            parts |= pair_statistics(first_query_BD.detach(), second_key_BD)
        loss_2 = torch.stack([-self.scale * at(log_chance_BN, own_B).mean() for log_chance_BN in found])
        return Losses(total=loss_2.sum(), features_BD=features_BD.detach(), parts=parts)

    def after_step(self, progress: float) -> None:
        momentum = momentum_at(progress, self._spec.momentum)
        teacher = cast(nn.ModuleDict, self.teacher)
        follow(teacher["backbone"], self.backbone, momentum)
        follow(teacher["projector"], self.projector, momentum)

    @property
    def scale(self) -> float:
        """Factor of every cross-entropy: twice the temperature, which takes its inverse out of the gradient."""
        return 2 * self._spec.temperature

    def query(self, image_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Features and queries of images."""
        features_BD = vit.features(self.backbone, image_BCHW)
        query_BD: Tensor = self.predictor(self.projector(features_BD))
        return features_BD, query_BD

    @torch.no_grad()
    def key(self, image_BCHW: Tensor) -> Tensor:
        """Keys of images."""
        teacher = cast(Any, self.teacher)
        key_BD: Tensor = teacher["projector"](vit.features(teacher["backbone"], image_BCHW))
        return key_BD

    def log_chance(self, query_BD: Tensor, key_BD: Tensor) -> Tensor:
        """(B, N) log-probability that each query gives to the keys of all workers."""
        return log_chance(query_BD, gathered(key_BD), self._spec.temperature)


def log_chance(query_BD: Tensor, key_ND: Tensor, temperature: float) -> Tensor:
    """(B, N) logarithm of the softmax over keys of cosines over the temperature."""
    with torch.autocast(query_BD.device.type, enabled=False):
        query_BD, key_ND = (F.normalize(full(value), dim=1) for value in (query_BD, key_ND))
        return (query_BD @ key_ND.T / temperature).log_softmax(dim=1)


def own_rows(log_chance_BN: Tensor) -> Tensor:
    """(B,) where the images of this worker are among those of all."""
    rows = len(log_chance_BN)
    return rank() * rows + torch.arange(rows, device=log_chance_BN.device)


def at(value_BN: Tensor, column_B: Tensor) -> Tensor:
    """(B,) each row's value at its column."""
    return value_BN.gather(1, column_B[:, None])[:, 0]


@torch.no_grad()
def accuracy(log_chance_BN: Tensor, own_B: Tensor) -> Tensor:
    """Share of queries whose own image's key is the nearest."""
    return (log_chance_BN.argmax(1) == own_B).float().mean()


def _norm(width: int) -> nn.Module:
    """The batch norm that ends a head has nothing to learn."""
    return nn.BatchNorm1d(width, affine=False)


def _prepare_vit(spec: MoCoV3, backbone: nn.Module, generator: torch.Generator) -> None:
    if spec.xavier:
        vit.redraw_xavier(backbone, generator)
    if spec.sincos_positions:
        vit.fix_sincos_positions(backbone)
    if spec.frozen_patches:
        cast(Any, backbone).patch_embed.proj.requires_grad_(False)
