"""RCDB, the Radial Contour DataBase: polygons around one another, their vertices displaced by noise.

Kataoka et al., "Replacing Labeled Real-image Datasets with Auto-generated Contours" (CVPR 2022), and the code released
with it, whose ranges are the defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from scaleback.sources.radial import CANVAS_PX, Counts, Parameters, Radial, spread, units, whole

MEAN_VERTICES = 100.0
"""Of the exponential distribution, rounded down and cut to the range, that vertices are drawn from."""


class RCDB(Radial):
    """Vertices, lines, noise and spacing make a category; radius, oval, centre, grays and noise vary with the instance.

    From line to line a vertex moves outwards by spacing + noise (1 - 2 P), P Perlin noise at a random place. The
    released code keeps a category's radius, oval and centre for its first instance; here every instance draws them.
    """

    kind: Literal["rcdb"] = "rcdb"
    vertices: Counts = (3, 200)
    radius: Counts = (0, 100)
    shift: float = 200.0
    ground: Literal["black", "white"] = "white"

    def parameters(self, category_BS: NDArray[np.float64], image_BS: NDArray[np.float64]) -> Parameters:
        return {
            "vertices": exponential(category_BS[:, 0], self.vertices),
            "lines": whole(category_BS[:, 1], self.lines),
            "noise": spread(category_BS[:, 2], self.noise),
            "spacing": spread(category_BS[:, 3], self.spacing),
            "radius": whole(image_BS[:, 0], self.radius),
            "oval": spread(image_BS[:, 1:3], self.oval),
            "centre": CANVAS_PX / 2 + spread(image_BS[:, 3:5], (-self.shift, self.shift)),
        }

    def growth(self, parameters: Mapping[str, Any], sin_V: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
        noise = units(parameters["noise"])
        return np.full(len(sin_V), units(parameters["spacing"]) + noise), 2 * noise

    @classmethod
    def example(cls, scratch: Path) -> Self:
        return cls(categories=4, instances=5, lines=(1, 20), size_px=64)


def exponential(uniform_B: NDArray[np.float64], span: Counts) -> NDArray[np.int64]:
    """Integers of a range, each less likely than the one before it by the same factor."""
    below = np.exp(-(span[1] + 1 - span[0]) / MEAN_VERTICES)
    beyond_B = -MEAN_VERTICES * np.log(1 - uniform_B * (1 - below))
    drawn_B: NDArray[np.int64] = np.minimum(span[0] + beyond_B.astype(np.int64), span[1])
    return drawn_B
