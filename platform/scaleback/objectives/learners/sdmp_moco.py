"""SDMP on MoCo v3 at work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from scaleback.objectives.learners.base import Batch, Losses
from scaleback.objectives.learners.mixing import draw_mix, mixed, places
from scaleback.objectives.learners.moco import MoCoLearner, accuracy, at
from scaleback.objectives.learners.statistics import pair_statistics

if TYPE_CHECKING:
    from scaleback.objectives.sdmp_moco import SDMPMoCoV3

# Shapes: B images of a worker's slice, N of the batch over all workers, D width of an embedding or of the backbone.


class SDMPMoCoLearner(MoCoLearner):
    """MoCo's encoders, which look at mixed images too."""

    def __init__(self, spec: SDMPMoCoV3, backbone: nn.Module, *, width: int, generator: torch.Generator) -> None:
        super().__init__(spec, backbone, width=width, generator=generator)
        self._mixing = spec

    def forward(self, batch: Batch) -> Losses:
        spec, view_VBCHW = self._mixing, batch.view_VBCHW
        ways = self._ways(batch)
        mix = draw_mix(spec, batch)
        own_B, other_B = places(len(batch.index_B), spec.pairing, view_VBCHW[0].device)
        mixed_VBCHW = [mixed(view_BCHW, mix, number) for number, view_BCHW in enumerate(view_VBCHW)]

        key = [self.key(view_BCHW) for view_BCHW in view_VBCHW]
        found: dict[str, list[Tensor]] = {"clean_loss": [], "source_loss": [], "mix_loss": [], "accuracy": []}
        features, pair = [], []
        for this, other in ways:
            features_BD, query_BD = self.query(view_VBCHW[this])
            _, mixed_query_BD = self.query(mixed_VBCHW[other])
            to_clean_BN = self.log_chance(query_BD, key[other])
            to_source_BN = self.log_chance(mixed_query_BD, key[this])
            to_mixed_BN = self.log_chance(mixed_query_BD, self.key(mixed_VBCHW[this]))
            found["clean_loss"].append(-self.scale * at(to_clean_BN, own_B).mean())
            for name, log_chance_BN, weight_B in (
                ("source_loss", to_source_BN, mix.share_B),
                ("mix_loss", to_mixed_BN, 1 / (1 + mix.in_common)),
            ):
                loss_B = two_answers(at(log_chance_BN, own_B), at(log_chance_BN, other_B), weight_B, spec.mix_loss)
                found[name].append(self.scale * loss_B.mean())
            found["accuracy"].append(accuracy(to_clean_BN, own_B))
            features.append(features_BD)
            pair.append((query_BD, key[other]))

        clean, source, mixture = (torch.stack(found[name]).sum() for name in ("clean_loss", "source_loss", "mix_loss"))
        parts = {"clean_loss": clean.detach(), "source_loss": source.detach(), "mix_loss": mixture.detach()}
        parts["accuracy"] = torch.stack(found["accuracy"]).mean()
        if batch.watched:
            parts |= pair_statistics(*pair[0])
        return Losses(total=clean + spec.mix_weight * (source + mixture), features_BD=features[0].detach(), parts=parts)

    def _ways(self, batch: Batch) -> list[tuple[int, int]]:
        """Which view's clean queries find which other view's keys."""
        if self._mixing.symmetric:
            return [(0, 1), (1, 0)]
        return [(1, 0)] if batch.generator("direction").random() < 0.5 else [(0, 1)]


def two_answers(first_B: Tensor, second_B: Tensor, weight_B: Tensor, kind: Literal["soft", "log-mixture"]) -> Tensor:
    """(B,) loss of two right answers, given the logarithms of their probabilities, and the weight of the first."""
    if kind == "soft":
        return -(weight_B * first_B + (1 - weight_B) * second_B)
    return -torch.logaddexp(first_B + weight_B.log(), second_B + (1 - weight_B).log())
