"""How fast images are made: on one core in memory, and by Ray Data until they lie on disk.

    python jobs/bench_render.py [--quick] [--json]

One image is 1p-frac's: 100,000 points of two maps, random opaque 3x3 masks. ``reference_512_ms`` is the algorithm as
the papers' authors wrote it, a Python loop with a numpy paste for every point. ``ray_data_share_*`` is the rate of the
whole cluster, from the start of the Ray Data job to the last checksummed block on disk, over cores x the mean rate of
one core that draws the same population into memory for some seconds before and after; Ray itself is up.
``ray_data_share_of_busy_*`` is the same over what all cores draw into memory at the same time, which on some machines
is less than cores x one core's rate. Both are medians of several jobs. ``stream_step_share`` is the step rate of a
ViT-Tiny at 224 px that trains on images drawn as it goes, over its rate on the same images in memory.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

import numpy as np
import pyarrow as pa

from scaleback.backbones import Backbone, width_of
from scaleback.cluster import runtime
from scaleback.cluster.placement import Placement
from scaleback.cluster.render import render
from scaleback.commands.export import png
from scaleback.core import seeds
from scaleback.core.store import Store
from scaleback.objectives.classify import Classify
from scaleback.pretrain.loop import Training, train
from scaleback.pretrain.world import World
from scaleback.recipes import PRETRAIN_RECIPES
from scaleback.sources import REAL_SOURCES, SOURCES, ifs
from scaleback.sources.base import Source
from scaleback.sources.block_file import packed_bytes
from scaleback.sources.fractaldb import FractalDB
from scaleback.sources.one_fractal import OnePFrac
from scaleback.sources.population import BATCH_BYTES, Images, Population, Stream

POINTS = 100_000
ROUNDS = 5
"""Render jobs whose shares are told by their median."""
WRITTEN_ELSEWHERE = {
    "authors' Python": 2_563.0,
    "best public numba renderer": 6.8,
    "straightforward numba loop": 1.9,
    "AVX-512 prototype in C": 0.205,
}
"""ms for the same image on one core of a machine with AVX-512; not measured here."""


def one_fractal(size: int, **fields: Any) -> OnePFrac:
    """1p-frac without a lower bound of the fill: each image is drawn once."""
    return OnePFrac(size_px=size, min_fill=0.0, **fields)


def reference_ms(size: int) -> float:
    """One image by the authors' algorithm."""
    rng = seeds.generator("bench", 0)
    system = ifs.sigma_system(rng, maps=2, sigma=3.5)
    chances = ifs.probabilities(system)
    begun = time.perf_counter()
    draws = np.random.RandomState(100).random(POINTS)
    x, y, xs, ys = 0.0, 0.0, [0.0], [0.0]
    for draw in draws[:-1]:
        a, b, c, d, e, f = system[0 if draw <= chances[0] else 1]
        x, y = a * x + b * y + e, c * x + d * y + f
        xs.append(x)
        ys.append(y)
    column, row = (
        ((value - value.min()) / (value.max() - value.min()) * (size - 12) + 6).astype(int)
        for value in (np.array(xs), np.array(ys))
    )
    image = np.zeros((size, size), np.uint8)
    masks = rng.integers(1, 512, POINTS)
    bits = np.arange(9).reshape(3, 3)
    for t in range(POINTS):
        image[row[t] + 1 : row[t] + 4, column[t] + 1 : column[t] + 4] = 127 * (masks[t] >> bits & 1)
    return 1e3 * (time.perf_counter() - begun)


def one_core_ms(source: Source, images: int, repeats: int) -> float:
    """Least time for an image, of so many repeats over ``images``."""
    reader = source.open(0)
    reader(np.arange(16))
    seconds = []
    for repeat in range(repeats):
        begun = time.perf_counter()
        reader(np.arange(repeat * images, (repeat + 1) * images))
        seconds.append(time.perf_counter() - begun)
    return 1e3 * min(seconds) / images


def sustained_images_per_s(population: Population, seconds: float) -> float:
    """Mean rate of one core that draws for so long, in batches of those that blocks are made of."""
    source = population.source
    reader, together = source.open(population.seed), BATCH_BYTES // source.image_bytes
    reader(np.arange(1))
    done, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        reader(np.arange(done, done + together))
        done += together
    return done / (time.perf_counter() - begun)


def fractaldb_images_per_s(categories: int, cpus: int) -> float:
    """FractalDB at 362 px and 200,000 points, as bytes: whole categories of a thousand instances, a thread a core."""
    source = FractalDB()
    instances = source.categories * np.arange(source.available() // source.categories)
    readers = [source.open(0) for _ in range(cpus)]
    for cpu, reader in enumerate(readers):
        for category in range(cpu, categories * cpus, cpus):
            reader(np.array([category]))  # finds the category

    def draw(cpu: int) -> None:
        for category in range(cpu, categories * cpus, cpus):
            for start in range(0, len(instances), 250):
                assert readers[cpu](category + instances[start : start + 250]).image_BHWC.any()

    begun = time.perf_counter()
    with ThreadPoolExecutor(cpus) as pool:
        list(pool.map(draw, range(cpus)))
    return cpus * categories * len(instances) / (time.perf_counter() - begun)


def family_rates(images: int) -> dict[str, float]:
    """Images a second of one core, of every source that is made by formula, as it is by default."""
    found = {}
    for kind, made in SOURCES.items():
        if kind in REAL_SOURCES or any(field.is_required() for field in made.model_fields.values()):
            continue  # read, or made of others
        source = made()
        reader = source.open(0)
        index_N = np.arange(images)
        reader(index_N)  # compiles, and finds categories
        begun = time.perf_counter()
        reader(index_N + getattr(source, "categories", images))  # other images, of the same categories
        found[f"{kind.replace('-', '_')}_images_per_s"] = images / (time.perf_counter() - begun)
    return found


def encodings(size: int, images: int) -> dict[str, float]:
    """What it takes to encode an image on one core, and to what size: what blocks might hold."""
    samples = OnePFrac(size_px=size).open(0)(np.arange(images))
    packed, plain = samples.pictures.bits_BHX.tobytes(), samples.image_BHWC
    ways: dict[str, Callable[[], int]] = {
        "block": lambda: packed_bytes(np.arange(images), samples),
        "bits_lz4": lambda: pa.Codec("lz4_raw").compress(packed).size,
        "bits_zstd": lambda: pa.Codec("zstd").compress(packed).size,
        "bytes_zstd": lambda: pa.Codec("zstd").compress(plain.tobytes()).size,
        "png": lambda: sum(len(png(image_HWC)) for image_HWC in plain),
    }
    found = {}
    for name, way in ways.items():
        seconds = []
        for _ in range(3):
            begun = time.perf_counter()
            found[f"{name}_{size}_bytes"] = way() / images
            seconds.append(time.perf_counter() - begun)
        found[f"{name}_{size}_ms"] = 1e3 * min(seconds) / images
    return found


@contextmanager
def cluster(source: Source, cpus: int) -> Iterator[Store]:
    """A local cluster of so many cores, with workers that have drawn, and a store for what it draws."""
    with tempfile.TemporaryDirectory(prefix="bench-render-") as folder:
        store = Store(folder)
        with runtime.cluster(Placement(cpus=cpus, dashboard=False)):
            assert not render(store, [(Population.of(source, seed), 1) for seed in range(100, 100 + 4 * cpus)])
            yield store


def job_images_per_s(store: Store, population: Population, images: int) -> float:
    """Rate of a render job, whose images are removed."""
    begun = time.perf_counter()
    assert not render(store, [(population, images)])
    seconds = time.perf_counter() - begun
    store.remove(population.address)
    return population.blocks(images)[-1].stop / seconds


def busy_images_per_s(population: Population, seconds: float, cpus: int) -> float:
    """Rate of all cores of the cluster that draw into memory at the same time."""
    import ray

    draw = ray.remote(sustained_images_per_s)
    return sum(ray.get([draw.remote(population, seconds) for _ in range(cpus)]))


def ray_data(source: Source, images: int, cpus: int, *, rounds: int, seconds: float) -> dict[str, float]:
    """Rates of one core, of all that are busy, and of render jobs between them, and the shares.

    The machine drifts, and the fractal of one seed takes up to a third longer than another's: so shares are of rates of
    the same population, measured beside each other.
    """
    names = ("one_core", "busy_cores", "ray_data", "share", "share_of_busy")
    found: dict[str, list[float]] = {name: [] for name in names}
    with cluster(source, cpus) as store:
        busy_images_per_s(Population.of(source, 0), 0.1, cpus)  # starts and compiles
        for population in (Population.of(source, seed) for seed in range(rounds)):
            one, busy = sustained_images_per_s(population, seconds), busy_images_per_s(population, seconds, cpus)
            rate = job_images_per_s(store, population, images)
            busy = (busy + busy_images_per_s(population, seconds, cpus)) / 2
            one = (one + sustained_images_per_s(population, seconds)) / 2
            for name, value in zip(names, (one, busy, rate, rate / (cpus * one), rate / busy), strict=True):
                found[name].append(value)
    return {name: median(values) for name, values in found.items()}


def stream_step_share(steps: int, repeats: int, cpus: int) -> float:
    """Best step rate of a ViT-Tiny at 224 px on images drawn as it goes, over the best on images in memory."""
    import torch

    torch.set_num_threads(cpus)
    population = Population.of(OnePFrac(), 0)
    stream = Stream(population, 1_000, Store("results"))
    index_N = np.arange(len(stream))
    samples = stream.draw(index_N, 0 * index_N)
    stored = Images(image_NHWC=samples.image_BHWC, label_N=samples.label_B, classes=stream.classes)
    backbone = Backbone(model="vit_tiny_patch16_224", image_px=224)
    paper = PRETRAIN_RECIPES["1p-frac"]
    recipe = paper.replace(
        {"batch_images": 8, "budget_images": 8 * (steps + 1), "warmup_images": 0, "precision": "fp32"}
    )
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(repeats):
        for images in (stored, stream):
            module = backbone.build(0)
            head = torch.Generator().manual_seed(0)
            learner = Classify().build(module, width=width_of(module), classes=1_000, generator=head)
            ends: list[float] = []
            training = Training(
                learner=learner,
                views=recipe.views,
                images=images,
                image_px=224,
                channels=backbone.channels,
                recipe=recipe,
                seed=0,
            )
            train(training, World(), hooks=[lambda state, ends=ends: ends.append(time.perf_counter())])
            seconds[images is stream] += list(np.diff(ends))
    return min(seconds[False]) / min(seconds[True])


def measure(quick: bool) -> dict[str, float]:
    """All figures; ``quick`` takes fewer images, so that the start of a Ray Data job weighs more."""
    repeats, cpus = (3, os.cpu_count() or 1) if quick else (9, os.cpu_count() or 1)
    found = {"cores": float(cpus), "reference_512_ms": reference_ms(512)}
    for size in (224, 512):
        found[f"fast_{size}_ms"] = one_core_ms(one_fractal(size), 128, repeats)
        found[f"exact_{size}_ms"] = one_core_ms(one_fractal(size, renderer="exact"), 16, repeats)
    found |= family_rates(16 if quick else 64)
    found |= encodings(512, 64)
    found["fractaldb_362_images_per_s"] = fractaldb_images_per_s(2 if quick else 10, cpus)
    found["stream_step_share"] = stream_step_share(2 if quick else 6, 1 if quick else 6, cpus)
    for size in (224, 512):
        source, images = one_fractal(size), 2 ** (13 if quick else 19)
        rates = ray_data(source, images, cpus, rounds=1 if quick else ROUNDS, seconds=0.5 if quick else 3.0)
        for name in ("one_core", "busy_cores", "ray_data"):
            found[f"{name}_{size}_images_per_s"] = rates[name]
        found[f"ray_data_share_{size}"] = rates["share"]
        found[f"ray_data_share_of_busy_{size}"] = rates["share_of_busy"]
        if size == 224 and cpus > 1 and not quick:
            with cluster(source, 1) as store:
                alone = job_images_per_s(store, Population.of(source, 0), images // 2)
            with cluster(source, 2) as store:
                found["ray_data_speedup_2_workers"] = job_images_per_s(store, Population.of(source, 0), images) / alone
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer images")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    options = parser.parse_args()
    found = measure(options.quick)
    print(f"one image of 512 x 512, {POINTS:,} points, on one core        ms   reference / it")
    for name, value in WRITTEN_ELSEWHERE.items():
        print(f"  {name + ' (elsewhere)':<48} {value:>9.3f}   {max(WRITTEN_ELSEWHERE.values()) / value:>9,.0f}")
    for name in ("reference", "exact", "fast"):
        value = found[f"{name}_512_ms"]
        print(f"  {name + ' (here)':<48} {value:>9.3f}   {found['reference_512_ms'] / value:>9,.0f}")
    for name, value in found.items():
        print(f"{name:<32} {value:,.4g}")
    if options.json:
        print(json.dumps({name: round(value, 4) for name, value in found.items()}))


if __name__ == "__main__":
    main()
