"""Perlin noise: gradients on grids that double in fineness (Perlin, 1985; the quintic of 2002)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from scaleback.core.errors import Refusal, refusal
from scaleback.sources.noise import Noise


class Perlin(Noise):
    """Octave k has ``cells`` x 2^k cells a side and ``persistence``^k of the height; channels span black to white."""

    kind: Literal["perlin"] = "perlin"
    channels: Literal[1, 3] = 1
    cells: int = Field(4, ge=1)
    octaves: int = Field(4, ge=1, le=10)
    persistence: float = Field(0.5, gt=0, le=1)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        finest = self.cells * 2 ** (self.octaves - 1)
        if finest > self.size_px:
            raise Refusal("octaves", refusal(f"must leave a pixel to each cell; the last has {finest}", self.octaves))
        return self

    def draw(self, rng: np.random.Generator) -> tuple[NDArray[np.uint8], Mapping[str, Any]]:
        height_HWC = np.zeros(self.shape)
        for octave in range(self.octaves):
            cells = self.cells * 2**octave
            for channel in range(self.channels):
                angle_YX = rng.uniform(0, 2 * np.pi, (cells + 1, cells + 1))
                height_HWC[:, :, channel] += self.persistence**octave * gradient_noise(angle_YX, self.size_px)
        low, high = height_HWC.min(axis=(0, 1)), height_HWC.max(axis=(0, 1))
        return (255 * (height_HWC - low) / (high - low) + 0.5).astype(np.uint8), {}

    @classmethod
    def example(cls, scratch: Path) -> Self:
        return cls(size_px=32, cells=2, octaves=3)


def gradient_noise(angle_YX: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """(size, size) one octave over a grid of gradients of these angles; zero at every node of the grid."""
    cells = len(angle_YX) - 1
    at = (np.arange(size) + 0.5) * cells / size
    cell, inside = np.floor(at).astype(int), at % 1
    blend = inside**3 * (inside * (6 * inside - 15) + 10)
    sin_YX, cos_YX = np.sin(angle_YX), np.cos(angle_YX)
    corners = []
    for down in (0, 1):
        for across in (0, 1):
            sin_HW, cos_HW = (at_node[cell + down][:, cell + across] for at_node in (sin_YX, cos_YX))
            corners.append(sin_HW * (inside - down)[:, None] + cos_HW * (inside - across))
    top = corners[0] + blend * (corners[1] - corners[0])
    bottom = corners[2] + blend * (corners[3] - corners[2])
    noise_HW: NDArray[np.float64] = top + blend[:, None] * (bottom - top)
    return noise_HW
