"""How a training run of some size is set: budget, batch, optimizer, schedule, augmentation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from scaleback.core.errors import Refusal, refusal
from scaleback.core.spec import Spec, presets
from scaleback.recipes.augmentation import Augmentation, RandAugment
from scaleback.recipes.optimizers import SGD, AdamW, AnyOptimizer


class Recipe(Spec):
    """Everything that lasts is counted in images seen; steps exist only inside the loop."""

    budget_images: int = Field(ge=1)
    """Image passes of the whole run."""
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
    """One a view; a single one serves every view."""
    clip_norm: float | None = Field(None, gt=0)
    """Largest norm of the whole gradient."""
    ema: float | None = Field(None, gt=0, lt=1)
    """Decay of an average of the weights, which is then what evaluations see; it warms up as (1 + n) / (10 + n)."""
    precision: Literal["fp32", "bf16"] = "fp32"
    accumulate: int = Field(1, ge=1)
    """Micro-batches a step; each holds ``batch_images / accumulate`` images over all workers."""
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
        if not self.views:
            raise Refusal("views", "must hold at least one augmentation")
        return self

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

    def lr_at(self, images_seen: int) -> float:
        """Learning rate of the step that brings the run to ``images_seen``."""
        peak = self.optimizer.lr
        if images_seen < self.warmup_images:
            return self.start_lr + (peak - self.start_lr) * images_seen / self.warmup_images
        if self.schedule == "constant":
            return peak
        left = (images_seen - self.warmup_images) / max(1, self.budget_images - self.warmup_images)
        return self.end_lr + (peak - self.end_lr) * 0.5 * (1 + math.cos(math.pi * min(1.0, left)))


PRETRAIN_RECIPES: Mapping[str, Recipe] = {
    # 1p-frac and OFDB, ViT-T, one device (released scripts): lr 1e-3 x 256/512, warm-up lr 5e-7 and end lr 5e-6 scaled
    # alike; 80,000 epochs of 1,000 images with the incomplete batch dropped, 3 x 256 images an epoch; the warm-up of "5
    # epochs" counts those epochs. Colour jitter 0.4 is written there and has no effect beside RandAugment.
    "1p-frac": Recipe(
        budget_images=61_440_000,
        batch_images=256,
        optimizer=AdamW(lr=5e-4, weight_decay=0.05),
        schedule="cosine",
        warmup_images=3_840,
        start_lr=2.5e-7,
        end_lr=2.5e-6,
        views=(
            Augmentation(
                crop_scale=(0.08, 1.0),
                flip_horizontal=0.5,
                flip_vertical=0.5,
                randaugment=RandAugment(),
                erase_chance=0.5,
            ),
        ),
        precision="bf16",
    ),
    # Minutes on two cores: a ViT of 0.1 M parameters on images of 24 px. Chosen on digits with three base fractals:
    # batches of 32 learn more an image pass than 64 or 128, peak lr 2e-3 loses to 1e-3; crops of half the image at the
    # least lose 5 points to 0.35 at 16 images (five base fractals), smaller ones lose 2.
    "small": Recipe(
        budget_images=10_240,
        batch_images=32,
        optimizer=AdamW(lr=1e-3, weight_decay=0.05),
        schedule="cosine",
        warmup_images=1_024,
        views=(Augmentation(crop_scale=(0.35, 1.0), flip_horizontal=0.5, flip_vertical=0.5),),
    ),
}

FINETUNE_RECIPES: Mapping[str, Recipe] = {
    # 1p-frac's fine-tuning of small data sets: SGD lr 0.01 x 768/512, 1,000 epochs of CIFAR's 50,000 images, cosine,
    # warm-up 10 epochs. Its mean and std are ImageNet's, here one number each for all channels.
    "1p-frac": Recipe(
        budget_images=50_000_000,
        batch_images=768,
        optimizer=SGD(lr=0.015, weight_decay=1e-4),
        schedule="cosine",
        warmup_images=500_000,
        start_lr=1.5e-6,
        end_lr=1.5e-5,
        views=(
            Augmentation(
                crop_scale=(0.08, 1.0),
                flip_horizontal=0.5,
                randaugment=RandAugment(),
                erase_chance=0.25,
                mean=0.449,
                std=0.226,
            ),
        ),
        precision="bf16",
    ),
    # For about a hundred labelled images. The rate is constant, so accuracy along the way is the accuracy of every
    # smaller budget; the average of the weights stands in for the decay.
    "small": Recipe(
        budget_images=16_000,
        batch_images=50,
        optimizer=AdamW(lr=1e-3, weight_decay=0.05),
        schedule="constant",
        warmup_images=1_000,
        views=(Augmentation(crop_scale=(0.7, 1.0), crop_ratio=(1.0, 1.0), rotate_deg=12.0),),
        ema=0.99,
    ),
}

if TYPE_CHECKING:
    PretrainRecipe: TypeAlias = Recipe
    FinetuneRecipe: TypeAlias = Recipe
else:
    PretrainRecipe = Annotated[Recipe, presets("recipe", lambda: PRETRAIN_RECIPES)]
    FinetuneRecipe = Annotated[Recipe, presets("recipe", lambda: FINETUNE_RECIPES)]
