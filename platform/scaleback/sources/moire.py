"""Moiré: fringes where rings around several centres interfere.

After Matsuo et al., "MoireDB: Formula-generated Interference-fringe Image Dataset" (arXiv 2502.01490, 2025), where such
images are mixed into others as an augmentation and have no classes. The formula and the ranges are decided here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from scaleback.core.errors import Refusal, refusal
from scaleback.sources.noise import Noise

# Shapes: L layers, H rows, W columns, C channels.


class Moire(Noise):
    """Each layer is cos 2π (f r + φ), r the distance from its centre; their product, or mean, is -1 black to 1 white.

    Nothing is stretched to the full range of grays, so an image's contrast is that of its layers.
    """

    STEP: ClassVar[float] = 2.0**-10
    """Frequencies are multiples of it, so that no machine's own exponential decides a pixel."""

    kind: Literal["moire"] = "moire"
    channels: Literal[1] = 1
    size_px: int = Field(512, ge=8, le=4_096)
    combine: Literal["product", "mean"] = "product"
    """Under either, two layers beat where their rings nearly agree."""
    layers: tuple[int, int] = (2, 4)
    """Fewest and most, uniform, both included."""
    cycles: tuple[float, float] = (4.0, 64.0)
    """Lowest and highest frequency in periods a side, log-uniform; φ is uniform."""
    reach: float = Field(1.0, ge=0, le=16)
    """Centres are uniform over a square that reaches so many sides from the middle; far ones' rings are almost
    straight."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if not 1 <= self.layers[0] <= self.layers[1] <= 16:
            raise Refusal("layers", refusal("must be a range within 1 to 16", self.layers))
        if not self.STEP <= self.cycles[0] <= self.cycles[1] <= self.size_px / 2:
            rule = f"must be a range from {self.STEP} to half a period a pixel, {self.size_px / 2:g}"
            raise Refusal("cycles", refusal(rule, self.cycles))
        return self

    def draw(self, rng: np.random.Generator) -> tuple[NDArray[np.uint8], Mapping[str, Any]]:
        from scaleback.sources.kernels.fringes import STEPS, interfere

        count = int(rng.integers(self.layers[0], self.layers[1] + 1))
        centre_L2 = 0.5 + rng.uniform(-self.reach, self.reach, (count, 2))
        low, high = self.cycles
        cycles_L = np.rint(low * (high / low) ** rng.random(count) / self.STEP) * self.STEP
        phase_L = rng.random(count)
        image_HWC = np.empty(self.shape, np.uint8)
        interfere(
            centre_L2 * self.size_px - 0.5,  # from corners of pixels to their centres
            cycles_L * STEPS / self.size_px,
            phase_L * STEPS,
            self.combine == "product",
            image_HWC[:, :, 0],
        )
        absent = (0, self.layers[1] - count)
        return image_HWC, {
            "layers": count,
            "centre": np.pad(centre_L2, (absent, (0, 0)), constant_values=np.nan),
            "cycles": np.pad(cycles_L, absent, constant_values=np.nan),
            "phase": np.pad(phase_L, absent, constant_values=np.nan),
        }

    @classmethod
    def example(cls, scratch: Path) -> Self:
        return cls(size_px=32, cycles=(1.0, 8.0))
