"""Recipes of SimCLR, PatchMix and LeJEPA: the papers', and ones of minutes."""

from __future__ import annotations

from collections.abc import Mapping

from scaleback.recipes.augmentation import Augmentation
from scaleback.recipes.imagenet import BYOL_VIEW, IMAGENET_IMAGES, SIMCLR_VIEW
from scaleback.recipes.optimizers import LARS, AdamW
from scaleback.recipes.recipe import Recipe

PATCHMIX_VIEW = BYOL_VIEW.replace({"crop_scale": [0.35, 1.0]})
LEJEPA_VIEW = BYOL_VIEW.replace({"crop_scale": [0.3, 1.0], "blur_chance": 0.5, "solarize_chance": 0.2})

# Minutes on two cores: images of 24 to 32 px, of which colour says nothing. Chosen on 1,000 digits (kNN of 5 on frozen
# features, a ViT of 0.3 M parameters, one seed): an accuracy of 0.91, 0.92 and 0.89 with SimCLR, PatchMix and LeJEPA,
# 0.69 untrained. At lr 1e-3 it is 0.90, 0.86 and 0.84, at 3e-3 0.88 with LeJEPA.
SMALL = Recipe(
    budget_images=20_480,
    batch_images=64,
    optimizer=AdamW(lr=2e-3, weight_decay=0.05),
    schedule="cosine",
    warmup_images=2_048,
    views=(Augmentation(crop_scale=(0.35, 1.0), rotate_deg=15.0, jitter=(0.4, 0.4, 0.0, 0.0)),),
)

CONTRAST_RECIPES: Mapping[str, Recipe] = {
    # Section 2.2 and the released ImageNet command: ResNet-50, 100 epochs, LARS lr 0.3 x batch / 256, decay 1e-6 but of
    # biases and norms, 10 epochs of warm-up. The released code does not normalise with a mean and a std, and
    # cuts crops bicubically.
    "simclr": Recipe(
        budget_images=100 * IMAGENET_IMAGES,
        batch_images=4_096,
        optimizer=LARS(lr=0.3 * 4_096 / 256, weight_decay=1e-6),
        schedule="cosine",
        warmup_images=10 * IMAGENET_IMAGES,
        views=(SIMCLR_VIEW.replace({"crop_scale": [0.08, 1.0]}),),
    ),
    "simclr-small": SMALL,
    # The released setting of ViT-S/16 (config/pretrain/vit_small_pretrain.py): 300 epochs, 10 of warm-up, lr 5e-4 x
    # batch / 256, 8 local views; with drop_path 0.1 in the backbone. It trains in 16-bit floats, here it is bfloat16.
    "patchmix": Recipe(
        budget_images=300 * IMAGENET_IMAGES,
        batch_images=1_024,
        optimizer=AdamW(lr=5e-4 * 1_024 / 256, weight_decay=0.04),
        schedule="cosine",
        warmup_images=10 * IMAGENET_IMAGES,
        end_lr=1e-6,
        end_weight_decay=0.4,
        views=(
            PATCHMIX_VIEW,
            PATCHMIX_VIEW.replace({"blur_chance": 0.1, "solarize_chance": 0.2}),
            PATCHMIX_VIEW.replace({"size_px": 96, "crop_scale": [0.05, 0.35], "blur_chance": 0.5}),
        ),
        precision="bf16",
    ),
    "patchmix-small": SMALL,
    # The released README's settings: AdamW lr 5e-4, decay 0.05 with a ViT (5e-4 with a ResNet), lr at the end a
    # thousandth, local views of 98 px, which patches of 14 px divide (patches of 16 px: 96). 100 epochs as in its
    # table; batch, warm-up of one epoch and its start are those of its minimal example.
    "lejepa": Recipe(
        budget_images=100 * IMAGENET_IMAGES,
        batch_images=256,
        optimizer=AdamW(lr=5e-4, weight_decay=0.05),
        schedule="cosine",
        warmup_images=IMAGENET_IMAGES,
        start_lr=5e-6,
        end_lr=5e-7,
        views=(LEJEPA_VIEW, LEJEPA_VIEW.replace({"size_px": 98, "crop_scale": [0.05, 0.3]})),
        precision="bf16",
    ),
    "lejepa-small": SMALL,
}
