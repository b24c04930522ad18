"""FractalDB and OFDB: categories are random fractals that fill their picture; instances vary one parameter.

Kataoka et al., "Pre-training without Natural Images" (ACCV 2020); Nakamura et al., "Pre-training Vision Transformers
with Very Limited Synthesized Images" (ICCV 2023); and the code released with each.
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

SEARCH_PX, SEARCH_POINTS, SEARCH_PAD_PX = 512, 100_000, 6
"""The picture on which a candidate's filling rate is measured."""
CANDIDATES = 20_000
"""Candidates tried for one category; about one in forty fills a fifth of its picture."""
WEIGHT_ROWS, PATCH_DRAWS, FLIPS = 25, 10, 4
INSTANCES = WEIGHT_ROWS * PATCH_DRAWS * FLIPS
IDENTITY_ROW = 2


class _Categories(Source):
    """What both data sets share: the category search and how a picture is drawn.

    The reference searches with one numpy stream, so its category c depends on all before it. Here category c is the
    first acceptable candidate of its own stream: the same distribution, and any worker can find any category.
    """

    categories: int = Field(1_000, ge=1)
    search_min_fill: float = Field(0.2, ge=0, lt=1)
    """A candidate is accepted if single points fill at least this share of a 512 px picture."""
    weight: float = Field(0.4, gt=0, lt=0.5)
    """Step of the multipliers; instances use 1-2w, 1-w, 1+w and 1+2w."""
    points: int = Field(200_000, ge=100)
    size_px: int = Field(362, ge=16)
    pad_px: int = Field(6, ge=3)
    """Black border; at least the 3 pixels that a mask reaches beyond its point."""
    draw: Literal["patch_gray", "point_gray", "patch_colour", "point_colour"] = "patch_gray"

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.size_px <= 2 * self.pad_px:
            raise Refusal("size_px", refusal(f"more than twice the border of {self.pad_px} px", self.size_px))
        return self

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.size_px, self.size_px, 3 if self.draw.endswith("colour") else 1

    def classes(self, images: int) -> int:
        return min(images, self.categories)

    def available(self) -> int:
        return self.categories


class FractalDB(_Categories):
    """1,000 instances a category: 25 weight rows x 10 draws of the patches x 4 flips.

    Image i is instance ``i // categories`` of category ``i % categories``, so any prefix is balanced; instances run
    through the weight rows first, then the patch draws, then the flips.
    """

    kind: Literal["fractaldb"] = "fractaldb"

    def available(self) -> int:
        return self.categories * INSTANCES

    def open(self, seed: int) -> CategoryReader:
        return CategoryReader(self, seed)

    def instance(self, index: int) -> tuple[int, int, int, int]:
        """(category, weight row, patch draw, flip) of an image."""
        instance, category = divmod(index, self.categories)
        rest, row = divmod(instance, WEIGHT_ROWS)
        flip, patch = divmod(rest, PATCH_DRAWS)
        return category, row, patch, flip

    @classmethod
    def example(cls, scratch: Path) -> Self:
        return cls(categories=2, points=20_000, size_px=48)


class OFDB(_Categories):
    """One image a category."""

    kind: Literal["ofdb"] = "ofdb"
    weight_row: int = Field(0, ge=0, lt=WEIGHT_ROWS)
    """Row of the multipliers. The released script uses row 0, which multiplies parameter a by 1-2w; row 2 is the
    category's own fractal."""

    def open(self, seed: int) -> CategoryReader:
        return CategoryReader(self, seed)

    def instance(self, index: int) -> tuple[int, int, int, int]:
        """(category, weight row, patch draw, flip) of an image."""
        return index, self.weight_row, 0, 0

    @classmethod
    def example(cls, scratch: Path) -> Self:
        return cls(categories=3, points=20_000, size_px=48)


class CategoryReader:
    """Finds categories as they are asked for, and draws their instances."""

    def __init__(self, spec: FractalDB | OFDB, seed: int) -> None:
        from scaleback.sources import chaos

        self._spec, self._seed = spec, seed
        self._point_fill = chaos.point_fill
        self._search = chaos.point_canvas(size_px=SEARCH_PX, points=SEARCH_POINTS, pad_px=SEARCH_PAD_PX)
        self._canvas = chaos.Canvas(
            size_px=spec.size_px,
            points=spec.points,
            pad_px=spec.pad_px,
            patch=spec.draw.startswith("patch"),
            random_mask=True,
            colour=spec.draw.endswith("colour"),
        )
        self._mask_key = seeds.key("fractaldb mask", seed)
        self._weights = ifs.fractaldb_weights(spec.weight)
        self._found: dict[int, ifs.System] = {}

    @property
    def record(self) -> dict[str, Any]:
        """Nothing is realised for the whole population; systems are facts of each image."""
        return {}

    def __call__(self, indices_B: NDArray[np.int64]) -> Samples:
        drawn = [self._draw(int(index)) for index in indices_B]
        # Systems have two to seven maps; shorter ones are filled up with NaN rows so that they make one column.
        return Samples(
            image_BHWC=np.stack([image for image, _, _, _ in drawn]),
            label_B=np.array([category for _, category, _, _ in drawn], np.int64),
            facts={
                "system": np.stack([_padded(system) for _, _, system, _ in drawn]),
                "weight_row": np.array([row for _, _, _, row in drawn], np.int64),
            },
        )

    def system(self, category: int) -> ifs.System:
        """The base system of a category.

        Raises:
            RenderError: no candidate of its stream fills the picture.
        """
        if category not in self._found:
            rng = seeds.generator("fractaldb category", self._seed, category)
            candidates = (ifs.uniform_system(rng) for _ in range(CANDIDATES))
            least = self._spec.search_min_fill
            found = next((system for system in candidates if self._point_fill(self._search, system) >= least), None)
            if found is None:
                raise RenderError(
                    f"{self._spec.kind}: none of {CANDIDATES:,} candidates of category {category} fills {least}"
                )
            self._found[category] = found
        return self._found[category]

    def _draw(self, index: int) -> tuple[NDArray[np.uint8], int, ifs.System, int]:
        """Image, category, system as drawn, weight row as drawn.

        A weighted system may diverge and leave nothing to draw; the category's own system is drawn in its place, and
        the facts say so (the reference saves whatever its arithmetic left).
        """
        category, row, patch, flip = self._spec.instance(index)
        base = self.system(category)
        chances = ifs.probabilities(base)  # of the unweighted system, as in the reference
        stream = (category * WEIGHT_ROWS + row) * PATCH_DRAWS + patch
        for drawn_row in (row, IDENTITY_ROW):
            system = base * self._weights[drawn_row]
            image = self._canvas.draw(system, chances, self._mask_key, stream)
            if image.any():
                return _flipped(image, flip), category, system, drawn_row
        raise AssertionError(f"category {category} was accepted by the search and draws nothing")


def _flipped(image_HWC: NDArray[np.uint8], flip: int) -> NDArray[np.uint8]:
    """0 none, 1 top to bottom, 2 left to right, 3 both."""
    return image_HWC[:: -1 if flip & 1 else 1, :: -1 if flip & 2 else 1].copy()


def _padded(system: ifs.System) -> NDArray[np.float64]:
    padded = np.full((ifs.FRACTALDB_MAPS[1], ifs.PARAMETERS), np.nan)
    padded[: len(system)] = system
    return padded
