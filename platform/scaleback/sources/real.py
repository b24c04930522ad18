"""What sources of real images share: splits, an order whose every prefix is balanced, decoding."""

from __future__ import annotations

import re
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from scaleback.core import seeds
from scaleback.core.errors import DataError, Refusal, refusal, unknown
from scaleback.core.plain import beside, exists
from scaleback.sources.base import UNLABELLED, Samples, Source
from scaleback.sources.looks import LEAST_EDGE_PX, looked_at

Split = Literal["train", "test"]

MAX_IMAGE_PIXELS = 64_000_000
"""A file that claims more is refused before it is decoded (8,000 x 8,000)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Catalogue:
    """The images of one split, in the order of their origin, not yet decoded."""

    label_N: NDArray[np.int64]
    decode: Callable[[int], NDArray[np.uint8]]
    """Place in the catalogue -> (H, W, C)."""
    class_names: Sequence[str]


class RealSource(Source):
    """Images that exist. Index i is the i-th of an order that is balanced over classes in every prefix.

    The order is drawn from the run's seed, so seeds sample over *which* images; ``order`` pins it. Every prefix being
    balanced, n images of each of k classes are the first n * k images, where each class has n.
    """

    names_classes: ClassVar[bool] = True
    split: Split = "train"
    order: int | None = Field(None, ge=0)
    """Seed of the order; None for the run's own."""
    class_limit: int | None = Field(None, ge=1)
    """Only so many classes, labelled anew from 0: the first of an order of classes, so fewer classes are a part of
    more, with the same labels and the same images. None for all."""
    class_order: int = Field(0, ge=0)
    """Seed of that order of classes, of no effect without a limit. Not the run's seed: runs share the test split, and
    both splits need the same classes."""
    fold: tuple[int, int] | None = None
    """(k, n): of the training images only the k-th of n parts, from 0, of the same classes in the same shares. Parts do
    not meet, whatever the seed: what a generator was trained on, and what is private. The test split stays whole."""
    view: Literal["as_is", "gray", "canny", "binary"] = "as_is"
    """What is seen of an image: ``gray`` in one channel, ``canny`` its edges on gray smoothed by 1.5 px, ``binary``
    gray above its median. An image of one gray has neither edges nor anything above its median, and is black."""

    @model_validator(mode="after")
    def _one_of_the_parts(self) -> Self:
        if self.fold is not None and not 0 <= self.fold[0] < self.fold[1]:
            raise Refusal("fold", refusal("must be (k, n) with k from 0 to n - 1", self.fold))
        return self

    @model_validator(mode="after")
    def _large_enough_for_edges(self) -> Self:
        if self.view == "canny" and min(self.own_shape[:2]) < LEAST_EDGE_PX:
            rule = f"must not be canny where a side is below {LEAST_EDGE_PX} px, as in {self.own_shape[:2]}"
            raise Refusal("view", refusal(rule, self.view))
        return self

    @property
    @abstractmethod
    def own_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of the images without a view."""

    @abstractmethod
    def own_classes(self) -> int | None:
        """Number of classes without a limit; None if unlabelled."""

    @abstractmethod
    def own_images(self) -> int:
        """Number of images of ``split`` without a limit."""

    @abstractmethod
    def labels(self) -> NDArray[np.int64]:
        """(N,) labels of ``split`` without a limit, in the order of the catalogue."""

    @abstractmethod
    def catalogue(self) -> Catalogue:
        """List the images of ``split``."""

    @property
    def shape(self) -> tuple[int, int, int]:
        height, width, channels = self.own_shape
        return height, width, channels if self.view == "as_is" else 1

    def class_count(self) -> int | None:
        """Number of classes; None if unlabelled.

        Raises:
            DataError: the data have fewer than ``class_limit``.
        """
        classes, limit = self.own_classes(), self.class_limit
        if limit is not None and (classes is None or limit > classes):
            raise DataError(refusal(f"class_limit: must be at most the {classes or 0} classes of the data", limit))
        return classes if limit is None else limit

    def chosen_classes(self) -> NDArray[np.int64]:
        """(K,) what becomes class 0, 1, ... under a limit."""
        limit = self.class_count()
        return seeds.permutation(seeds.key("classes", self.class_order), self.own_classes() or 0)[:limit]

    def as_test(self) -> RealSource:
        """The source of the test split."""
        return self.model_copy(update={"split": "test"})

    def relabelled(self, label_N: NDArray[np.int64]) -> NDArray[np.int64]:
        """Labels of the data as labels under a limit; ``UNLABELLED`` where a class is left out."""
        if self.class_limit is None:
            return label_N
        chosen_K = self.chosen_classes()
        anew = np.full(self.own_classes() or 0, UNLABELLED, np.int64)
        anew[chosen_K] = np.arange(len(chosen_K))
        return anew[label_N]

    def classes(self, images: int) -> int | None:
        return self.class_count()

    def available(self) -> int:
        return self.own_images() if self.class_limit is None and self.fold is None else int(_chosen(self).sum())

    def ordered(self, seed: int) -> NDArray[np.int64]:
        """(N,) places of images in the data, in the order in which they are taken."""
        order_N = balanced_order(self.labels(), seed)
        if self.class_limit is None and self.fold is None:
            return order_N
        # Left out of the whole order, and not ordered alone: an image's turn within its class stays what it is.
        return order_N[_chosen(self)[order_N]]

    def image_names(self, seed: int, images: int) -> list[tuple[str, ...]]:
        return [self.names_of(int(place)) for place in self.ordered(seed)[:images]]

    def names_of(self, place: int) -> tuple[str, ...]:
        """What a file of the user's may call the image at a place of the data: the place, or its file's name."""
        return (str(place),)

    def population_seed(self, seed: int) -> int:
        if self.split == "test":
            return 0  # a test set is used whole, so its order does not matter
        return seed if self.order is None else self.order

    def open(self, seed: int) -> CatalogueReader:
        return CatalogueReader(self, seed)


@lru_cache(maxsize=16)
def _chosen(source: RealSource) -> NDArray[np.bool_]:
    """(N,) which images of the catalogue are among the source's."""
    label_N = source.labels()
    chosen_N = np.ones(len(label_N), bool)
    if source.class_limit is not None:
        chosen_N &= np.isin(label_N, source.chosen_classes())
    if source.fold is not None and source.split == "train":
        number, parts = source.fold
        order_N = balanced_order(label_N, seeds.key("fold") >> 1)
        for label in np.unique(label_N):  # the images of a class go round the parts
            members = order_N[label_N[order_N] == label]
            chosen_N[np.delete(members, slice(number, None, parts))] = False
    return chosen_N


class CatalogueReader:
    """Decodes a catalogue in balanced order."""

    def __init__(self, source: RealSource, seed: int) -> None:
        self._catalogue, self._shape = source.catalogue(), source.shape
        self._look = "rgb" if source.view == "as_is" else source.view
        self._order_N, self._label_N = source.ordered(seed), source.relabelled(self._catalogue.label_N)
        self._names = list(self._catalogue.class_names)
        if source.class_limit is not None:
            chosen_K = source.chosen_classes()
            self._names = [self._names[place] for place in chosen_K]

    @property
    def record(self) -> dict[str, Any]:
        """The names of the classes, in the order of their labels."""
        return {"class_names": self._names}

    def __call__(self, indices_B: NDArray[np.int64]) -> Samples:
        places_B = self._order_N[indices_B]
        images = [looked_at(self._catalogue.decode(int(place)), self._look) for place in places_B]
        for place, image in zip(places_B, images, strict=True):
            if image.shape != self._shape:
                raise DataError(f"image {place} has shape {image.shape}; the source declares {self._shape}")
        return Samples(image_BHWC=np.stack(images), label_B=self._label_N[places_B], facts={"place": places_B})


def balanced_order(label_N: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """A permutation whose first n images hold each class n / classes times, give or take one.

    Images are shuffled within their class; round r takes the r-th of each class, classes in a new order each round.
    """
    shuffled_N = seeds.permutation(seeds.key("order", seed), len(label_N))
    by_class_N = shuffled_N[np.argsort(label_N[shuffled_N], kind="stable")]
    _, count_K = np.unique(label_N[by_class_N], return_counts=True)
    round_N = np.concatenate([np.arange(count) for count in count_K]) if len(count_K) else np.empty(0, np.int64)
    within_N = seeds.words(seeds.key("round", seed), np.arange(len(label_N)), 1)[:, 0]
    return by_class_N[np.lexsort((within_N, round_N))]


def held_out(label_N: NDArray[np.int64], share: float, split: Split) -> NDArray[np.int64]:
    """Places of one split, for data without splits: the first ``share`` of a fixed balanced order is the test."""
    order_N = balanced_order(label_N, 0)
    test = round(share * len(label_N))
    return np.sort(order_N[:test] if split == "test" else order_N[test:])


def own_split(label_N: NDArray[np.int64], share: float, split: Split, where: object) -> NDArray[np.int64]:
    """``held_out``, of which something is left.

    Raises:
        DataError: no image falls to the split.
    """
    kept_N = held_out(label_N, share, split)
    if not len(kept_N):
        raise DataError(f"{where}: holds too few images for a {split} split at test_share {share}")
    return kept_N


def existing(field: str, path: str) -> None:
    """Refuse a path that is not there, with the nearest name beside it."""
    if not exists(path):
        near = beside(path)
        raise Refusal(field, unknown("path", path, near) if near else refusal("must be there", path))


def natural(name: str) -> list[tuple[bool, int, str]]:
    """Sort key that reads digits as numbers: class 2 comes before class 10."""
    return [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", name)]


def checked_labels(label_N: NDArray[Any], classes: int, where: str) -> NDArray[np.int64]:
    """Labels as int64.

    Raises:
        DataError: one lies outside 0..classes-1 (or is not a whole number); the message names its row.
    """
    if not np.issubdtype(label_N.dtype, np.integer):
        raise DataError(f"{where}: labels must be whole numbers; got {label_N.dtype}")
    wrong = np.flatnonzero((label_N < 0) | (label_N >= classes))
    if len(wrong):
        raise DataError(f"{where}: label out of range 0..{classes - 1}; got {label_N[wrong[0]]} in row {wrong[0]}")
    return label_N.astype(np.int64)


def unlabelled(count: int) -> NDArray[np.int64]:
    """Labels of images that have none."""
    return np.full(count, UNLABELLED, np.int64)


def decode_file(path: Path | Any, size_px: int, channels: int, where: str) -> NDArray[np.uint8]:
    """Decode an image file (path or file object), cut the middle square, resize to ``size_px`` (bicubic).

    Raises:
        DataError: not an image, damaged, or of more than ``MAX_IMAGE_PIXELS``.
    """
    with _opened(path, where) as image:
        return _square(image, size_px, channels)


def check_header(path: Path | Any, where: str) -> None:
    """Read no more than a file's header.

    Raises:
        DataError: not an image, or of more than ``MAX_IMAGE_PIXELS``.
    """
    with _opened(path, where):
        pass


def read_through(path: Path | Any, where: str) -> tuple[int, int]:
    """Read a whole file; (width, height). A PNG is not decoded, its checksums tell.

    Raises:
        DataError: not an image, damaged, or of more than ``MAX_IMAGE_PIXELS``.
    """
    with _opened(path, where) as image:
        size: tuple[int, int] = image.size
        if image.format == "PNG":
            image.verify()
        else:
            image.load()
        return size


@contextmanager
def _opened(path: Path | Any, where: str) -> Iterator[Any]:
    """An image whose header has been read; what goes wrong inside is a DataError too."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = MAX_IMAGE_PIXELS
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the size is refused below
            image = Image.open(path)
        with image:
            if image.width * image.height > MAX_IMAGE_PIXELS:
                raise DataError(
                    f"{where}: has {image.width} x {image.height} pixels; at most {MAX_IMAGE_PIXELS:,} are read"
                )
            yield image
    except DataError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = re.sub(r" <_io\.[^>]*>", "", " ".join(str(error).split()))
        raise DataError(f"{where}: is not an image that can be read ({reason[:80]})") from error


def _square(image: Any, size_px: int, channels: int) -> NDArray[np.uint8]:
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(image)
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    if image.mode.startswith("I;16"):
        # PIL cuts what is above 255; its 16-bit gray is 0 to 65,535.
        image = Image.fromarray((np.asarray(image).clip(0, 65_535) // 257).astype(np.uint8))
    if image.mode in ("P", "LA", "PA", "RGBA"):
        # Transparent pixels may hold any colour; lay them on black.
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    image = image.convert("RGB" if channels == 3 else "L")
    if side != size_px or image.size != (side, side):
        image = image.resize((size_px, size_px), Image.Resampling.BICUBIC, box=box)
    pixels = np.asarray(image, np.uint8)
    return pixels.reshape(size_px, size_px, channels).copy()
