"""Coloured fractals on a background: multi-class and multi-instance images.

Anderson and Farrell, "Improving Fractal Pre-training" (WACV 2022), and the code released with it. That code keeps a
cache of fractals drawn at half the image's side, and resizes each into several images; here every image draws its own,
at the size it is shown in, so it depends on its index only.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from scaleback.core import seeds
from scaleback.core.errors import Refusal, RenderError, refusal
from scaleback.sources import ifs
from scaleback.sources.base import UNLABELLED, Samples, Source
from scaleback.sources.fractal_colours import GRAYS, fractal_palette, ground_palette
from scaleback.sources.jitter import Jitter, jittered

# Shapes: I fractals of an image, M maps, L colours of a palette, G side of a grid, H rows, W columns, C channels.

ZOOM, SHIFT = (0.5, 2.0), 0.2
"""Along each axis the picture shows so much of the fractal's bounding box, its middle moved by up to so much of it."""
SATURATION, VALUE = (0.3, 1.0), (0.5, 1.0)
DECAY = (0.4, 0.8)
"""A level of the background has exp(-decay) of the amplitude of the one before; the first has a half."""
GROUND_SCALE, GROUND_SHIFT = (0.25, 1.0), (0.4, 0.6)
BLUR_PX = (0.5, 1.0)
POINT_STENCIL, STENCILS = 1 << 4, 1 << 9
FEWEST_MAPS, MOST_MAPS = 2, 8
"""One map alone draws a point."""
MOST_INSTANCES = 64
LEAST_PX = 4
REDRAWS = 64
"""A fractal in front that shows no pixel is given another jitter, place and window, so often."""


class Layer(NamedTuple):
    """What was realised for one fractal of an image; the facts are named after it."""

    category: int
    number: int
    """Which system of its class."""
    sigma: float
    """Of the system before jitter."""
    system: NDArray[np.float64]
    """After it; NaN rows fill it up to the most maps."""
    stencil: int
    window: NDArray[np.float64]
    """Left, top, width and height of what the picture shows, in the plane of the system."""
    turn: int
    """The sum of 1 if it was transposed, 2 if then turned upside down, 4 if then mirrored."""
    colour: NDArray[np.float64]
    """Offset of the hue, saturation, value, each in [0, 1]."""
    place: tuple[int, int, int]
    """Top row, left column and side in pixels."""
    pixels: int
    """How many are seen; 0 if it is hidden or outside."""
    redraws: int


class _Fractals(Source):
    """What both kinds share: classes, how a fractal is drawn, what it is drawn on.

    Class k is the same systems in both kinds. The gray of a pixel is its visits over the most that one has, rounded up
    to a byte, and selects the hue. Decided here, where the published facts are silent: no stencil is empty; the heights
    of a background are stretched to [0, 1] and its hue is U(0.25, 1) x height + U(0, 1), its saturation and value
    U(0.25, 1) x (height - 1/2) + U(0.4, 0.6) each; a gray image takes that value.
    """

    kind: str
    categories: int = Field(1_000, ge=1)
    """Number of classes."""
    systems_per_class: int = Field(1, ge=1)
    """Every class is so many systems, each drawn from its own stream. The released code had one, by an error."""
    maps: tuple[int, int] = (2, 4)
    """Fewest and most maps of a system, all equally likely."""
    sigma: tuple[float, float] = (5.0, 6.0)
    """Low and high: sum(s1 + 2 s2) over the singular values of N maps is uniform in [(low + N) / 2, (high + N) / 2]."""
    jitter: Jitter = "scale"
    """Of each image's system: ``scale`` multiplies one map by U(0.8, 1.1); ``fractaldb`` one parameter of every map by
    0.2, 0.6, 1, 1.4 or 1.8; ``svd`` turns a map by U(-0.5, 0.5) before or after it is stretched, or shifts it by as
    much; ``sval`` rescales one map within the range of sigma. What is no contraction is drawn again, up to four times,
    and then left as it was."""
    points: int = Field(100_000, ge=1_000)
    """Of each fractal; in eight orbits that begin at the fixed point of the first map."""
    size_px: int = Field(224, ge=16)
    draw: Literal["point", "patch"] = "patch"
    """``patch``: every point visits the pixels of one random 3x3 stencil, the same for a whole fractal."""
    colour: Literal["gray", "hsv"] = "hsv"
    background: Literal["none", "diamond-square"] = "diamond-square"
    blur: float = Field(0.5, ge=0, le=1)
    """Chance that the finished image is blurred by a 3x3 Gaussian of U(0.5, 1) pixels."""

    @model_validator(mode="after")
    def _drawable(self) -> Self:
        fewest, most = self.maps
        if not FEWEST_MAPS <= fewest <= most <= MOST_MAPS:
            raise Refusal("maps", refusal(f"must be a range within {FEWEST_MAPS} to {MOST_MAPS}", self.maps))
        if not -fewest < self.sigma[0] <= self.sigma[1] <= 5 * fewest:
            rule = f"must be a range above {-fewest}, up to {5 * fewest}, for {fewest} maps"
            raise Refusal("sigma", refusal(rule, self.sigma))
        return self

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.size_px, self.size_px, 3 if self.colour == "hsv" else 1

    def available(self) -> None:
        return None

    def open(self, seed: int) -> FractalsReader:
        return FractalsReader(self, seed)

    def sigma_range(self, maps: int) -> tuple[float, float]:
        """Bounds of sum(s1 + 2 s2) for so many maps."""
        return (self.sigma[0] + maps) / 2, (self.sigma[1] + maps) / 2

    def front(self, index: int) -> tuple[int, int]:
        """Class and system of the fractal in front: any prefix of a population is balanced over both."""
        instance, category = divmod(index, self.categories)
        return category, instance % self.systems_per_class

    @abstractmethod
    def members(self, rng: np.random.Generator, index: int) -> list[tuple[int, int]]:
        """Class and system of each fractal of an image, from the front to the back."""

    @abstractmethod
    def place(self, rng: np.random.Generator) -> tuple[int, int, int]:
        """Top row, left column and side of a fractal."""


class MultiClassFractals(_Fractals):
    """One fractal over the whole picture; its class is the label. Image i has class i % categories."""

    kind: Literal["multi-class-fractals"] = "multi-class-fractals"

    def classes(self, images: int) -> int:
        return min(images, self.categories)

    def members(self, rng: np.random.Generator, index: int) -> list[tuple[int, int]]:
        return [self.front(index)]

    def place(self, rng: np.random.Generator) -> tuple[int, int, int]:
        return 0, 0, self.size_px

    @classmethod
    def example(cls, scratch: Path) -> Self:
        return cls(categories=4, systems_per_class=2, points=2_000, size_px=32)


class MultiInstanceFractals(_Fractals):
    """Several fractals on one background; the labels are the classes of which a pixel is seen.

    The class of the fractal in front is i % categories, and at least one of its pixels is in the image; the others are
    any, and one that is wholly hidden or outside is no label.
    """

    kind: Literal["multi-instance-fractals"] = "multi-instance-fractals"
    instances: tuple[int, int] = (1, 5)
    """Fewest and most fractals in an image, all equally likely."""
    sizes: tuple[float, float] = (0.15, 0.6)
    """Smallest and largest side of a fractal, as a share of the image's; its middle lies anywhere in the image."""
    points: int = Field(25_000, ge=1_000)
    """Of each fractal; at half the image's side as dense as 100,000 are on all of it."""

    @model_validator(mode="after")
    def _placeable(self) -> Self:
        if not 1 <= self.instances[0] <= self.instances[1] <= MOST_INSTANCES:
            raise Refusal("instances", refusal(f"must be a range within 1 to {MOST_INSTANCES}", self.instances))
        if not 0 < self.sizes[0] <= self.sizes[1] <= 1:
            raise Refusal("sizes", refusal("must be a range above 0, up to 1", self.sizes))
        if self.sizes[0] * self.size_px < LEAST_PX:
            rule = f"must begin at {LEAST_PX} pixels or more"
            raise Refusal("sizes", refusal(rule, self.sizes[0] * self.size_px))
        return self

    @property
    def labels_an_image(self) -> int:
        return self.instances[1]

    def classes(self, images: int) -> int:
        return self.categories

    def members(self, rng: np.random.Generator, index: int) -> list[tuple[int, int]]:
        others = int(rng.integers(self.instances[0], self.instances[1] + 1)) - 1
        drawn_I2 = rng.integers(0, (self.categories, self.systems_per_class), (others, 2))
        return [self.front(index), *((int(category), int(number)) for category, number in drawn_I2)]

    def place(self, rng: np.random.Generator) -> tuple[int, int, int]:
        side = round(rng.uniform(*self.sizes) * self.size_px)
        middle_2 = rng.integers(0, self.size_px, 2)
        return int(middle_2[0]) - side // 2, int(middle_2[1]) - side // 2, side

    @classmethod
    def example(cls, scratch: Path) -> Self:
        return cls(categories=4, systems_per_class=2, points=2_000, size_px=32)


class FractalsReader:
    """Draws images one by one; holds the scratch memory, so use one per thread."""

    def __init__(self, spec: _Fractals, seed: int) -> None:
        from scaleback.sources.kernels import fractal_paint

        self._spec, self._seed, self._kernels = spec, seed, fractal_paint
        self._orbit_keys = [seeds.key("fractal orbit", seed, slot) for slot in range(spec.labels_an_image)]
        steps = -(-spec.points // fractal_paint.ORBITS)
        self._x_T, self._y_T = np.empty((2, steps * fractal_paint.ORBITS))
        self._visits_X = np.empty(spec.size_px**2 + 1, np.uint32)
        self._levels = (spec.size_px - 2).bit_length()
        self._height_GG = np.empty((2**self._levels + 1,) * 2)
        self._found: dict[tuple[int, int], tuple[ifs.System, float]] = {}

    @property
    def record(self) -> Mapping[str, Any]:
        """Nothing is realised once for all; systems are facts of each image."""
        return {}

    def __call__(self, indices_B: NDArray[np.int64]) -> Samples:
        drawn = [self._image(int(index)) for index in indices_B]
        label_BI = np.stack([label_I for _, label_I, _ in drawn])
        return Samples(
            image_BHWC=np.stack([image for image, _, _ in drawn]),
            label_B=label_BI if self._spec.labels_an_image > 1 else label_BI[:, 0],
            facts={name: np.stack([facts[name] for _, _, facts in drawn]) for name in drawn[0][2]},
        )

    def system(self, category: int, number: int) -> tuple[ifs.System, float]:
        """System ``number`` of a class, and its sum(s1 + 2 s2)."""
        if (category, number) not in self._found:
            spec = self._spec
            rng = seeds.generator("fractal class", self._seed, category, number)
            maps = int(rng.integers(spec.maps[0], spec.maps[1] + 1))
            sigma = float(rng.uniform(*spec.sigma_range(maps)))
            self._found[category, number] = ifs.sigma_system(rng, maps=maps, sigma=sigma), sigma
        return self._found[category, number]

    def _image(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.int64], dict[str, NDArray[np.float64]]]:
        """An image, its labels (I,), and its facts."""
        spec = self._spec
        rng = seeds.generator(spec.kind, self._seed, index)
        image_HWC, bare_HW = np.zeros(spec.shape, np.uint8), np.ones(spec.shape[:2], np.bool_)
        layers = [
            self._layer(rng, index, slot, member, bare_HW, image_HWC)
            for slot, member in enumerate(spec.members(rng, index))
        ]
        facts = _columns(layers, spec.labels_an_image)
        facts["background"] = np.full(9, np.nan)
        if spec.background != "none":
            facts["background"] = self._background(rng, bare_HW, image_HWC)
        facts["blur_px"] = np.array(np.nan)
        if rng.random() < spec.blur:
            facts["blur_px"] = np.array(rng.uniform(*BLUR_PX))
            self._kernels.blur(image_HWC, blur_weight(float(facts["blur_px"]), self._kernels.BLUR_BITS))
        seen = sorted({layer.category for layer in layers if layer.pixels})
        label_I = np.full(spec.labels_an_image, UNLABELLED, np.int64)
        label_I[: len(seen)] = seen
        return image_HWC, label_I, facts

    def _layer(
        self,
        rng: np.random.Generator,
        index: int,
        slot: int,
        member: tuple[int, int],
        bare_HW: NDArray[np.bool_],
        image_HWC: NDArray[np.uint8],
    ) -> Layer:
        """Draws one fractal and paints it where the image is bare."""
        spec = self._spec
        base_M6, sigma = self.system(*member)
        padded_M6 = np.full((spec.maps[1], ifs.PARAMETERS), np.nan)
        for redraws in range(REDRAWS):
            system_M6 = jittered(rng, base_M6, spec.jitter, spec.sigma_range(len(base_M6)))
            top, left, side = spec.place(rng)
            stencil = int(rng.integers(1, STENCILS)) if spec.draw == "patch" else POINT_STENCIL
            zoom_2, shift_2, turn = rng.uniform(*ZOOM, 2), rng.uniform(-SHIFT, SHIFT, 2), int(rng.integers(8))
            colour_3 = np.array([rng.random(), rng.uniform(*SATURATION), rng.uniform(*VALUE)])
            x_T, y_T = self._orbit(system_M6, slot, index)
            window_4 = window(x_T, y_T, zoom_2, shift_2)
            visits_SS = self._kernels.visits(x_T, y_T, window_4, side, self._visits_X)
            if stencil != POINT_STENCIL:
                visits_SS = self._kernels.stamped(visits_SS, stencil)
            palette_LC = fractal_palette(colour_3) if spec.colour == "hsv" else GRAYS
            pixels = self._kernels.paint(visits_SS, palette_LC, turn, top, left, bare_HW, image_HWC)
            if pixels or slot:
                padded_M6[: len(system_M6)] = system_M6
                return Layer(
                    *member, sigma, padded_M6, stencil, window_4, turn, colour_3, (top, left, side), pixels, redraws
                )
        raise RenderError(
            f"{spec.short}: image {index} of seed {self._seed} shows nothing of class {member[0]} in {REDRAWS} draws"
        )

    def _orbit(self, system_M6: ifs.System, slot: int, index: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Coordinates x and y of the points, (T,) each; good until the next call."""
        key, points = np.uint64(self._orbit_keys[slot]), self._spec.points
        self._kernels.orbit(system_M6, ifs.probabilities(system_M6), key, np.uint64(index), self._x_T, self._y_T)
        return self._x_T[:points], self._y_T[:points]

    def _background(
        self, rng: np.random.Generator, bare_HW: NDArray[np.bool_], image_HWC: NDArray[np.uint8]
    ) -> NDArray[np.float64]:
        """Paints what is bare. Returns decay, first row and column of the grid, scales and shifts of H, S and V."""
        size, gray = self._spec.size_px, self._spec.colour == "gray"
        decay, height_GG = rng.uniform(*DECAY), rng.random(out=self._height_GG)
        self._kernels.diamond_square(0.5 * np.exp(-decay * np.arange(self._levels)), height_GG)
        # Anywhere in the grid: its coarse levels would else stand at the same pixels of every image.
        row, column = rng.integers(0, len(height_GG) - size + 1, 2)
        scale_3, shift_3 = rng.uniform(*GROUND_SCALE, 3), rng.uniform(*GROUND_SHIFT, 3)
        shift_3[0] = rng.random()
        palette_LC = ground_palette(scale_3, shift_3)
        palette_LC = palette_LC.max(axis=1, keepdims=True) if gray else palette_LC  # the value of a colour
        self._kernels.fill(height_GG[row : row + size, column : column + size], palette_LC, bare_HW, image_HWC)
        return np.concatenate([[decay, row, column], scale_3, shift_3])


def blur_weight(blur_px: float, bits: int) -> int:
    """The outer weight of a Gaussian over three pixels, as a whole number of 2^-bits."""
    outer = math.exp(-0.5 / blur_px**2)
    return round((1 << bits) * outer / (1 + 2 * outer))


def window(
    x_T: NDArray[np.float64], y_T: NDArray[np.float64], zoom_2: NDArray[np.float64], shift_2: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Left, top, width and height: the bounding box, zoomed about its shifted middle."""
    low_2, high_2 = np.array([x_T.min(), y_T.min()]), np.array([x_T.max(), y_T.max()])
    box_2 = high_2 - low_2
    width_2 = box_2 * zoom_2
    return np.concatenate([(low_2 + high_2) / 2 + box_2 * shift_2 - width_2 / 2, width_2])


def _columns(layers: list[Layer], most: int) -> dict[str, NDArray[np.float64]]:
    """A fact for each field of a layer: (I, ...), filled up with NaN; without I where there is one fractal."""
    columns = {}
    for name, values in zip(Layer._fields, zip(*layers, strict=True), strict=True):
        column = np.full((most, *np.shape(values[0])), np.nan)
        column[: len(layers)] = values
        columns[name] = column if most > 1 else column[0]
    return columns
