"""One pre-training run, from blocks on storage to weights on storage."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import nn

from scaleback.backbones import Backbone
from scaleback.core import seeds
from scaleback.core.store import Manifest, Store
from scaleback.pretrain.checkpoint import Checkpoints
from scaleback.pretrain.loop import Training, train
from scaleback.pretrain.spec import Pretrain
from scaleback.pretrain.state import Row
from scaleback.pretrain.watch import verdict
from scaleback.pretrain.world import World
from scaleback.sources.population import Stream, load_images

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
    images = Stream(spec.population, spec.images) if streamed else load_images(store, spec.population, spec.images)
    backbone = spec.backbone.build(seeds.key("backbone", spec.seed) >> 1)
    generator = torch.Generator().manual_seed(seeds.key("head", spec.seed) >> 1)
    learner = spec.objective.build(backbone, width=width_of(backbone), classes=spec.classes, generator=generator)
    training = Training(
        learner=learner,
        views=spec.objective.views,
        images=images,
        image_px=spec.backbone.image_px,
        channels=spec.backbone.channels,
        recipe=spec.recipe,
        seed=spec.seed,
    )
    checkpoints = Checkpoints(store, spec.address, spec, checkpoint_every_s)
    ready = time.perf_counter()
    state = train(training, world, checkpoints=checkpoints, report=report)
    if not world.first:
        return None
    seconds = time.perf_counter() - ready
    manifest = store.publish(
        spec.address,
        {WEIGHTS: save_tensors(state.weights("backbone.")), CURVE: json.dumps(state.rows, sort_keys=True).encode()},
        spec=spec,
        record={
            **verdict(state.rows, trivial_loss=spec.trivial_loss, classes=spec.classes),
            "accuracy": state.rows[-1].get("accuracy"),
            "images_seen": state.step * spec.recipe.batch_images,
            "timm": {"model_name": spec.backbone.model, **spec.backbone.timm_arguments()},
            "streamed": streamed,
            "workers": world.size,
            "threads": torch.get_num_threads(),
            "ready_s": ready - begun,
            "train_s": seconds,
        },
    )
    checkpoints.clear()
    return manifest


def width_of(backbone: nn.Module) -> int:
    """Length of the features a timm model returns."""
    width = backbone.num_features
    assert isinstance(width, int)
    return width


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
