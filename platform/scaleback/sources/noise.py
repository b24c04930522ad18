"""What noise sources share: endless unlabelled images, each from a generator of its own."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from scaleback.core import seeds
from scaleback.sources.base import UNLABELLED, Samples, Source


class Noise(Source):
    """Unlabelled square images; a kind of noise says how one is drawn."""

    kind: str
    size_px: int = Field(256, ge=8)
    channels: Literal[1, 3] = 3

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.size_px, self.size_px, self.channels

    def classes(self, images: int) -> None:
        return None

    def available(self) -> None:
        return None

    def open(self, seed: int) -> NoiseReader:
        return NoiseReader(self, seed)

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> tuple[NDArray[np.uint8], Mapping[str, Any]]:
        """An image (H, W, C), and what was realised for it."""


class NoiseReader:
    """Draws images one by one."""

    def __init__(self, spec: Noise, seed: int) -> None:
        self._spec, self._seed = spec, seed

    @property
    def record(self) -> Mapping[str, Any]:
        """Nothing is realised once for all."""
        return {}

    def __call__(self, indices_B: NDArray[np.int64]) -> Samples:
        spec = self._spec
        drawn = [spec.draw(seeds.generator(spec.kind, self._seed, int(index))) for index in indices_B]
        return Samples(
            image_BHWC=np.stack([image for image, _ in drawn]),
            label_B=np.full(len(drawn), UNLABELLED, np.int64),
            facts={name: np.array([facts[name] for _, facts in drawn]) for name in drawn[0][1]},
        )
