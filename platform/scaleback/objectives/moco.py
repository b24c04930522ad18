"""MoCo v3: a query finds the key of the image's other view among the keys of the batch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field

from scaleback.objectives.base import Objective

if TYPE_CHECKING:
    import torch
    from torch import nn

    from scaleback.objectives.learners.base import Learner

ONE_LINE = -1.0
"""Uniformity of embeddings on one point is 0, on the two ends of a line log(1/2) or, of eight, log(3/7), -0.85; spread
ones have about -3."""


class MoCoV3(Objective):
    """Chen, Xie and He, ICCV 2021; heads and defaults are those of its ViTs.

    The momentum encoder moves after each step by the momentum of the progress that counts this step, which is the
    released order: there it moves at the start of the next step, before the keys. What is kept is the query encoder's
    backbone, as released. ``frozen_patches``, ``sincos_positions`` and ``xavier`` act on plain ViTs only. Where the
    release trains in half precision, normalisation and the softmax over keys are in single precision here.
    """

    kind: Literal["moco-v3"] = "moco-v3"
    temperature: float = Field(0.2, gt=0)
    """Of the softmax over keys; 1.0 with ResNets."""
    momentum: float = Field(0.99, ge=0, lt=1)
    """Of the momentum encoder at the start; it goes to 1 along a half cosine."""
    hidden: int = Field(4_096, ge=1)
    """Width of the hidden layers of both heads."""
    output: int = Field(256, ge=1)
    """Width of queries and keys."""
    projector_layers: int = Field(3, ge=1)
    """2 with ResNets."""
    predictor_layers: int = Field(2, ge=1)
    predictor_norm: bool = True
    """Whether the predictor ends in a batch norm, as the projector does; not with ResNets."""
    frozen_patches: bool = True
    """Whether the projection of patches stays as it was drawn."""
    sincos_positions: bool = True
    """Whether positions are fixed sines and cosines, or trained."""
    xavier: bool = True
    """Whether the ViT's weights are drawn anew, uniformly after Glorot, or stay as timm draws them."""

    @property
    def compares_images(self) -> bool:
        return True

    @property
    def view_augmentations(self) -> tuple[int, ...]:
        return (0, 1)

    def build(self, backbone: nn.Module, *, width: int, classes: int, generator: torch.Generator) -> Learner:
        from scaleback.objectives.learners.moco import MoCoLearner

        return MoCoLearner(self, backbone, width=width, generator=generator)

    def trivial_loss(self, *, classes: int, labels_an_image: int, batch_images: int) -> float:
        return 2 * 2 * self.temperature * math.log(batch_images)

    def collapse(self, row: Mapping[str, float]) -> str | None:
        uniformity = row.get("uniformity", -math.inf)
        if uniformity > ONE_LINE:
            return f"queries and keys lie on a point or a line: their uniformity is {uniformity:.2f}"
        return None

    def passes(self, areas: Sequence[float]) -> float:
        return 4 * sum(areas)  # queries forward and backward, keys forward

    @classmethod
    def example(cls) -> Self:
        return cls(hidden=64, output=256, projector_layers=2)
