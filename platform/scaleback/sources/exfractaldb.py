"""ExFractalDB and 3D-OFDB: categories are random three-dimensional fractals, images are views of them.

Kataoka et al., "Replacing Labeled Real-image Datasets with Auto-generated Contours" (CVPR 2022); Nakamura et al.,
"Pre-training Vision Transformers with Very Limited Synthesized Images" (ICCV 2023); and the code released with each.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from scaleback.core import seeds
from scaleback.core.errors import RenderError
from scaleback.sources.base import BitSamples, BitSource
from scaleback.sources.pictures import Pictures

# Shapes: M maps, P = 12 parameters of a map, T points of an orbit, B images of a batch, X bytes of a row of pixels.
# A map is a, b, c, d, e, f, g, h, i, j, k, l: the rows of a 3x3 matrix, then a translation.

PARAMETERS = 12
MAPS = (2, 7)
"""The released search draws numpy's randint(2, 8), so two to seven maps."""
SEARCH_POINTS = 10_000
"""Points on which a candidate's variances are measured, whatever an image has."""
CANDIDATES = 200_000
"""Candidates tried for one category. Of 40,000, 483 had variances above 0.05, and 3 above 0.15."""
FACTOR_STEPS = tuple(range(-6, 7))
"""Weights multiply a parameter by 0.4, 0.5, ..., 1.6."""
WEIGHT_ROWS = 1 + PARAMETERS * (len(FACTOR_STEPS) - 1)
IDENTITY_ROW = FACTOR_STEPS.index(0)
VIEWS, VIEW_STEP_DEG, FIRST_VIEW_DEG = 12, 30.0, 30.0
INSTANCES = 1_000
CAMERA_DISTANCE, CAMERA_NEAR = 4.0, 1.0
"""As in the released renderer, which the papers do not describe: from the centroid, in half sides of the cube."""
CAMERA_FOCAL = 1 + math.sqrt(2)
"""1 / tan of half the field of view, 45 degrees, as released; written without a tangent, to be exact everywhere."""
WHITE = 255


class Instance(NamedTuple):
    """What an image shows."""

    category: int
    weight_row: int
    view: int


class _Categories3D(BitSource):
    """What both data sets share: the category search, the weights and the camera.

    The camera goes round the y axis at the height of the centroid and looks at it, in perspective; points that come
    too near or fall outside the picture are cut off. The released renderer saves OpenGL's rows as they come, the
    lowest first, so pictures stand on their heads; here too.

    Two departures from the released code. Its random numbers come from one stream that is never seeded again; here
    category c has streams of its own, and all its candidates and weight rows are led by the same ones. And where a
    weighted system leaves the range of numbers it saves nothing, see the reader.
    """

    categories: int = Field(1_000, ge=1)
    search_min_variance: float = Field(0.05, ge=0, lt=1)
    """A candidate is accepted if its points, stretched to [-1, 1], have a larger variance along every axis. 0.05 is
    what the released scripts ask for; their program's own default is 0.15."""
    points: int = Field(10_000, ge=100)
    """Points drawn, after the origin, which is not drawn. Released: 10,000 with the origin, so one fewer."""
    size_px: int = Field(224, ge=16)
    view_jitter_deg: float = Field(math.pi, ge=0, le=180)
    """Views are 30 degrees apart and each image turns its own by U(-jitter, jitter). The released code draws from -pi
    to pi and then takes that for degrees; 15 makes every direction around the fractal equally likely."""

    def classes(self, images: int) -> int:
        return min(images, self.categories)

    def available(self) -> int:
        return self.categories


class ExFractalDB(_Categories3D):
    """1,000 instances a category, out of 145 weight rows x 12 views.

    Image i is instance ``i // categories`` of category ``i % categories``, so any prefix is balanced. The paper has
    1,000 images a category; the released code draws all 1,740, and does not say which were used. Here instance n takes
    weight row ``n % 145`` and view ``n % 12``. 145 and 12 have no common factor, so no pair comes twice, and rows and
    views are used equally often to within one.
    """

    kind: Literal["exfractaldb"] = "exfractaldb"

    def available(self) -> int:
        return self.categories * INSTANCES

    def open(self, seed: int) -> ViewReader:
        return ViewReader(self, seed)

    def instance(self, index: int, seed: int) -> Instance:
        """What an image is."""
        number, category = divmod(index, self.categories)
        return Instance(category, number % WEIGHT_ROWS, number % VIEWS)

    @classmethod
    def example(cls, scratch: Path) -> Self:
        return cls(categories=2, points=2_000, size_px=48)


class OFDB3D(_Categories3D):
    """One image a category. Categories and their streams are those of ``ExFractalDB``."""

    kind: Literal["ofdb-3d"] = "ofdb-3d"
    weight_row: int = Field(0, ge=0, lt=WEIGHT_ROWS)
    """Row of the multipliers. The released script uses row 0, which multiplies parameter a by 0.4; row 6 is the
    category's own fractal."""
    view: int | None = Field(None, ge=0, lt=VIEWS)
    """One of the twelve views for all; None draws one for each category. The released loader draws anew whenever it
    reads an image; a population has one picture for each index."""

    def open(self, seed: int) -> ViewReader:
        return ViewReader(self, seed)

    def instance(self, index: int, seed: int) -> Instance:
        """What an image is."""
        drawn = int(seeds.words(seeds.key("3d-ofdb view", seed), [index], 1)[0, 0]) * VIEWS >> 32
        return Instance(index, self.weight_row, drawn if self.view is None else self.view)

    @classmethod
    def example(cls, scratch: Path) -> Self:
        return cls(categories=3, points=2_000, size_px=48)


class ViewReader:
    """Finds categories as they are asked for, and draws views of their instances."""

    def __init__(self, spec: ExFractalDB | OFDB3D, seed: int) -> None:
        from scaleback.sources.kernels import chaos_3d

        self._spec, self._seed, self._chaos = spec, seed, chaos_3d
        self._weights = weights()
        self._jitter_key = seeds.key("exfractaldb jitter", seed)
        self._found: dict[int, NDArray[np.float64]] = {}

    @property
    def record(self) -> dict[str, Any]:
        """Nothing is realised for the whole population; systems are facts of each image."""
        return {}

    def __call__(self, indices_B: NDArray[np.int64]) -> BitSamples:
        """Images by index.

        A weighted system may leave the range of numbers; the category's own system is drawn in its place, from where
        the image would have been seen, and the facts say so.

        Raises:
            RenderError: a category is not found, or nothing of its own system is in the picture either.
        """
        spec = self._spec
        instances = [spec.instance(int(index), self._seed) for index in indices_B]
        angle_B = self._angles(instances)
        bits_BHX = np.zeros((len(instances), spec.size_px, -(-spec.size_px // 8)), np.uint8)
        self._draw(instances, angle_B, range(len(instances)), bits_BHX)
        black = np.flatnonzero(~bits_BHX.any(axis=(1, 2)))
        for place in black:
            instances[place] = instances[place]._replace(weight_row=IDENTITY_ROW)
        self._draw(instances, angle_B, black, bits_BHX)
        for place in black:
            if not bits_BHX[place].any():
                category = instances[place].category
                raise RenderError(
                    f"{spec.kind}: category {category} shows no point when seen from {angle_B[place]:.1f} degrees"
                )
        return BitSamples(
            pictures=Pictures.of(bits_BHX, spec.size_px),
            level=WHITE,
            label_B=np.array([instance.category for instance in instances], np.int64),
            facts=self._facts(instances, angle_B),
        )

    def system(self, category: int) -> NDArray[np.float64]:
        """The base system of a category, (M, P).

        Raises:
            RenderError: no candidate of its stream spreads out far enough.
        """
        if category not in self._found:
            rng = seeds.generator("exfractaldb category", self._seed, category)
            uniform_T = self._uniform(category, SEARCH_POINTS)
            candidates = (uniform_system(rng) for _ in range(CANDIDATES))
            found = next((system for system in candidates if self._spreads(system, uniform_T)), None)
            if found is None:
                raise RenderError(
                    f"{self._spec.kind}: none of {CANDIDATES:,} candidates of category {category} has a variance above "
                    f"{self._spec.search_min_variance} along every axis"
                )
            self._found[category] = found
        return self._found[category]

    def _spreads(self, system_MP: NDArray[np.float64], uniform_T: NDArray[np.float64]) -> bool:
        choice_T = self._chaos.choices(probabilities(system_MP), uniform_T)
        cloud_3T = self._chaos.cloud(system_MP, choice_T)
        return cloud_3T is not None and self._chaos.least_variance(cloud_3T) > self._spec.search_min_variance

    def _uniform(self, category: int, points: int) -> NDArray[np.float64]:
        """(T,) the numbers that choose the map of every step; a longer orbit begins with a shorter one."""
        return seeds.generator("exfractaldb orbit", self._seed, category).random(points)

    def _angles(self, instances: Sequence[Instance]) -> NDArray[np.float64]:
        """(B,) where the camera stands, in degrees around the y axis."""
        place_B = [(category * WEIGHT_ROWS + row) * VIEWS + view for category, row, view in instances]
        turn_B = self._spec.view_jitter_deg * (2 * seeds.uniform(self._jitter_key, place_B, 1)[:, 0] - 1)
        view_B = np.array([instance.view for instance in instances])
        return FIRST_VIEW_DEG + VIEW_STEP_DEG * view_B + turn_B

    def _draw(
        self,
        instances: Sequence[Instance],
        angle_B: NDArray[np.float64],
        places: Iterable[int],
        bits_BHX: NDArray[np.uint8],
    ) -> None:
        """Draws the instances at ``places``: map choices once a category, an orbit once for all its views."""
        seen: dict[int, dict[int, list[int]]] = {}
        for place in places:
            category, row, _ = instances[place]
            seen.setdefault(category, {}).setdefault(row, []).append(place)
        # By the standard library, number by number: numpy's own vectors of sines differ between machines.
        cos_B = np.array([math.cos(math.radians(angle)) for angle in angle_B])
        sin_B = np.array([math.sin(math.radians(angle)) for angle in angle_B])
        for category, rows in seen.items():
            system = self.system(category)
            # Chances are those of the unweighted system, as in the released code.
            choice_T = self._chaos.choices(probabilities(system), self._uniform(category, self._spec.points))
            for row, image_V in rows.items():
                cloud_3T = self._chaos.cloud(system * self._weights[row], choice_T)
                if cloud_3T is not None:
                    self._chaos.scatter(
                        cloud_3T, cos_B[image_V], sin_B[image_V], np.array(image_V), CAMERA_DISTANCE, CAMERA_NEAR,
                        CAMERA_FOCAL, bits_BHX,
                    )  # fmt: skip

    def _facts(self, instances: Sequence[Instance], angle_B: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
        # Systems have two to seven maps; shorter ones are filled up with NaN rows so that they make one column.
        system_BMP = np.full((len(instances), MAPS[1], PARAMETERS), np.nan)
        for system_MP, (category, row, _) in zip(system_BMP, instances, strict=True):
            system = self.system(category)
            system_MP[: len(system)] = system * self._weights[row]
        return {
            "system": system_BMP,
            "weight_row": np.array([instance.weight_row for instance in instances], np.int64),
            "view": np.array([instance.view for instance in instances], np.int64),
            "angle_deg": angle_B,
        }


def uniform_system(rng: np.random.Generator) -> NDArray[np.float64]:
    """A candidate: two to seven maps, every parameter uniform in [-1, 1], no contraction asked for."""
    return rng.uniform(-1, 1, (int(rng.integers(MAPS[0], MAPS[1] + 1)), PARAMETERS))


def probabilities(system_MP: NDArray[np.float64]) -> NDArray[np.float64]:
    """(M,) chance of each map, in proportion to the |determinant| of its matrix."""
    a, b, c, d, e, f, g, h, i = system_MP[:, :9].T
    weight_M = np.abs(a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g))
    chance_M: NDArray[np.float64] = weight_M / weight_M.sum()
    return chance_M


def weights() -> NDArray[np.float64]:
    """(145, 12) multipliers: parameter a times 0.4, 0.5, ..., 1.6, each other one times the twelve that are not 1.

    The order of the released file of 145 rows; its last row of parameter i repeats 0.6 where 1.6 is due, and is
    taken for a slip.
    """
    rows = []
    for parameter in range(PARAMETERS):
        for step in FACTOR_STEPS:
            if step or parameter == 0:
                row = np.ones(PARAMETERS)
                row[parameter] = (10 + step) / 10
                rows.append(row)
    return np.array(rows)
