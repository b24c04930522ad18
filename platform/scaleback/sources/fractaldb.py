"""FractalDB and OFDB: categories are random fractals that fill their picture; instances vary one parameter.

Kataoka et al., "Pre-training without Natural Images" (ACCV 2020); Nakamura et al., "Pre-training Vision Transformers
with Very Limited Synthesized Images" (ICCV 2023); and the code released with each.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from scaleback.core import seeds
from scaleback.core.errors import DataError, Refusal, RenderError, refusal
from scaleback.sources import ifs
from scaleback.sources.base import BitSamples, Samples, Source, bit_bytes
from scaleback.sources.parameters import Category, Published, category_files, read_published
from scaleback.sources.real import existing
from scaleback.sources.spectrum import Spectrum

if TYPE_CHECKING:
    from scaleback.sources.kernels.chaos import Stamp

SEARCH_PX, SEARCH_POINTS, SEARCH_PAD_PX = 512, 100_000, 6
"""The picture on which a candidate's filling rate is measured."""
CANDIDATES = 20_000
"""Candidates tried for one category; about one in forty fills a fifth of its picture."""
TOGETHER, DOUBT = 16, 0.005
"""Candidates drawn at a time by the fast renderer, a sixth of the time, and the difference of filling rates up to which
it is not believed: the largest seen was 0.004, of orbits that leave float32, and 0.00003 where a tenth is filled."""
WEIGHT_ROWS, PATCH_DRAWS, FLIPS = 25, 10, 4
INSTANCES = WEIGHT_ROWS * PATCH_DRAWS * FLIPS
IDENTITY_ROW = 2


Instance: TypeAlias = tuple[int, int, int, int]
"""Category, weight row, patch draw, flip."""


class _Categories(Source):
    """What both data sets share: the category search and how a picture is drawn.

    The reference searches with one numpy stream, so its category c depends on all before it. Here category c is the
    first acceptable candidate of its own stream: the same distribution, and any worker can find any category.
    """

    categories: int = Field(1_000, ge=1)
    search_min_fill: float = Field(0.2, ge=0, lt=1)
    """A candidate is accepted if single points fill at least this share of a 512 px picture."""
    parameters: str | None = None
    """Folder of published category files, from which categories are read instead of searched, in numeric order; the
    seed then draws masks only. See ``sources/parameters.py``. None for the search."""
    weight: float = Field(0.4, gt=0, lt=0.5)
    """Step of the multipliers; instances use 1-2w, 1-w, 1+w and 1+2w."""
    points: int = Field(200_000, ge=100)
    size_px: int = Field(362, ge=16)
    pad_px: int = Field(6, ge=4)
    """Black border; a mask reaches 3 pixels beyond its point, and the farthest point lies on the border's first."""
    draw: Literal["patch_gray", "point_gray", "patch_colour", "point_colour"] = "patch_gray"
    renderer: Literal["fast", "exact", "torch"] = "fast"
    """``exact`` draws byte for byte what the released algorithm draws under given masks; ``fast`` the same in
    distribution; ``torch`` as ``exact`` up to rounding, for a GPU (on a CPU it takes a hundred times as long).
    Colour is drawn by ``exact``."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.renderer != "exact" and self.draw.endswith("colour"):
            raise Refusal("renderer", refusal(f"must be exact to draw {self.draw}", self.renderer))
        if self.size_px <= 2 * self.pad_px:
            raise Refusal("size_px", refusal(f"more than twice the border of {self.pad_px} px", self.size_px))
        if self.parameters is not None:
            existing("parameters", self.parameters)
            try:
                there = len(category_files(self.parameters))
            except DataError as error:
                raise Refusal("parameters", str(error)) from None
            if self.categories > there:
                rule = f"must be at most the {there:,} of {self.parameters}"
                raise Refusal("categories", refusal(rule, self.categories))
        return self

    @property
    def published(self) -> Published | None:
        """The categories of ``parameters``, read."""
        return None if self.parameters is None else read_published(self.parameters, self.categories)

    def origin(self) -> str | None:
        return None if self.published is None else self.published.digest

    def verify(self) -> None:
        self.origin()

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.size_px, self.size_px, 3 if self.draw.endswith("colour") else 1

    @property
    def wants_gpu(self) -> bool:
        return self.renderer == "torch"

    @property
    def image_bytes(self) -> int:
        return super().image_bytes if self.draw.endswith("colour") else bit_bytes(self.size_px)

    def classes(self, images: int) -> int:
        return min(images, self.categories)

    def available(self) -> int:
        return self.categories


class FractalDB(_Categories):
    """1,000 instances a category: 25 weight rows x 10 draws of the patches x 4 flips.

    Image i is instance ``i // categories`` of category ``i % categories``, so any prefix is balanced; instances run
    through the weight rows first, then the patch draws, then the flips.
    """

    revision = 3
    kind: Literal["fractaldb"] = "fractaldb"

    def available(self) -> int:
        return self.categories * INSTANCES

    def open(self, seed: int) -> CategoryReader:
        return CategoryReader(self, seed)

    def instance(self, index: int) -> Instance:
        """What an image is."""
        instance, category = divmod(index, self.categories)
        rest, row = divmod(instance, WEIGHT_ROWS)
        flip, patch = divmod(rest, PATCH_DRAWS)
        return category, row, patch, flip

    @classmethod
    def example(cls, scratch: Path) -> Self:
        return cls(categories=2, points=20_000, size_px=48)


class OFDB(_Categories):
    """One image a category."""

    revision = 3
    kind: Literal["ofdb"] = "ofdb"
    weight_row: int = Field(0, ge=0, lt=WEIGHT_ROWS)
    """Row of the multipliers. The released script uses row 0, which multiplies parameter a by 1-2w; row 2 is the
    category's own fractal."""
    augment: Literal["none", "pattern", "texture"] = "none"
    """What is drawn anew in each pass over the images: nothing; the 3x3 masks ("random pattern"); or the light of all
    that masks may cover, noise with the spectrum of natural images ("random texture"). The paper reports both and
    releases neither; its texture is not described, and this one is ours."""

    @model_validator(mode="after")
    def _augmented(self) -> Self:
        if self.augment != "none" and self.draw != "patch_gray":
            raise Refusal("augment", refusal(f"must be none to draw {self.draw}", self.augment))
        return self

    @property
    def fresh(self) -> bool:
        return self.augment != "none"

    def open(self, seed: int) -> CategoryReader:
        return CategoryReader(self, seed)

    def instance(self, index: int) -> Instance:
        """What an image is."""
        return index, self.weight_row, 0, 0

    @classmethod
    def example(cls, scratch: Path) -> Self:
        return cls(categories=3, points=20_000, size_px=48)


class CategoryReader:
    """Finds categories as they are asked for, and draws their instances."""

    def __init__(self, spec: FractalDB | OFDB, seed: int) -> None:
        from scaleback.sources.kernels import chaos, chaos_fast

        self._spec, self._seed = spec, seed
        search: dict[str, Any] = {"size_px": SEARCH_PX, "points": SEARCH_POINTS, "pad_px": SEARCH_PAD_PX}
        self._exact, self._fill = chaos.point_canvas(**search), chaos.point_fill
        self._rough = chaos_fast.FastCanvas(stamp="point", **search)
        kind: dict[str, Any] = {
            "size_px": spec.size_px,
            "points": spec.points,
            "pad_px": spec.pad_px,
            "stamp": _stamp(spec),
        }
        colour = spec.draw.endswith("colour")
        self._canvas = chaos.Canvas(**kind, colour=True) if colour else chaos_fast.open_canvas(spec.renderer, **kind)
        self._texture = Spectrum(size_px=spec.size_px, channels=1) if _stamp(spec) == "fill" else None
        self._mask_key = seeds.key("fractaldb mask", seed)
        self._weights = ifs.fractaldb_weights(spec.weight)
        self._published = spec.published
        self._found = dict(enumerate(self._published.categories)) if self._published else {}
        self._maps = max([ifs.FRACTALDB_MAPS[1], *(len(found.system_M6) for found in self._found.values())])

    @property
    def record(self) -> dict[str, Any]:
        """Names of published categories, in the order of their labels; systems are facts of each image."""
        return {"categories": [file.stem for file in self._published.files]} if self._published else {}

    def __call__(self, indices_B: NDArray[np.int64]) -> Samples | BitSamples:
        """Images by index, as they are in the first pass."""
        return self.anew(indices_B, np.zeros(len(indices_B), np.int64))

    def anew(self, indices_B: NDArray[np.int64], epoch_B: NDArray[np.int64]) -> Samples | BitSamples:
        """Images by index, as they are in some pass.

        A weighted system may diverge and leave nothing to draw; the category's own system is drawn in its place, and
        the facts say so (the reference saves whatever its arithmetic left).

        Raises:
            RenderError: the category's own system leaves nothing to draw either; none that was searched does.
        """
        instances = [self._spec.instance(int(index)) for index in indices_B]
        streams = seeds.counter(epoch_B, [_stream(*instance[:3]) for instance in instances]).tolist()
        pictures = self._draw(instances, streams)
        black = np.flatnonzero(self._canvas.fills(pictures) == 0)
        if len(black):
            for place in black:
                category, _, patch, flip = instances[place]
                instances[place] = (category, IDENTITY_ROW, patch, flip)
            others = self._draw([instances[place] for place in black], [streams[place] for place in black])
            still = black[self._canvas.fills(others) == 0]
            if len(still):
                raise RenderError(f"{self._spec.kind}: {self._name(instances[still[0]][0])} leaves nothing to draw")
            pictures = self._canvas.replaced(pictures, black, others)
        # Systems are of several lengths; shorter ones are filled up with NaN rows so that they make one column.
        systems = [_padded(self.system(cat) * self._weights[row], self._maps) for cat, row, _, _ in instances]
        facts = {"system": np.stack(systems), "weight_row": np.array([row for _, row, _, _ in instances], np.int64)}
        label_B = np.array([category for category, *_ in instances], np.int64)
        samples = self._canvas.samples(pictures, label_B, facts)
        return samples if self._texture is None else self._textured(samples, self._texture, streams)

    def system(self, category: int) -> ifs.System:
        """The base system of a category.

        Raises:
            RenderError: no candidate of its stream fills the picture.
        """
        return self._category(category).system_M6

    def _category(self, category: int) -> Category:
        if category not in self._found:
            found = self._first_that_fills(seeds.generator("fractaldb category", self._seed, category))
            if found is None:
                least = self._spec.search_min_fill
                raise RenderError(
                    f"{self._spec.kind}: none of {CANDIDATES:,} candidates of category {category} fills {least}"
                )
            self._found[category] = Category(found, ifs.probabilities(found))
        return self._found[category]

    def _first_that_fills(self, rng: np.random.Generator) -> ifs.System | None:
        """The first candidate whose filling rate is enough, by the exact renderer where the fast one is in doubt."""
        least = self._spec.search_min_fill
        for _ in range(CANDIDATES // TOGETHER):
            systems = [ifs.uniform_system(rng) for _ in range(TOGETHER)]
            drawn = self._rough.draw_batch(systems, [ifs.probabilities(one) for one in systems], 0, range(TOGETHER))
            for system, fill in zip(systems, self._rough.fills(drawn), strict=True):
                near = abs(fill - least) <= DOUBT
                if (self._fill(self._exact, system) if near else fill) >= least:
                    return system
        return None

    def _textured(self, samples: Samples | BitSamples, texture: Spectrum, streams: Sequence[int]) -> Samples:
        light = [texture.draw(seeds.generator("ofdb texture", self._seed, stream))[0] for stream in streams]
        image_BHWC = np.where(samples.image_BHWC > 0, np.stack(light), np.uint8(0))
        return Samples(image_BHWC=image_BHWC, label_B=samples.label_B, facts=samples.facts)

    def _name(self, category: int) -> str:
        return str(self._published.files[category]) if self._published else f"category {category}"

    def _draw(self, instances: Sequence[Instance], streams: Sequence[int]) -> Any:
        """The canvas's pictures of instances, with the masks of ``streams``."""
        weighted = {(category, row): self.system(category) * self._weights[row] for category, row, _, _ in instances}
        return self._canvas.draw_batch(
            [weighted[category, row] for category, row, _, _ in instances],
            # Of the unweighted system, as in the reference.
            [self._category(category).chance_M for category, _, _, _ in instances],
            self._mask_key,
            streams,
            [flip for _, _, _, flip in instances],
        )


def _stream(category: int, row: int, patch: int) -> int:
    return (category * WEIGHT_ROWS + row) * PATCH_DRAWS + patch


def _stamp(spec: FractalDB | OFDB) -> Stamp:
    if spec.draw.startswith("point"):
        return "point"
    return "fill" if isinstance(spec, OFDB) and spec.augment == "texture" else "random"


def _padded(system: ifs.System, maps: int) -> NDArray[np.float64]:
    padded = np.full((maps, ifs.PARAMETERS), np.nan)
    padded[: len(system)] = system
    return padded
