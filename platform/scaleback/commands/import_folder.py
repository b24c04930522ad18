"""import: folders of images that generators wrote, as one Parquet file that the source ``parquet`` reads.

Two layouts are known. ``<class>/<image>``, or images side by side, is what the generators of FractalDB, OFDB and
1p-frac write; they put the category, the weight row, the patch draw and the flip into a file's name. The other is what
``export --format folder`` writes, with its labels, facts and record. Image files are taken byte for byte.
"""

from __future__ import annotations

import io
import json
import os
import re
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scaleback.cluster.progress import Progress
from scaleback.commands.export import FACTS, RECORD, file_name
from scaleback.commands.outputs import refuse_out, whole
from scaleback.core.errors import DataError, InputError, refusal, unknown
from scaleback.core.plain import beside, exists
from scaleback.sources.folder import SUFFIXES
from scaleback.sources.real import natural, read_through

ROWS = 256
"""Images in memory at a time, and in a row group."""
METADATA = b"scaleback"
"""In the file's metadata, as JSON: the record of the export, or the names of the classes in the order of labels."""
NAME = re.compile(r"(\d{1,18})_(\d{1,18})_count_(\d{1,18})_flip(\d{1,18})")
NAMED = ("category", "weight_row", "count", "flip")
"""What such a name tells. (1p-frac's second number is the class again.)"""


class Layout(Protocol):
    """Where images lie and what is known of each."""

    images: int
    record: dict[str, Any]

    def rows(self) -> Iterator[tuple[pa.RecordBatch, list[Path]]]:
        """Columns ``index``, ``label`` where labelled, and facts, of at most ``ROWS`` images; and the images' files."""
        ...


def import_folder(options: Namespace) -> int:
    """Write the file; it appears as a whole or not at all."""
    folder = Path(options.folder)
    if not exists(folder) or not folder.is_dir():
        raise InputError(f"FOLDER: {unknown('folder', str(folder), beside(folder))}")
    out = Path(options.out or f"{folder.resolve().name}.parquet")
    refuse_out(out, "must be a new file in a folder that is there")
    layout: Layout = Exported(folder) if (folder / FACTS).exists() else ByClass(folder)
    begun = time.perf_counter()
    with Progress(quiet=options.json) as progress, whole(out) as made:
        written = _write(made, layout, progress)
    stored_bytes = out.stat().st_size
    facts = {
        "images": layout.images,
        "classes": len(written.labels) or None,
        "size_px": [min(written.sizes), max(written.sizes)],
        "facts": written.facts,
        "bytes": stored_bytes,
        "images_per_s": round(layout.images / (time.perf_counter() - begun), 1),
        "file": str(out),
    }
    least, most = (f"{width} x {height}" for width, height in (min(written.sizes), max(written.sizes)))
    size = least if least == most else f"{least} to {most}"
    classes = f"{len(written.labels):,} classes" if written.labels else "unlabelled"
    line = f"{layout.images:,} images of {size}, {classes}, {stored_bytes:,} bytes: {out}"
    print(json.dumps(facts) if options.json else line)
    return 0


@dataclass(kw_only=True, slots=True)
class _Written:
    facts: list[str] = field(default_factory=list)
    labels: set[int] = field(default_factory=set)
    sizes: set[tuple[int, int]] = field(default_factory=set)


def _write(out: Path, layout: Layout, progress: Progress) -> _Written:
    written, done = _Written(), 0
    writer: pq.ParquetWriter | None = None
    try:
        for batch, files in layout.rows():
            images = [_encoded(file, written.sizes) for file in files]
            place = batch.schema.get_field_index("index") + 1
            table = pa.Table.from_batches([batch]).add_column(place, "image", pa.array(images, pa.binary()))
            if writer is None:
                schema = table.schema.with_metadata({METADATA: json.dumps(layout.record)})
                # Images are compressed already.
                ways = {name: "none" if name == "image" else "zstd" for name in schema.names}
                writer = pq.ParquetWriter(out, schema, compression=ways)
                written.facts = [name for name in schema.names if name not in ("index", "label", "image")]
            writer.write_table(table.cast(writer.schema))
            if "label" in batch.schema.names:
                written.labels.update(batch["label"].to_pylist())
            done += len(files)
            progress.imported(done, layout.images)
    finally:
        if writer is not None:
            writer.close()
    return written


def _encoded(file: Path, sizes: set[tuple[int, int]]) -> bytes:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror})") from None
    sizes.add(read_through(io.BytesIO(data), str(file)))
    return data


class ByClass:
    """A folder a class, labelled 0, 1, ... in the numeric order of their names; or images side by side, unlabelled."""

    def __init__(self, folder: Path) -> None:
        folders, images = _listed(folder)
        if folders and images:
            found = f"{images[0]} beside {folders[0]}"
            raise DataError(f"{folder}: {refusal('must hold images or folders of images, not both', found)}")
        self._folder, self._classes, self._named, self.images = folder, [], False, 0
        for name in folders or ["."]:
            inner, files = _listed(folder / name)
            if inner:
                raise DataError(f"{folder / name}: {refusal('must hold images and no folders', inner[0])}")
            self._named |= any(NAME.fullmatch(Path(file).stem) for file in files)
            self.images += len(files)
            if files:
                self._classes.append(name)
        if not self.images:
            raise DataError(f"{folder}: holds no image ({', '.join(sorted(SUFFIXES))})")
        self._labelled = bool(folders)
        self.record = {"folder": folder.resolve().name, "class_names": self._classes if folders else []}

    def rows(self) -> Iterator[tuple[pa.RecordBatch, list[Path]]]:
        """Classes one after the other, the images of each in the numeric order of their names."""
        images, index = self._images(), 0
        while chosen := list(islice(images, ROWS)):
            columns: dict[str, Any] = {"index": np.arange(index, index + len(chosen))}
            if self._labelled:
                columns["label"] = np.array([label for label, _ in chosen])
            if self._named:
                columns |= _named_facts([file.stem for _, file in chosen])
            yield pa.record_batch(columns), [file for _, file in chosen]
            index += len(chosen)

    def _images(self) -> Iterator[tuple[int, Path]]:
        for label, name in enumerate(self._classes):
            for file in sorted(_listed(self._folder / name)[1], key=natural):
                yield label, self._folder / name / file


def _named_facts(stems: Sequence[str]) -> dict[str, pa.Array]:
    found = [NAME.fullmatch(stem) for stem in stems]
    values = [[int(number) for number in match.groups()] if match else [None] * len(NAMED) for match in found]
    return {name: pa.array(column, pa.int64()) for name, column in zip(NAMED, zip(*values, strict=True), strict=True)}


def _listed(folder: Path) -> tuple[list[str], list[str]]:
    """Names of folders, in numeric order, and of images; what is hidden or neither is passed over."""
    folders, images = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    folders.append(entry.name)
                elif Path(entry.name).suffix.lower() in SUFFIXES:
                    images.append(entry.name)
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror})") from None
    return sorted(folders, key=natural), images


class Exported:
    """What ``export --format folder`` wrote: rows in their order, labels, facts and record as they were."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            self.record = json.loads((folder / RECORD).read_text())
            with pq.ParquetFile(folder / FACTS) as file:
                self.images, schema = file.metadata.num_rows, file.schema_arrow
        except (OSError, ValueError, pa.ArrowException) as error:
            reason = " ".join(str(error).split())[:80]
            raise DataError(f"{folder}: must hold {RECORD} and {FACTS} as export wrote them ({reason})") from None
        for name in ("index", "label"):
            if name not in schema.names:
                raise DataError(f"{folder / FACTS}: {unknown('column', name, schema.names)}")
        self._labelled = not pa.types.is_null(schema.field("label").type)
        folders, images = _listed(folder)
        held = len(images) + sum(len(_listed(folder / name)[1]) for name in folders)
        if held != self.images:
            raise DataError(f"{folder}: {refusal(f'must hold the {self.images:,} images of {FACTS}', held)}")

    def rows(self) -> Iterator[tuple[pa.RecordBatch, list[Path]]]:
        """The rows of the facts, in order."""
        with pq.ParquetFile(self._folder / FACTS) as file:
            for batch in file.iter_batches(ROWS):
                places = zip(batch["index"].to_pylist(), batch["label"].to_pylist(), strict=True)
                files = [self._folder / file_name(number, label) for number, label in places]
                yield batch if self._labelled else batch.drop_columns(["label"]), files
