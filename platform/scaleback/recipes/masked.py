"""Recipes of methods that hide patches: the papers', and some of minutes."""

from __future__ import annotations

from collections.abc import Mapping

from scaleback.recipes.augmentation import Augmentation
from scaleback.recipes.imagenet import IMAGENET_IMAGES, NORMALISED
from scaleback.recipes.optimizers import AdamW
from scaleback.recipes.recipe import Recipe

# BEiT-B on ImageNet (released scripts): 800 epochs, 10 of warm-up, batch 2,048, lr 1.5e-3 to 1e-5, clip 3; crops of 8 %
# and more, flips, colour jitter without hue. The stochastic depth of 0.1 is the backbone's drop_path.
_BEIT = Recipe(
    budget_images=800 * IMAGENET_IMAGES,
    batch_images=2_048,
    optimizer=AdamW(lr=1.5e-3, weight_decay=0.05),
    schedule="cosine",
    warmup_images=10 * IMAGENET_IMAGES,
    end_lr=1e-5,
    views=(NORMALISED.replace({"crop_scale": [0.08, 1.0], "flip_horizontal": 0.5, "jitter": [0.4, 0.4, 0.4, 0.0]}),),
    clip_norm=3.0,
    precision="bf16",
)

MASKED_RECIPES: Mapping[str, Recipe] = {
    "beit": _BEIT,
    # 300 epochs on ImageNet (El-Nouby et al., 2021); all else is BEiT's, since the paper's settings are not known.
    "splitmask": _BEIT.replace({"budget_images": 300 * IMAGENET_IMAGES}),
    # He et al., 2022 (appendix, and the released script): 800 epochs, 40 of warm-up, batch 4,096, lr 1.5e-4 x 4,096 /
    # 256, beta2 0.95, crops of 20 % and more and flips, no colour.
    "mae": Recipe(
        budget_images=800 * IMAGENET_IMAGES,
        batch_images=4_096,
        optimizer=AdamW(lr=2.4e-3, weight_decay=0.05, beta2=0.95),
        schedule="cosine",
        warmup_images=40 * IMAGENET_IMAGES,
        views=(NORMALISED.replace({"crop_scale": [0.2, 1.0], "flip_horizontal": 0.5}),),
        precision="bf16",
    ),
    **dict.fromkeys(
        ("beit-small", "splitmask-small", "mae-small"),
        Recipe(
            budget_images=40_960,
            batch_images=64,
            optimizer=AdamW(lr=1e-3, weight_decay=0.05),
            schedule="cosine",
            warmup_images=4_096,
            views=(Augmentation(crop_scale=(0.35, 1.0)),),
        ),
    ),
}
