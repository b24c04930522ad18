"""Dead leaves: shapes that hide one another until nothing is left uncovered.

Lee, Mumford and Huang, "Occlusion Models for Natural Images" (IJCV 2001); as pre-training data Baradad et al.,
"Learning to See by Looking at Noise" (NeurIPS 2021). Leaves are laid from the front, so only what is still bare is
painted: the same law as laying them from behind for ever, and it ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from scaleback.core.errors import Refusal, refusal
from scaleback.sources.noise import Noise

BATCH_LEAVES = 1_024
MOST_BATCHES = 1_000
"""A picture that a million leaves do not cover gets the last one's colour where it is bare."""


class DeadLeaves(Noise):
    """Circles or turned squares, radii with density r^-3, each of its own colour."""

    kind: Literal["dead-leaves"] = "dead-leaves"
    leaf: Literal["circle", "square"] = "circle"
    radius: tuple[float, float] = (0.02, 0.5)
    """Smallest and largest radius, as a share of the side."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if not 0 < self.radius[0] < self.radius[1] <= 10:
            raise Refusal("radius", refusal("must be a range above 0, up to 10", self.radius))
        if self.radius[0] * self.size_px < 0.5:
            raise Refusal("radius", refusal("must begin at half a pixel or more", self.radius[0] * self.size_px))
        return self

    def draw(self, rng: np.random.Generator) -> tuple[NDArray[np.uint8], Mapping[str, Any]]:
        from scaleback.sources.kernels.leaves import lay

        image_HWC = np.zeros(self.shape, np.uint8)
        bare_HW = np.ones(self.shape[:2], np.bool_)
        left, laid, last = bare_HW.size, 0, 0
        reach = self.radius[1] * self.size_px  # leaves may lie outside, or the border would see fewer of them
        for _ in range(MOST_BATCHES):
            radius_N = radii(rng.random(BATCH_LEAVES), *self.radius) * self.size_px
            centre_N2 = rng.uniform(-reach, self.size_px + reach, (BATCH_LEAVES, 2))
            angle_N = rng.uniform(0, np.pi / 2, BATCH_LEAVES)
            colour_NC = rng.integers(0, 256, (BATCH_LEAVES, self.channels)).astype(np.uint8)
            left, used = lay(centre_N2, radius_N, angle_N, colour_NC, self.leaf == "square", left, bare_HW, image_HWC)
            laid, last = laid + used, colour_NC[-1]
            if not left:
                break
        image_HWC[bare_HW] = last
        return image_HWC, {"leaves": laid}

    @classmethod
    def example(cls, scratch: Path) -> Self:
        return cls(size_px=32, radius=(0.05, 0.5))


def radii(uniform_N: NDArray[np.float64], least: float, most: float) -> NDArray[np.float64]:
    """Radii with density proportional to r^-3 between two bounds, by the inverse of their distribution."""
    radius_N: NDArray[np.float64] = (least**-2 - uniform_N * (least**-2 - most**-2)) ** -0.5
    return radius_N
