"""Recipes by name: the released ones of the papers, and small ones that are tried out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, TypeAlias

from scaleback.core.spec import presets
from scaleback.recipes.augmentation import Augmentation, RandAugment
from scaleback.recipes.contrast import CONTRAST_RECIPES
from scaleback.recipes.dino import DINO_RECIPES
from scaleback.recipes.instance import INSTANCE_RECIPES
from scaleback.recipes.masked import MASKED_RECIPES
from scaleback.recipes.moco import MOCO_RECIPES
from scaleback.recipes.optimizers import SGD, AdamW
from scaleback.recipes.recipe import Recipe

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
    **INSTANCE_RECIPES,
    **CONTRAST_RECIPES,
    **MOCO_RECIPES,
    **DINO_RECIPES,
    **MASKED_RECIPES,
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
