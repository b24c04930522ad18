"""DINO: a student learns to say of any crop of an image what its own slow average says of another (Caron et al., 2021).

``DINO`` is the method of "Emerging Properties in Self-Supervised Vision Transformers", ICCV 2021, arXiv 2104.14294.
"""

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

GLOBAL_CROPS = 2
"""Views that the teacher sees too."""
UNIFORM_LEAST, SAME_MOST = 0.999, 0.01
"""A teacher's entropy of more than this share of the logarithm of the prototypes is that of no choice at all, if the
student makes none either: Kullback-Leibler divergence below the second number, in nats. Runs on digits that ended
uniform came to 0.9997 and 0.001; an untrained student, which nothing centres, lies tenths of a nat off."""
SHARP_MOST, TOLD_APART_LEAST = 0.8, 0.05
"""A teacher that has chosen, with an entropy below this share of the logarithm, says at least so many nats of which
image it sees; if it does not, all images get one answer."""


class DINO(Objective):
    """Cross-entropy of the teacher's centred and sharpened output on one view and the student's on every other.

    The teacher sees the global crops, the student these and the local ones. A pair is of two different views; the loss
    is the mean over pairs. Temperatures move with each step, where the released code moves them once an epoch.
    """

    kind: Literal["dino"] = "dino"
    local_crops: int = Field(8, ge=0)
    """Small crops an image, beside two global ones."""
    prototypes: int = Field(65_536, ge=2)
    """Outputs of the head; the released code advises fewer for small data."""
    hidden: int = Field(2_048, ge=1)
    """Width of the head's two hidden layers."""
    bottleneck: int = Field(256, ge=1)
    """Width of the unit vector that is compared with the prototypes."""
    head_std: float = Field(0.02, gt=0)
    """Of the head's fresh weights, as released. At the paper's width this keeps the size of what comes in; a narrower
    head shrinks it layer by layer, and wants about the inverse root of ``hidden``."""
    norm_last_layer: bool = True
    """Prototypes are unit vectors; otherwise each has a length of its own, which is learnt."""
    student_temperature: float = Field(0.1, gt=0)
    teacher_temperature_start: float = Field(0.04, gt=0)
    teacher_temperature: float = Field(0.07, gt=0)
    """Reached along a straight line from ``teacher_temperature_start``."""
    teacher_warmup_share: float = Field(0.1, ge=0, le=1)
    """Share of the budget that this takes: 30 of 300 epochs."""
    centre_momentum: float = Field(0.9, ge=0, le=1)
    """Of the running mean that is taken off the teacher's logits; 1 leaves it at zero."""
    teacher_momentum: float = Field(0.996, ge=0, le=1)
    """At the start; it goes to 1 along a half cosine."""
    frozen_head_share: float = Field(1 / 300, ge=0, le=1)
    """Share of the budget during which prototypes stay as they are: the first of 300 epochs."""
    keep: Literal["teacher", "student"] = "teacher"
    """Whose backbone is the result."""

    @property
    def view_augmentations(self) -> tuple[int, ...]:
        return (0, 1, *[2] * self.local_crops)

    def teacher_temperature_at(self, progress: float) -> float:
        """Temperature when so large a share of the budget is behind."""
        start, end = self.teacher_temperature_start, self.teacher_temperature
        if progress >= self.teacher_warmup_share:
            return end
        return start + (end - start) * progress / self.teacher_warmup_share

    def build(self, backbone: nn.Module, *, width: int, classes: int, generator: torch.Generator) -> Learner:
        from scaleback.objectives.learners.dino import DINOLearner

        return DINOLearner(self, backbone, width=width, generator=generator)

    def trivial_loss(self, *, classes: int, labels_an_image: int, batch_images: int) -> float:
        # The centre of a constant output is that output, so a constant teacher is uniform.
        return math.log(self.prototypes)

    def collapse(self, row: Mapping[str, float]) -> str | None:
        entropy, divergence, told_apart = (row.get(name) for name in ("teacher_entropy", "teacher_kl", "told_apart"))
        if entropy is None or divergence is None or told_apart is None:
            return None
        most = math.log(self.prototypes)
        if entropy > UNIFORM_LEAST * most and divergence < SAME_MOST:
            return f"teacher and student are uniform: entropy {entropy:.4f} of {most:.4f} nats"
        if entropy < SHARP_MOST * most and told_apart < TOLD_APART_LEAST:
            return f"all images get one answer: it tells {told_apart:.3f} nats of its image, entropy {entropy:.3f}"
        return None

    def passes(self, areas: Sequence[float]) -> float:
        return 3 * sum(areas) + sum(areas[:GLOBAL_CROPS])

    @classmethod
    def example(cls) -> Self:
        # Eight images tell themselves apart within fifty steps where prototypes stay and the teacher soon gets sharp.
        return cls(
            local_crops=2,
            prototypes=64,
            hidden=64,
            bottleneck=512,
            head_std=0.3,
            teacher_temperature_start=0.08,
            teacher_temperature=0.003,
            teacher_warmup_share=0.3,
            centre_momentum=0.0,
            teacher_momentum=0.9,
            frozen_head_share=1.0,
        )
