"""Clouds of independent points: what a fractal is without its shape, the control of 1p-frac (ECCV 2024, section 4)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from scaleback.core import seeds
from scaleback.sources.base import BitSamples, BitSource
from scaleback.sources.pictures import Pictures

LIT = 127
"""Gray of a point, as in FractalDB."""
REACH = 3.0
"""A Gaussian cloud is cut at so many standard deviations, where the picture ends."""


class PointCloud(BitSource):
    """Image i is one cloud, and its class is i, as in 1p-frac."""

    kind: Literal["point-cloud"] = "point-cloud"
    law: Literal["gaussian", "uniform"] = "gaussian"
    points: int = Field(100_000, ge=1)
    size_px: int = Field(512, ge=16)

    def classes(self, images: int) -> int:
        return images

    def available(self) -> None:
        return None

    def open(self, seed: int) -> PointCloudReader:
        return PointCloudReader(self, seed)

    @classmethod
    def example(cls, scratch: Path) -> Self:
        return cls(points=200, size_px=40)


class PointCloudReader:
    """Draws clouds."""

    def __init__(self, spec: PointCloud, seed: int) -> None:
        self._spec, self._seed = spec, seed

    @property
    def record(self) -> Mapping[str, Any]:
        """Nothing is realised once for all."""
        return {}

    def __call__(self, indices_B: NDArray[np.int64]) -> BitSamples:
        size = self._spec.size_px
        lit_BHW = np.zeros((len(indices_B), size, size), bool)
        for lit_HW, index in zip(lit_BHW, indices_B, strict=True):
            lit_HW[tuple(self._places(int(index)))] = True
        return BitSamples(
            pictures=Pictures.of(np.packbits(lit_BHW, axis=2, bitorder="little"), size),
            level=LIT,
            label_B=np.asarray(indices_B, np.int64).copy(),
        )

    def _places(self, index: int) -> NDArray[np.int64]:
        """(2, T) rows and columns of the points that fall into the picture."""
        spec = self._spec
        rng = seeds.generator("point cloud", self._seed, index)
        if spec.law == "uniform":
            at_2T = rng.random((2, spec.points))
        else:
            at_2T = 0.5 + rng.standard_normal((2, spec.points)) / (2 * REACH)
            at_2T = at_2T[:, ((at_2T >= 0) & (at_2T < 1)).all(axis=0)]
        return (at_2T * spec.size_px).astype(np.int64)
