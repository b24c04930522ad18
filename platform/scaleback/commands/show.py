"""show: what a source looks like, and how far its classes are apart."""

from __future__ import annotations

import json
import time
from argparse import Namespace
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scaleback.cluster.progress import Progress
from scaleback.commands.outputs import refuse_out, whole
from scaleback.core import units
from scaleback.core.errors import DataError, InputError, SpecError, short
from scaleback.core.spec import Plain
from scaleback.core.store import Store
from scaleback.scaling.distinctness import Distinctness, distinctness
from scaleback.scaling.figures import contact_sheet
from scaleback.sources import SOURCES, AnySource, Source
from scaleback.sources.base import Reader
from scaleback.sources.block_file import packed_bytes
from scaleback.study.axes import parse_value

COLUMNS, SIDE_PX = 8, 96
MOST_IMAGES = 4_096
BATCH_IMAGES = 64
"""Images in memory at a time, of those that are only counted and drawn small."""
COMPARED_IMAGES = 256
"""Images compared with each other, the first: every pair of them takes 4.5 s at 512 px in gray, and less with size."""
SHEET_PIXELS = 1 << 24
"""A contact sheet of more images shows them smaller: 64 of 512 px fit, or 4,096 of 64 px."""


@dataclass(kw_only=True, slots=True)
class _Seen:
    """What is learnt of images batch by batch."""

    thumbnails: list[NDArray[np.uint8]]
    compared: list[NDArray[np.uint8]]
    labels: list[NDArray[np.int64]]
    lit: float = 0.0
    """Sum of shares of pixels that are not black."""
    block_bytes: int = 0
    seconds: float = 0.0


def show(options: Namespace) -> int:
    """Write a contact sheet and print what the images are like."""
    source = source_of(options)
    if not 1 <= options.images <= MOST_IMAGES:
        raise InputError(f"--images: must be 1 to {MOST_IMAGES}; got {options.images}")
    out = Path(options.out or f"{source.short}.png")
    refuse_out(out, "must be a file in a folder that is there", replaces=True)
    available = source.available()
    if available is not None and options.images > available:
        raise DataError(f"--images: the source has {available:,}; got {options.images}")
    begun = time.perf_counter()
    reader = opened(source, options)
    reader(np.arange(1))  # compiles, and finds what is found once
    ready = time.perf_counter()
    seen = _look(reader, source, options.images)
    found = distinctness(np.concatenate(seen.compared), np.concatenate(seen.labels))
    columns = min(options.images, max(COLUMNS, int(np.ceil(np.sqrt(options.images)))))
    with whole(out) as made:
        made.write_bytes(contact_sheet(np.concatenate(seen.thumbnails), columns, SIDE_PX))
    facts = {
        "source": source.short,
        "images": options.images,
        "shape": list(source.shape),
        "classes": source.classes(options.images),
        "lit_share": seen.lit / options.images,
        "distinctness": asdict(found),
        "block_bytes_per_image": round(seen.block_bytes / options.images, 1),
        "open_s": round(ready - begun, 3),
        "images_per_s": round(options.images / seen.seconds, 1),
        "file": str(out),
    }
    print(json.dumps(facts) if options.json else "\n".join(_lines(facts, found)))
    return 0


def _look(reader: Reader, source: Source, images: int) -> _Seen:
    seen = _Seen(thumbnails=[], compared=[], labels=[])
    for start in range(0, images, BATCH_IMAGES):
        index_B = np.arange(start, min(start + BATCH_IMAGES, images))
        begun = time.perf_counter()
        samples = reader(index_B)
        seen.seconds += time.perf_counter() - begun
        seen.block_bytes += packed_bytes(index_B, samples)
        image_BHWC = samples.image_BHWC
        seen.lit += float((image_BHWC > 0).any(axis=3).mean(axis=(1, 2)).sum())
        seen.thumbnails.append(_small(image_BHWC, images))
        if start < COMPARED_IMAGES:
            seen.compared.append(image_BHWC[: COMPARED_IMAGES - start])
            seen.labels.append(samples.label_B[: COMPARED_IMAGES - start])
    return seen


def _small(image_BHWC: NDArray[np.uint8], images: int) -> NDArray[np.uint8]:
    """Images so small that ``images`` of them fit a sheet."""
    from PIL import Image

    _, height, width, channels = image_BHWC.shape
    scale = np.sqrt(SHEET_PIXELS / (images * height * width))
    if scale >= 1:
        return image_BHWC
    size = max(1, int(width * scale)), max(1, int(height * scale))
    smaller = [
        np.asarray(Image.fromarray(image[:, :, 0] if channels == 1 else image).resize(size, Image.Resampling.BOX))
        for image in image_BHWC
    ]
    return np.stack(smaller).reshape(len(smaller), size[1], size[0], channels)


def _lines(facts: dict[str, Any], found: Distinctness) -> list[str]:
    height, width, channels = facts["shape"]
    classes = "unlabelled" if facts["classes"] is None else f"{facts['classes']} classes"
    rate, size = units.count(facts["images_per_s"]), units.size(facts["block_bytes_per_image"])
    lines = [
        f"{facts['source']}: {facts['images']} images of {height} x {width} x {channels}, {classes}",
        f"lit pixels {units.percent(facts['lit_share'])}, {rate} images/s on this core, {size} an image in a block",
    ]
    if found.between is not None:
        within = "" if found.within is None else f", within a class {found.within:.1f}"
        lines.append(f"mean difference between classes {found.between:.1f} of 255{within} (of {found.images} images)")
    if found.margin is not None and found.least_margin is not None:
        lines.append(f"nearest other class at {found.margin:.2f} of that, the nearest two at {found.least_margin:.2f}")
    return [*lines, facts["file"]]


def opened(source: Source, options: Namespace) -> Reader:
    """The source, after its generators have learnt in this process what is not in the storage yet."""
    seed = source.population_seed(options.seed)
    stages = source.learnt(seed)
    if not stages:
        return source.open(seed)
    from scaleback.adapt.run import learn

    source.verify()
    store = Store(options.storage)
    with Progress(quiet=options.json) as progress:
        learn(source, seed, store, progress.learnt)
    return source.open_with(seed, store)


def source_of(options: Namespace) -> Source:
    """The source that the options name."""
    from pydantic import TypeAdapter, ValidationError

    from scaleback.core.spec import assign, fault_lines

    plain: dict[str, Plain] = {"kind": options.source}
    for text in options.settings:
        name, equals, value = text.partition("=")
        if not equals:
            raise SpecError(f"--set: must be FIELD=VALUE; got {short(text)}")
        assign(plain, name.strip(), parse_value(value, f"--set {name.strip()}"))
    try:
        source: Source = TypeAdapter(AnySource).validate_python(plain)
    except ValidationError as error:
        raise SpecError("\n".join(fault_lines(error, SOURCES.get(options.source, Source), plain))) from None
    return source
