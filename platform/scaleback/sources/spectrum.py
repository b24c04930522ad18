"""Noise with the power spectrum of natural images.

Baradad et al., "Learning to See by Looking at Noise" (NeurIPS 2021), section 3.2: random phases under the amplitude
1 / (|fx|^a + |fy|^b), a and b uniform in [0.5, 3.5] for each image.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from scaleback.core import seeds
from scaleback.core.errors import Refusal, refusal
from scaleback.sources.base import UNLABELLED, Samples, Source

SPREAD = 3.0
"""Standard deviations from the mean to black and to white."""


class Spectrum(Source):
    """Unlabelled images; each is its own draw of the exponents and phases."""

    kind: Literal["spectrum"] = "spectrum"
    size_px: int = Field(256, ge=8)
    channels: Literal[1, 3] = 3
    exponent: tuple[float, float] = (0.5, 3.5)
    """Range of a and b."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if not 0 <= self.exponent[0] <= self.exponent[1]:
            raise Refusal("exponent", refusal("must be a range from 0 on", self.exponent))
        return self

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.size_px, self.size_px, self.channels

    def classes(self, images: int) -> None:
        return None

    def available(self) -> None:
        return None

    def open(self, seed: int) -> SpectrumReader:
        return SpectrumReader(self, seed)

    @classmethod
    def example(cls, scratch: Path) -> Self:
        return cls(size_px=24)


class SpectrumReader:
    """Draws noise through the inverse Fourier transform."""

    def __init__(self, spec: Spectrum, seed: int) -> None:
        self._spec, self._seed = spec, seed
        self._across_X = np.abs(np.fft.rfftfreq(spec.size_px, 1 / spec.size_px))
        self._down_Y = np.abs(np.fft.fftfreq(spec.size_px, 1 / spec.size_px))

    @property
    def record(self) -> dict[str, float]:
        """Nothing is realised once for all."""
        return {}

    def __call__(self, indices_B: NDArray[np.int64]) -> Samples:
        drawn = [self._draw(int(index)) for index in indices_B]
        return Samples(
            image_BHWC=np.stack([image for image, _ in drawn]),
            label_B=np.full(len(drawn), UNLABELLED, np.int64),
            facts={"exponents": np.stack([exponents for _, exponents in drawn])},
        )

    def _draw(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        spec = self._spec
        rng = seeds.generator("spectrum", self._seed, index)
        exponents = rng.uniform(*spec.exponent, 2)
        weight_YX = self._across_X ** exponents[0] + (self._down_Y ** exponents[1])[:, None]
        weight_YX[0, 0] = np.inf  # the mean is set below
        white_HWC = rng.standard_normal((spec.size_px, spec.size_px, spec.channels))
        noise_HWC = np.fft.irfft2(np.fft.rfft2(white_HWC, axes=(0, 1)) / weight_YX[..., None], axes=(0, 1))
        noise_HWC /= SPREAD * noise_HWC.std(axis=(0, 1)) + 1e-30
        return (127.5 * (1 + noise_HWC)).clip(0, 255).astype(np.uint8), exponents
