"""Recipes of MoCo v3 and of SDMP on it: the papers', and one of minutes."""

from __future__ import annotations

from collections.abc import Mapping

from scaleback.core.spec import Plain
from scaleback.recipes.augmentation import Augmentation
from scaleback.recipes.imagenet import BYOL_OTHER_VIEW, BYOL_VIEW, IMAGENET_IMAGES
from scaleback.recipes.optimizers import LARS, AdamW
from scaleback.recipes.recipe import Recipe


def _byol_views(smallest_crop: float) -> tuple[Augmentation, Augmentation]:
    crops: dict[str, Plain] = {"crop_scale": [smallest_crop, 1.0]}
    return BYOL_VIEW.replace(crops), BYOL_OTHER_VIEW.replace(crops)


def _paper(*, batch_images: int) -> Recipe:
    """MoCo v3's recipe for ViTs on ImageNet: 300 epochs, 40 of warm-up, lr 1.5e-4 x batch / 256, decay 0.1.

    The release trains in 16-bit floats with a scaled gradient, here it is bfloat16.
    """
    return Recipe(
        budget_images=300 * IMAGENET_IMAGES,
        batch_images=batch_images,
        optimizer=AdamW(lr=1.5e-4 * batch_images / 256, weight_decay=0.1),
        schedule="cosine",
        warmup_images=40 * IMAGENET_IMAGES,
        views=_byol_views(0.08),
        precision="bf16",
    )


# For ViTs of 0.1 M parameters on gray images of 24 px. Chosen on digits, one seed each, 20,480 images seen: crops of 20
# or 50 % and more, rotations, blur with solarization or lr 2e-3 are no better (0.882 to 0.896 of 0.902).
_SMALL = Recipe(
    budget_images=25_600,
    batch_images=64,
    optimizer=AdamW(lr=1e-3, weight_decay=0.1),
    schedule="cosine",
    warmup_images=2_560,
    views=(Augmentation(crop_scale=(0.35, 1.0), jitter=(0.4, 0.4, 0.0, 0.0), jitter_chance=0.8),),
)

MOCO_RECIPES: Mapping[str, Recipe] = {
    # ViT-S/16 and ViT-B/16 (paper and released commands).
    "moco-v3": _paper(batch_images=4_096),
    # ResNet-50, 100 epochs: lr 0.6 x 4096/256, crops of 20 % and more. LARS neither decays nor adapts vectors.
    "moco-v3-resnet": Recipe(
        budget_images=100 * IMAGENET_IMAGES,
        batch_images=4_096,
        optimizer=LARS(lr=9.6, weight_decay=1e-6),
        schedule="cosine",
        warmup_images=10 * IMAGENET_IMAGES,
        views=_byol_views(0.2),
        precision="bf16",
    ),
    "moco-v3-small": _SMALL,
    # MoCo v3's, in batches for one machine (released command); the paper's code is trained alike.
    "sdmp-moco-v3": _paper(batch_images=1_024),
    "sdmp-moco-v3-code": _paper(batch_images=1_024),
    "sdmp-moco-v3-small": _SMALL,
}
