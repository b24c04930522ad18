"""1p-frac: one fractal, perturbed L times, each perturbation its own class.

Nakamura et al., "Scaling Backwards: Minimal Synthetic Pre-training?" (ECCV 2024), and the code released with it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from scaleback.core import seeds
from scaleback.core.errors import Refusal, RenderError, refusal
from scaleback.sources import ifs
from scaleback.sources.base import Samples, Source

BASE_REDRAWS = 1_000
"""A base fractal that is too sparse is redrawn this often before the spec is given up as one that cannot be drawn."""
REDRAWS = 256
"""The same for the perturbation of one image. The released code redraws for ever."""


class OnePFrac(Source):
    """Image i is one base system under perturbation i, and its class is i: n images are n classes.

    The base is drawn from the seed, so seeds sample over *which* fractal. Perturbations of one seed are the same draws
    at every ``delta``, only wider. Two departures from the released code, which would not end: a base too sparse for
    ``base_min_fill`` is redrawn, and so is a perturbation whose orbit diverges.
    """

    kind: Literal["1p-frac"] = "1p-frac"
    delta: float = Field(0.1, gt=0, le=1)
    """Width of the perturbation."""
    perturb: Literal["multiplicative", "additive"] = "multiplicative"
    """Multiplicative as in the released code (each parameter times U(1-delta, 1+delta)), additive as in the paper."""
    sigma: float = Field(3.5, gt=0)
    """Target of sum(s1 + 2 s2) over the singular values; the realised one is uniform in sigma +- 0.1."""
    maps: int = Field(2, ge=1, le=8)
    points: int = Field(100_000, ge=100)
    size_px: int = Field(512, ge=16)
    pad_px: int = Field(6, ge=3)
    """Black border; at least the 3 pixels that a mask reaches beyond its point."""
    mask: Literal["random", "fill"] = "random"
    """Nine-bit mask of each pasted 3x3 patch: random, or all ones."""
    min_fill: float = Field(0.05, ge=0, lt=1)
    """An image with no larger share of lit pixels is redrawn."""
    base_min_fill: float | None = Field(None, ge=0, lt=1)
    """The same for the unperturbed base; None for ``min_fill``."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.sigma > 3 * self.maps:
            raise Refusal(
                "sigma", refusal(f"at most 3 per map, so at most {3 * self.maps} for {self.maps} maps", self.sigma)
            )
        if self.size_px <= 2 * self.pad_px:
            raise Refusal("size_px", refusal(f"more than twice the border of {self.pad_px} px", self.size_px))
        return self

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.size_px, self.size_px, 1

    def classes(self, images: int) -> int:
        return images

    def available(self) -> None:
        return None

    def open(self, seed: int) -> OnePFracReader:
        return OnePFracReader(self, seed)

    @classmethod
    def example(cls, scratch: Path) -> Self:
        return cls(points=20_000, size_px=48)


class OnePFracReader:
    """Draws the perturbations of one base system."""

    def __init__(self, spec: OnePFrac, seed: int) -> None:
        from scaleback.sources import chaos

        self._spec, self._seed = spec, seed
        self._fill = chaos.fill
        self._canvas = chaos.Canvas(
            size_px=spec.size_px,
            points=spec.points,
            pad_px=spec.pad_px,
            patch=True,
            random_mask=spec.mask == "random",
            colour=False,
        )
        self._mask_key = seeds.key("1p-frac mask", seed)
        self._noise_key = seeds.key("1p-frac noise", seed)
        self._base_M6, self._sigma, self._base_redraws = self._draw_base()
        self._probability_M = ifs.probabilities(self._base_M6)  # of the base: the reference does not recompute it

    @property
    def record(self) -> dict[str, Any]:
        """The base system as drawn."""
        return {
            "base": self._base_M6.tolist(),
            "probabilities": self._probability_M.tolist(),
            "sigma": self._sigma,
            "base_redraws": self._base_redraws,
        }

    def __call__(self, indices_B: NDArray[np.int64]) -> Samples:
        drawn = [self._draw(int(index)) for index in indices_B]
        return Samples(
            image_BHWC=np.stack([image for image, _, _ in drawn]),
            label_B=np.asarray(indices_B, np.int64).copy(),
            facts={
                "system": np.stack([system for _, system, _ in drawn]),
                "redraws": np.array([redraws for _, _, redraws in drawn], np.int64),
            },
        )

    def _draw_base(self) -> tuple[ifs.System, float, int]:
        spec = self._spec
        least = spec.min_fill if spec.base_min_fill is None else spec.base_min_fill
        for attempt in range(BASE_REDRAWS):
            rng = seeds.generator("1p-frac base", self._seed, attempt)
            sigma = min(float(rng.uniform(spec.sigma - 0.1, spec.sigma + 0.1)), 3.0 * spec.maps)
            system = ifs.sigma_system(rng, maps=spec.maps, sigma=max(sigma, 1e-6))
            if self._fill(self._canvas.draw(system, ifs.probabilities(system), self._mask_key, 0)) > least:
                return system, sigma, attempt
        raise RenderError(
            f"1p-frac: none of {BASE_REDRAWS} bases drawn from seed {self._seed} fills more than {least} of the image"
        )

    def _draw(self, index: int) -> tuple[NDArray[np.uint8], ifs.System, int]:
        spec, perturb = self._spec, ifs.multiplied if self._spec.perturb == "multiplicative" else ifs.shifted
        slots = spec.maps * ifs.PARAMETERS
        for attempt in range(REDRAWS):
            draw_M6 = seeds.uniform(self._noise_key, [index * REDRAWS + attempt], slots).reshape(
                spec.maps, ifs.PARAMETERS
            )
            system = perturb(self._base_M6, spec.delta, draw_M6)
            image = self._canvas.draw(system, self._probability_M, self._mask_key, index)
            if self._fill(image) > spec.min_fill:
                return image, system, attempt
        raise RenderError(
            f"1p-frac: image {index} of seed {self._seed} stays at or below a fill of {spec.min_fill}, or diverges, "
            f"in all of {REDRAWS} draws at delta {spec.delta}"
        )
