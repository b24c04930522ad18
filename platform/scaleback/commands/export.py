"""export: the images of a source in the formats that other programs read."""

from __future__ import annotations

import io
import json
import tarfile
import time
from argparse import Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from scaleback.cluster.progress import Progress
from scaleback.commands.outputs import refuse_out, whole
from scaleback.commands.show import opened, source_of
from scaleback.core.errors import DataError, InputError, unknown
from scaleback.sources import Source
from scaleback.sources.base import UNLABELLED

BATCH_IMAGES = 256
SHARD_IMAGES = 10_000
RECORD = "_scaleback.json"
"""Beside the images: the whole spec, the seed and what was realised for the whole population. Readers of folders of
Parquet skip names that begin so."""
LABELS = "labels"
"""The classes of an image that shows several, among its facts."""
FACTS = "facts.parquet"
"""In a folder of images: index, label and facts of each."""


class Example(NamedTuple):
    """One image as it is written, with its index."""

    number: int
    label: int | None
    png: bytes
    facts: Mapping[str, Any]

    @property
    def name(self) -> str:
        """File name without suffix; names sort as indices do."""
        return f"{self.number:08d}"


def file_name(number: int, label: int | None) -> str:
    """Where an image lies in a folder of images."""
    return f"{number:08d}.png" if label is None else f"{label:05d}/{number:08d}.png"


def export(options: Namespace) -> int:
    """Write images of a source; the output appears as a whole or not at all."""
    source = source_of(options)
    if options.format not in WRITERS:
        raise InputError(f"--format: {unknown('format', options.format, WRITERS)}")
    if options.images < 1:
        raise InputError(f"--images: must be at least 1; got {options.images}")
    available = source.available()
    if available is not None and options.images > available:
        raise DataError(f"--images: the source has {available:,}; got {options.images:,}")
    out = Path(options.out or f"{source.short}-{options.format}")
    refuse_out(out, "must be a new folder in a folder that is there")
    labelled = source.classes(options.images) is not None
    begun = time.perf_counter()
    reader = opened(source, options)
    with Progress(quiet=options.json) as progress, whole(out) as made:
        made.mkdir()
        WRITERS[options.format](made, source, _examples(reader, options.images, labelled, progress))
        record = {
            "source": source.plain(),
            "fingerprint": source.fingerprint,
            "seed": options.seed,
            "images": options.images,
            "classes": source.classes(options.images),
            "realised": dict(reader.record),
        }
        (made / RECORD).write_text(json.dumps(record, indent=1))
    seconds = time.perf_counter() - begun
    facts = {
        "source": source.short,
        "format": options.format,
        "images": options.images,
        "bytes": sum(file.stat().st_size for file in out.rglob("*") if file.is_file()),
        "images_per_s": round(options.images / seconds, 1),
        "folder": str(out),
    }
    print(json.dumps(facts) if options.json else f"{options.images:,} images, {facts['bytes']:,} bytes: {out}")
    return 0


def _examples(reader: Any, images: int, labelled: bool, progress: Progress) -> Iterator[Example]:
    for start in range(0, images, BATCH_IMAGES):
        index_B = np.arange(start, min(start + BATCH_IMAGES, images))
        samples = reader(index_B)
        for place, (image_HWC, index, label) in enumerate(
            zip(samples.image_BHWC, index_B, samples.label_B, strict=True)
        ):
            facts = {name: np.asarray(value[place]).tolist() for name, value in samples.facts.items()}
            if label.ndim:  # several classes
                facts[LABELS] = [int(one) for one in label if one != UNLABELLED]
            yield Example(int(index), int(label) if labelled and not label.ndim else None, png(image_HWC), facts)
        progress.rendered(int(index_B[-1]) + 1, images)


def png(image_HWC: NDArray[np.uint8]) -> bytes:
    """A gray or colour image as PNG, without loss."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(image_HWC[:, :, 0] if image_HWC.shape[2] == 1 else image_HWC).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def _folder(out: Path, source: Source, examples: Iterator[Example]) -> None:
    """``<class>/<index>.png``, or ``<index>.png`` without labels; facts beside them."""
    rows = []
    for one in examples:
        file = out / file_name(one.number, one.label)
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(one.png)
        rows.append({"index": one.number, "label": one.label, **one.facts})
    pq.write_table(pa.Table.from_pylist(rows), out / FACTS)


def _parquet(out: Path, source: Source, examples: Iterator[Example]) -> None:
    """Columns index, label, image (PNG) and the facts, in files of ten thousand rows."""
    for number, rows in enumerate(_shards(examples)):
        table = [{"index": one.number, "label": one.label, "image": one.png, **one.facts} for one in rows]
        pq.write_table(pa.Table.from_pylist(table), out / f"images-{number:05d}.parquet", row_group_size=1_000)


def _webdataset(out: Path, source: Source, examples: Iterator[Example]) -> None:
    """Tar files of ten thousand samples, each of ``.png``, ``.cls`` (where labelled) and ``.json``."""
    for number, rows in enumerate(_shards(examples)):
        with tarfile.open(out / f"shard-{number:06d}.tar", "w") as tar:
            for one in rows:
                files = {"png": one.png, "json": json.dumps({"index": one.number, **one.facts}).encode()}
                if one.label is not None:
                    files["cls"] = str(one.label).encode()
                for suffix, data in files.items():
                    member = tarfile.TarInfo(f"{one.name}.{suffix}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))


def _huggingface(out: Path, source: Source, examples: Iterator[Example]) -> None:
    """A folder that ``datasets.load_dataset`` reads, with a card."""
    (out / "data").mkdir()
    image_type = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    count = 0
    for number, rows in enumerate(_shards(examples)):
        images = pa.array([{"bytes": one.png, "path": f"{one.name}.png"} for one in rows], image_type)
        labels = [{} if one.label is None else {"label": one.label} for one in rows]
        told = [{"index": one.number, **label, **one.facts} for one, label in zip(rows, labels, strict=True)]
        table = pa.Table.from_pylist(told)
        features = {"image": {"_type": "Image"}, **{field.name: _feature(field.type) for field in table.schema}}
        table = table.add_column(0, "image", images)
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        pq.write_table(table, out / "data" / f"train-{number:05d}.parquet")
        count += len(rows)
    known = source.classes(count)
    classes = "no labels" if known is None else f"{known:,} classes"
    (out / "README.md").write_text(
        "---\n"
        "configs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/train-*.parquet\n"
        "---\n\n"
        f"# {source.short}\n\n{count:,} images, {classes}, made by scaleback; `{RECORD}` holds the whole spec and the "
        f"seed, from which they can be made again.\n\n```json\n{json.dumps(source.plain(), indent=1)}\n```\n"
    )


def _feature(kind: Any) -> dict[str, Any]:
    """A column's type as Hugging Face writes it."""
    if pa.types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "Sequence"}
    return {"dtype": {"double": "float64"}.get(str(kind), str(kind)), "_type": "Value"}


def _shards(examples: Iterator[Example]) -> Iterator[list[Example]]:
    rows: list[Example] = []
    for one in examples:
        rows.append(one)
        if len(rows) == SHARD_IMAGES:
            yield rows
            rows = []
    if rows:
        yield rows


WRITERS = {"folder": _folder, "parquet": _parquet, "webdataset": _webdataset, "huggingface": _huggingface}
