"""The training loop. It never asks which method it is running, nor whether it is alone."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from scaleback.backbones import width_of
from scaleback.core import seeds
from scaleback.core.ahead import ahead
from scaleback.core.errors import LeavingError, PlacementError, Refusal
from scaleback.objectives.learners.base import Batch, Learner, Losses
from scaleback.pretrain.checkpoint import Checkpoints
from scaleback.pretrain.leaving import NOTICE
from scaleback.pretrain.online import OnlineKNN
from scaleback.pretrain.order import BatchOrder, PoissonOrder
from scaleback.pretrain.state import Average, Row, TrainState
from scaleback.pretrain.watch import Watch
from scaleback.pretrain.world import World
from scaleback.recipes import Augmentation
from scaleback.recipes.augment import Augmenter
from scaleback.recipes.recipe import Recipe
from scaleback.sources.population import Images, Stream

# Shapes: B images of a batch (global, or a worker's slice), N images of the set, C channels, H rows, W columns.

DEVICE_SHARE = 0.25
"""Images live on the GPU if they take no more than this share of its free memory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """What is to be trained, on what, how."""

    learner: Learner
    views: tuple[Augmentation, ...]
    """What makes each view of an image."""
    images: Images | Stream
    image_px: int
    channels: int
    recipe: Recipe
    """Its budget in image passes."""
    seed: int
    order: type[BatchOrder | PoissonOrder] = BatchOrder
    """How batches are drawn."""
    collapse: Callable[[Sequence[Row]], str | None] = lambda rows: None
    """Why the curve so far shows a collapse, which ends the run; None if it does not."""
    trivial_loss: float | None = None


Hook = Callable[[TrainState], None]
"""Called after every step."""


def train(
    training: Training,
    world: World,
    *,
    checkpoints: Checkpoints | None = None,
    hooks: Sequence[Hook] = (),
    report: Callable[[Row], None] = lambda row: None,
) -> TrainState:
    """Train to the end of the budget, from the newest checkpoint if there is one.

    Raises:
        DivergedError: the loss is not finite.
        PlacementError: the batch cannot be cut into equal slices.
        LeavingError: this process was warned that it ends; a checkpoint is written.
    """
    recipe, learner = training.recipe, training.learner.to(world.device)
    optimizer = recipe.optimizer.build(learner)
    decayed = [group for group in optimizer.param_groups if group["weight_decay"]]
    state = TrainState(
        learner,
        optimizer,
        average=Average(learner, recipe.ema) if recipe.ema else None,
        online=OnlineKNN(recipe.online_knn, width_of(learner.backbone), world) if recipe.online_knn else None,
    )
    _restore(state, checkpoints, world)
    if recipe.compile:
        learner.backbone.compile()
    watch = _watch(training, world, state)
    stochastic = _draws_in_forward(learner)
    learner.train()

    saving = None if checkpoints is None else _Saving(checkpoints, world)
    coming = batches(training, world, first=state.step, watched=watch.due)
    model = world.wrap(learner)

    for step in range(state.step, recipe.steps):
        lr = recipe.lr_at((step + 1) * recipe.batch_images)
        for group in optimizer.param_groups:
            group["lr"] = lr * group.get("lr_scale", 1.0)
        for group in decayed:
            group["weight_decay"] = recipe.weight_decay_at(step / recipe.steps)
        if stochastic:
            torch.manual_seed(seeds.key("forward", training.seed, step, world.rank) >> 1)

        for micro in range(recipe.accumulate):
            batch = next(coming)
            with _averaging(model, micro == recipe.accumulate - 1), _precision(recipe, world):
                losses: Losses = model(batch)
                (losses.total / recipe.accumulate).backward()
            watch.add(losses, step)
            if state.online is not None:
                state.online.add(losses.features_BD, batch.label_B, batch.index_B, scored=batch.watched)

        row_due = watch.due(step + 1)
        learner.before_step(step / recipe.steps)
        gradient_norm = _clip(learner, recipe, row_due=row_due)
        optimizer.step()
        optimizer.zero_grad()
        learner.after_step((step + 1) / recipe.steps)
        if state.average is not None:
            state.average.update(step)
        state.step = step + 1

        if row_due:
            row = watch.row(state.step, lr, gradient_norm, losses.features_BD)
            state.rows.append(row if state.online is None else row | state.online.row())
            report(state.rows[-1])
        for hook in hooks:
            hook(state)
        if row_due and _collapsed(training, state, world):
            break  # before a checkpoint: no run is resumed from one that has collapsed
        if saving is not None and state.step < recipe.steps:
            saving.after_step(state, row_due=row_due)
    return state


def usable(training: Training, world: World) -> World | None:
    """The largest group of the first workers that the batch can be cut for; None for a worker that is left over."""
    return world.cut(training.recipe.usable_workers(world.size, training.learner.slice_multiple))


def batches(
    training: Training, world: World, *, first: int = 0, watched: Callable[[int], bool] = lambda step: True
) -> Iterator[Batch]:
    """This worker's micro-batches from step ``first`` on, augmented, on the device.

    Args:
        training: whose images and recipe.
        world: this worker.
        first: step, 0 for all.
        watched: whether a row of the curve ends with a step (1 is the first).

    Raises:
        PlacementError: the batch cannot be cut into equal slices.
    """
    recipe = training.recipe
    try:
        recipe.slice_images(world.size, training.learner.slice_multiple)
    except Refusal as error:
        raise PlacementError(f"{error.field}: {error}") from None
    order = training.order(images=len(training.images), batch_images=recipe.batch_images, seed=training.seed)
    return _Assembler(training, world)(_slices(order, recipe, world, first, watched))


class _Slice(NamedTuple):
    """A worker's part of a micro-batch."""

    step: int
    index_B: NDArray[np.int64]
    epoch_B: NDArray[np.int64]
    watched: bool


def _slices(
    order: BatchOrder | PoissonOrder, recipe: Recipe, world: World, first: int, watched: Callable[[int], bool]
) -> Iterator[_Slice]:
    """This worker's slices from step ``first`` on."""
    for step in range(first, recipe.steps):
        index_B, epoch_B = order.batch(step)
        slice_images = len(index_B) // (recipe.accumulate * world.size)
        for micro in range(recipe.accumulate):
            start = (micro * world.size + world.rank) * slice_images
            mine = slice(start, start + slice_images)
            yield _Slice(step, index_B[mine], epoch_B[mine], watched(step + 1))


class _Assembler:
    """Makes batches of slices: picks images by index, or draws them ahead of time; augments them on the device."""

    def __init__(self, training: Training, world: World) -> None:
        device = world.device
        if isinstance(training.images, Images):
            pixels_NCHW = _channels_first(training.images.image_NHWC, training.channels)
            self._pixels_NCHW = pixels_NCHW.to(device if _fits(pixels_NCHW, device) else "cpu")
            self._label_N = torch.from_numpy(training.images.label_N)
        self._training, self._world = training, world
        self._augmenters = [
            Augmenter(spec, seed=training.seed, view=number, image_px=spec.size_px or training.image_px, device=device)
            for number, spec in enumerate(training.views)
        ]

    def __call__(self, slices: Iterator[_Slice]) -> Iterator[Batch]:
        images = self._training.images
        pixels = ahead(partial(self._draw, images), slices) if isinstance(images, Stream) else map(self._pick, slices)
        return itertools.starmap(self._batch, pixels)

    def _pick(self, part: _Slice) -> tuple[_Slice, Tensor, Tensor]:
        index = torch.from_numpy(part.index_B)
        pixels_BCHW = self._pixels_NCHW.index_select(0, index.to(self._pixels_NCHW.device))
        return part, pixels_BCHW, self._label_N[index]

    def _draw(self, images: Stream, part: _Slice) -> tuple[_Slice, Tensor, Tensor]:
        samples = images.draw(part.index_B, part.epoch_B)
        pixels_BCHW = _channels_first(samples.image_BHWC, self._training.channels)
        if self._world.device.type == "cuda":
            pixels_BCHW = pixels_BCHW.pin_memory()  # so that the copy does not wait
        return part, pixels_BCHW, torch.from_numpy(samples.label_B)

    def _batch(self, part: _Slice, pixels_BCHW: Tensor, label_B: Tensor) -> Batch:
        training, device = self._training, self._world.device
        unit_BCHW = pixels_BCHW.to(device, non_blocking=True).float().div_(255)
        image_BCHW = unit_BCHW.expand(-1, training.channels, -1, -1)
        return Batch(
            view_VBCHW=[augment(image_BCHW, part.index_B, part.epoch_B) for augment in self._augmenters],
            label_B=label_B.to(device),
            index_B=torch.from_numpy(part.index_B).to(device),
            counter_B=seeds.counter(part.epoch_B, part.index_B),
            seed=training.seed,
            step=part.step,
            progress=part.step / training.recipe.steps,
            watched=part.watched,
        )


def pixels_of(images: Images | Stream, index_N: NDArray[np.int64], channels: int) -> Tensor:
    """Images by index as the model's channels, uint8, (N, 1 or C, H, W); of a fresh source, those of the first pass."""
    if isinstance(images, Images):
        return _channels_first(images.image_NHWC[index_N], channels)
    return _channels_first(images.draw(index_N, 0 * index_N).image_BHWC, channels)


def _channels_first(image_NHWC: NDArray[np.uint8], channels: int) -> Tensor:
    return fit_channels(torch.from_numpy(image_NHWC).permute(0, 3, 1, 2), channels).contiguous()


def fit_channels(image_NCHW: Tensor, channels: int) -> Tensor:
    """Colour to gray where the model takes one channel (ITU-R 601); gray stays one channel and is expanded later."""
    if image_NCHW.shape[1] == 3 and channels == 1:
        weight = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
        return (image_NCHW.float() * weight).sum(1, keepdim=True).round().to(torch.uint8)
    return image_NCHW


def _collapsed(training: Training, state: TrainState, world: World) -> bool:
    """Worker 0 judges, so that workers of unlike machines stop together."""
    return world.told_by_first(training.collapse(state.rows) is not None if world.first else False)


def _restore(state: TrainState, checkpoints: Checkpoints | None, world: World) -> None:
    """Continue where worker 0 finds the newest checkpoint; every worker reads the same one, however many wrote it."""
    if checkpoints is not None:
        files = world.told_by_first(checkpoints.newest() if world.first else None)
        if files is not None:
            state.load(files, rank=world.rank, workers=world.size)
    state.trained_by(world.size)


def _watch(training: Training, world: World, state: TrainState) -> Watch:
    steps, batch_images = training.recipe.steps, training.recipe.batch_images
    return Watch(world, steps=steps, batch_images=batch_images, trivial_loss=training.trivial_loss, parts=state.watched)


class _Saving:
    """Worker 0 says when, by its clock, and saves; the others learn of it, so that all are at the same step.

    A worker that is warned saves by itself and leaves: all workers hold the same state, but for what each has watched
    since the last row.
    """

    def __init__(self, checkpoints: Checkpoints, world: World) -> None:
        self._checkpoints, self._world = checkpoints, world
        self._asked_at = 0

    def after_step(self, state: TrainState, *, row_due: bool) -> None:
        """Save if it is time.

        Raises:
            LeavingError: this process was warned that it ends; a checkpoint is written.
        """
        if row_due or state.step >= self._asked_at:
            judged = self._checkpoints.judge(state.step) if self._world.first else (False, 0)
            save, more = self._world.told_by_first(judged)
            self._asked_at = state.step + more
            if save:
                watched = {name: self._world.gathered(own_1S) for name, own_1S in state.watched_by_this().items()}
                if self._world.first:
                    self._checkpoints.save(state, watched)
        if NOTICE.heeded_now(whole=row_due or self._world.size == 1):
            self._checkpoints.save(state)
            raise LeavingError(f"warned that this process ends; saved after step {state.step:,}")


def _averaging(model: nn.Module, last: bool) -> Any:
    """Gradients are averaged over workers once a step, with the last micro-batch."""
    if isinstance(model, nn.parallel.DistributedDataParallel) and not last:
        return model.no_sync()
    return torch.enable_grad()


def _precision(recipe: Recipe, world: World) -> torch.autocast:
    return torch.autocast(world.device.type, torch.bfloat16, enabled=recipe.precision == "bf16")


def _clip(learner: nn.Module, recipe: Recipe, *, row_due: bool) -> float:
    """Clip the gradient, as a whole or each parameter's; returns the norm of the whole before, NaN where not needed."""
    if not (row_due or recipe.clip_norm):
        return math.nan
    gradients = [parameter.grad for parameter in learner.parameters() if parameter.grad is not None]
    norms = torch.stack(torch._foreach_norm(gradients))
    whole = float(torch.linalg.vector_norm(norms))
    if recipe.clip_norm is not None:
        held = norms.tolist() if recipe.clip_each else [whole] * len(gradients)
        for gradient, norm in zip(gradients, held, strict=True):
            if norm > recipe.clip_norm:
                gradient.mul_(recipe.clip_norm / (norm + 1e-6))  # torch's own safeguard
    return whole


def _draws_in_forward(module: nn.Module) -> bool:
    """Whether the forward pass draws random numbers (dropout, stochastic depth)."""
    chances = [getattr(part, name, 0.0) for part in module.modules() for name in ("p", "drop_prob")]
    return any(isinstance(chance, float) and chance > 0 for chance in chances)


def _fits(image_NCHW: Tensor, device: torch.device) -> bool:
    if device.type != "cuda":
        return True
    free_bytes, _ = torch.cuda.mem_get_info(device)
    return image_NCHW.nbytes <= DEVICE_SHARE * free_bytes
