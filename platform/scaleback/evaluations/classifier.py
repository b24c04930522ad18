"""A classifier trained on a target's real and synthetic images, tested on images as they are and as they are not."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from scaleback.core.errors import Refusal, refusal, unknown
from scaleback.core.spec import Spec
from scaleback.evaluations.base import Score, Target, Task
from scaleback.evaluations.corruptions import CORRUPTIONS, SEVERITIES, applicable, corrupt
from scaleback.evaluations.trained import Network, TrainedEvaluation, accuracy
from scaleback.recipes import FINETUNE_RECIPES
from scaleback.scaling.calibration import brier, equal_width, negative_log_likelihood
from scaleback.scaling.metrics import ACCURACY, Metric
from scaleback.sources import AnyRealSource
from scaleback.sources.population import Images, Population

if TYPE_CHECKING:
    from torch import Tensor

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


class Classifier(TrainedEvaluation):
    """Accuracy at the end of a fixed budget, calibration, and accuracy under corruption and shift.

    The budget is one for all sizes of the set by one key: image passes (equal updates), or ``budget_epochs``. Scores do
    not name their image passes, so that sizes compare under either.
    """

    kind: Literal["classifier"] = "classifier"
    corruptions: tuple[str, ...] = ()
    """Common corruptions (Hendrycks and Dietterich, 2019), each at all severities; ``all`` for those that fit."""
    corrupted_images: int | None = Field(None, ge=1)
    """Test images that are corrupted, the first of them, balanced over classes; None for all."""
    shifts: tuple[Shift, ...] = ()

    @model_validator(mode="after")
    def _possible(self) -> Self:
        for name in self.corruptions:
            if name != "all" and name not in CORRUPTIONS:
                raise Refusal("corruptions", unknown("corruption", name, CORRUPTIONS))
        names = [shift.name for shift in self.shifts]
        if len(set(names)) != len(names):
            raise Refusal("shifts", refusal("must have names of their own", names))
        return self

    def refuse(self, target: Target) -> None:
        super().refuse(target)
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

    def metrics(self) -> Mapping[tuple[str, int | None], Metric]:
        corrupted = [name for name in CORRUPTIONS if name in self.corruptions or "all" in self.corruptions]
        shares = [*(["corrupted"] * bool(corrupted)), *corrupted, *(shift.name for shift in self.shifts)]
        named = {"accuracy": ACCURACY, "calibration_error": Metric("low", share=True)}
        named |= {"log_loss": Metric("low"), "brier": Metric("low")}
        named |= {f"accuracy_{name}": ACCURACY for name in shares}
        return {(name, None): one for name, one in named.items()} | self._promised

    def score(self, task: Task) -> list[Score]:
        from scipy.special import softmax

        state = self.train(task)
        network = Network(task, state, self.recipe)
        answer_MK, label_M, count = network.logits(task.test), task.test.label_N, len(task.test)
        chance_MK = softmax(answer_MK.astype(np.float64), axis=1)
        found = [
            Score(metric="accuracy", value=accuracy(answer_MK, label_M), count=count),
            Score(metric="calibration_error", value=equal_width(chance_MK, label_M).error),
            Score(metric="log_loss", value=negative_log_likelihood(chance_MK, label_M)),
            Score(metric="brier", value=brier(chance_MK, label_M)),
            *self._corrupted(network, task.test),
            *self._guarantee(task, state),
        ]
        for shift, images in zip(self.shifts, task.others, strict=True):
            found.append(_shifted(network, shift, images))
        return found

    def _corrupted(self, network: Network, test: Images) -> list[Score]:
        fit = applicable(test.image_NHWC.shape[3])
        names = [
            name for name in CORRUPTIONS if name in fit and (name in self.corruptions or "all" in self.corruptions)
        ]
        found, few = [], slice(self.corrupted_images)
        test = Images(image_NHWC=test.image_NHWC[few], label_N=test.label_N[few], classes=test.classes)
        for name in names:
            shares = [
                accuracy(network.logits(test, partial(_at, name, severity)), test.label_N) for severity in SEVERITIES
            ]
            found.append(Score(metric=f"accuracy_{name}", value=float(np.mean(shares))))
        if found:
            found.insert(0, Score(metric="accuracy_corrupted", value=float(np.mean([one.value for one in found]))))
        return found

    @classmethod
    def example(cls) -> Self:
        recipe = FINETUNE_RECIPES["small"].replace({"budget_images": 2_000, "warmup_images": 100})
        return cls(recipe=recipe, corruptions=("brightness",))


def _shifted(network: Network, shift: Shift, images: Images) -> Score:
    answer_MK = network.logits(images)
    everything = np.arange(answer_MK.shape[1])
    classes = everything if shift.classes is None else np.array(shift.classes)
    if shift.among == "shown":
        answer_MK[:, np.setdiff1d(everything, classes)] = -np.inf
    value = accuracy(answer_MK, classes[images.label_N])
    return Score(metric=f"accuracy_{shift.name}", value=value, count=len(images))


def _at(name: str, severity: int, image_BCHW: Tensor, index_B: NDArray[np.int64]) -> Tensor:
    return corrupt(image_BCHW, name, severity, index_B)
