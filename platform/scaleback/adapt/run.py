"""A generator's training, from images on storage to weights on storage; by the loop that pre-trains backbones."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as save_tensors

import scaleback.sources.diffusing
from scaleback.adapt.judge import judge_training
from scaleback.adapt.learner import AdaptingLearner, DenoisingLearner
from scaleback.core import seeds
from scaleback.core.store import Manifest, Store
from scaleback.pretrain.checkpoint import Checkpoints
from scaleback.pretrain.loop import Training, train, usable
from scaleback.pretrain.run import CURVE
from scaleback.pretrain.state import Row, TrainState
from scaleback.pretrain.world import World
from scaleback.recipes import Augmentation, Recipe
from scaleback.recipes.optimizers import AdamW
from scaleback.sources.base import Source
from scaleback.sources.diffusing.captions import captions
from scaleback.sources.diffusing.lora import lora_file
from scaleback.sources.diffusing.opened import CAPTIONS, JUDGE, LORA, PARTS, WEIGHTS, load_trained, subject_of
from scaleback.sources.diffusing.reader import guide_of
from scaleback.sources.generators import Schedule
from scaleback.sources.learnt import Adapted, Captioned, Judged, Learnt, Trained
from scaleback.sources.population import Images, class_names, load_images, missing_blocks, render_block

SHIPPED = Path(scaleback.sources.diffusing.__file__).parent / "weights"
"""Weights that come with the package, by the slug of their generator."""


def run_learning(
    spec: Learnt,
    store: Store,
    world: World,
    *,
    checkpoint_every_s: float = 60.0,
    report: Callable[[Row], None] = lambda row: None,
) -> Manifest | None:
    """Make and publish ``generator/<slug>``, ``captions/<slug>``, ``adapt/<slug>`` or ``judge/<slug>``.

    Only worker 0 gets it back.

    Weights of a generator that comes with the package are published as they are.

    Raises:
        DivergedError: the loss was not finite.
        IntegrityError: the images are not all there, or damaged.
    """
    begun = time.perf_counter()
    if isinstance(spec, Trained) and (shipped := SHIPPED / f"{spec.generator.slug}.safetensors").exists():
        if not world.first:
            return None
        record: dict[str, Any] = {"shipped": True}
        return store.publish(spec.address, {WEIGHTS: shipped.read_bytes()}, spec=spec, record=record)
    if isinstance(spec, Captioned):
        return _captioned(spec, store, world)
    images = load_images(store, spec.population, spec.images)
    training = _training(spec, images, store, world.device)
    if (cut := usable(training, world)) is None:
        return None
    world = cut
    checkpoints = Checkpoints(store, spec.address, spec, checkpoint_every_s)
    state = train(training, world, checkpoints=checkpoints, report=report)
    if not world.first:
        return None
    manifest = store.publish(
        spec.address,
        {**_files(spec, state), CURVE: json.dumps(state.rows, sort_keys=True).encode()},
        spec=spec,
        record={
            "images_seen": state.step * training.recipe.batch_images,
            "watched": state.rows[-1],
            "workers": world.size,
            "threads": torch.get_num_threads(),
            "train_s": time.perf_counter() - begun,
        },
    )
    checkpoints.clear()
    return manifest


def _captioned(spec: Captioned, store: Store, world: World) -> Manifest | None:
    if not world.first:
        return None
    begun, images = time.perf_counter(), load_images(store, spec.population, spec.images)
    said = json.dumps(captions(spec, images.image_NHWC, world.device), indent=0).encode()
    record = {"images": spec.images, "caption_s": time.perf_counter() - begun}
    return store.publish(spec.address, {CAPTIONS: said}, spec=spec, record=record)


def learn(
    source: Source, seed: int, store: Store, report: Callable[[Learnt, Row], None] = lambda stage, row: None
) -> None:
    """Do in this process what a source must have learnt before it can be opened, and is not there yet.

    Args:
        source: the source.
        seed: it is to be opened with.
        store: where it goes.
        report: called with a stage and a row of its curve.
    """
    for stage in source.learnt(seed):
        with store.lease(stage.address):
            if store.manifest(stage.address, stage) is None:
                for block in missing_blocks(store, stage.population, stage.images):
                    render_block(store, stage.population, block)
                device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
                run_learning(stage, store, World(device=device), report=partial(report, stage))


def _training(spec: Trained | Adapted | Judged, images: Images, store: Store, device: torch.device) -> Training:
    if isinstance(spec, Judged):
        return judge_training(spec, images)
    learner: DenoisingLearner
    subject = subject_of(spec.generator, spec.population, spec.images, class_names(store, spec.population), store)
    if isinstance(spec, Trained):
        schedule, seed, told = spec.generator.schedule, spec.generator.seed, spec.generator.labels
        diffuser = spec.generator.build(subject if told else replace(subject, classes=0)).to(device)
        guide = guide_of(diffuser, images.image_NHWC, images.label_N, kind="image", images=1, seed=seed)
        learner = DenoisingLearner(diffuser, schedule, guide, labels=told, hides=True)
    else:
        schedule, seed = spec.adaptation.schedule, spec.seed
        diffuser = spec.generator.build(subject).to(device)
        if (before := spec.trained) is not None:
            load_trained(diffuser, store, before)
        guide = guide_of(
            diffuser, images.image_NHWC, images.label_N, kind=spec.guidance, images=spec.guidance_images, seed=seed
        )
        generator = torch.Generator().manual_seed(seeds.key("low rank", seed) >> 1)
        learner = AdaptingLearner(diffuser, spec.adaptation, guide, generator=generator)
    height, _, channels = images.image_NHWC.shape[1:]
    recipe = _recipe(schedule)
    return Training(
        learner=learner,
        views=recipe.views,
        images=images,
        image_px=height,
        channels=channels,
        recipe=recipe,
        seed=seed,
    )


def _recipe(schedule: Schedule) -> Recipe:
    return Recipe(
        budget_images=schedule.budget_images,
        batch_images=schedule.batch_images,
        optimizer=AdamW(lr=schedule.lr, weight_decay=schedule.weight_decay),
        schedule="constant",
        warmup_images=schedule.warmup_images,
        views=(Augmentation(flip_horizontal=schedule.flip),),  # scaled to [-1, 1]
        clip_norm=schedule.clip_norm,
        ema=schedule.ema,
        precision=schedule.precision,
    )


def _files(spec: Trained | Adapted | Judged, state: TrainState) -> dict[str, bytes]:
    if isinstance(spec, Judged):
        return {JUDGE: save_tensors(state.weights(""))}
    weights = state.weights("diffuser.")
    if isinstance(spec, Trained):
        # Half of the bytes; a generator's weights need no more digits.
        return {WEIGHTS: save_tensors({name: value.half() for name, value in weights.items()})}
    unet = {name.removeprefix("unet."): value for name, value in weights.items() if name.startswith("unet.")}
    parts = {name: value for name, value in weights.items() if not name.startswith("unet.")}
    return {LORA: save_tensors(lora_file(unet)), PARTS: save_tensors(parts)}
