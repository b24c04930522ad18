"""A linear classifier on a backbone."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scaleback.objectives.learners import vit
from scaleback.objectives.learners.base import Batch, Learner, Losses
from scaleback.objectives.learners.heads import linear

if TYPE_CHECKING:
    from scaleback.objectives.classify import Classify

# Shapes: B images, C channels, H rows, W columns, D width, K classes.


class Classifier(Learner):
    """Backbone and head; the label of an image is its class or its index."""

    def __init__(
        self, spec: Classify, backbone: nn.Module, *, width: int, classes: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = linear(width, classes, generator)
        self.slice_multiple = spec.slice_multiple
        self._spec = spec

    def forward(self, batch: Batch) -> Losses:
        label_B = batch.label_B if self._spec.labels == "source" else batch.index_B
        split = self._spec.global_crops
        total, features_BD, accuracy = self._stack(batch, 0, batch.view_VBCHW[:split], label_B)
        if self._spec.local_crops:
            total = total + self._stack(batch, 1, batch.view_VBCHW[split:], label_B)[0]
        return Losses(total=total, features_BD=features_BD.detach(), parts={"accuracy": accuracy.detach()})

    def _stack(
        self, batch: Batch, number: int, view_VBCHW: list[Tensor], label_B: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Loss of one stack of views, features of its first view, share of right answers."""
        views = len(view_VBCHW)
        size = view_VBCHW[0].shape[-2:]
        mix = draw_mix(self._spec, batch, size, stack=number, views=views) if self.training else None
        image_BCHW = view_VBCHW[0] if views == 1 else torch.cat(view_VBCHW)
        label_B = label_B if views == 1 else torch.cat([label_B] * views)
        if mix is not None:
            image_BCHW = mixed(image_BCHW, mix)
        features_BD = vit.features(self.backbone, image_BCHW)
        logits_BK = self.head(features_BD).float()
        loss = self._loss(logits_BK, label_B)
        if mix is not None:
            # Whichever crop it is of: the partner's label is that of the neighbouring image.
            loss = mix.share * loss + (1 - mix.share) * self._loss(logits_BK, partner(label_B))
        # Of several classes, the likeliest must be one of them.
        right = (logits_BK.argmax(1, keepdim=True) == label_B.view(len(label_B), -1)).any(1).float().mean()
        return loss, features_BD[: len(batch.index_B)], right

    def _loss(self, logits_BK: Tensor, label_B: Tensor) -> Tensor:
        if label_B.ndim == 2:
            return several_classes_loss(logits_BK, label_B)
        return F.cross_entropy(logits_BK, label_B, label_smoothing=self._spec.smoothing)


def several_classes_loss(logits_BK: Tensor, label_BL: Tensor) -> Tensor:
    """Binary cross-entropy of every class, mean over classes and images; a shown class weighs classes / shown."""
    # A label of -1 goes into a column that is cut off.
    shown_BK = logits_BK.new_zeros(len(logits_BK), logits_BK.shape[1] + 1)
    shown_BK = shown_BK.scatter_(1, label_BL % shown_BK.shape[1], 1.0)[:, :-1]
    weight_B1 = logits_BK.shape[1] / shown_BK.sum(1, keepdim=True).clamp(min=1)
    weight_BK = torch.where(shown_BK > 0, weight_B1, torch.ones_like(weight_B1))
    return F.binary_cross_entropy_with_logits(logits_BK, shown_BK, weight=weight_BK)


class Mix(NamedTuple):
    """How a stack of views is mixed: with equal weight everywhere, or by a box."""

    share: float
    """Weight of an image itself; the rest is its partner's."""
    box: tuple[int, int, int, int] | None
    """Top, bottom, left, right of the pasted box; None for mixup."""
    views: int = 1
    turn: int = 0
    """Views in the stack; view v is mixed with the partner's view v + turn."""


def draw_mix(spec: Classify, batch: Batch, size: tuple[int, ...], *, stack: int = 0, views: int = 1) -> Mix | None:
    """One mix a stack, the same on every worker: timm's batch mode with probability 1 and switch probability 0.5."""
    mixup, cutmix = spec.mixup, spec.cutmix
    if not mixup and not cutmix:
        return None
    rng = batch.generator("mix" if stack == 0 else f"mix of stack {stack}")
    use_cutmix = bool(cutmix) and (not mixup or rng.random() < 0.5)
    share = float(rng.beta(cutmix, cutmix) if use_cutmix else rng.beta(mixup, mixup))
    share = max(share, 1 - share) if spec.mix_larger else share
    if not use_cutmix:
        return Mix(share, None, views, int(rng.integers(views)))
    height, width = size
    side = np.sqrt(1 - share)
    middle_y, middle_x = int(rng.integers(height)), int(rng.integers(width))
    half_y, half_x = int(height * side) // 2, int(width * side) // 2
    top, bottom = max(0, middle_y - half_y), min(height, middle_y + half_y)
    left, right = max(0, middle_x - half_x), min(width, middle_x + half_x)
    # The box was cut at the border, so the weight is what is left of it.
    area = (bottom - top) * (right - left) / (height * width)
    return Mix(1 - area, (top, bottom, left, right), views, int(rng.integers(views)))


def mixed(image_BCHW: Tensor, mix: Mix) -> Tensor:
    """Each image mixed with its partner."""
    other_BCHW = partner(image_BCHW)
    if mix.turn:
        other_BCHW = other_BCHW.unflatten(0, (mix.views, -1)).roll(-mix.turn, 0).flatten(0, 1)
    if mix.box is None:
        return mix.share * image_BCHW + (1 - mix.share) * other_BCHW
    top, bottom, left, right = mix.box
    image_BCHW = image_BCHW.clone()
    image_BCHW[:, :, top:bottom, left:right] = other_BCHW[:, :, top:bottom, left:right]
    return image_BCHW


def partner(value_B: Tensor) -> Tensor:
    """Rows 2i and 2i + 1 change places.

    Batches are in random order, so a neighbour is as random a partner as any, and it is on the same worker however the
    batch is cut into even slices.
    """
    return value_B.view(-1, 2, *value_B.shape[1:]).flip(1).reshape(value_B.shape)
