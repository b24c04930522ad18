"""VisualAtom: orbits, which are circles deformed by two sinusoidal waves and noise, around one another.

Takashima et al., "Visual Atoms: Pre-training Vision Transformers with Sinusoidal Waves" (CVPR 2023), and the code
released with it, whose ranges are the defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from scaleback.core.errors import Refusal, refusal
from scaleback.sources.radial import CANVAS_PX, UNIT, Counts, Parameters, Radial, spread, units, whole


class VisualAtom(Radial):
    """Vertices, orbits, noise, spacing, frequencies, radius and oval make a category; instances vary the rest.

    From orbit to orbit the vertex at angle a moves outwards by spacing + noise (1 - P) + amplitude (sin n1 a +
    sin n2 a), P Perlin noise at a random place. What varies is the centre, the grays and the noise. The paper has
    n1 and n2 differ; the released code lets both be 0, which here they are not.
    """

    LIMITS: ClassVar[Mapping[str, tuple[float, float]]] = {**Radial.LIMITS, "frequencies": (0, 1_000)}

    kind: Literal["visual-atom"] = "visual-atom"
    vertices: Counts = (200, 1_000)
    radius: Counts = (10, 60)
    shift: float = 256.0
    ground: Literal["black", "white"] = "black"
    frequencies: Counts = (0, 20)
    """Of both waves, in periods a turn; the two of a category differ."""
    amplitude: float = Field(0.5, ge=0, le=8)
    """Of each wave, as it is added from orbit to orbit."""

    @model_validator(mode="after")
    def _two(self) -> Self:
        if self.frequencies[0] == self.frequencies[1]:
            raise Refusal("frequencies", refusal("must leave two to choose", self.frequencies))
        return self

    def parameters(self, category_BS: NDArray[np.float64], image_BS: NDArray[np.float64]) -> Parameters:
        low, high = self.frequencies
        first_B = whole(category_BS[:, 4], (low, high))
        other_B = whole(category_BS[:, 5], (low, high - 1))
        return {
            "vertices": whole(category_BS[:, 0], self.vertices),
            "lines": whole(category_BS[:, 1], self.lines),
            "noise": spread(category_BS[:, 2], self.noise),
            "spacing": spread(category_BS[:, 3], self.spacing),
            "frequencies": np.stack([first_B, other_B + (other_B >= first_B)], axis=1),
            "radius": whole(category_BS[:, 6], self.radius),
            "oval": spread(category_BS[:, 7:9], self.oval),
            "centre": CANVAS_PX / 2 + spread(image_BS[:, :2], (-self.shift, self.shift)),
        }

    def growth(self, parameters: Mapping[str, Any], sin_V: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
        noise, vertices = units(parameters["noise"]), len(sin_V)
        first_V, second_V = (sin_V[np.arange(vertices) * periods % vertices] for periods in parameters["frequencies"])
        wave_V = units(self.amplitude) * (first_V + second_V) // UNIT
        return units(parameters["spacing"]) + noise + wave_V, noise

    @classmethod
    def example(cls, scratch: Path) -> Self:
        return cls(categories=4, instances=5, lines=(1, 20), size_px=64)
