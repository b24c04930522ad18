"""One pre-training run, from blocks on storage to weights on storage."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import nn

from scaleback.backbones import Backbone, width_of
from scaleback.core import seeds
from scaleback.core.store import Manifest, Store
from scaleback.objectives.learners.base import Learner
from scaleback.pretrain.checkpoint import Checkpoints
from scaleback.pretrain.loop import Training, pixels_of, train, usable
from scaleback.pretrain.spec import Pretrain, views_of
from scaleback.pretrain.state import Row, TrainState
from scaleback.pretrain.watch import collapsed, verdict
from scaleback.pretrain.world import World
from scaleback.sources.population import Images, Stream, load_images

WEIGHTS, CURVE = "backbone.safetensors", "curve.json"


def run_pretrain(
    spec: Pretrain,
    store: Store,
    world: World,
    *,
    stream: bool = False,
    checkpoint_every_s: float = 60.0,
    report: Callable[[Row], None] = lambda row: None,
) -> Manifest | None:
    """Train and publish ``pretrain/<slug>``: weights that timm loads, the curve, a record. Only worker 0 gets it back.

    Images come from storage, or with ``stream`` are drawn as they are needed; they are the same, and so are weights.

    Raises:
        RenderError: an image cannot be drawn.
        DivergedError: the loss was not finite.
        IntegrityError: the images are not all there, or damaged.
    """
    begun = time.perf_counter()
    streamed = stream or spec.population.source.fresh
    images = (
        Stream(spec.population, spec.images, store) if streamed else load_images(store, spec.population, spec.images)
    )
    training = _training(spec, images)
    if (cut := usable(training, world)) is None:
        return None
    world = cut
    checkpoints = Checkpoints(store, spec.address, spec, checkpoint_every_s)
    ready = time.perf_counter()
    state = train(training, world, checkpoints=checkpoints, report=report)
    if not world.first:
        return None
    seconds = time.perf_counter() - ready
    manifest = store.publish(
        spec.address,
        {
            WEIGHTS: save_tensors(state.weights(f"{training.learner.kept}.")),
            CURVE: json.dumps(state.rows, sort_keys=True).encode(),
        },
        spec=spec,
        record={
            **_ended(spec, training, state),
            "timm": {"model_name": spec.backbone.model, **spec.backbone.timm_arguments()},
            "streamed": streamed,
            "workers": world.size,
            "worker_counts": [[step * training.recipe.batch_images, workers] for step, workers in state.workers],
            "resumed_images": state.resumed * training.recipe.batch_images,
            "threads": torch.get_num_threads(),
            "ready_s": ready - begun,
            "train_s": seconds,
        },
    )
    checkpoints.clear()
    return manifest


def _training(spec: Pretrain, images: Images | Stream) -> Training:
    recipe = spec.sized_recipe
    return Training(
        learner=_learner(spec, images),
        views=views_of(spec.objective, spec.recipe),
        images=images,
        image_px=spec.backbone.image_px,
        channels=spec.backbone.channels,
        recipe=recipe,
        seed=spec.seed,
        collapse=partial(
            collapsed,
            budget_images=recipe.budget_images,
            classes=spec.classes,
            of_method=spec.objective.collapse,
        ),
        trivial_loss=spec.trivial_loss,
    )


def _learner(spec: Pretrain, images: Images | Stream) -> Learner:
    """The method at work on fresh weights; it has looked at some of the images."""
    backbone = spec.backbone.build(seeds.key("backbone", spec.seed) >> 1)
    generator = torch.Generator().manual_seed(seeds.key("head", spec.seed) >> 1)
    learner = spec.objective.build(backbone, width=width_of(backbone), classes=spec.classes, generator=generator)
    if learner.prepared_images:
        index_N = np.arange(min(len(images), learner.prepared_images))
        learner.prepare(pixels_of(images, index_N, spec.backbone.channels).expand(-1, spec.backbone.channels, -1, -1))
    return learner


def _ended(spec: Pretrain, training: Training, state: TrainState) -> dict[str, Any]:
    """What the record says of how the run went."""
    recipe, last, stopped = training.recipe, state.rows[-1], training.collapse(state.rows)
    found = verdict(state.rows, trivial_loss=spec.trivial_loss, classes=spec.classes)
    if stopped:
        found["collapsed"] = True
    seen = state.step * recipe.batch_images
    return {
        **found,
        "collapse": stopped,
        "stopped_early": state.step < recipe.steps,
        "images_seen": seen,
        "compared_images": recipe.batch_images // recipe.accumulate if spec.objective.compares_images else None,
        "budget": {
            "by": spec.recipe.budget_by,
            "images": seen,
            "updates": state.step,
            "epochs": seen / spec.images,
            "flops": seen * spec.flops_an_image,
        },
        "watched": {name: value for name, value in last.items() if math.isfinite(value)},
        **training.learner.facts(),
    }


def load_backbone(store: Store, spec: Backbone, seed: int, pretrain: Pretrain | None) -> nn.Module:
    """The backbone that a pre-training run left, or one with fresh weights.

    Raises:
        IntegrityError: the weights are damaged.
    """
    backbone = spec.build(seeds.key("backbone", seed) >> 1)
    if pretrain is None:
        return backbone
    manifest = store.manifest(pretrain.address, pretrain)
    assert manifest is not None, f"{pretrain.address} was asked for before it was there"
    backbone.load_state_dict(load_tensors(store.read(manifest, WEIGHTS)))
    return backbone
