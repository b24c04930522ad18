"""Images of one's own in Parquet files and numpy arrays."""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from scaleback.core.errors import DataError, unknown
from scaleback.sources.folder import SPLIT_NAMES
from scaleback.sources.real import (
    Catalogue,
    RealSource,
    Split,
    check_header,
    checked_labels,
    decode_file,
    existing,
    natural,
    own_split,
    unlabelled,
)

MOST_CLASSES = 1_000_000
"""A larger label is an id or a hash, not a class."""
DIGEST_BYTES = 1 << 20
"""How much of the head and of the tail of a file goes into the digest of its content."""
HEADERS_CHECKED = 64
"""Images of a file that are looked at before a study starts."""


class Parquet(RealSource):
    """Rows of an encoded image (bytes, or Hugging Face's struct with ``bytes``) and an integer label.

    ``path`` is a file or a folder. Files whose name or folder says train, test or val are the splits; else
    ``test_share`` of the rows, balanced over classes, are the test split.
    """

    names_classes: ClassVar[bool] = False
    kind: Literal["parquet"] = "parquet"
    path: str
    size_px: int = Field(ge=4)
    channels: Literal[1, 3] = 3
    image_column: str = "image"
    label_column: str | None = "label"
    """None for data without labels."""
    test_share: float = Field(0.2, gt=0, lt=1)

    @model_validator(mode="after")
    def _there(self) -> Self:
        existing("path", self.path)
        return self

    @property
    def own_shape(self) -> tuple[int, int, int]:
        return self.size_px, self.size_px, self.channels

    def own_classes(self) -> int | None:
        return _rows(self).classes

    def own_images(self) -> int:
        return len(_rows(self).place_N)

    def labels(self) -> NDArray[np.int64]:
        return _rows(self).label_N

    def origin(self) -> str:
        return _rows(self).digest

    def verify(self) -> None:
        import pyarrow.parquet as pq

        files = _rows(self).files
        with pq.ParquetFile(files[0]) as file:
            batches = file.iter_batches(HEADERS_CHECKED, columns=[self.image_column])
            images = next((batch.column(0) for batch in batches), ())
        for row, value in enumerate(images):
            check_header(self._encoded(value.as_py(), row), self._where(row))

    def catalogue(self) -> Catalogue:
        import pyarrow as pa
        import pyarrow.parquet as pq

        rows = _rows(self)
        try:
            column = pq.read_table(list(rows.files), columns=[self.image_column], partitioning=None).column(0)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{self.path}: cannot be read ({' '.join(str(error).split())[:80]})") from error

        def decode(place: int) -> NDArray[np.uint8]:
            row = int(rows.place_N[place])
            data = self._encoded(column[row].as_py(), row)
            return decode_file(data, self.size_px, self.shape[2], self._where(row))

        return Catalogue(label_N=rows.label_N, decode=decode, class_names=_numbers(rows.classes))

    def _encoded(self, value: Any, row: int) -> io.BytesIO:
        data = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(data, bytes):
            found = type(data).__name__
            raise DataError(f"{self._where(row)}: column {self.image_column} holds {found}, not an encoded image")
        return io.BytesIO(data)

    def _where(self, row: int) -> str:
        return f"{self.path}: row {row}"

    @classmethod
    def example(cls, scratch: Path) -> Self:
        import pyarrow as pa
        import pyarrow.parquet as pq
        from PIL import Image

        encoded = []
        for number in range(10):
            stream = io.BytesIO()
            Image.new("L", (12, 9), 20 * number + 10).save(stream, "PNG")
            encoded.append(stream.getvalue())
        file = scratch / "images.parquet"
        pq.write_table(pa.table({"image": encoded, "label": [number % 2 for number in range(10)]}), file)
        return cls(path=str(file), size_px=8, channels=1)


class Arrays(RealSource):
    """A numpy ``.npz`` with ``x`` (N, H, W) or (N, H, W, C) of uint8 and, if labelled, ``y`` (N) of whole numbers.

    With ``x_train``, ``y_train``, ``x_test``, ``y_test`` (Keras's layout) the splits are the file's own.
    """

    names_classes: ClassVar[bool] = False
    kind: Literal["arrays"] = "arrays"
    path: str
    test_share: float = Field(0.2, gt=0, lt=1)

    @model_validator(mode="after")
    def _there(self) -> Self:
        existing("path", self.path)
        return self

    @property
    def own_shape(self) -> tuple[int, int, int]:
        height, width, channels = _arrays(self).image_NHWC.shape[1:]
        return height, width, channels

    def own_classes(self) -> int | None:
        return _arrays(self).classes

    def own_images(self) -> int:
        return len(_arrays(self).image_NHWC)

    def labels(self) -> NDArray[np.int64]:
        return _arrays(self).label_N

    def origin(self) -> str:
        return _arrays(self).digest

    def catalogue(self) -> Catalogue:
        arrays = _arrays(self)
        return Catalogue(
            label_N=arrays.label_N, decode=lambda place: arrays.image_NHWC[place], class_names=_numbers(arrays.classes)
        )

    @classmethod
    def example(cls, scratch: Path) -> Self:
        file = scratch / "arrays.npz"
        image_NHW = np.arange(10 * 6 * 6, dtype=np.uint8).reshape(10, 6, 6)
        np.savez(file, x=image_NHW, y=np.arange(10) % 2)
        return cls(path=str(file))


class _Rows(NamedTuple):
    files: tuple[Path, ...]
    place_N: NDArray[np.int64]
    """Row of each image in the files laid end to end."""
    label_N: NDArray[np.int64]
    classes: int | None
    digest: str


@lru_cache(maxsize=16)
def _rows(spec: Parquet) -> _Rows:
    import pyarrow as pa
    import pyarrow.parquet as pq

    files, has_splits = _split_files(spec)
    try:
        columns = pq.read_schema(files[0]).names
        for column in (spec.image_column, spec.label_column):
            if column is not None and column not in columns:
                raise DataError(unknown(f"column of {files[0]}", column, columns))
        wanted = [spec.label_column or spec.image_column]
        column = pq.read_table(files, columns=wanted, partitioning=None).column(0)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{spec.path}: is not a Parquet file ({' '.join(str(error).split())[:80]})") from error
    label_N, classes = unlabelled(len(column)), None
    if spec.label_column is not None:
        label_N, classes = _labelled(column.to_numpy(), f"{spec.path}: column {spec.label_column}")
    place_N = np.arange(len(label_N)) if has_splits else own_split(label_N, spec.test_share, spec.split, spec.path)
    return _Rows(tuple(files), place_N, label_N[place_N], classes, digest_of(files))


def _split_files(spec: Parquet) -> tuple[list[Path], bool]:
    root = Path(spec.path)
    files = [root] if root.is_file() else sorted(root.rglob("*.parquet"), key=lambda file: natural(str(file)))
    has_splits = any(_says(file, split) for file in files for split in SPLIT_NAMES)
    if has_splits:
        files = [file for file in files if _says(file, spec.split)]
    if not files:
        raise DataError(f"{spec.path}: holds no Parquet file of the {spec.split} split")
    return files, has_splits


def _says(file: Path, split: Split) -> bool:
    return not {*re.split(r"[^a-z]+", file.stem.lower()), file.parent.name.lower()}.isdisjoint(SPLIT_NAMES[split])


class _Arrays(NamedTuple):
    image_NHWC: NDArray[np.uint8]
    label_N: NDArray[np.int64]
    classes: int | None
    digest: str


@lru_cache(maxsize=4)
def _arrays(spec: Arrays) -> _Arrays:
    try:
        # Opened here, because numpy leaves a damaged archive open. A bare .npy gives an array, and so a TypeError.
        with open(spec.path, "rb") as file, np.load(file, allow_pickle=False) as data:
            suffix = f"_{spec.split}" if f"x_{spec.split}" in data else ""
            if f"x{suffix}" not in data:
                raise DataError(f"{spec.path}: {unknown('array', 'x', data.files)}")
            image_NHWC, found = data[f"x{suffix}"], data.get(f"y{suffix}")
    except (ValueError, TypeError, OSError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{spec.path}: is not a numpy .npz file of plain arrays ({error})") from error
    if image_NHWC.ndim == 3:
        image_NHWC = image_NHWC[..., None]
    if image_NHWC.dtype != np.uint8 or image_NHWC.ndim != 4 or image_NHWC.shape[3] not in (1, 3):
        found_form = f"{image_NHWC.dtype} {image_NHWC.shape}"
        raise DataError(f"{spec.path}: x must be uint8 of shape (N, H, W) or (N, H, W, 1 or 3); got {found_form}")
    label_N, classes = unlabelled(len(image_NHWC)), None
    if found is not None:
        if found.shape != image_NHWC.shape[:1]:
            raise DataError(
                f"{spec.path}: y must hold one label for each of {len(image_NHWC)} images; got {found.shape}"
            )
        label_N, classes = _labelled(found, f"{spec.path}: y")
    if not suffix:
        kept_N = own_split(label_N, spec.test_share, spec.split, spec.path)
        image_NHWC, label_N = image_NHWC[kept_N], label_N[kept_N]
    return _Arrays(image_NHWC, label_N, classes, digest_of([Path(spec.path)]))


def _labelled(found_N: NDArray[Any], where: str) -> tuple[NDArray[np.int64], int]:
    if not len(found_N):
        raise DataError(f"{where}: is empty")
    classes = int(found_N.max()) + 1 if np.issubdtype(found_N.dtype, np.integer) else 0
    return checked_labels(found_N, min(classes, MOST_CLASSES), where), classes


def _numbers(classes: int | None) -> list[str]:
    return [str(number) for number in range(classes or 0)]


def digest_of(files: list[Path]) -> str:
    """Of name, size, head and tail of each file: cheap on any size, and changed by any rewrite that we can think of."""
    digest = hashlib.sha256()
    for file in files:
        size = file.stat().st_size
        with file.open("rb") as stream:
            head = stream.read(DIGEST_BYTES)
            stream.seek(max(0, size - DIGEST_BYTES))
            digest.update(repr((file.name, size)).encode() + head + stream.read())
    return digest.hexdigest()
