"""SimCLR: two views of an image are told from all other views of the batch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field

from scaleback.objectives.base import Objective

if TYPE_CHECKING:
    import torch
    from torch import nn

    from scaleback.objectives.learners.base import Learner

UNIFORMITY_MOST = -0.01
"""Projections of a uniformity above this lie within a hundredth of a squared radius of one another."""


class SimCLR(Objective):
    """Chen, Kornblith, Norouzi and Hinton, ICML 2020: NT-Xent over both views of the whole batch, over all workers.

    The projector is the released one (google-research/simclr): two linear layers with a batch norm after each, the
    last of which scales and does not shift. Its weights are drawn as torch draws them, of a deviation of 0.013 at the
    paper's width of 2048 where the released code has 0.01.
    """

    kind: Literal["simclr"] = "simclr"

    temperature: float = Field(0.1, gt=0)
    """Section 2.2 and the released ImageNet command; the CIFAR-10 command has 0.5."""
    hidden: int | None = Field(None, ge=1)
    """Width of the projector's hidden layer; None for the backbone's, which is 2048 in the paper."""
    output: int = Field(128, ge=1)
    """Width of what is compared."""

    @property
    def compares_images(self) -> bool:
        return True

    @property
    def view_augmentations(self) -> tuple[int, ...]:
        return (0, 0)

    def build(self, backbone: nn.Module, *, width: int, classes: int, generator: torch.Generator) -> Learner:
        from scaleback.objectives.learners.simclr import SimCLRLearner

        return SimCLRLearner(self, backbone, width=width, generator=generator)

    def trivial_loss(self, *, classes: int, labels_an_image: int, batch_images: int) -> float:
        return math.log(2 * batch_images - 1)

    def collapse(self, row: Mapping[str, float]) -> str | None:
        uniformity = row.get("uniformity", -math.inf)
        if uniformity > UNIFORMITY_MOST:
            return f"projections of different images are one point: their uniformity is {uniformity:.3f}"
        return None

    @classmethod
    def example(cls) -> Self:
        return cls(temperature=0.5, hidden=32, output=16)
