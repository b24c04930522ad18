"""What is done to an image before the model sees it: the spec. The operations are in ``augment``."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from scaleback.core.errors import Refusal, refusal
from scaleback.core.spec import Spec

Chance = Annotated[float, Field(ge=0, le=1)]


class RandAugment(Spec):
    """Cubuk et al., 2020, in timm's variant ``rand-m9-mstd0.5-inc1``: each operation is applied with chance 0.5."""

    operations: int = Field(2, ge=1, le=8)
    magnitude: float = Field(9.0, ge=0, le=10)
    magnitude_std: float = Field(0.5, ge=0)


class Augmentation(Spec):
    """One random view of an image. Everything is drawn from (seed, epoch, index, view) and nothing else.

    Order: crop, flips and rotation as one resampling; RandAugment; colour; blur; solarize; normalise; erase.
    """

    size_px: int | None = Field(None, ge=4)
    """Side of the view; None for the model's own."""
    crop_scale: tuple[float, float] = (1.0, 1.0)
    """Smallest and largest share of the image's area in the crop."""
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Narrowest and widest aspect ratio; of no effect where the whole image is the crop."""
    flip_horizontal: Chance = 0.0
    flip_vertical: Chance = 0.0
    rotate_deg: float = Field(0.0, ge=0, le=180)
    """Largest rotation, either way."""
    randaugment: RandAugment | None = None
    jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    """Brightness, contrast, saturation, hue, as torchvision's ColorJitter."""
    jitter_chance: Chance = 1.0
    gray_chance: Chance = 0.0
    blur_chance: Chance = 0.0
    blur_sigma_px: tuple[float, float] = (0.1, 2.0)
    solarize_chance: Chance = 0.0
    erase_chance: Chance = 0.0
    """Random erasing (Zhong et al., 2020) with normal noise, one box of 2 to 33 % of the area."""
    mean: float = 0.5
    std: float = Field(0.5, gt=0)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        for field in ("crop_scale", "crop_ratio", "blur_sigma_px"):
            low, high = getattr(self, field)
            if not 0 < low <= high:
                raise Refusal(field, refusal("must be two positive numbers, the smaller first", (low, high)))
        if self.crop_scale[1] > 1:
            raise Refusal("crop_scale", refusal("a crop is at most the whole image, 1.0", self.crop_scale[1]))
        if min(self.jitter) < 0 or self.jitter[3] > 0.5:
            raise Refusal("jitter", refusal("must not be negative, and hue at most 0.5", self.jitter))
        return self
