"""Fine-tuning: the whole network is trained on the labelled images, and tested along the way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, Self

from pydantic import model_validator

from scaleback.core.errors import Refusal, refusal
from scaleback.evaluations.base import Score, Task
from scaleback.evaluations.trained import Network, TrainedEvaluation, accuracy
from scaleback.recipes import FINETUNE_RECIPES
from scaleback.scaling.metrics import ACCURACY, Metric

if TYPE_CHECKING:
    from scaleback.pretrain.state import TrainState


class FineTune(TrainedEvaluation):
    """Accuracy at every mark of the budget, the last and the best of them, each named as such.

    ``best`` picks the mark by its test accuracy, as the released trainers of 1p-frac and OFDB do; it is an optimistic
    number, and ``last`` is the honest one.
    """

    kind: Literal["finetune"] = "finetune"
    marks_images: tuple[int, ...]
    """Image passes at which the test set is scored, in increasing order; the last is the budget."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        marks, batch = self.marks_images, self.recipe.batch_images
        if not marks or list(marks) != sorted(set(marks)) or marks[0] < batch:
            raise Refusal("marks_images", refusal(f"must increase, from one batch of {batch} on", marks))
        if marks[-1] != self.recipe.budget_images:
            raise Refusal("marks_images", refusal(f"must end with the budget, {self.recipe.budget_images}", marks[-1]))
        if self.recipe.budget_by != "images":
            rule = "must be left out of fine-tuning; say budget_images"
            raise Refusal(f"recipe.budget_{self.recipe.budget_by}", rule)
        return self

    def metrics(self) -> Mapping[tuple[str, int | None], Metric]:
        last = self.marks_images[-1]
        named = [("accuracy", images) for images in self.marks_images]
        return dict.fromkeys([*named, ("accuracy_last", last), ("accuracy_best", last)], ACCURACY) | self._promised

    def score(self, task: Task) -> list[Score]:
        marker = _Marker(self, task)
        state = self.train(task, hooks=[marker])
        return [*self._scores(marker.scored(state), len(task.test)), *self._guarantee(task, state)]

    def _scores(self, curve: dict[int, float], count: int) -> list[Score]:
        scores = [
            Score(metric="accuracy", value=value, images_seen=images, count=count) for images, value in curve.items()
        ]
        last, best = max(curve), max(curve, key=lambda images: curve[images])
        return [
            *scores,
            Score(metric="accuracy_last", value=curve[last], images_seen=last, count=count),
            Score(metric="accuracy_best", value=curve[best], images_seen=best, count=count),
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
        test = self._task.test
        share = accuracy(Network(self._task, state, self._spec.recipe).logits(test), test.label_N)
        for mark in marks:
            state.rows.append({"images_seen": mark, self.KEY: share})
            self._task.report(state.rows[-1])

    def scored(self, state: TrainState) -> dict[int, float]:
        """Accuracy at each mark."""
        return {int(row["images_seen"]): row[self.KEY] for row in state.rows if self.KEY in row}
