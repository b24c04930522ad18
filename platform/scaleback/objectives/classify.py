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

    On 1p-frac it is the paper's LPCE: the label of an image is the index of its perturbation. Of images that show
    several classes, each class is told from the rest: binary cross-entropy, in which the classes shown weigh as much as
    all classes (Anderson and Farrell, WACV 2022), without smoothing.

    With ``labels: index``, several crops and CutMix it is IDMM (Cao et al., ECCV 2022). Its ingredients are fields:
    ``smoothing``, ``global_crops`` and ``local_crops``, ``cutmix``, and the backbone's small ``image_px``. Global and
    local crops are a stack each, mixed by a draw of its own; the loss is the sum of both stacks' means. A crop
    is mixed with some crop of the neighbouring image; the released code permutes a worker's whole stack, so that two
    crops of one image may be mixed, and results depend on the number of workers.
    """

    kind: Literal["classify"] = "classify"
    labels: Literal["source", "index"] = "source"
    """The source's own labels, or the index of the image: every image its own class."""
    smoothing: float = Field(0.1, ge=0, lt=1)
    mixup: float = Field(0.0, ge=0)
    """Parameter of mixup's Beta distribution; 0 turns it off."""
    cutmix: float = Field(0.0, ge=0)
    """The same for CutMix; with both on, each batch takes one of them, half and half."""
    mix_larger: bool = False
    """Let an image keep the larger share of a mix, max(share, 1 - share), as IDMM does."""
    global_crops: int = Field(1, ge=1)
    """Views by the recipe's first augmentation."""
    local_crops: int = Field(0, ge=0)
    """Views by the recipe's second augmentation."""

    @property
    def view_augmentations(self) -> tuple[int, ...]:
        return (0,) * self.global_crops + (1,) * self.local_crops

    @property
    def slice_multiple(self) -> int:
        return 2 if self.mixup or self.cutmix else 1  # pairs are mixed

    def refuse(self, *, source_classes: int | None, images: int, batch_images: int) -> None:
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

    def trivial_loss(self, *, classes: int, labels_an_image: int, batch_images: int) -> float:
        stacks = 2 if self.local_crops else 1
        if labels_an_image == 1 or self.labels == "index":
            return stacks * math.log(classes)
        # The best constant answer p of the loss -(log p + (1 - n / classes) log(1 - p)) with n classes shown, of 1 to
        # labels_an_image as often as not the middle.
        rest = 1 - (1 + labels_an_image) / 2 / classes
        return stacks * (math.log(1 + rest) - rest * math.log(rest / (1 + rest))) if rest > 0 else 0.0

    @classmethod
    def example(cls) -> Self:
        return cls(mixup=0.8, cutmix=1.0)
