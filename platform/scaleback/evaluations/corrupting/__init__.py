"""The torch halves of the corruptions: what each does to a batch on its device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from torch import Tensor

from scaleback.evaluations.corrupting import blurs, digital, jpeg, noises, weather
from scaleback.evaluations.corrupting.draws import Draws

Operation: TypeAlias = Callable[[Tensor, tuple[float, ...], Draws], Tensor]
"""Images in [0, 1], strength, draws; what leaves [0, 1] is cut by the caller."""

OPERATIONS: Mapping[str, Operation] = {
    "gaussian_noise": noises.gaussian,
    "shot_noise": noises.shot,
    "impulse_noise": noises.impulse,
    "speckle_noise": noises.speckle,
    "defocus_blur": blurs.defocus,
    "gaussian_blur": blurs.gaussian,
    "motion_blur": blurs.motion,
    "zoom_blur": blurs.zoom,
    "glass_blur": blurs.glass,
    "snow": weather.snow,
    "fog": weather.fog,
    "spatter": weather.spatter,
    "brightness": digital.brightness,
    "contrast": digital.contrast,
    "saturate": digital.saturate,
    "elastic": digital.elastic,
    "pixelate": digital.pixelate,
    "jpeg": jpeg.jpeg,
}
