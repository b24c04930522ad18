"""What sources of real images share: splits, an order whose every prefix is balanced, decoding."""

from __future__ import annotations

import re
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from scaleback.core import seeds
from scaleback.core.errors import DataError, Refusal, refusal, unknown
from scaleback.core.plain import beside, exists
from scaleback.sources.base import UNLABELLED, Samples, Source

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

    The order is drawn from the run's seed, so seeds sample over *which* images; ``order`` pins it.
    """

    split: Split = "train"
    order: int | None = Field(None, ge=0)
    """Seed of the order; None for the run's own."""

    @abstractmethod
    def catalogue(self) -> Catalogue:
        """List the images of ``split``."""

    @abstractmethod
    def class_count(self) -> int | None:
        """Number of classes; None if unlabelled."""

    def classes(self, images: int) -> int | None:
        return self.class_count()

    def population_seed(self, seed: int) -> int:
        if self.split == "test":
            return 0  # a test set is used whole, so its order does not matter
        return seed if self.order is None else self.order

    def open(self, seed: int) -> CatalogueReader:
        return CatalogueReader(self.catalogue(), seed, self.shape)


class CatalogueReader:
    """Decodes a catalogue in balanced order."""

    def __init__(self, catalogue: Catalogue, seed: int, shape: tuple[int, int, int]) -> None:
        self._catalogue, self._shape = catalogue, shape
        self._order_N = balanced_order(catalogue.label_N, seed)

    @property
    def record(self) -> dict[str, Any]:
        """The names of the classes, in the order of their labels."""
        return {"class_names": list(self._catalogue.class_names)}

    def __call__(self, indices_B: NDArray[np.int64]) -> Samples:
        places_B = self._order_N[indices_B]
        images = [self._catalogue.decode(int(place)) for place in places_B]
        for place, image in zip(places_B, images, strict=True):
            if image.shape != self._shape:
                raise DataError(f"image {place} has shape {image.shape}; the source declares {self._shape}")
        return Samples(
            image_BHWC=np.stack(images), label_B=self._catalogue.label_N[places_B], facts={"place": places_B}
        )


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
