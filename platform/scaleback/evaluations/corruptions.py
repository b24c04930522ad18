"""Common corruptions of test images at five severities (Hendrycks and Dietterich, ICLR 2019, sections 3 and A).

Strengths are published for two sizes: ImageNet-C (224 px) and CIFAR-10-C (32 px), whose blurs are not those of 224 px
made smaller. Between the two they are interpolated over the logarithm of the shorter side; below 32 px they stay, and
above 224 px what is counted in pixels grows with the side. ``ours`` says of each corruption where it departs.

Every random number is keyed by the corruption and the index of the image, not by the severity: an image is corrupted
the same way in any batch, and a higher severity does more of the same. Frost is left out: it is made of photographs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from scaleback.core.errors import InputError, refusal, unknown

if TYPE_CHECKING:
    from torch import Tensor

# Shapes: B images, C channels, H rows, W columns.

SEVERITIES = (1, 2, 3, 4, 5)
SMALL_PX, LARGE_PX = 32, 224
LEAST_PX = 8
"""A block of JPEG."""

Strengths: TypeAlias = tuple[tuple[float, ...], ...]
"""One row a severity."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Corruption:
    """What a corruption is called in the literature, and how strong it is."""

    family: str
    """Noise, blur, weather or digital: the four groups of the benchmark."""
    small: Strengths
    """At 32 px (CIFAR-10-C)."""
    large: Strengths
    """At 224 px (ImageNet-C)."""
    lengths: tuple[int, ...] = ()
    """Which of a row's numbers are pixels."""
    colour_only: bool = False
    ours: str = ""
    """Where strength or operation is not the published one; empty where both are."""

    def strength(self, severity: int, side_px: int) -> tuple[float, ...]:
        """The numbers of a severity for images whose shorter side is this."""
        share = min(1.0, max(0.0, math.log(side_px / SMALL_PX) / math.log(LARGE_PX / SMALL_PX)))
        rows = zip(self.small[severity - 1], self.large[severity - 1], strict=True)
        grown = max(1.0, side_px / LARGE_PX)
        return tuple(
            (small + share * (large - small)) * (grown if place in self.lengths else 1.0)
            for place, (small, large) in enumerate(rows)
        )


def _each(*values: float) -> Strengths:
    return tuple((value,) for value in values)


CORRUPTIONS: Mapping[str, Corruption] = {
    # Standard deviation.
    "gaussian_noise": Corruption(
        family="noise", small=_each(0.04, 0.06, 0.08, 0.09, 0.10), large=_each(0.08, 0.12, 0.18, 0.26, 0.38)
    ),
    # Photons at white.
    "shot_noise": Corruption(family="noise", small=_each(500, 250, 100, 75, 50), large=_each(60, 25, 12, 5, 3)),
    # Share of the values that become black or white.
    "impulse_noise": Corruption(
        family="noise", small=_each(0.01, 0.02, 0.03, 0.05, 0.07), large=_each(0.03, 0.06, 0.09, 0.17, 0.27)
    ),
    # Standard deviation over the value.
    "speckle_noise": Corruption(
        family="noise", small=_each(0.06, 0.1, 0.12, 0.16, 0.2), large=_each(0.15, 0.2, 0.35, 0.45, 0.6)
    ),
    # Radius of the disk.
    "defocus_blur": Corruption(
        family="blur",
        small=_each(0.6, 0.8, 1.0, 1.25, 1.5),
        large=_each(3, 4, 6, 8, 10),
        lengths=(0,),
        ours="a disk by area instead of one that is blurred; radii at 32 px, as those below a pixel are no disk",
    ),
    # Standard deviation.
    "gaussian_blur": Corruption(
        family="blur", small=_each(0.4, 0.6, 0.7, 0.8, 1), large=_each(1, 2, 3, 4, 6), lengths=(0,)
    ),
    # Radius and standard deviation of the streak.
    "motion_blur": Corruption(
        family="blur",
        small=((6, 1), (6, 1.5), (6, 2), (8, 2.25), (9, 2.5)),
        large=((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
        lengths=(0, 1),
        ours="samples between pixels; 2.25 px at 32 px and severity 4, where 2 would be as severity 3",
    ),
    # Largest zoom less one.
    "zoom_blur": Corruption(
        family="blur",
        small=_each(0.05, 0.10, 0.15, 0.20, 0.25),
        large=_each(0.10, 0.15, 0.20, 0.25, 0.30),
        ours="eleven zooms at every severity",
    ),
    # Standard deviation of the blur before and after, largest displacement.
    "glass_blur": Corruption(
        family="blur",
        small=((0.1, 0.5), (0.25, 0.75), (0.4, 1.0), (0.45, 1.3), (0.5, 1.6)),
        large=((0.7, 1.4), (0.9, 2.0), (1.0, 3.5), (1.1, 4.2), (1.5, 5.7)),
        lengths=(0, 1),
        ours="each pixel reads a random neighbour, where the original swaps neighbours one after the other; strengths",
    ),
    # Threshold in standard deviations, size of a flake, streak, share of the image that is not whitened.
    "snow": Corruption(
        family="weather",
        small=(
            (1.9, 1.25, 3, 0.95),
            (1.7, 1.25, 3, 0.9),
            (1.5, 1.25, 3, 0.9),
            (1.3, 1.25, 3, 0.85),
            (1.1, 1.25, 3, 0.8),
        ),
        large=((1.9, 3, 8, 0.8), (1.65, 3, 8, 0.7), (1.4, 3, 8, 0.7), (1.15, 3, 8, 0.65), (0.9, 3, 8, 0.55)),
        lengths=(1, 2),
        ours="flakes of one size whose number grows; whitening is the published one",
    ),
    # Thickness, decay of the fractal with scale.
    "fog": Corruption(
        family="weather",
        small=((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
        large=((1.5, 2), (2, 2), (2.5, 1.7), (2.75, 1.5), (3.25, 1.4)),
        ours="2.75 and 3.25 at 224 px, where 2.5 at severity 4 would be hardly more than severity 3",
    ),
    # Size of a drop, threshold in standard deviations.
    "spatter": Corruption(
        family="weather",
        small=((1, 2.0), (1, 1.7), (1, 1.4), (1, 1.1), (1, 0.8)),
        large=((4, 2.0), (4, 1.7), (4, 1.4), (4, 1.1), (4, 0.8)),
        lengths=(0,),
        ours="mud at every severity; the original's lower ones are water with highlights",
    ),
    # Added to the value of HSV.
    "brightness": Corruption(
        family="digital", small=_each(0.05, 0.1, 0.15, 0.2, 0.3), large=_each(0.1, 0.2, 0.3, 0.4, 0.5)
    ),
    # Factor of the distance to the mean.
    "contrast": Corruption(
        family="digital", small=_each(0.75, 0.5, 0.4, 0.3, 0.15), large=_each(0.4, 0.3, 0.2, 0.1, 0.05)
    ),
    # Factor and summand of the saturation of HSV.
    "saturate": Corruption(
        family="digital",
        small=((1.2, 0), (1.35, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
        large=((1.3, 0), (1.6, 0), (2, 0), (5, 0.1), (20, 0.2)),
        colour_only=True,
        ours="severities 1 and 2, which take colour away in the original; gray stays gray instead of becoming red",
    ),
    # Displacement (standard deviation) and its correlation length, as shares of the side.
    "elastic": Corruption(
        family="digital",
        small=((0.005, 0.04), (0.01, 0.04), (0.015, 0.04), (0.02, 0.04), (0.03, 0.04)),
        large=((0.005, 0.04), (0.01, 0.04), (0.015, 0.04), (0.02, 0.04), (0.03, 0.04)),
        ours="strengths, which do not grow with severity in the original; no affine part",
    ),
    # Side of the small image over that of the image, and by how many pixels it is smaller at least.
    "pixelate": Corruption(
        family="digital",
        small=((0.95, 1), (0.9, 2), (0.85, 3), (0.75, 4), (0.65, 6)),
        large=((0.6, 1), (0.5, 2), (0.4, 3), (0.3, 4), (0.25, 6)),
        ours="at least one pixel fewer at each severity, which matters below 32 px",
    ),
    # Quality.
    "jpeg": Corruption(
        family="digital",
        small=_each(80, 65, 58, 50, 40),
        large=_each(25, 18, 15, 10, 7),
        ours="in floating point: 0.1 levels from libjpeg in the mean, within two on 97 % of the values",
    ),
}


def applicable(channels: int) -> list[str]:
    """Names of the corruptions that images of so many channels can have."""
    return [name for name, corruption in CORRUPTIONS.items() if channels == 3 or not corruption.colour_only]


def corrupt(image_BCHW: Tensor, name: str, severity: int, index_B: NDArray[np.int64]) -> Tensor:
    """Images in [0, 1] corrupted on their device; ``index_B`` is the place of each in its test set.

    Raises:
        InputError: an unknown corruption, severity, number of channels or size.
    """
    from scaleback.evaluations.corrupting import OPERATIONS
    from scaleback.evaluations.corrupting.draws import Draws

    if name not in CORRUPTIONS:
        raise InputError(unknown("corruption", name, CORRUPTIONS))
    if severity not in SEVERITIES:
        raise InputError(refusal("severity must be 1 to 5", severity))
    images, channels, rows, columns = image_BCHW.shape
    if channels not in (1, 3) or (channels == 1 and CORRUPTIONS[name].colour_only):
        raise InputError(refusal(f"{name} takes images of {'3' if channels == 1 else '1 or 3'} channels", channels))
    if min(rows, columns) < LEAST_PX:
        raise InputError(refusal(f"sides must be at least {LEAST_PX} px", (rows, columns)))
    if not image_BCHW.is_floating_point():
        raise InputError(refusal("images must be floating point in [0, 1]", image_BCHW.dtype))
    if np.shape(index_B) != (images,):
        raise InputError(refusal(f"must have an index for each of the {images} images", np.shape(index_B)))
    strength = CORRUPTIONS[name].strength(severity, min(rows, columns))
    draws = Draws(name, index_B, image_BCHW.device)
    return OPERATIONS[name](image_BCHW.float(), strength, draws).clamp(0, 1)
