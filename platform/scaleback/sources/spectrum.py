"""Noise with the power spectrum of natural images.

Baradad et al., "Learning to See by Looking at Noise" (NeurIPS 2021), section 3.2: random phases under the amplitude
1 / (|fx|^a + |fy|^b), a and b uniform in [0.5, 3.5] for each image.
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

SPREAD = 3.0
"""Standard deviations from the mean to black and to white."""


class Spectrum(Noise):
    """Each image is its own draw of the exponents and phases."""

    kind: Literal["spectrum"] = "spectrum"
    exponent: tuple[float, float] = (0.5, 3.5)
    """Range of a and b."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if not 0 <= self.exponent[0] <= self.exponent[1]:
            raise Refusal("exponent", refusal("must be a range from 0 on", self.exponent))
        return self

    def draw(self, rng: np.random.Generator) -> tuple[NDArray[np.uint8], Mapping[str, Any]]:
        exponents = rng.uniform(*self.exponent, 2)
        across_X, down_Y = (np.abs(of(self.size_px, 1 / self.size_px)) for of in (np.fft.rfftfreq, np.fft.fftfreq))
        weight_YX = across_X ** exponents[0] + (down_Y ** exponents[1])[:, None]
        weight_YX[0, 0] = np.inf  # the mean is set below
        white_YXC = np.fft.rfft2(rng.standard_normal(self.shape), axes=(0, 1))
        noise_HWC = np.fft.irfft2(white_YXC / weight_YX[..., None], self.shape[:2], axes=(0, 1))
        noise_HWC /= SPREAD * noise_HWC.std(axis=(0, 1)) + 1e-30
        return (127.5 * (1 + noise_HWC)).clip(0, 255).astype(np.uint8), {"exponents": exponents}

    @classmethod
    def example(cls, scratch: Path) -> Self:
        return cls(size_px=24)
