"""What a source is: a population of images, each a pure function of (spec, seed, index)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from scaleback.core.errors import Refusal, refusal
from scaleback.core.spec import Spec
from scaleback.sources.pictures import Pictures

if TYPE_CHECKING:
    from scaleback.core.store import Store
    from scaleback.sources.learnt import Learnt
    from scaleback.sources.population import Population

# Shapes: B images of a batch, N images of a population, H rows, W columns, C channels.

UNLABELLED = -1


@dataclass(frozen=True, kw_only=True, slots=True)
class Samples:
    """A batch of images with their labels and what was realised while making them."""

    image_BHWC: NDArray[np.uint8]
    label_B: NDArray[np.int64]
    """Class of each image, ``UNLABELLED`` where there is none; (B, L) where an image may show L classes: those it
    shows, ascending, then ``UNLABELLED``."""
    facts: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """Realised parameters, one row an image: the system of a fractal, how often it was redrawn, a file's place."""
    level: ClassVar[None] = None

    @property
    def shape(self) -> tuple[int, ...]:
        """(B, H, W, C)."""
        return self.image_BHWC.shape


@dataclass(frozen=True, kw_only=True)
class BitSamples:
    """Gray images of two values, one bit a pixel; what ``Samples`` is otherwise."""

    pictures: Pictures
    level: int
    """Value of a lit pixel."""
    label_B: NDArray[np.int64]
    facts: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, ...]:
        """(B, H, W, C)."""
        return len(self.pictures), self.pictures.height, self.pictures.width, 1

    @cached_property
    def image_BHWC(self) -> NDArray[np.uint8]:  # noqa: N802  # the name that Samples has
        """The images as bytes."""
        return self.pictures.images(self.level)


def origin_of(*parts: str | None) -> str | None:
    """One digest for what has several parts; None where none of them has files."""
    return "+".join(part for part in parts if part is not None) or None


def refuse_part(source: Source, images: int | None = None, *, field: str, count: str) -> None:
    """Raise Refusal if a source cannot be a part of another, or of a target.

    Args:
        source: the part.
        images: how many of it are taken; None where that is not known yet.
        field: what names the part.
        count: what names the number.
    """
    if source.fresh:
        raise Refusal(field, refusal("must give images that stay as they are", source.short))
    if source.labels_an_image > 1:
        raise Refusal(field, refusal("must give images of one class each", source.short))
    available = source.available()
    if images is not None and available is not None and images > available:
        raise Refusal(count, refusal(f"must be at most the {available:,} there are", images))


def bit_bytes(size_px: int) -> int:
    """Bytes of a square image of bits."""
    return size_px * -(-size_px // 8)


class Reader(Protocol):
    """An opened source."""

    @property
    def record(self) -> Mapping[str, Any]:
        """What was realised once for the whole population: the base system, the class names."""
        ...

    def __call__(self, indices_B: NDArray[np.int64]) -> Samples | BitSamples:
        """Images by index, in any order; the same index gives the same image in any batch of any process."""
        ...


class FreshReader(Reader, Protocol):
    """An opened source that is ``fresh``; read as any other, it gives the images of the first pass."""

    def anew(self, indices_B: NDArray[np.int64], epoch_B: NDArray[np.int64]) -> Samples | BitSamples:
        """Images by index as they are in some pass over the data."""
        ...


class Populations:
    """Of one source, by seed and digest. No mapping, since sources are compared, and populations hold their source."""

    def __init__(self) -> None:
        self.made: dict[tuple[int, str | None], Population] = {}


class Source(Spec, ABC):
    """A population of images. A spec only: ``open`` does the work."""

    tolerance: ClassVar[int] = 0
    """Largest difference of a pixel between two openings; 0 means exact, as on a CPU."""
    names_classes: ClassVar[bool] = False
    """Whether what it opens into calls classes by words, under ``class_names`` of its record."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels) in pixels, the same for every image."""

    @property
    def fresh(self) -> bool:
        """Whether images are drawn anew in each pass over them; they are then never stored."""
        return False

    @property
    def wants_gpu(self) -> bool:
        """Whether a GPU draws images, where there is one."""
        return False

    @property
    def discloses(self) -> bool:
        """Whether its images are made of single real ones, and show what is in them."""
        return False

    @property
    def rounds(self) -> int:
        """How many generators drew one after another, each from images of the one before, on the way to its images."""
        return 0

    @property
    def labels_an_image(self) -> int:
        """Most classes that one image may show; where it is 1, labels are (B,), else (B, L)."""
        return 1

    @property
    def image_bytes(self) -> int:
        """Bytes that an image takes in a block."""
        return int(np.prod(self.shape))

    @abstractmethod
    def classes(self, images: int) -> int | None:
        """How many classes the first ``images`` images may hold; None if they are unlabelled."""

    @abstractmethod
    def available(self) -> int | None:
        """How many images there are, told without decoding one; None for no end."""

    @abstractmethod
    def open(self, seed: int) -> Reader:
        """Load what is needed to make images. Heavy imports happen here and nowhere earlier."""

    def learnt(self, seed: int) -> list[Learnt]:
        """What must be in the store before it can be opened, in order."""
        return []

    def open_with(self, seed: int, store: Store) -> Reader:
        """The same, where what it learnt lies in a store."""
        return self.open(seed)

    def origin(self) -> str | None:
        """A digest of the files behind the source, part of the identity of what is read from them; None if made."""
        return None

    @cached_property
    def populations(self) -> Populations:
        """Those made of it so far: runs of a study share them, and their addresses."""
        return Populations()

    def image_names(self, seed: int, images: int) -> list[tuple[str, ...]]:
        """What a file of the user's may call each of the first images; ``seed`` is the one it is opened with."""
        return [(str(index),) for index in range(images)]

    def verify(self) -> None:
        """Look at the files behind the source, as far as that is cheap, before anything is started.

        Raises:
            DataError: one cannot be read; the message names it.
        """

    def population_seed(self, seed: int) -> int:
        """The seed a population of this source is stored under; a source that ignores the seed returns 0."""
        return seed

    @classmethod
    @abstractmethod
    def example(cls, scratch: Path) -> Self:
        """A small instance for the contract tests; files it needs go into ``scratch``."""


class BitSource(Source):
    """Square gray pictures of two values, which blocks keep as bits."""

    size_px: int

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.size_px, self.size_px, 1

    @property
    def image_bytes(self) -> int:
        return bit_bytes(self.size_px)
