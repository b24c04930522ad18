"""PatchMix: images made of patches of several are as similar as they share sources."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from scaleback.core.errors import Refusal, refusal
from scaleback.objectives.moco import MoCoV3

if TYPE_CHECKING:
    import torch
    from torch import nn

    from scaleback.objectives.learners.base import Learner


class PatchMix(MoCoV3):
    """Shen et al., 2023 (arXiv 2306.12243), as released (visresearch/patchmix), on MoCo v3's encoders and heads.

    Cells of a view are put in random order and cut into ``mixed`` equal segments; segment j of image i is taken from
    image i + j. A query of view 1 finds the key of view 2 (original to original); a query of mixed view 2 finds the
    keys of view 1 of its sources, by their shares (mixed to original), and the keys of mixed view 1, by the chance that
    a cell of either comes from the same image (mixed to mixed); the last two count half. With local views, their
    queries find both views' keys, unmixed and mixed, each a mean over local views. Cross-entropies are not scaled by
    the temperature, positions and patches are trained, as released.

    Reconstructed: neighbours are those in a ring of ``ring`` images, so that no image leaves its worker; the released
    code makes one ring of each worker's slice. Targets of mixed to mixed are the released ones where a ring is at least
    2 x mixed - 1. Where cells do not divide evenly, the rest are the image's own, and count so; the released code does
    not count them.
    """

    kind: Literal["patchmix"] = "patchmix"  # type: ignore[assignment]
    momentum: float = Field(0.996, ge=0, lt=1)
    frozen_patches: bool = False
    sincos_positions: bool = False
    mixed: int = Field(2, ge=2)
    """Images that a mixed image is made of."""
    ring: int = Field(8, ge=2)
    """Neighbouring images of a batch that exchange cells; they stay on one worker."""
    cells: int | None = Field(None, ge=2)
    """Cells along a side of a view; None for the patches of a plain ViT, and for 7 with any other model."""
    local_views: int = Field(0, ge=0)
    """Further views, by the recipe's third augmentation; 8 for ImageNet, 0 for CIFAR."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.ring < self.mixed:
            raise Refusal("ring", refusal(f"must hold the {self.mixed} images that are mixed", self.ring))
        if self.cells is not None and self.cells**2 < self.mixed:
            raise Refusal("cells", refusal(f"must leave each of {self.mixed} images a cell", self.cells))
        return self

    @property
    def view_augmentations(self) -> tuple[int, ...]:
        return (0, 1) + (2,) * self.local_views

    @property
    def slice_multiple(self) -> int:
        return self.ring

    def build(self, backbone: nn.Module, *, width: int, classes: int, generator: torch.Generator) -> Learner:
        from scaleback.objectives.learners.patchmix import PatchMixLearner

        return PatchMixLearner(self, backbone, width=width, generator=generator)

    def trivial_loss(self, *, classes: int, labels_an_image: int, batch_images: int) -> float:
        return (6 if self.local_views else 2) * math.log(batch_images)

    def passes(self, areas: Sequence[float]) -> float:
        # Queries of view 1, mixed view 2 and of each local view twice; keys of view 1 twice and of view 2.
        first, second, *local = areas
        return 5 * first + 4 * second + 6 * sum(local)

    @classmethod
    def example(cls) -> Self:
        return cls(hidden=64, output=256, ring=4, local_views=1)
