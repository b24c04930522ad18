"""Fine-tuning: the whole network is trained on the labelled images, and tested along the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, Self, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from scaleback.core.errors import Refusal, refusal
from scaleback.evaluations.base import Evaluation, Score, Target, Task
from scaleback.objectives.classify import Classify
from scaleback.recipes import FINETUNE_RECIPES, FinetuneRecipe, Recipe
from scaleback.sources.population import Images

if TYPE_CHECKING:
    from torch import Tensor, nn

    from scaleback.pretrain.state import TrainState


class FineTune(Evaluation):
    """Accuracy at every mark of the budget, the last and the best of them, each named as such.

    ``best`` picks the mark by its test accuracy, as the released trainers of 1p-frac and OFDB do; it is an optimistic
    number, and ``last`` is the honest one.
    """

    kind: Literal["finetune"] = "finetune"
    recipe: FinetuneRecipe
    marks_images: tuple[int, ...]
    """Image passes at which the test set is scored, in increasing order; the last is the budget."""
    smoothing: float = Field(0.1, ge=0, lt=1)
    mixup: float = Field(0.0, ge=0)
    cutmix: float = Field(0.0, ge=0)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        marks, batch = self.marks_images, self.recipe.batch_images
        if not marks or list(marks) != sorted(set(marks)) or marks[0] < batch:
            raise Refusal("marks_images", refusal(f"must increase, from one batch of {batch} on", marks))
        if marks[-1] != self.recipe.budget_images:
            raise Refusal("marks_images", refusal(f"must end with the budget, {self.recipe.budget_images}", marks[-1]))
        refuse_views(self.recipe)
        if self.recipe.budget_by != "images":
            rule = "must be left out of fine-tuning; say budget_images"
            raise Refusal(f"recipe.budget_{self.recipe.budget_by}", rule)
        self.recipe.slice_images(1, self._objective.slice_multiple)
        return self

    @property
    def _objective(self) -> Classify:
        return Classify(smoothing=self.smoothing, mixup=self.mixup, cutmix=self.cutmix)

    def training_images(self, target: Target) -> int:
        return self.recipe.budget_images

    def score(self, task: Task) -> list[Score]:
        marker = _Marker(self, task)
        state = trained(task, self._objective, self.recipe, hooks=[marker])
        return self._scores(marker.scored(state), len(task.test))

    def _scores(self, accuracy: dict[int, float], count: int) -> list[Score]:
        scores = [
            Score(metric="accuracy", value=value, images_seen=images, count=count) for images, value in accuracy.items()
        ]
        last, best = max(accuracy), max(accuracy, key=lambda images: accuracy[images])
        return [
            *scores,
            Score(metric="accuracy_last", value=accuracy[last], images_seen=last, count=count),
            Score(metric="accuracy_best", value=accuracy[best], images_seen=best, count=count),
        ]

    @classmethod
    def example(cls) -> Self:
        recipe = FINETUNE_RECIPES["small"].replace({"budget_images": 2_000, "warmup_images": 100})
        return cls(recipe=recipe, marks_images=(500, 2_000))


class _Marker:
    """Tests the network at the marks; what it finds goes into the curve, so that it survives a restart."""

    KEY = "test_accuracy"

    def __init__(self, spec: FineTune, task: Task) -> None:
        batch = spec.recipe.batch_images
        # The step that reaches a mark: the first with at least as many images behind it. It may reach several.
        self._marks: dict[int, list[int]] = {}
        for mark in spec.marks_images:
            self._marks.setdefault(min(spec.recipe.steps, -(-mark // batch)), []).append(mark)
        self._spec, self._task = spec, task

    def __call__(self, state: TrainState) -> None:
        marks = self._marks.get(state.step)
        if not marks:
            return
        accuracy = self._test(state)
        for mark in marks:
            state.rows.append({"images_seen": mark, self.KEY: accuracy})
            self._task.report(state.rows[-1])

    def scored(self, state: TrainState) -> dict[int, float]:
        """Accuracy at each mark."""
        return {int(row["images_seen"]): row[self.KEY] for row in state.rows if self.KEY in row}

    def _test(self, state: TrainState) -> float:
        logits_MK = logits(self._task, state, self._spec.recipe, self._task.test)
        return float((logits_MK.argmax(1).numpy() == self._task.test.label_N).mean())


def refuse_views(recipe: Recipe) -> None:
    """Raise Refusal if a recipe is not one of whole images."""
    if len(recipe.views) != 1:
        raise Refusal("recipe.views", refusal("must be one augmentation", len(recipe.views)))
    if recipe.views[0].size_px is not None:
        raise Refusal("recipe.views", refusal("size_px must be left out", recipe.views[0].size_px))


def trained(
    task: Task, objective: Classify, recipe: Recipe, hooks: Sequence[Callable[[TrainState], None]] = ()
) -> TrainState:
    """The whole network, trained on the task's images with a fresh head."""
    import torch

    from scaleback.backbones import width_of
    from scaleback.core import seeds
    from scaleback.pretrain.loop import Training, train

    generator = torch.Generator().manual_seed(seeds.key("fine-tuned head", task.seed) >> 1)
    width = width_of(task.backbone)
    training = Training(
        learner=objective.build(task.backbone, width=width, classes=task.classes, generator=generator),
        views=recipe.views,
        images=task.train,
        image_px=task.image_px,
        channels=task.channels,
        recipe=recipe,
        seed=seeds.key("fine-tune", task.seed) >> 1,
    )
    return train(training, task.world, checkpoints=task.checkpoints, hooks=hooks, report=task.report)


def logits(
    task: Task,
    state: TrainState,
    recipe: Recipe,
    images: Images,
    changed: Callable[[Tensor, NDArray[np.int64]], Tensor] = lambda image_BCHW, index_B: image_BCHW,
) -> Tensor:
    """(M, K) answers of the network in training, with averaged weights where the recipe averages, on the CPU.

    Args:
        task: whose backbone it is.
        state: of the training.
        recipe: of the training.
        images: M of them.
        changed: what is done to images in [0, 1] before they are normalised, with their places.
    """
    import copy

    import torch

    from scaleback.evaluations.features import batches

    learner = copy.deepcopy(state.learner).eval()
    if state.average is not None:
        learner.load_state_dict(state.average.tensors, strict=False)
    view, head = recipe.views[0], cast("nn.Module", learner.head)
    with torch.inference_mode():
        coming = batches(task, images, view.mean, view.std, changed)
        return torch.cat([head(learner.backbone(image_BCHW)).float().cpu() for image_BCHW, _ in coming])
