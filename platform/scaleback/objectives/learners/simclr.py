"""NT-Xent: the other view of an image among all views of all images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scaleback.objectives.learners.base import Batch, Learner, Losses
from scaleback.objectives.learners.gather import gathered_with_gradient, rank
from scaleback.objectives.learners.heads import full, mlp
from scaleback.objectives.learners.statistics import pair_statistics
from scaleback.objectives.learners.vit import features

if TYPE_CHECKING:
    from scaleback.objectives.simclr import SimCLR

# Shapes: B images of a slice, G images of all slices, R = 2B rows (first views, then second), A = 2G candidates,
# D width of what is compared.


class SimCLRLearner(Learner):
    """Backbone and projector; both views pass through together, so batch norms see both."""

    def __init__(self, spec: SimCLR, backbone: nn.Module, *, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.backbone = backbone
        last = nn.BatchNorm1d(spec.output)
        last.bias.requires_grad_(False)
        self.projector = mlp([width, spec.hidden or width, spec.output], generator=generator, last=last)
        self._temperature = spec.temperature

    def forward(self, batch: Batch) -> Losses:
        features_RD = features(self.backbone, torch.cat(batch.view_VBCHW))
        first_BD, second_BD = self.projector(features_RD).chunk(2)
        logits_RA, target_R = nt_xent_logits(first_BD, second_BD, self._temperature)
        right = (logits_RA.detach().argmax(1) == target_R).float().mean()
        return Losses(
            total=F.cross_entropy(logits_RA, target_R),
            features_BD=features_RD.detach().chunk(2)[0],
            parts={
                "accuracy": right,
                **(pair_statistics(first_BD, second_BD) if batch.watched else {}),
            },
        )


def nt_xent_logits(first_BD: Tensor, second_BD: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Cosines over the temperature, (R, A), -inf for a row with itself; and each row's right candidate, (R,).

    Candidates are of all workers, and gradients flow back through them. Both are in the order of views.
    """
    with torch.autocast(first_BD.device.type, enabled=False):  # cosines in bf16 have two digits
        first_BD, second_BD = (F.normalize(value, dim=1) for value in (full(first_BD), full(second_BD)))
        candidate_AD = torch.cat([gathered_with_gradient(first_BD), gathered_with_gradient(second_BD)])
        logits_RA = torch.cat([first_BD, second_BD]) @ candidate_AD.T / temperature
    mine_B = torch.arange(len(first_BD), device=first_BD.device) + rank() * len(first_BD)
    other_B = mine_B + len(candidate_AD) // 2
    logits_RA = logits_RA.scatter(1, torch.cat([mine_B, other_B])[:, None], -torch.inf)
    return logits_RA, torch.cat([other_B, mine_B])
