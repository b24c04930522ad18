"""Embeddings of views pulled together, and tested for a standard normal along random directions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from scaleback.objectives.learners.base import Batch, Learner, Losses
from scaleback.objectives.learners.gather import summed_with_gradient, workers
from scaleback.objectives.learners.heads import full, mlp
from scaleback.objectives.learners.statistics import pair_statistics
from scaleback.objectives.learners.vit import features

if TYPE_CHECKING:
    from scaleback.objectives.lejepa import LeJEPA

# Shapes: V views, B images of a slice, D width of the embeddings, S directions, K frequencies, Z real and
# imaginary part.


class LeJEPALearner(Learner):
    """Backbone and projector; views of one size pass through together."""

    def __init__(self, spec: LeJEPA, backbone: nn.Module, *, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.backbone = backbone
        self.projector = mlp([width, spec.hidden, spec.hidden, spec.output], generator=generator)
        self._spec = spec

    def forward(self, batch: Batch) -> Losses:
        spec = self._spec
        groups = [list(group) for _, group in groupby(batch.view_VBCHW, key=lambda view: view.shape)]
        feature_RD = torch.cat([features(self.backbone, torch.cat(group)) for group in groups])
        embedding_VBD = full(self.projector(feature_RD)).unflatten(0, (len(batch.view_VBCHW), -1))
        centre_BD = embedding_VBD[: spec.global_views].mean(0)
        invariance = (embedding_VBD - centre_BD).square().mean()
        drawn_DS = batch.generator("lejepa directions").standard_normal((spec.output, spec.directions))
        sigreg = sketched(embedding_VBD, torch.from_numpy(drawn_DS).to(embedding_VBD), spec.quadrature)
        parts = {"invariance": invariance.detach(), "sigreg": sigreg.detach()}
        if batch.watched:
            parts["embedding_std"] = embedding_VBD.detach().std(1, correction=0).mean()
            parts |= pair_statistics(embedding_VBD[0], embedding_VBD[1])
        return Losses(
            total=(1 - spec.weight) * invariance + spec.weight * sigreg,
            features_BD=feature_RD[: len(batch.label_B)].detach(),
            parts=parts,
        )


def sketched(embedding_VBD: Tensor, direction_DS: Tensor, quadrature: Sequence[tuple[float, float]]) -> Tensor:
    """SIGReg: mean over directions and views of Epps and Pulley's statistic of all workers' embeddings.

    The statistic is n times the integral of |empirical characteristic function - exp(-t^2 / 2)|^2 exp(-t^2 / 2).

    Args:
        embedding_VBD: of a worker's slice.
        direction_DS: of any length, the same on every worker.
        quadrature: frequencies t >= 0 with their weights.
    """
    frequency_K, weight_K = embedding_VBD.new_tensor(quadrature).T
    with torch.autocast(embedding_VBD.device.type, enabled=False):
        line_VBS = embedding_VBD @ (direction_DS / direction_DS.norm(dim=0))
        mean_KZVS = torch.stack([_characteristic(frequency * line_VBS) for frequency in frequency_K])
        mean_KZVS = summed_with_gradient(mean_KZVS) / workers()
        normal_K11 = (-frequency_K.square() / 2).exp()[:, None, None]
        error_KVS = (mean_KZVS[:, 0] - normal_K11).square() + mean_KZVS[:, 1].square()
        distance: Tensor = weight_K @ error_KVS.mean((1, 2))
    return distance * embedding_VBD.shape[1] * workers()


def _characteristic(angle_VBS: Tensor) -> Tensor:
    """(2, V, S) real and imaginary part of the slice's mean of exp(i x angle)."""
    return torch.stack([angle_VBS.cos().mean(1), angle_VBS.sin().mean(1)])
