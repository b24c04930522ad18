"""What RCDB and VisualAtom share: closed lines around one another that grow outwards from an oval, ray by ray.

Lengths are in pixels of a canvas of 512 and scale with ``size_px``; only the lines stay one pixel wide. The released
renderers keep lengths and cut a smaller canvas out.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from scaleback.core import seeds
from scaleback.core.errors import Refusal, RenderError, refusal
from scaleback.sources.base import Samples, Source

# Shapes: B images of a batch, S numbers drawn in [0, 1), V vertices of a line, H rows, W columns, P = H W.

CANVAS_PX = 512
UNIT = 1 << 16
"""Lengths, sines and noise are rounded to 2^-16, after which all is integers: the same image on every machine."""
WHITE = 255
DRAWN = 10
"""Numbers drawn for a category, and as many for an image."""

Counts: TypeAlias = tuple[int, int]
Lengths: TypeAlias = tuple[float, float]
Parameters: TypeAlias = dict[str, NDArray[Any]]


class Radial(Source):
    """Image i is instance ``i // categories`` of category ``i % categories``, so any prefix is balanced.

    Category c and its instance k are the same however many there are. Ranges include both ends.
    """

    LIMITS: ClassVar[Mapping[str, tuple[float, float]]] = {
        "vertices": (3, 2_000),
        "lines": (1, 1_000),
        "noise": (0, 8),
        "spacing": (0, 8),
        "radius": (0, 512),
        "oval": (1, 4),
        "shift": (0, 256),
    }

    kind: str
    categories: int = Field(1_000, ge=1, le=1 << 31)
    instances: int = Field(1_000, ge=1, le=1 << 31)
    vertices: Counts
    """Of each line of a category, evenly spread over the turn."""
    lines: Counts = (1, 200)
    """Lines of a category."""
    noise: Lengths = (0.0, 4.0)
    """A category's coefficient of Perlin noise, and the mean distance between its lines but for ``spacing``."""
    spacing: Lengths = (0.0, 0.1)
    """What a category adds to the distance between lines; ``line_width`` in the released code, whose lines are one
    pixel wide."""
    radius: Counts
    """Of the oval before its first line is grown."""
    oval: Lengths = (1.0, 2.0)
    """Factors of the radius, one for the width and one for the height."""
    shift: float
    """Most that the centre lies beside the middle of the canvas, to each side and up or down."""
    ground: Literal["black", "white"]
    """Lines are of uniform grays 1 to 255 on black, or 0 to 254 on white: never of the ground, which would leave some
    images blank."""
    size_px: int = Field(CANVAS_PX, ge=16, le=4_096)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        for name, (least, most) in self.LIMITS.items():
            value = getattr(self, name)
            low, high = value if isinstance(value, tuple) else (value, value)
            if not least <= low <= high <= most:
                raise Refusal(name, refusal(f"must lie within {least} to {most}, the lower first", value))
        return self

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.size_px, self.size_px, 1

    def classes(self, images: int) -> int:
        return min(images, self.categories)

    def available(self) -> int:
        return self.categories * self.instances

    def open(self, seed: int) -> RadialReader:
        return RadialReader(self, seed)

    @abstractmethod
    def parameters(self, category_BS: NDArray[np.float64], image_BS: NDArray[np.float64]) -> Parameters:
        """Vertices, lines, noise, spacing, radius, oval (B, 2) and centre (B, 2) of images, and what a kind adds.

        Pairs are (across, down). ``category_BS`` is the same for images of a category.
        """

    @abstractmethod
    def growth(self, parameters: Mapping[str, Any], sin_V: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
        """Units by which each vertex of one image moves outwards from line to line, and units of noise it is less."""


class RadialReader:
    """Draws instances of categories."""

    def __init__(self, spec: Radial, seed: int) -> None:
        from scaleback.sources.kernels import contours

        self._spec, self._seed = spec, seed
        self._draw_lines = contours.draw
        self._category_key, self._image_key, self._line_key = (
            seeds.key(f"{spec.kind} {purpose}", seed) for purpose in ("category", "image", "lines")
        )

    @property
    def record(self) -> Mapping[str, Any]:
        """Nothing is realised for the whole population; parameters are facts of each image."""
        return {}

    def __call__(self, indices_B: NDArray[np.int64]) -> Samples:
        """Images by index.

        Raises:
            RenderError: the lines of one lie beside the canvas.
        """
        spec = self._spec
        instance_B, category_B = np.divmod(np.asarray(indices_B, np.int64), spec.categories)
        stream_B = category_B << 32 | instance_B
        facts = spec.parameters(
            seeds.uniform(self._category_key, category_B, DRAWN), seeds.uniform(self._image_key, stream_B, DRAWN)
        )
        ground = WHITE if spec.ground == "white" else 0
        image_BP = np.full((len(stream_B), spec.size_px**2), ground, np.uint8)
        for number, image_P in enumerate(image_BP):
            self._draw(image_P, {name: value[number] for name, value in facts.items()}, int(stream_B[number]), ground)
            if (image_P == ground).all():
                raise RenderError(
                    f"{spec.kind}: image {indices_B[number]} of seed {self._seed} is blank; its lines from radius "
                    f"{facts['radius'][number]} on lie beside the canvas"
                )
        return Samples(image_BHWC=image_BP.reshape(-1, *spec.shape), label_B=category_B, facts=facts)

    def _draw(self, image_P: NDArray[np.uint8], parameters: Mapping[str, Any], stream: int, ground: int) -> None:
        cos_V, sin_V = turn(int(parameters["vertices"]))
        growth_V, noise = self._spec.growth(parameters, sin_V)
        x_V, y_V = (
            units(parameters["radius"] * oval) * ray_V + units(centre) * UNIT
            for oval, centre, ray_V in zip(parameters["oval"], parameters["centre"], (cos_V, sin_V), strict=True)
        )
        self._draw_lines(
            x_V,
            y_V,
            cos_V,
            sin_V,
            growth_V,
            noise,
            int(parameters["lines"]),
            np.uint64(self._line_key),
            np.uint64(stream),
            ground,
            self._spec.size_px,
            image_P,
        )


def units(length: float) -> int:
    """A length, or a number, in units of 2^-16."""
    return round(float(length) * UNIT)


def turn(vertices: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cosine and sine in units, at each vertex of a turn.

    Up to 2,000 vertices none is near enough to the middle between two units for a mathematics library to decide it.
    """
    angle_V = np.arange(vertices) * (2 * np.pi) / vertices
    cos_V, sin_V = (np.rint(wave(angle_V) * UNIT).astype(np.int64) for wave in (np.cos, np.sin))
    return cos_V, sin_V


def spread(uniform_B: NDArray[np.float64], span: Lengths) -> NDArray[np.float64]:
    """Numbers uniform over a range."""
    spread_B: NDArray[np.float64] = span[0] + uniform_B * (span[1] - span[0])
    return spread_B


def whole(uniform_B: NDArray[np.float64], span: Counts) -> NDArray[np.int64]:
    """Integers uniform over a range, both ends included."""
    return span[0] + (uniform_B * (span[1] - span[0] + 1)).astype(np.int64)
