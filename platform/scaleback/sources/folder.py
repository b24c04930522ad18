"""Images of one's own in folders."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from scaleback.core.errors import DataError
from scaleback.sources.real import (
    Catalogue,
    RealSource,
    Split,
    check_header,
    decode_file,
    existing,
    natural,
    own_split,
    unlabelled,
)

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"})
MOST_HEADERS = 20_000
"""Files whose header is looked at before a study starts: about two seconds; of more, an even sample."""
SPLIT_NAMES: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "test": ("test", "val", "valid", "validation"),
}


class Folder(RealSource):
    """``path/<class>/*.png``, or ``path/train/<class>/*`` and ``path/test/<class>/*``; unlabelled if right in ``path``.

    Classes are numbered in the natural order of their folders: 2 before 10. Images are cut to their middle square and
    resized. Without a test folder, ``test_share`` of the images, balanced over classes, are the test split.
    """

    kind: Literal["folder"] = "folder"
    path: str
    size_px: int = Field(ge=4)
    channels: Literal[1, 3] = 3
    test_share: float = Field(0.2, gt=0, lt=1)

    @model_validator(mode="after")
    def _there(self) -> Self:
        existing("path", self.path)
        return self

    @property
    def own_shape(self) -> tuple[int, int, int]:
        return self.size_px, self.size_px, self.channels

    def own_classes(self) -> int | None:
        return len(_listing(self.path, self.split, self.test_share).class_names) or None

    def own_images(self) -> int:
        return len(_listing(self.path, self.split, self.test_share).files)

    def labels(self) -> NDArray[np.int64]:
        return _listing(self.path, self.split, self.test_share).label_N

    def names_of(self, place: int) -> tuple[str, ...]:
        listing = _listing(self.path, self.split, self.test_share)
        file = Path(listing.files[place]).name
        names = (file,) if not listing.class_names else (f"{listing.class_names[listing.label_N[place]]}/{file}",)
        return (*names, str(place))

    def origin(self) -> str:
        return _listing(self.path, self.split, self.test_share).digest

    def verify(self) -> None:
        files = _listing(self.path, self.split, self.test_share).files
        for file in files[:: -(-len(files) // MOST_HEADERS)]:
            check_header(Path(file), file)

    def catalogue(self) -> Catalogue:
        listing = _listing(self.path, self.split, self.test_share)

        def decode(place: int) -> NDArray[np.uint8]:
            file = Path(listing.files[place])
            return decode_file(file, self.size_px, self.shape[2], str(file))

        return Catalogue(label_N=listing.label_N, decode=decode, class_names=listing.class_names)

    @classmethod
    def example(cls, scratch: Path) -> Self:
        from PIL import Image

        pixels = np.arange(3 * 20 * 24 * 3, dtype=np.uint8).reshape(3, 20, 24, 3)
        for number in range(8):
            file = scratch / "folder" / f"class_{number % 2}" / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[number % 3] + np.uint8(number)).save(file)
        return cls(path=str(scratch / "folder"), size_px=16)


class _Listing(NamedTuple):
    files: tuple[str, ...]
    label_N: NDArray[np.int64]
    class_names: tuple[str, ...]
    digest: str


@lru_cache(maxsize=16)
def _listing(path: str, split: Split, test_share: float) -> _Listing:
    root = Path(path)
    if not root.is_dir():
        raise DataError(f"{root}: must be a folder")
    own = next((root / name for name in SPLIT_NAMES[split] if (root / name).is_dir()), None)
    has_splits = any((root / name).is_dir() for names in SPLIT_NAMES.values() for name in names)
    if has_splits and own is None:
        raise DataError(f"{root}: has a folder for another split, but none called {' or '.join(SPLIT_NAMES[split])}")
    files, label_N, names = _images_by_class(own or root)
    if not files:
        raise DataError(f"{own or root}: holds no image ({', '.join(sorted(SUFFIXES))})")
    if own is None:
        kept_N = own_split(label_N, test_share, split, root)
        files, label_N = [files[place] for place in kept_N], label_N[kept_N]
    stated = [(str(file.relative_to(root)), file.stat().st_size) for file in files]
    digest = hashlib.sha256(repr(stated).encode()).hexdigest()
    return _Listing(tuple(str(file) for file in files), label_N, tuple(names), digest)


def _images_by_class(folder: Path) -> tuple[list[Path], NDArray[np.int64], list[str]]:
    groups = {entry.name: _sorted_images(entry) for entry in folder.iterdir() if entry.is_dir()}
    names = sorted((name for name, files in groups.items() if files), key=natural)
    if not names:
        files = _sorted_images(folder)
        return files, unlabelled(len(files)), []
    files = [file for name in names for file in groups[name]]
    label_N = np.repeat(np.arange(len(names)), [len(groups[name]) for name in names])
    return files, label_N.astype(np.int64), names


def _sorted_images(folder: Path) -> list[Path]:
    return sorted(_images(folder), key=lambda file: natural(str(file.relative_to(folder))))


def _images(folder: Path) -> Iterator[Any]:
    return (file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
