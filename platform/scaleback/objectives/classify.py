"""Classification: of a source's labels, or of each image as its own class (LPCE, instance discrimination)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field

from scaleback.core.errors import Refusal, refusal
from scaleback.objectives.base import Objective

if TYPE_CHECKING:
    import torch
    from torch import nn

    from scaleback.objectives.learners.base import Learner


class Classify(Objective):
    """Softmax cross-entropy with label smoothing, mixup and CutMix, as timm trains.

    On 1p-frac it is the paper's LPCE: the label of an image is the index of its perturbation.
    """

    kind: Literal["classify"] = "classify"
    labels: Literal["source", "index"] = "source"
    """The source's own labels, or the index of the image: every image its own class."""
    smoothing: float = Field(0.1, ge=0, lt=1)
    mixup: float = Field(0.0, ge=0)
    """Parameter of mixup's Beta distribution; 0 turns it off."""
    cutmix: float = Field(0.0, ge=0)
    """The same for CutMix; with both on, each batch takes one of them, half and half."""

    @property
    def slice_multiple(self) -> int:
        return 2 if self.mixup or self.cutmix else 1  # pairs are mixed

    def refuse(self, *, source_classes: int | None, images: int) -> None:
        if self.labels == "source" and source_classes is None:
            raise Refusal("labels", refusal("must be index for a source without labels", self.labels))
        classes = self.classes(source_classes=source_classes, images=images)
        if classes < 2:
            raise Refusal("labels", refusal("needs at least two classes to tell apart", classes))

    def classes(self, *, source_classes: int | None, images: int) -> int:
        if self.labels == "index":
            return images
        assert source_classes is not None, "refuse() lets no unlabelled source through"
        return source_classes

    def build(self, backbone: nn.Module, *, width: int, classes: int, generator: torch.Generator) -> Learner:
        from scaleback.objectives.learners.classify import Classifier

        return Classifier(self, backbone, width=width, classes=classes, generator=generator)

    def trivial_loss(self, classes: int) -> float:
        return math.log(classes)

    @classmethod
    def example(cls) -> Self:
        return cls(mixup=0.8, cutmix=1.0)
