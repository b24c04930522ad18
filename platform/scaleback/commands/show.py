"""show: what a source looks like."""

from __future__ import annotations

import json
import time
from argparse import Namespace
from pathlib import Path

import numpy as np

from scaleback.core import units
from scaleback.core.errors import DataError, InputError, SpecError, short
from scaleback.core.plain import exists, is_file
from scaleback.core.spec import Plain
from scaleback.scaling.figures import contact_sheet
from scaleback.sources import SOURCES, AnySource, Source
from scaleback.study.axes import parse_value

COLUMNS, SIDE_PX = 8, 96
MOST_IMAGES = 4_096


def show(options: Namespace) -> int:
    """Write a contact sheet and print what the images are like."""
    source = source_of(options)
    if not 1 <= options.images <= MOST_IMAGES:
        raise InputError(f"--images: must be 1 to {MOST_IMAGES}; got {options.images}")
    out = Path(options.out or f"{source.short}.png")
    if not exists(out.parent) or (exists(out) and not is_file(out)):
        raise InputError(f"--out: must be a file in a folder that is there; got {short(str(out))}")
    available = source.available()
    if available is not None and options.images > available:
        raise DataError(f"--images: the source has {available:,}; got {options.images}")
    begun = time.perf_counter()
    reader = source.open(source.population_seed(options.seed))
    opened = time.perf_counter()
    samples = reader(np.arange(options.images))
    seconds = time.perf_counter() - opened
    out.write_bytes(contact_sheet(samples.image_BHWC, min(COLUMNS, options.images), SIDE_PX))
    flat = samples.image_BHWC.reshape(options.images, -1).astype(np.float32)
    facts = {
        "source": source.short,
        "images": options.images,
        "shape": list(source.shape),
        "classes": source.classes(options.images),
        "lit_share": float((samples.image_BHWC > 0).any(axis=3).mean()),
        "mean_difference": float(np.abs(np.diff(flat, axis=0)).mean()) if options.images > 1 else None,
        "open_s": round(opened - begun, 3),
        "images_per_s": round(options.images / seconds, 1),
        "file": str(out),
    }
    if options.json:
        print(json.dumps(facts))
        return 0
    height, width, channels = source.shape
    classes = "unlabelled" if facts["classes"] is None else f"{facts['classes']} classes"
    print(f"{source.short}: {options.images} images of {height} x {width} x {channels}, {classes}")
    print(f"lit pixels {units.percent(facts['lit_share'])}, {units.count(facts['images_per_s'])} images/s on this core")
    if facts["mean_difference"] is not None:
        print(f"mean difference of neighbouring images {facts['mean_difference']:.1f} of 255")
    print(out)
    return 0


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
