"""LeJEPA: views of an image agree, and embeddings of all images are kept a standard normal cloud."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from scaleback.core.errors import Refusal, refusal
from scaleback.objectives.base import Objective

if TYPE_CHECKING:
    import torch
    from torch import nn

    from scaleback.objectives.learners.base import Learner

STD_LEAST = 0.05
"""Embeddings are pulled to a deviation of 1 in every direction."""


class LeJEPA(Objective):
    """Balestriero and LeCun, 2025 (arXiv 2511.08544): no teacher, no stop of gradients, no schedule.

    (1 - weight) x the mean square of views' embeddings about the mean of the image's global views, plus weight x
    SIGReg: the mean over random directions and over views of the statistic of Epps and Pulley of the batch's
    embeddings along that direction against N(0, 1).

    Directions are drawn anew in each step and are the same on every worker. The integral's defaults are the paper's
    algorithm; the code that was released (rbalestr-lab/lejepa) integrates to 3 with 33 points (``lejepa-code``). The
    projector is the released minimal example's: three linear layers, batch norms between them.
    """

    kind: Literal["lejepa"] = "lejepa"

    weight: float = Field(0.05, gt=0, lt=1)
    """The paper's lambda: share of SIGReg in the loss."""
    global_views: int = Field(2, ge=1)
    """Views whose mean is what all views are pulled to; made by the recipe's first augmentation."""
    local_views: int = Field(6, ge=0)
    """Further views, by the recipe's second augmentation; the number is the released code's."""
    hidden: int = Field(2_048, ge=1)
    """Width of the projector's two hidden layers."""
    output: int = Field(128, ge=1)
    """Width of the embeddings."""
    directions: int = Field(1_024, ge=1)
    """Random directions a step."""
    points: int = Field(17, ge=3)
    """Points of the trapezoidal rule from -reach to reach; odd, one of them is 0."""
    reach: float = Field(5.0, gt=0)
    """Where the integral over frequencies is cut off."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.points % 2 == 0:
            raise Refusal("points", refusal("must be odd, so that one of them is 0", self.points))
        if self.global_views + self.local_views < 2:
            raise Refusal("global_views", refusal("needs two views to agree, global or local", self.global_views))
        return self

    @property
    def compares_images(self) -> bool:
        return True

    @property
    def view_augmentations(self) -> tuple[int, ...]:
        return (0,) * self.global_views + (1,) * self.local_views

    def build(self, backbone: nn.Module, *, width: int, classes: int, generator: torch.Generator) -> Learner:
        from scaleback.objectives.learners.lejepa import LeJEPALearner

        return LeJEPALearner(self, backbone, width=width, generator=generator)

    @property
    def quadrature(self) -> Sequence[tuple[float, float]]:
        """Frequencies from 0 on, each with its weight: of the rule, of the mirrored half, and of exp(-t^2 / 2)."""
        step = 2 * self.reach / (self.points - 1)
        last = self.points // 2
        # 0 has no mirror image; the ends weigh half.
        rule = [step * (1 if place in (0, last) else 2) for place in range(last + 1)]
        return [(step * place, weight * math.exp(-((step * place) ** 2) / 2)) for place, weight in enumerate(rule)]

    def trivial_loss(self, *, classes: int, labels_an_image: int, batch_images: int) -> float:
        """All embeddings at 0: their characteristic function is 1 everywhere."""
        point = sum(weight * (1 - math.exp(-t * t / 2)) ** 2 for t, weight in self.quadrature)
        return self.weight * batch_images * point

    def collapse(self, row: Mapping[str, float]) -> str | None:
        std = row.get("embedding_std", math.inf)
        if std < STD_LEAST:
            return f"embeddings are one point: their standard deviation is {std:.3f}, and should be 1"
        return None

    @classmethod
    def example(cls) -> Self:
        return cls(global_views=2, local_views=1, hidden=32, output=8, directions=64)
