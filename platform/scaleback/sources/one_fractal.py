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
from scaleback.sources.base import BitSamples, BitSource, Samples
from scaleback.sources.pictures import Pictures

BASE_REDRAWS = 1_000
"""A base fractal that is too sparse is redrawn this often before the spec is given up as one that cannot be drawn."""
REDRAWS = 256
"""The same for the perturbation of one image. The released code redraws for ever."""


class OnePFrac(BitSource):
    """Image i is one base system under perturbation i, and its class is i: n images are n classes.

    The base is drawn from the seed, so seeds sample over *which* fractal. Perturbations of one seed are the same draws
    at every ``delta``, only wider. Two departures from the released code, which would not end: a base too sparse for
    ``base_min_fill`` is redrawn, and so is a perturbation whose orbit diverges.
    """

    revision = 3
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
    pad_px: int = Field(6, ge=4)
    """Black border; a mask reaches 3 pixels beyond its point, and the farthest point lies on the border's first."""
    mask: Literal["random", "fill", "stencil", "fresh"] = "random"
    """Nine-bit mask of each pasted 3x3 patch: random; all ones; the image's one stencil, which hides nothing; or random
    and ``fresh`` in each pass over the images (OFDB's "random pattern")."""
    min_fill: float = Field(0.05, ge=0, lt=1)
    """An image with no larger share of lit pixels is redrawn."""
    base_min_fill: float | None = Field(None, ge=0, lt=1)
    """The same for the unperturbed base; None for ``min_fill``."""
    renderer: Literal["fast", "exact", "torch"] = "fast"
    """``exact`` draws byte for byte what the released algorithm draws under given masks; ``fast`` the same in
    distribution; ``torch`` as ``exact`` up to rounding, for a GPU (on a CPU it takes a hundred times as long)."""

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
    def wants_gpu(self) -> bool:
        return self.renderer == "torch"

    @property
    def fresh(self) -> bool:
        return self.mask == "fresh"

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
        from scaleback.sources.kernels import chaos_fast

        self._spec, self._seed = spec, seed
        self._canvas = chaos_fast.open_canvas(
            spec.renderer,
            size_px=spec.size_px,
            points=spec.points,
            pad_px=spec.pad_px,
            stamp="random" if spec.mask == "fresh" else spec.mask,
        )
        self._mask_key = seeds.key("1p-frac mask", seed)
        self._noise_key = seeds.key("1p-frac noise", seed)
        self._base_M6, self._sigma, self._base_redraws = self._draw_base()
        self._probability_M = ifs.probabilities(self._base_M6)  # of the base: the reference does not recompute it
        self._redraws: dict[int, int] = {}
        """How often an image was redrawn, of those whose masks are ``fresh``."""

    @property
    def record(self) -> dict[str, Any]:
        """The base system as drawn."""
        return {
            "base": self._base_M6.tolist(),
            "probabilities": self._probability_M.tolist(),
            "sigma": self._sigma,
            "base_redraws": self._base_redraws,
        }

    def anew(self, indices_B: NDArray[np.int64], epoch_B: NDArray[np.int64]) -> Samples | BitSamples:
        """Images with the masks of some pass; their systems are those that the first pass accepted."""
        new_B = np.array([index for index in indices_B if int(index) not in self._redraws], np.int64)
        if len(new_B):
            redraws_B = self(new_B).facts["redraws"]
            self._redraws |= {int(index): int(redraws) for index, redraws in zip(new_B, redraws_B, strict=True)}
        redraws_B = np.array([self._redraws[int(index)] for index in indices_B])
        system_BM6 = self._perturbed(indices_B, redraws_B)
        pictures = self._draw(system_BM6, seeds.counter(epoch_B, indices_B))
        facts = {"system": system_BM6, "redraws": redraws_B}
        return self._canvas.samples(pictures, np.asarray(indices_B, np.int64).copy(), facts)

    def __call__(self, indices_B: NDArray[np.int64]) -> Samples | BitSamples:
        count, spec = len(indices_B), self._spec
        system_BM6 = np.empty((count, spec.maps, ifs.PARAMETERS))
        redraws_B = np.zeros(count, np.int64)
        pictures: Pictures | None = None
        left = np.arange(count)
        for attempt in range(REDRAWS):
            system_BM6[left] = self._perturbed(indices_B[left], np.full(len(left), attempt))
            drawn = self._draw(system_BM6[left], indices_B[left])
            accepted = self._canvas.fills(drawn) > spec.min_fill
            pictures = drawn if pictures is None else self._canvas.replaced(pictures, left, drawn)
            redraws_B[left[accepted]] = attempt
            left = left[~accepted]
            if not len(left):
                facts = {"system": system_BM6, "redraws": redraws_B}
                return self._canvas.samples(pictures, np.asarray(indices_B, np.int64).copy(), facts)
        raise RenderError(
            f"1p-frac: image {indices_B[left[0]]} of seed {self._seed} stays at or below a fill of {spec.min_fill}, or "
            f"diverges, in all of {REDRAWS} draws at delta {spec.delta}"
        )

    def _draw_base(self) -> tuple[ifs.System, float, int]:
        spec = self._spec
        least = spec.min_fill if spec.base_min_fill is None else spec.base_min_fill
        for attempt in range(BASE_REDRAWS):
            rng = seeds.generator("1p-frac base", self._seed, attempt)
            sigma = min(float(rng.uniform(spec.sigma - 0.1, spec.sigma + 0.1)), 3.0 * spec.maps)
            system = ifs.sigma_system(rng, maps=spec.maps, sigma=max(sigma, 1e-6))
            drawn = self._canvas.draw_batch([system], [ifs.probabilities(system)], self._mask_key, [0])
            if self._canvas.fills(drawn)[0] > least:
                return system, sigma, attempt
        raise RenderError(
            f"1p-frac: none of {BASE_REDRAWS} bases drawn from seed {self._seed} fills more than {least} of the image"
        )

    def _draw(self, system_BM6: NDArray[np.float64], place_B: NDArray[np.int64]) -> Pictures:
        """Pictures of systems, with the masks at these places of the stream."""
        chances = [self._probability_M] * len(system_BM6)
        return self._canvas.draw_batch(list(system_BM6), chances, self._mask_key, place_B.tolist())

    def _perturbed(self, indices_B: NDArray[np.int64], attempt_B: NDArray[np.int64]) -> NDArray[np.float64]:
        """(B, M, 6) systems of these images, each at an attempt."""
        spec, perturb = self._spec, ifs.multiplied if self._spec.perturb == "multiplicative" else ifs.shifted
        draw_BX = seeds.uniform(self._noise_key, indices_B * REDRAWS + attempt_B, spec.maps * ifs.PARAMETERS)
        draw_BM6 = draw_BX.reshape(len(indices_B), spec.maps, ifs.PARAMETERS)
        return perturb(self._base_M6, spec.delta, draw_BM6)
