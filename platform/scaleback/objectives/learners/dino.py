"""Student, teacher, head and loss of DINO."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scaleback.objectives.dino import GLOBAL_CROPS
from scaleback.objectives.learners import statistics, vit
from scaleback.objectives.learners.base import Batch, Learner, Losses
from scaleback.objectives.learners.gather import summed
from scaleback.objectives.learners.teacher import follow, momentum_at, teacher_of

if TYPE_CHECKING:
    from scaleback.objectives.dino import DINO

# Shapes: V views, U of them global, B images, C channels, H rows, W columns, D width, N bottleneck, K prototypes.


class DINOHead(nn.Module):
    """Three layers, then the cosine with each prototype, times the prototype's length where that is learnt."""

    scale_K1: nn.Parameter | None

    def __init__(self, spec: DINO, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, spec.hidden),
            nn.GELU(),
            nn.Linear(spec.hidden, spec.hidden),
            nn.GELU(),
            nn.Linear(spec.hidden, spec.bottleneck),
        )
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=spec.head_std, generator=generator)
                nn.init.zeros_(layer.bias)
        # The length of a row does not show in the logits, but sets how fast an optimizer turns it: torch's own.
        bound = spec.bottleneck**-0.5
        self.prototype_KN = nn.Parameter(torch.empty(spec.prototypes, spec.bottleneck))
        nn.init.uniform_(self.prototype_KN, -bound, bound, generator=generator)
        # Of two dimensions, so that it is decayed, as weight normalisation's length is in the released code.
        self.scale_K1 = None if spec.norm_last_layer else nn.Parameter(torch.ones(spec.prototypes, 1))

    def forward(self, features_BD: Tensor) -> Tensor:
        """(B, K) logits, in the weights' precision whatever that of the layers before."""
        value_BN = self.layers(features_BD)
        with torch.autocast(value_BN.device.type, enabled=False):
            row_KN = F.normalize(self.prototype_KN, dim=1)
            if self.scale_K1 is not None:
                row_KN = self.scale_K1 * row_KN
            return F.linear(F.normalize(value_BN.to(row_KN.dtype), dim=1), row_KN)

    def last_layer(self) -> list[nn.Parameter]:
        """What stays as it is at the beginning of a run."""
        return [self.prototype_KN] if self.scale_K1 is None else [self.prototype_KN, self.scale_K1]


class DINOLearner(Learner):
    """A backbone and a head, and a teacher of both."""

    centre_K: Tensor
    """Running mean of the teacher's logits."""
    told_apart: Tensor
    """What the teacher's output said of its image in the last step: the entropy of the batch's mean distribution less
    the mean entropy, in nats. It takes the whole batch, so it is watched a step late."""

    def __init__(self, spec: DINO, backbone: nn.Module, *, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = DINOHead(spec, width, generator)
        self.teacher = teacher_of(nn.ModuleDict({"backbone": backbone, "head": self.head}))
        self.kept = "teacher.backbone" if spec.keep == "teacher" else "backbone"
        self.register_buffer("centre_K", torch.zeros(spec.prototypes))
        self.register_buffer("told_apart", torch.zeros(()))
        # Not a buffer: it begins and ends with a step, so no checkpoint needs it.
        self._sums: dict[str, Tensor] = {}
        self._dino = spec

    def forward(self, batch: Batch) -> Losses:
        features_VBD, log_VBK = self.student(batch.view_VBCHW)
        chance_UBK = self.taught(batch.view_VBCHW[:GLOBAL_CROPS], batch.progress, remembered=True)
        loss = pair_cross_entropy(chance_UBK, log_VBK)
        return Losses(
            total=loss,
            features_BD=features_VBD[0].detach(),
            parts=self.watched(loss, chance_UBK, features_VBD) if batch.watched else {},
        )

    def student(self, view_VBCHW: list[Tensor]) -> tuple[Tensor, Tensor]:
        """(V, B, D) features and (V, B, K) logarithms of the student's distributions."""
        features_VBD = features_of_views(self.backbone, view_VBCHW)
        logits_VBK = self.head(features_VBD.flatten(0, 1)).unflatten(0, features_VBD.shape[:2])
        return features_VBD, (logits_VBK / self._dino.student_temperature).log_softmax(-1)

    @torch.no_grad()
    def taught(self, view_UBCHW: list[Tensor], progress: float, *, remembered: bool) -> Tensor:
        """(U, B, K) distributions of the teacher; with ``remembered`` its logits move the centre after the step."""
        teacher = cast(nn.ModuleDict, self.teacher)
        features_UBD = features_of_views(teacher["backbone"], view_UBCHW)
        logits_UBK = teacher["head"](features_UBD.flatten(0, 1)).unflatten(0, features_UBD.shape[:2])
        temperature = self._dino.teacher_temperature_at(progress)
        chance_UBK: Tensor = ((logits_UBK - self.centre_K) / temperature).softmax(-1)
        if remembered and self.training:
            self._add(logits_UBK, chance_UBK)
        return chance_UBK

    @torch.no_grad()
    def watched(self, loss: Tensor, chance_UBK: Tensor, features_VBD: Tensor) -> dict[str, Tensor]:
        """What shows a collapse; entropies and divergences in nats."""
        entropy = statistics.entropy(chance_UBK.flatten(0, 1))
        return {
            "teacher_entropy": entropy,
            "teacher_kl": loss.detach() - entropy,  # each teacher view is in as many pairs as the other
            "told_apart": self.told_apart.clone(),
            "centre_norm": self.centre_K.norm(),
            "view_similarity": F.cosine_similarity(features_VBD[0].float(), features_VBD[1].float()).mean(),
        }

    def before_step(self, progress: float) -> None:
        if progress < self._dino.frozen_head_share:
            for parameter in self.head.last_layer():
                parameter.grad = None  # a zero would be decayed, and would move by its momentum

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        momentum = momentum_at(progress, self._dino.teacher_momentum)
        teacher = cast(nn.ModuleDict, self.teacher)
        follow(teacher["backbone"], self.backbone, momentum)
        follow(teacher["head"], self.head, momentum)
        totals = {name: summed(value) for name, value in self._sums.items()}
        rows = totals["rows"]
        self.centre_K.lerp_(totals["logits"] / rows, 1 - self._dino.centre_momentum)
        mean_entropy = totals["entropy"] / rows
        self.told_apart.copy_(statistics.entropy(totals["chance"][None] / rows) - mean_entropy)
        self._sums = {}

    def _add(self, logits_UBK: Tensor, chance_UBK: Tensor) -> None:
        """Remember sums over a micro-batch until the step ends."""
        sums = {
            "rows": logits_UBK.new_tensor(logits_UBK.shape[:2].numel()),
            "logits": logits_UBK.sum((0, 1)),
            "chance": chance_UBK.sum((0, 1)),
            "entropy": torch.special.entr(chance_UBK).sum(),
        }
        self._sums = {name: value + self._sums.get(name, 0) for name, value in sums.items()}


def features_of_views(backbone: nn.Module, view_VBCHW: list[Tensor]) -> Tensor:
    """(V, B, D) pooled features; views of one size go through the backbone together."""
    places: dict[torch.Size, list[int]] = {}
    for place, view in enumerate(view_VBCHW):
        places.setdefault(view.shape, []).append(place)
    found: dict[int, Tensor] = {}
    for same in places.values():
        pooled = vit.features(backbone, torch.cat([view_VBCHW[place] for place in same]))
        found |= dict(zip(same, pooled.chunk(len(same)), strict=True))
    return torch.stack([found[place] for place in range(len(view_VBCHW))])


def pair_cross_entropy(chance_UBK: Tensor, log_VBK: Tensor) -> Tensor:
    """Mean cross-entropy over images and pairs of a teacher's view and another view of the student's.

    Args:
        chance_UBK: the teacher's distributions of the first U views.
        log_VBK: logarithms of the student's, of all.
    """
    all_BK = log_VBK.sum(0)
    terms = [(chance_BK * (all_BK - own_BK)).sum(1) for chance_BK, own_BK in zip(chance_UBK, log_VBK, strict=False)]
    return -torch.stack(terms).mean() / (len(log_VBK) - 1)
