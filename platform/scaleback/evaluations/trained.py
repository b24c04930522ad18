"""What evaluations share that train the whole network on the labelled images."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Self, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from scaleback.backbones import Backbone
from scaleback.core.errors import PlacementError, Refusal, refusal
from scaleback.evaluations.base import Evaluation, Score, Target, Task
from scaleback.evaluations.private import Private
from scaleback.objectives.classify import Classify
from scaleback.recipes import FinetuneRecipe, Recipe
from scaleback.scaling.metrics import Metric
from scaleback.sources.population import Images

if TYPE_CHECKING:
    from torch import Tensor, nn

    from scaleback.pretrain.state import TrainState

# Shapes: B images of a batch, M images that are tested, K classes, C channels, H rows, W columns.


class TrainedEvaluation(Evaluation):
    """The network is trained as ``Classify`` does, on whole images."""

    recipe: FinetuneRecipe
    smoothing: float = Field(0.1, ge=0, lt=1)
    mixup: float = Field(0.0, ge=0)
    cutmix: float = Field(0.0, ge=0)
    private: Private | None = None
    """Train with differential privacy; None for as the recipe says."""

    @model_validator(mode="after")
    def _trainable(self) -> Self:
        views = self.recipe.views
        if len(views) != 1:
            raise Refusal("recipe.views", refusal("must be one augmentation", len(views)))
        if views[0].size_px is not None:
            raise Refusal("recipe.views", refusal("size_px must be left out", views[0].size_px))
        self.recipe.slice_images(1, self._objective.slice_multiple)
        if self.private is not None:
            for field in ("mixup", "cutmix"):
                if getattr(self, field):
                    raise Refusal(field, refusal("must be 0 where training is private", getattr(self, field)))
            self.private.refuse_recipe(self.recipe)
        return self

    @property
    def _objective(self) -> Classify:
        return Classify(smoothing=self.smoothing, mixup=self.mixup, cutmix=self.cutmix)

    def training_images(self, target: Target) -> int:
        return self._sized(target.training_images).budget_images

    def refuse(self, target: Target) -> None:
        if self.recipe.budget_by == "flops":
            raise Refusal("recipe.budget_flops", "must be left out; say budget_images or budget_epochs")
        self.training_images(target)
        if self.private is not None:
            self.private.refuse_target(target, self.recipe)

    def refuse_backbone(self, backbone: Backbone) -> None:
        if self.private is not None:
            self.private.refuse_backbone(backbone)

    @property
    def _promised(self) -> dict[tuple[str, int | None], Metric]:
        """The metric of what ``_guarantee`` finds."""
        return {} if self.private is None else {("epsilon", None): Metric("low")}

    def _guarantee(self, task: Task, state: TrainState) -> list[Score]:
        """How private a training was, if it was to be."""
        if self.private is None:
            return []
        rate = self.recipe.batch_images / len(task.train)
        return [Score(metric="epsilon", value=self.private.epsilon(rate=rate, steps=state.step))]

    def _sized(self, images: int) -> Recipe:
        """The recipe with the budget that it has on so many images."""
        return self.recipe.sized(images=images, flops_an_image=np.inf)

    def train(self, task: Task, hooks: Sequence[Callable[[TrainState], None]] = ()) -> TrainState:
        """Train on the task's images with a fresh head.

        Args:
            task: what is worked on; its backbone is trained in place.
            hooks: called after every step.
        """
        import torch

        from scaleback.backbones import width_of
        from scaleback.core import seeds
        from scaleback.pretrain.loop import Training, train
        from scaleback.pretrain.order import BatchOrder, PoissonOrder

        generator = torch.Generator().manual_seed(seeds.key("fine-tuned head", task.seed) >> 1)
        recipe, width = self._sized(len(task.train)), width_of(task.backbone)
        learner = self._objective.build(task.backbone, width=width, classes=task.classes, generator=generator)
        if self.private is not None:
            if task.world.size > 1:
                raise PlacementError(f"private training is the work of one worker; got {task.world.size}")
            learner = self.private.build(learner, batch_images=recipe.batch_images)
        training = Training(
            learner=learner,
            views=recipe.views,
            images=task.train,
            image_px=task.image_px,
            channels=task.channels,
            recipe=recipe,
            seed=seeds.key("fine-tune", task.seed) >> 1,
            order=BatchOrder if self.private is None else PoissonOrder,
        )
        return train(training, task.world, checkpoints=task.checkpoints, hooks=hooks, report=task.report)


class Network:
    """The network of a training as it is tested: nothing is dropped, weights are averages where they are averaged."""

    def __init__(self, task: Task, state: TrainState, recipe: Recipe) -> None:
        self._task, self._view = task, recipe.views[0]
        self._learner = copy.deepcopy(state.learner).eval()
        if state.average is not None:
            self._learner.load_state_dict(state.average.tensors, strict=False)
        self._head = cast("nn.Module", self._learner.head)

    def logits(
        self,
        images: Images,
        changed: Callable[[Tensor, NDArray[np.int64]], Tensor] = lambda image_BCHW, index_B: image_BCHW,
    ) -> NDArray[np.float32]:
        """(M, K) answers.

        Args:
            images: M of them.
            changed: what is done to images in [0, 1] before they are normalised, with their places.
        """
        import torch

        from scaleback.evaluations.features import batches

        with torch.inference_mode():
            coming = batches(self._task, images, self._view.mean, self._view.std, changed)
            parts = [self._head(self._learner.backbone(image_BCHW)).float().cpu() for image_BCHW, _ in coming]
        return cast("NDArray[np.float32]", torch.cat(parts).numpy())


def accuracy(answer_MK: NDArray[np.float32], label_M: NDArray[np.int64]) -> float:
    """Share of answers that are right."""
    return float((answer_MK.argmax(1) == label_M).mean())
