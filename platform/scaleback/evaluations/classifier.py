"""A classifier trained on a target's real and synthetic images, tested on images as they are and as they are not."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from scaleback.core.errors import Refusal, refusal, unknown
from scaleback.core.spec import Spec
from scaleback.evaluations.base import Evaluation, Score, Target, Task
from scaleback.evaluations.corruptions import CORRUPTIONS, SEVERITIES, applicable, corrupt
from scaleback.evaluations.finetune import logits, refuse_views, trained
from scaleback.objectives.classify import Classify
from scaleback.recipes import FINETUNE_RECIPES, FinetuneRecipe
from scaleback.scaling.calibration import brier, equal_width, negative_log_likelihood
from scaleback.sources import AnyRealSource
from scaleback.sources.population import Images, Population

if TYPE_CHECKING:
    from torch import Tensor

    from scaleback.pretrain.state import TrainState

# Shapes: M test images, K classes.


class Shift(Spec):
    """Other test images: of another style, another year (ImageNet-V2, -Sketch, -R, -A as folders)."""

    name: str = Field(min_length=1)
    data: AnyRealSource
    """All of its ``split`` is tested."""
    classes: tuple[int, ...] | None = None
    """The target's class of each of its classes; None where they are the same."""
    among: Literal["all", "shown"] = "all"
    """Whether an answer may be any class of the target, or is the likeliest of those that are shown."""


class Classifier(Evaluation):
    """Accuracy at the end of a fixed budget, calibration, and accuracy under corruption and shift.

    The budget is one for all sizes of the set by one key: image passes (equal updates), or ``budget_epochs``.
    """

    kind: Literal["classifier"] = "classifier"
    recipe: FinetuneRecipe
    smoothing: float = Field(0.1, ge=0, lt=1)
    mixup: float = Field(0.0, ge=0)
    cutmix: float = Field(0.0, ge=0)
    corruptions: tuple[str, ...] = ()
    """Common corruptions (Hendrycks and Dietterich, 2019), each at all severities; ``all`` for those that fit."""
    shifts: tuple[Shift, ...] = ()

    @model_validator(mode="after")
    def _possible(self) -> Self:
        for name in self.corruptions:
            if name != "all" and name not in CORRUPTIONS:
                raise Refusal("corruptions", unknown("corruption", name, CORRUPTIONS))
        names = [shift.name for shift in self.shifts]
        if len(set(names)) != len(names):
            raise Refusal("shifts", refusal("must have names of their own", names))
        refuse_views(self.recipe)
        self.recipe.slice_images(1, self._objective.slice_multiple)
        return self

    @property
    def _objective(self) -> Classify:
        return Classify(smoothing=self.smoothing, mixup=self.mixup, cutmix=self.cutmix)

    def training_images(self, target: Target) -> int:
        return self.recipe.sized(images=target.training_images, flops_an_image=np.inf).budget_images

    def refuse(self, target: Target) -> None:
        if self.recipe.budget_by == "flops":
            raise Refusal("recipe.budget_flops", "must be left out; say budget_images or budget_epochs")
        self.training_images(target)
        for shift in self.shifts:
            own, classes = shift.data.class_count(), target.data.class_count() or 0
            known = own if shift.classes is None else len(shift.classes)
            if own is None or known != own or (shift.classes is None and own != classes):
                raise Refusal(
                    "shifts", refusal(f"{shift.name} must say which of {classes} classes its {own} are", known)
                )
            if shift.classes is not None and not all(0 <= label < classes for label in shift.classes):
                raise Refusal("shifts", refusal(f"{shift.name} must name classes 0 to {classes - 1}", shift.classes))
            if shift.data.shape != target.data.shape:
                rule = f"{shift.name} must give images of shape {target.data.shape}"
                raise Refusal("shifts", refusal(rule, shift.data.shape))

    def stored(self) -> list[tuple[Population, int]]:
        return [(Population.of(shift.data, 0), shift.data.available()) for shift in self.shifts]

    def score(self, task: Task) -> list[Score]:
        from scipy.special import softmax

        recipe = self.recipe.sized(images=len(task.train), flops_an_image=np.inf)
        state = trained(task, self._objective, recipe)
        answer_MK = logits(task, state, recipe, task.test).numpy()
        chance_MK, label_M, count = softmax(answer_MK.astype(np.float64), axis=1), task.test.label_N, len(task.test)
        seen = state.step * recipe.batch_images
        found = [
            Score(metric="accuracy", value=_accuracy(answer_MK, label_M), images_seen=seen, count=count),
            Score(metric="calibration_error", value=equal_width(chance_MK, label_M).error, images_seen=seen),
            Score(metric="log_loss", value=negative_log_likelihood(chance_MK, label_M), images_seen=seen),
            Score(metric="brier", value=brier(chance_MK, label_M), images_seen=seen),
        ]
        found += self._corrupted(task, state, seen)
        for shift, images in zip(self.shifts, task.others, strict=True):
            found.append(self._shifted(task, state, shift, images, seen))
        return found

    def _corrupted(self, task: Task, state: TrainState, seen: int) -> list[Score]:
        fit = applicable(task.test.image_NHWC.shape[3])
        names = [
            name for name in CORRUPTIONS if name in fit and (name in self.corruptions or "all" in self.corruptions)
        ]
        found = []
        for name in names:
            shares = [
                _accuracy(
                    logits(task, state, self.recipe, task.test, partial(_at, name, severity)).numpy(), task.test.label_N
                )
                for severity in SEVERITIES
            ]
            found.append(Score(metric=f"accuracy_{name}", value=float(np.mean(shares)), images_seen=seen))
        if found:
            mean = float(np.mean([score.value for score in found]))
            found.insert(0, Score(metric="accuracy_corrupted", value=mean, images_seen=seen))
        return found

    def _shifted(self, task: Task, state: TrainState, shift: Shift, images: Images, seen: int) -> Score:
        answer_MK = logits(task, state, self.recipe, images).numpy()
        classes = np.arange(task.classes) if shift.classes is None else np.array(shift.classes)
        if shift.among == "shown":
            hidden = np.setdiff1d(np.arange(task.classes), classes)
            answer_MK[:, hidden] = -np.inf
        value = _accuracy(answer_MK, classes[images.label_N])
        return Score(metric=f"accuracy_{shift.name}", value=value, images_seen=seen, count=len(images))

    @classmethod
    def example(cls) -> Self:
        recipe = FINETUNE_RECIPES["small"].replace({"budget_images": 2_000, "warmup_images": 100})
        return cls(recipe=recipe, corruptions=("brightness",))


def _accuracy(answer_MK: NDArray[np.float32], label_M: NDArray[np.int64]) -> float:
    return float((answer_MK.argmax(1) == label_M).mean())


def _at(name: str, severity: int, image_BCHW: Tensor, index_B: NDArray[np.int64]) -> Tensor:
    return corrupt(image_BCHW, name, severity, index_B)
