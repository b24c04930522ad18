"""What a step of each method costs, against a bare torch loop of the same modules on ready-made tensors.

    python jobs/bench_objectives.py [--quick] [--json] [--methods dino,mae]

Each method trains a ViT-Tiny on images of 32 px in patches of 4 and of 224 px in patches of 16, by the objective and
the augmentation of its paper (crops scaled to the model's size). Steps of the training loop and of the bare loop take
turns for some seconds: forward, backward, clipping where the recipe clips, optimizer, upkeep, on a batch that lies
ready. A turn's ratio is the bare loop's time over the training loop's; ``<method>_share_of_bare_loop`` is made of the
medians of turns with and without a row of the curve, weighted as in a run of 1,000 steps, at 32 px, ``..._224`` the
same at 224 px.
``augmentation_share_of_step`` is the time in which a batch is picked and augmented over that of a step, the largest of
all methods. Memory is the peak of a process of its own. ``online_knn_share_of_step`` is what a running kNN accuracy of
2,048 features adds to a step of ``classify``. ``ddp2_share_of_torchrun`` is the rate of two workers of Ray Train, once
they are warm, over that of a bare loop of DistributedDataParallel in two processes of torchrun, a core each, which
runs before and after them: the median of several groups. ``..._beside_ray`` is the same over torchrun beside a Ray that
is up and does nothing, as its own dozen processes share the cores.
"""

import argparse
import itertools
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from statistics import harmonic_mean, median
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "platform"))

import numpy as np
import torch
import torch.distributed as dist

from scaleback.backbones import Backbone, width_of
from scaleback.cluster import group, runtime
from scaleback.cluster.placement import Placement
from scaleback.core import memory
from scaleback.core.store import Store
from scaleback.objectives import OBJECTIVE_PRESETS
from scaleback.objectives.learners.base import Batch, Learner
from scaleback.pretrain.loop import Training, batches, pixels_of, train
from scaleback.pretrain.online import OnlineKNN
from scaleback.pretrain.spec import views_of
from scaleback.pretrain.state import TrainState
from scaleback.pretrain.world import World
from scaleback.recipes import PRETRAIN_RECIPES, Augmentation
from scaleback.recipes.recipe import Recipe
from scaleback.sources.population import Images, missing_blocks, render_block
from scaleback.study.run import Run

METHODS = {
    "classify": "1p-frac",
    "idmm": "idmm",
    "moco_v3": "moco-v3",
    "dino": "dino",
    "sdmp_moco_v3": "sdmp-moco-v3",
    "sdmp_dino": "sdmp-dino",
    "beit": "beit",
    "splitmask": "splitmask",
    "mae": "mae",
}
"""Name in the figures to preset of objective and recipe."""
QUICK = ("classify", "moco_v3", "beit", "mae")
PATCH_PX = {32: 4, 224: 16}
BATCH_IMAGES = {32: 8, 224: 4}
IMAGES, CLASSES = 512, 100
RUN_STEPS, WARM_UP = 300, 2
"""Steps of the run whose first ones are measured, so that a row of the curve ends each third; steps not counted."""
ROW_SHARE = 0.1
"""Steps with a row of all steps, in a run of 1,000."""
LEAST_TURNS, QUICK_TURNS, TURNS_S = 6, 3, {32: 12.0, 224: 36.0}
"""At least so many turns, for so many seconds by size: the slowest method takes five for one turn at 224 px."""
MEMBER = "--torchrun-member"


class Measured(Exception):
    """Enough steps have been timed."""


def job(method: str, size: int, batch_images: int, steps: int = RUN_STEPS) -> Training:
    """A run of a method on pictures of noise."""
    objective, paper = OBJECTIVE_PRESETS[METHODS[method]], PRETRAIN_RECIPES[METHODS[method]]
    backbone = Backbone(model="vit_tiny_patch16_224", image_px=size, patch_px=PATCH_PX[size])
    changes: dict[str, Any] = {
        "batch_images": batch_images,
        "budget_images": batch_images * steps,
        "budget_epochs": None,
        "warmup_images": 0,
        "precision": "fp32",
        "accumulate": 1,
        "views": [scaled(view, size).plain() for view in paper.views],
    }
    recipe = paper.replace(changes)
    rng = np.random.default_rng(0)
    image_NHWC = rng.integers(0, 256, (IMAGES, size, size, 3), dtype=np.uint8)
    images = Images(image_NHWC=image_NHWC, label_N=np.arange(IMAGES) % CLASSES, classes=CLASSES)
    module = backbone.build(0)
    classes = objective.classes(source_classes=CLASSES, images=IMAGES)
    generator = torch.Generator().manual_seed(0)
    learner = objective.build(module, width=width_of(module), classes=classes, generator=generator)
    learner.prepare(pixels_of(images, np.arange(IMAGES), 3))
    return Training(
        learner=learner,
        views=views_of(objective, recipe),
        images=images,
        image_px=size,
        channels=3,
        recipe=recipe,
        seed=0,
    )


def scaled(view: Augmentation, size: int) -> Augmentation:
    """A view that takes the paper's share of an image's side, in whole patches."""
    if view.size_px is None:
        return view
    patch = PATCH_PX[size]
    return view.replace({"size_px": max(patch, round(view.size_px / 224 * size / patch) * patch)})


class Turns:
    """A hook of the training loop: it times each step after the first ones, and a step of the bare loop follows."""

    def __init__(self, training: Training, bare: Callable[[], Learner], quick: bool) -> None:
        self._training, self._build = training, bare
        self._least, self._seconds = (QUICK_TURNS, 0.0) if quick else (LEAST_TURNS, TURNS_S[training.image_px])
        self._batch: Batch | None = None
        training.learner.register_forward_pre_hook(self._keep)
        self.ours_s: list[float] = []
        self.bare_s: list[float] = []
        self.row: list[bool] = []
        """Whether a row of the curve ended with a step."""
        self.peak_kb = 0
        """Of the training loop alone."""
        self._rows = 0
        self._begun = self._since = 0.0

    def _keep(self, module: torch.nn.Module, given: tuple[Batch]) -> None:
        (self._batch,) = given

    def __call__(self, state: TrainState) -> None:
        now = time.perf_counter()
        if state.step < WARM_UP:
            return
        if state.step == WARM_UP:
            self.peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            self._bare = self._build().train()
            self._optimizer = self._training.recipe.optimizer.build(self._bare)
            self._bare_step()
            self._begun = time.perf_counter()
        else:
            self.ours_s.append(now - self._since)
            self.row.append(len(state.rows) > self._rows)
            self._bare_step()
            self.bare_s.append(time.perf_counter() - now)
        self._rows = len(state.rows)
        self._since = time.perf_counter()
        if len(self.row) >= self._least and self._since - self._begun >= self._seconds:
            raise Measured

    def _bare_step(self) -> None:
        assert self._batch is not None, "the loop has just used one"
        bare_step(self._bare, self._bare, self._optimizer, replace(self._batch, watched=False), self._training.recipe)

    def typical(self, value_T: list[float]) -> float:
        """Of one value a turn: the medians of steps with and without a row, in the proportion of a real run."""
        with_row, without = (
            median(value for value, row in zip(value_T, self.row, strict=True) if row == wanted)
            for wanted in (True, False)
        )
        return ROW_SHARE * with_row + (1 - ROW_SHARE) * without


def bare_step(
    model: torch.nn.Module, learner: Learner, optimizer: torch.optim.Optimizer, batch: Batch, recipe: Recipe
) -> None:
    """What every loop of this recipe does; gradients are clipped by torch's own function, where they are at all."""
    model(batch).total.backward()
    learner.before_step(batch.progress)
    if recipe.clip_norm is not None:
        parameters = [parameter for parameter in learner.parameters() if parameter.grad is not None]
        for clipped in [[parameter] for parameter in parameters] if recipe.clip_each else [parameters]:
            torch.nn.utils.clip_grad_norm_(clipped, recipe.clip_norm)
    optimizer.step()
    optimizer.zero_grad()
    learner.after_step(batch.progress)


@memory.kept()  # as every stage
def measure_method(method: str, size: int, batch: int, quick: bool) -> dict[str, float]:
    """Figures of one method at one size, in this process."""
    torch.set_num_threads(os.cpu_count() or 1)
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    training = job(method, size, batch)
    turns = Turns(training, lambda: job(method, size, batch).learner, quick)
    with suppress(Measured):
        train(training, World(), hooks=[turns])
    ours_s = turns.typical(turns.ours_s)
    found = {
        "share_of_bare_loop": 1
        / turns.typical([ours / bare for ours, bare in zip(turns.ours_s, turns.bare_s, strict=True)]),
        "images_per_s": batch / ours_s,
        "augmentation_share": augmentation_s(training) / ours_s,
        "memory_mb": (turns.peak_kb - before_kb) / 1024,
    }
    return found | ({"online_knn_share": online_knn_s(batch) / ours_s} if method == "classify" else {})


def augmentation_s(training: Training) -> float:
    """Seconds in which a batch is picked and augmented."""
    coming, seconds = batches(training, World()), []
    for _ in range(WARM_UP + LEAST_TURNS):
        begun = time.perf_counter()
        next(coming)
        seconds.append(time.perf_counter() - begun)
    return median(seconds[WARM_UP:])


def online_knn_s(batch: int) -> float:
    """Seconds a step of a running kNN accuracy, of which every tenth is scored."""
    online, rng = OnlineKNN(2_048, 192, World()), torch.Generator().manual_seed(0)
    begun = time.perf_counter()
    for step in range(200):
        features_BD = torch.randn(batch, 192, generator=rng)
        index_B = torch.arange(len(features_BD)) + step * len(features_BD)
        online.add(features_BD, index_B % CLASSES, index_B, scored=step % 10 == 9)
    return (time.perf_counter() - begun) / 200


def apart(method: str, size: int, batch: int, quick: bool) -> dict[str, float]:
    """The same in a process of its own, so that memory is the method's."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(measure_method, (method, size, batch, quick))


# Two workers --------------------------------------------------------------------------------------------------------

GROUP_BATCH = 32
GROUP_ROUNDS, GROUP_RUN_STEPS, GROUP_STEPS, GROUP_WARM_UP = 3, 1_000, 60, 30
"""Groups; a row of the curve ends each tenth step of such a run, whose first ones after the warm-up are timed."""
STAMPS = "stamps.json"


def group_rates() -> tuple[float, float]:
    """Images a second of two workers of Ray Train, by the times at which rows end; of torchrun beside an idle Ray."""
    run = Run.parse(
        {
            "source": {"kind": "point-cloud", "size_px": 32},
            "images": IMAGES,
            "objective": OBJECTIVE_PRESETS["1p-frac"].replace({"labels": "index"}).plain(),
            "backbone": {"model": "vit_tiny_patch16_224", "image_px": 32, "patch_px": PATCH_PX[32]},
            "recipe": {
                "preset": "1p-frac",
                "precision": "fp32",
                "batch_images": GROUP_BATCH,
                "budget_images": GROUP_BATCH * GROUP_RUN_STEPS,
                "warmup_images": 0,
            },
            "target": {"data": "digits", "images": 100},
            "evaluations": ["knn"],
            "seed": 0,
        }
    )
    assert run.pretrain is not None, "it pre-trains"
    with tempfile.TemporaryDirectory(prefix="bench-objectives-") as folder:
        store, placement = Store(folder), Placement(cpus=2, workers=2, dashboard=False, retries=0)
        for population, images in run.stored(stream=False):  # here, so that no process of Ray Data is left beside
            for block in missing_blocks(store, population, images):
                render_block(store, population, block)
        with runtime.cluster(placement), mock.patch.object(group, "_member", stamped_member(f"{folder}/{STAMPS}")):
            before = torchrun_images_per_s()
            group.train_in_group(run.pretrain, store, placement)
            beside_ray = harmonic_mean([before, torchrun_images_per_s()])
        stamps = json.loads(Path(folder, STAMPS).read_text())
    (first_images, first_s), (last_images, last_s) = stamps[0], stamps[-1]
    return float((last_images - first_images) / (last_s - first_s)), beside_ray


def stamped_member(path: str) -> Callable[[dict[str, Any]], None]:
    """The group's worker, which also writes down when rows ended, and leaves after some of them."""

    def member(config: dict[str, Any]) -> None:
        from scaleback.cluster import worker

        run_stage, stamps = worker.run_stage, []

        def stamped(verb: str, plain: Any, store: Store, placement: Placement, report: worker.Report) -> None:
            def stamp(row: dict[str, float]) -> None:
                report(row)
                step = row["images_seen"] // GROUP_BATCH
                if step >= GROUP_WARM_UP:
                    stamps.append((row["images_seen"], time.perf_counter()))
                if step >= GROUP_STEPS + GROUP_WARM_UP:
                    raise Measured

            run_stage(verb, plain, store, placement, stamp)

        with mock.patch.object(worker, "run_stage", stamped), suppress(Measured):
            group._member(config)
        if dist.get_rank() == 0:
            Path(path).write_text(json.dumps(stamps))

    return member


def torchrun_images_per_s() -> float:
    """Rate of the bare loop under torchrun."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", __file__]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    said = subprocess.run([*command, MEMBER], env=environment, check=True, capture_output=True, text=True, timeout=600)
    return float(json.loads(said.stdout.splitlines()[-1]))


def torchrun_member() -> None:
    """One of the two processes."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    training = job("classify", 32, GROUP_BATCH)
    learner = training.learner.train()
    model = torch.nn.parallel.DistributedDataParallel(learner)
    optimizer = training.recipe.optimizer.build(learner)
    world = World.joined(torch.device("cpu"))
    batch = next(batches(training, world, watched=lambda step: False))
    for step in range(GROUP_WARM_UP + GROUP_STEPS // 2):
        if step == GROUP_WARM_UP:
            begun = time.perf_counter()
        bare_step(model, learner, optimizer, batch, training.recipe)
    if world.first:
        print(json.dumps(GROUP_BATCH * (GROUP_STEPS // 2) / (time.perf_counter() - begun)), flush=True)
    dist.destroy_process_group()


def group_figures() -> dict[str, float]:
    """Rates of two processes, and the shares of groups, each over torchrun before and after it."""
    alone, groups = [torchrun_images_per_s()], []
    for _ in range(GROUP_ROUNDS):
        groups.append(group_rates())
        alone.append(torchrun_images_per_s())
    return {
        "ddp2_images_per_s": median(ours for ours, _ in groups),
        "torchrun2_images_per_s": median(alone),
        "torchrun2_beside_ray_images_per_s": median(beside_ray for _, beside_ray in groups),
        "ddp2_share_of_torchrun": median(
            ours / harmonic_mean(around) for (ours, _), around in zip(groups, itertools.pairwise(alone), strict=True)
        ),
        "ddp2_share_of_torchrun_beside_ray": median(ours / beside_ray for ours, beside_ray in groups),
    }


def measure(methods: list[str], quick: bool) -> dict[str, float]:
    """All figures."""
    found: dict[str, float] = {}
    for size, method in itertools.product((32,) if quick else (32, 224), methods):
        batch = 4 if quick else BATCH_IMAGES[size]
        for name, value in apart(method, size, batch, quick).items():
            found[f"{method}_{name}" + ("" if size == 32 else f"_{size}")] = value
        shown = {name: round(value, 3) for name, value in found.items() if name.startswith(method)}
        print(f"{method} at {size} px", shown)
    if "classify" in methods:
        found["online_knn_share_of_step"] = max(value for name, value in found.items() if "online_knn" in name)
    found["augmentation_share_of_step"] = max(value for name, value in found.items() if "augmentation_share" in name)
    return found if quick else found | group_figures()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="some methods, few steps of small batches, 32 px only, one worker"
    )
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    parser.add_argument("--methods", help="some of " + ", ".join(METHODS))
    parser.add_argument(MEMBER, action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.torchrun_member:
        torchrun_member()
        return
    methods = options.methods.split(",") if options.methods else list(QUICK if options.quick else METHODS)
    unknown = [method for method in methods if method not in METHODS]
    if unknown:
        parser.error(f"--methods: unknown {unknown[0]!r}; known are {', '.join(METHODS)}")
    found = measure(methods, options.quick)
    for name, value in found.items():
        print(f"{name:<44} {value:,.4g}")
    if options.json:
        print(json.dumps({name: round(value, 4) for name, value in found.items()}))


if __name__ == "__main__":
    main()
