"""A population on storage: blocks of images that are always the same, of which any run takes the first n.

How many images a run wants is no part of a population's identity, so small sets are subsets of large ones and the
number of images is an axis that costs nothing extra.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, Self, cast

import numpy as np
from numpy.typing import NDArray

from scaleback.core.errors import DataError, IntegrityError
from scaleback.core.spec import Spec
from scaleback.core.store import Store
from scaleback.sources import AnySource
from scaleback.sources.base import BitSamples, FreshReader, Reader, Samples, Source
from scaleback.sources.block_file import FILE, pack, unpack

# Shapes: N images of a population, B images of a block, H rows, W columns, C channels.

FIRST_BLOCK_IMAGES = 64
LARGEST_BLOCK_IMAGES = 4_096
LARGEST_BLOCK_BYTES = 64 << 20
"""Blocks double from the first to the largest, so a study of 100 images draws 128, not thousands, and one of a million
is not scattered over files. Bounds as measured for Ray Data: below about a thousand images a block the scheduler costs
more than reading, and a lost worker repeats at most one block."""

BATCH_BYTES = 24 << 20
"""Images are drawn and packed about so much at a time. A batch costs half a millisecond of Python; from 32 MB on glibc
takes new memory for every array."""


class Block(NamedTuple):
    """Images ``start`` to ``stop`` of a population."""

    number: int
    start: int
    stop: int


class Population(Spec):
    """What a block's bytes depend on: the source, the seed, the files behind it. Never how many images are used."""

    source: AnySource
    seed: int
    origin: str | None = None
    """Digest of the files that a real source reads."""

    @classmethod
    def of(cls, source: Source, seed: int) -> Self:
        """The population that a run with ``seed`` uses."""
        own_seed, origin = source.population_seed(seed), source.origin()
        made = source.populations.made
        if (own_seed, origin) not in made:
            made[own_seed, origin] = cls(source=source, seed=own_seed, origin=origin)
        return cast(Self, made[own_seed, origin])

    @property
    def short(self) -> str:
        return self.source.short

    @property
    def address(self) -> str:
        """``render/<source>-<hash>``."""
        return f"render/{self.slug}"

    def block_address(self, number: int) -> str:
        """Where one block lies."""
        return f"{self.address}/block-{number:06d}"

    def blocks(self, images: int) -> list[Block]:
        """The blocks that hold the first ``images`` images.

        Raises:
            DataError: the source has fewer.
        """
        return list(_blocks(self.source.image_bytes, images, self._end(images)))

    def whole_blocks(self, images: int) -> tuple[int, int]:
        """How many blocks hold the first ``images`` images, and how many images they hold; without listing them.

        Raises:
            DataError: the source has fewer.
        """
        end, most = self._end(images), _most(self.source.image_bytes)
        number, start = 0, 0
        for block in _blocks(self.source.image_bytes, min(images, 2 * most), end):  # from here on all are the longest
            number, start = block.number + 1, block.stop
        more = max(0, -(-(images - start) // most))
        stop = start + more * most
        return number + more, stop if end is None else min(stop, end)

    def _end(self, images: int) -> int | None:
        """How many images there are; None for no end."""
        available = self.source.available()
        if available is not None and images > available:
            raise DataError(f"has {available:,} images; asked for {images:,}")
        return available


@dataclass(frozen=True, kw_only=True, slots=True)
class Images:
    """The first n images of a population, in memory."""

    image_NHWC: NDArray[np.uint8]
    label_N: NDArray[np.int64]
    """(N, L) where an image may show L classes."""
    classes: int | None
    """Number of classes these images may have; None if unlabelled."""

    def __len__(self) -> int:
        return len(self.image_NHWC)


class Stream:
    """The first n images of a population, drawn whenever they are asked for; none is stored."""

    def __init__(self, population: Population, images: int, store: Store) -> None:
        self._population, self._images = population, images
        self._reader = reader(population, store)
        self.classes = population.source.classes(images)

    def __len__(self) -> int:
        return self._images

    def draw(self, index_B: NDArray[np.int64], epoch_B: NDArray[np.int64]) -> Samples | BitSamples:
        """Images by index, in the passes ``epoch_B`` over the data.

        Raises:
            RenderError: one cannot be drawn.
        """
        if self._population.source.fresh:
            return cast(FreshReader, self._reader).anew(index_B, epoch_B)
        return self._reader(index_B)


def _most(image_bytes: int) -> int:
    """Images of the longest block."""
    return max(FIRST_BLOCK_IMAGES, min(LARGEST_BLOCK_IMAGES, LARGEST_BLOCK_BYTES // image_bytes))


def _blocks(image_bytes: int, images: int, available: int | None) -> Iterator[Block]:
    most = _most(image_bytes)
    number, start, length = 0, 0, FIRST_BLOCK_IMAGES
    while start < images:
        stop = start + length if available is None else min(start + length, available)
        yield Block(number, start, stop)
        number, start = number + 1, stop
        length = min(start, most)  # 64, 64, 128, 256, ...: each block is as long as all before it


def missing_blocks(store: Store, population: Population, images: int) -> list[Block]:
    """The blocks of the first ``images`` images that storage does not hold yet."""
    held = set(store.addresses(population.address))
    return [block for block in population.blocks(images) if population.block_address(block.number) not in held]


def reader(population: Population, store: Store) -> Reader:
    """The opened source; kept, since what it finds out (a base system, categories) serves all its blocks."""
    return (_generator if population.source.wants_gpu else _reader)(population, store)


def _opened(population: Population, store: Store) -> Reader:
    return population.source.open_with(population.seed, store)


_reader, _generator = lru_cache(maxsize=8)(_opened), lru_cache(maxsize=1)(_opened)  # a GPU has room for one


@contextmanager
def drawn_block(store: Store, population: Population, block: Block) -> Iterator[None]:
    """Make one block, the same bytes whoever does it; it is published when the context ends.

    Raises:
        RenderError: an image cannot be drawn.
    """
    begun = time.perf_counter()
    address, open_reader = population.block_address(block.number), reader(population, store)
    # Little at a time: memory that is used again is many times faster than memory that is new.
    together = max(1, BATCH_BYTES // population.source.image_bytes)
    starts = range(block.start, block.stop, together)
    indices = (np.arange(start, min(start + together, block.stop)) for start in starts)
    with store.writing(f"{address}/{FILE}") as file:
        pack(((index_B, _checked(open_reader(index_B), population, len(index_B))) for index_B in indices), file)
        record = {
            "start": block.start,
            "stop": block.stop,
            "shape": list(population.source.shape),
            "population": dict(open_reader.record),
            "seconds": time.perf_counter() - begun,
        }
        yield
    store.publish(address, {FILE: file}, spec=population, record=record)


def render_block(store: Store, population: Population, block: Block) -> None:
    """Make one block and publish it."""
    with drawn_block(store, population, block):
        pass


def load_images(store: Store, population: Population, images: int) -> Images:
    """The first ``images`` images, every byte verified before the first is used.

    Raises:
        IntegrityError: a block is missing or damaged; the message names the file, its images and both checksums.
    """
    image_NHWC = np.empty((images, *population.source.shape), np.uint8)
    labels = population.source.labels_an_image
    label_N = np.empty(images if labels == 1 else (images, labels), np.int64)
    for block in population.blocks(images):
        here = slice(block.start, min(block.stop, images))
        data = read_block(store, population, block)
        try:
            unpack(data, image_NHWC[here], label_N[here])
        except IntegrityError as error:
            raise IntegrityError(f"{store.root}/{population.block_address(block.number)}: {error}") from error
    return Images(image_NHWC=image_NHWC, label_N=label_N, classes=population.source.classes(images))


def joined(first: Images, *others: Images) -> Images:
    """Images of several populations of the same classes, one after the other."""
    if not others:
        return first
    return Images(
        image_NHWC=np.concatenate([first.image_NHWC, *(one.image_NHWC for one in others)]),
        label_N=np.concatenate([first.label_N, *(one.label_N for one in others)]),
        classes=first.classes,
    )


def class_names(store: Store, population: Population) -> list[str]:
    """What its first block says that classes are called; nothing where it does not say."""
    manifest = store.manifest(population.block_address(0), population)
    found: list[str] = [] if manifest is None else manifest.record["population"].get("class_names", [])
    return found


def read_block(store: Store, population: Population, block: Block) -> bytes:
    """The file of one block, verified.

    Raises:
        IntegrityError: missing or damaged.
    """
    address = population.block_address(block.number)
    manifest = store.manifest(address, population)
    if manifest is None:
        raise IntegrityError(f"{store.root}/{address}: is missing (images {block.start} to {block.stop - 1})")
    if FILE not in manifest.files:
        raise IntegrityError(
            f"{store.root}/{address}: is packed as another version packs; remove it, and it is drawn again"
        )
    try:
        return store.read(manifest, FILE)
    except IntegrityError as error:
        raise IntegrityError(f"{error} (images {block.start} to {block.stop - 1})") from error


def _checked(samples: Samples | BitSamples, population: Population, count: int) -> Samples | BitSamples:
    expected = (count, *population.source.shape)
    assert samples.shape == expected, f"{population.slug}: gave {samples.shape}, declared {expected}"
    if samples.level is None:
        assert samples.image_BHWC.dtype == np.uint8, f"{population.slug}: gave {samples.image_BHWC.dtype}"
    labels = population.source.labels_an_image
    assert samples.label_B.shape[1:] == (() if labels == 1 else (labels,)), f"{population.slug}: declared {labels}"
    return samples
