"""How a training run of some size is set: budget, batch, optimizer, schedule, augmentation."""

from __future__ import annotations

import math
from typing import Literal, Self

from pydantic import Field, model_validator

from scaleback.core.errors import Refusal, refusal
from scaleback.core.spec import Spec
from scaleback.recipes.augmentation import Augmentation
from scaleback.recipes.optimizers import AnyOptimizer


class Recipe(Spec):
    """Everything that lasts is counted in images seen; steps exist only inside the loop."""

    budget_images: int = Field(ge=1)
    """Image passes of the whole run."""
    budget_epochs: float | None = Field(None, gt=0)
    """Passes over the set instead: the budget then grows with the number of images, and the warm-up with it."""
    budget_flops: float | None = Field(None, gt=0)
    """Floating-point operations of the backbone instead, so that methods of several views get fewer image passes."""
    batch_images: int = Field(ge=1)
    """Global batch, whatever the number of workers."""
    optimizer: AnyOptimizer
    schedule: Literal["cosine", "constant"]
    """After the warm-up: cosine to ``end_lr``, or constant, so that the run so far answers for every smaller budget."""
    warmup_images: int = Field(ge=0)
    """Linear warm-up from ``start_lr``."""
    start_lr: float = Field(0.0, ge=0)
    end_lr: float = Field(0.0, ge=0)
    views: tuple[Augmentation, ...] = (Augmentation(),)
    """One for each kind of view that the method has (DINO: two global ones, local); a single one serves all."""
    end_weight_decay: float | None = Field(None, ge=0)
    """Weight decay goes from the optimizer's to this along a half cosine (DINO)."""
    clip_norm: float | None = Field(None, gt=0)
    """Largest norm of the whole gradient."""
    clip_each: bool = False
    """Hold each parameter's gradient below ``clip_norm`` by itself, as DINO's released code does."""
    ema: float | None = Field(None, gt=0, lt=1)
    """Decay of an average of the weights, which is then what evaluations see; it warms up as (1 + n) / (10 + n)."""
    precision: Literal["fp32", "bf16"] = "fp32"
    online_knn: int = Field(0, ge=0)
    """Latest features that are remembered for a kNN accuracy along the way; 0 for none."""
    accumulate: int = Field(1, ge=1)
    """Micro-batches a step; each holds ``batch_images / accumulate`` images over all workers. A loss that compares
    images (MoCo's negatives, batch norms of a head) sees those of its micro-batch only; any other loss is exact."""
    compile: bool = False
    """Use torch.compile; numbers change in their last digits."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.budget_images < self.batch_images:
            raise Refusal("budget_images", refusal(f"must cover a batch of {self.batch_images}", self.budget_images))
        if self.batch_images % self.accumulate:
            raise Refusal("accumulate", refusal(f"must divide the batch of {self.batch_images}", self.accumulate))
        if self.warmup_images > self.budget_images:
            raise Refusal("warmup_images", refusal(f"must fit the budget of {self.budget_images}", self.warmup_images))
        if self.budget_epochs is not None and self.budget_flops is not None:
            raise Refusal("budget_flops", refusal("must be left out where budget_epochs is given", self.budget_flops))
        if self.clip_each and self.clip_norm is None:
            raise Refusal("clip_each", refusal("needs clip_norm", self.clip_each))
        if not self.views:
            raise Refusal("views", "must hold at least one augmentation")
        return self

    @property
    def budget_by(self) -> Literal["images", "epochs", "flops"]:
        """What is the same for runs of this recipe, whatever the size of the set and the method."""
        if self.budget_epochs is not None:
            return "epochs"
        return "images" if self.budget_flops is None else "flops"

    def sized(self, *, images: int, flops_an_image: float) -> Self:
        """The recipe with its budget in image passes; warm-up keeps its share of it.

        Args:
            images: of the set, what a pass over it takes.
            flops_an_image: operations of training on one image.

        Raises:
            Refusal: the budget does not cover a batch.
        """
        match self.budget_by:
            case "images":
                return self
            case "epochs":
                budget = round((self.budget_epochs or 0) * images)
            case "flops":
                budget = int((self.budget_flops or 0) / flops_an_image)
        field, value = f"budget_{self.budget_by}", self.budget_epochs or self.budget_flops
        if budget < self.batch_images:
            rule = f"must cover a batch of {self.batch_images}, and is {budget:,} images"
            raise Refusal(f"recipe.{field}", refusal(rule, value))
        warmup = round(self.warmup_images * budget / self.budget_images)
        changes = {"budget_images": budget, "warmup_images": warmup, "budget_epochs": None, "budget_flops": None}
        return self.model_copy(update=changes)

    @property
    def steps(self) -> int:
        """Optimizer steps of the run; a last, incomplete batch is left out."""
        return self.budget_images // self.batch_images

    def slice_images(self, workers: int, multiple: int) -> int:
        """Images of one worker's part of one micro-batch.

        Args:
            workers: size of the group.
            multiple: images that must be together on a worker.

        Raises:
            Refusal: the batch cannot be cut so; the field is ``recipe.batch_images``.
        """
        slices = workers * self.accumulate
        if self.batch_images % (slices * multiple):
            why = {"workers": workers, "micro-batches": self.accumulate, "images that stay together": multiple}
            factors = " x ".join(f"{number} {name}" for name, number in why.items() if number > 1)
            rule = f"must be a multiple of {slices * multiple} ({factors})"
            raise Refusal("recipe.batch_images", refusal(rule, self.batch_images))
        return self.batch_images // slices

    def usable_workers(self, most: int, multiple: int) -> int:
        """The largest group, of at most ``most`` workers, that the batch can be cut for; 1 if there is none."""
        sizes = range(most, 1, -1)
        return next((size for size in sizes if not self.batch_images % (size * self.accumulate * multiple)), 1)

    def weight_decay_at(self, progress: float) -> float:
        """Weight decay when so large a share of the budget is behind."""
        start, end = self.optimizer.weight_decay, self.end_weight_decay
        return start if end is None else end + (start - end) * 0.5 * (1 + math.cos(math.pi * progress))

    def lr_at(self, images_seen: int) -> float:
        """Learning rate of the step that brings the run to ``images_seen``."""
        peak = self.optimizer.lr
        if images_seen < self.warmup_images:
            return self.start_lr + (peak - self.start_lr) * images_seen / self.warmup_images
        if self.schedule == "constant":
            return peak
        left = (images_seen - self.warmup_images) / max(1, self.budget_images - self.warmup_images)
        return self.end_lr + (peak - self.end_lr) * 0.5 * (1 + math.cos(math.pi * min(1.0, left)))
