"""What recipes for ImageNet have in common."""

from __future__ import annotations

from scaleback.recipes.augmentation import Augmentation

IMAGENET_IMAGES = 1_281_167

NORMALISED = Augmentation(mean=0.449, std=0.226)
"""ImageNet's mean and std, here one number each for all channels."""

BYOL_VIEW = NORMALISED.replace(
    {
        "flip_horizontal": 0.5,
        "jitter": [0.4, 0.4, 0.2, 0.1],
        "jitter_chance": 0.8,
        "gray_chance": 0.2,
        "blur_chance": 1.0,
    }
)
"""The first of BYOL's two kinds of view (Grill et al., 2020, appendix B); crops are set by who uses it."""
BYOL_OTHER_VIEW = BYOL_VIEW.replace({"blur_chance": 0.1, "solarize_chance": 0.2})

SIMCLR_VIEW = NORMALISED.replace(
    {
        "flip_horizontal": 0.5,
        "jitter": [0.8, 0.8, 0.8, 0.2],
        "jitter_chance": 0.8,
        "gray_chance": 0.2,
        "blur_chance": 0.5,
    }
)
"""Colours of strength 1 (Chen et al., 2020, appendix A)."""
