"""PatchMix at work: cells exchanged in rings of images, and who is how similar to whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from scaleback.core.errors import Refusal, refusal
from scaleback.objectives.learners import vit
from scaleback.objectives.learners.base import Batch, Losses
from scaleback.objectives.learners.moco import MoCoLearner, accuracy, own_rows
from scaleback.objectives.learners.statistics import pair_statistics

if TYPE_CHECKING:
    from scaleback.objectives.patchmix import PatchMix

# Shapes: B images of a worker's slice, N of the batch over all workers, R images of a ring, C channels, H rows,
# W columns, G cells along a side, L local views, D width of an embedding.

CELLS = 7
"""Along a side, where the backbone has no patches of its own: as many as the last map of a ResNet has at 224 px."""


class PatchMixLearner(MoCoLearner):
    """MoCo's encoders, which look at mixed images too."""

    def __init__(self, spec: PatchMix, backbone: nn.Module, *, width: int, generator: torch.Generator) -> None:
        super().__init__(spec, backbone, width=width, generator=generator)
        self._mixing = spec

    def forward(self, batch: Batch) -> Losses:
        first_BCHW, second_BCHW, *local_LBCHW = batch.view_VBCHW
        (mixed_first_BCHW, first_share_RR), (mixed_second_BCHW, share_RR), *mixed_local = [
            self._mix(batch, number) for number in range(len(batch.view_VBCHW))
        ]
        features_BD, query_BD = self.query(first_BCHW)
        _, mixed_query_BD = self.query(mixed_second_BCHW)
        keys = [self.key(first_BCHW), self.key(second_BCHW)]
        clean_BN = self.log_chance(query_BD, keys[1])
        own_RR = torch.eye(len(share_RR), device=share_RR.device)
        losses = {
            "clean_loss": soft_loss(clean_BN, own_RR),
            "source_loss": soft_loss(self.log_chance(mixed_query_BD, keys[0]), share_RR) / 2,
            "mix_loss": soft_loss(
                self.log_chance(mixed_query_BD, self.key(mixed_first_BCHW)), share_RR @ first_share_RR.T
            )
            / 2,
        }
        if local_LBCHW:
            losses["local_loss"] = self._local_loss(local_LBCHW, keys, own_RR)
            losses["mixed_local_loss"] = self._local_loss([image for image, _ in mixed_local], keys, mixed_local[0][1])
        parts = {name: loss.detach() for name, loss in losses.items()}
        parts["accuracy"] = accuracy(clean_BN, own_rows(clean_BN))
        if batch.watched:
            parts |= pair_statistics(query_BD.detach(), keys[1])
        return Losses(total=torch.stack(list(losses.values())).sum(), features_BD=features_BD.detach(), parts=parts)

    def _local_loss(self, view_LBCHW: list[Tensor], keys: list[Tensor], share_RR: Tensor) -> Tensor:
        """Both views' keys found by all local views, whose target is the same; a sum over keys, a mean over views."""
        _, query_BD = self.query(torch.cat(view_LBCHW))
        found = [
            soft_loss(self.log_chance(part_BD, key_BD), share_RR)
            for part_BD in query_BD.chunk(len(view_LBCHW))
            for key_BD in keys
        ]
        return torch.stack(found).sum() / len(view_LBCHW)

    def _mix(self, batch: Batch, view: int) -> tuple[Tensor, Tensor]:
        """A mixed view, and the (R, R) shares of a ring's images in each of them."""
        spec, image_BCHW = self._mixing, batch.view_VBCHW[view]
        cells = spec.cells or (self._patches(image_BCHW) if vit.is_plain(self.backbone) else CELLS)
        if cells**2 < spec.mixed:
            raise Refusal("objective.mixed", refusal(f"must not exceed the {cells**2} cells of a view", spec.mixed))
        step_GG = draw_steps(batch.generator(f"patchmix {view}"), cells, spec.mixed)
        return mixed(image_BCHW, step_GG, spec.ring), shares(step_GG, spec.ring).to(image_BCHW.device)

    def _patches(self, image_BCHW: Tensor) -> int:
        return image_BCHW.shape[-1] // vit.patch_px(self.backbone)


def draw_steps(rng: np.random.Generator, cells: int, images: int) -> Tensor:
    """(G, G) how many places along its ring each cell is taken from: equally often 0 to images - 1; the rest are 0."""
    segment = cells * cells // images
    step_T = np.repeat(np.arange(images), segment)
    step_T = np.concatenate([step_T, np.zeros(cells * cells - len(step_T), np.int64)])
    return torch.from_numpy(rng.permutation(step_T).reshape(cells, cells))


def mixed(image_BCHW: Tensor, step_GG: Tensor, ring: int) -> Tensor:
    """Each image with cells of those after it in its ring, which is ``ring`` neighbours of a batch in random order."""
    height, width = image_BCHW.shape[-2:]
    row_H, column_W = (torch.arange(length) * len(step_GG) // length for length in (height, width))
    step_HW = step_GG[row_H[:, None], column_W].to(image_BCHW.device)
    image_KRCHW: Tensor = image_BCHW.unflatten(0, (-1, ring))
    result = image_KRCHW
    for step in range(1, int(step_GG.max()) + 1):
        result = torch.where(step_HW == step, image_KRCHW.roll(-step, dims=1), result)
    return result.flatten(0, 1)


def shares(step_GG: Tensor, ring: int) -> Tensor:
    """(R, R) share of each image of a ring (column) in each mixed one (row)."""
    share_S = step_GG.flatten().bincount().float() / step_GG.numel()
    share_RR = torch.zeros(ring, ring)
    for step, share in enumerate(share_S):
        share_RR += share * torch.eye(ring).roll(step, dims=1)
    return share_RR


def soft_loss(log_chance_BN: Tensor, target_RR: Tensor) -> Tensor:
    """Cross-entropy with targets that are the same in every ring and 0 between rings."""
    rings, ring = len(log_chance_BN) // len(target_RR), len(target_RR)
    own_B = own_rows(log_chance_BN)
    column_BR = own_B[0] + torch.arange(len(own_B), device=own_B.device).view(rings, 1, ring).expand(-1, ring, -1)
    near_BR = log_chance_BN.gather(1, column_BR.reshape(-1, ring))
    return -(target_RR.repeat(rings, 1) * near_BR).sum(1).mean()
