"""Dead leaves: shapes that hide one another until nothing is left uncovered.

Lee, Mumford and Huang, "Occlusion Models for Natural Images" (IJCV 2001); as pre-training data Baradad et al.,
"Learning to See by Looking at Noise" (NeurIPS 2021). Leaves are laid from the front, so only what is still bare is
painted: the same law as laying them from behind for ever, and it ends.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from scaleback.core import seeds
from scaleback.core.errors import Refusal, refusal
from scaleback.sources.base import UNLABELLED, Samples, Source

BATCH_LEAVES = 1_024
MOST_BATCHES = 1_000
"""A picture that a million leaves do not cover gets the last one's colour where it is bare."""


class DeadLeaves(Source):
    """Unlabelled images of circles or of turned squares, radii with density r^-3, each of its own colour."""

    kind: Literal["dead-leaves"] = "dead-leaves"
    size_px: int = Field(256, ge=8)
    channels: Literal[1, 3] = 3
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

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.size_px, self.size_px, self.channels

    def classes(self, images: int) -> None:
        return None

    def available(self) -> None:
        return None

    def open(self, seed: int) -> DeadLeavesReader:
        return DeadLeavesReader(self, seed)

    @classmethod
    def example(cls, scratch: Path) -> Self:
        return cls(size_px=32, radius=(0.05, 0.5))


class DeadLeavesReader:
    """Lays leaves."""

    def __init__(self, spec: DeadLeaves, seed: int) -> None:
        self._spec, self._seed = spec, seed

    @property
    def record(self) -> dict[str, Any]:
        """Nothing is realised once for all."""
        return {}

    def __call__(self, indices_B: NDArray[np.int64]) -> Samples:
        drawn = [self._draw(int(index)) for index in indices_B]
        return Samples(
            image_BHWC=np.stack([image for image, _ in drawn]),
            label_B=np.full(len(drawn), UNLABELLED, np.int64),
            facts={"leaves": np.array([leaves for _, leaves in drawn], np.int64)},
        )

    def _draw(self, index: int) -> tuple[NDArray[np.uint8], int]:
        """A picture, and how many leaves were laid."""
        from scaleback.sources.leaves import lay

        spec = self._spec
        rng = seeds.generator("dead leaves", self._seed, index)
        image_HWC = np.zeros(spec.shape, np.uint8)
        bare_HW = np.ones(spec.shape[:2], np.bool_)
        left, laid = bare_HW.size, 0
        for batch in range(MOST_BATCHES):
            radius_N = radii(rng.random(BATCH_LEAVES), *spec.radius) * spec.size_px
            # Leaves may lie half outside, or the border would see fewer of them.
            reach = spec.radius[1] * spec.size_px
            centre_N2 = rng.uniform(-reach, spec.size_px + reach, (BATCH_LEAVES, 2))
            angle_N = rng.uniform(0, np.pi / 2, BATCH_LEAVES)
            colour_NC = rng.integers(0, 256, (BATCH_LEAVES, spec.channels)).astype(np.uint8)
            if batch == MOST_BATCHES - 1:
                image_HWC[bare_HW] = colour_NC[-1]
                return image_HWC, laid + BATCH_LEAVES
            left, used = lay(centre_N2, radius_N, angle_N, colour_NC, spec.leaf == "square", left, bare_HW, image_HWC)
            laid += used
            if not left:
                break
        return image_HWC, laid


def radii(uniform_N: NDArray[np.float64], least: float, most: float) -> NDArray[np.float64]:
    """Radii with density proportional to r^-3 between two bounds, by the inverse of their distribution."""
    radius_N: NDArray[np.float64] = (least**-2 - uniform_N * (least**-2 - most**-2)) ** -0.5
    return radius_N
