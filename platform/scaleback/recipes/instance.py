"""The released recipe of IDMM, and one for small sets."""

from __future__ import annotations

from collections.abc import Mapping

from scaleback.recipes.augmentation import Augmentation
from scaleback.recipes.imagenet import SIMCLR_VIEW
from scaleback.recipes.optimizers import AdamW
from scaleback.recipes.recipe import Recipe

# IDMM on Flowers' 2,040 images (released scripts, https://github.com/CupidJay/Training-Vision-Transformers-with-only-
# 2040-images): crops of 112 px, 800 epochs of batches of 256, AdamW with an absolute rate; PVTv2's and T2T's warm-up is
# ten epochs, DeiT's two. The cosine there has a misplaced bracket; this one is right.
_PAPER = Recipe(
    budget_images=800 * 2_040,
    budget_epochs=800.0,
    batch_images=256,
    optimizer=AdamW(lr=5e-4, weight_decay=1e-3),
    schedule="cosine",
    warmup_images=10 * 2_040,
    views=(SIMCLR_VIEW.replace({"crop_scale": [0.14, 1.0]}), SIMCLR_VIEW.replace({"crop_scale": [0.05, 0.4]})),
)

INSTANCE_RECIPES: Mapping[str, Recipe] = {
    "idmm": _PAPER,
    "idmm-code": _PAPER.replace({"warmup_images": 2 * 2_040}),
    # Gray pictures of 24 to 32 px: colour is brightness and contrast, and the smallest local crops are larger.
    "idmm-small": Recipe(
        budget_images=20_000,
        batch_images=64,
        optimizer=AdamW(lr=1e-3, weight_decay=0.05),
        schedule="cosine",
        warmup_images=2_000,
        views=(
            Augmentation(crop_scale=(0.35, 1.0), jitter=(0.4, 0.4, 0.0, 0.0), jitter_chance=0.8),
            Augmentation(crop_scale=(0.15, 0.5), jitter=(0.4, 0.4, 0.0, 0.0), jitter_chance=0.8),
        ),
    ),
}
