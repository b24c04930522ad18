"""How sure a classifier is of the label of each image of a pool: what an attack on privacy looks at."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from scaleback.core.errors import Refusal, refusal
from scaleback.evaluations.base import Score, Target, Task
from scaleback.evaluations.trained import Network, TrainedEvaluation, accuracy
from scaleback.recipes import FINETUNE_RECIPES
from scaleback.scaling.metrics import ACCURACY, Metric
from scaleback.sources import AnyRealSource
from scaleback.sources.population import Population

# Shapes: N images of the pool, V views of an image, K classes.

FILE = "confidences.npy"


class Confidences(TrainedEvaluation):
    """Log-odds of each image's label, its own and mirrored looked at together (Carlini et al., S&P 2022).

    They are kept in a file of the artifact, in the order in which the pool is opened with seed 0.
    """

    kind: Literal["confidences"] = "confidences"
    pool: AnyRealSource
    """All of it is looked at."""

    def refuse(self, target: Target) -> None:
        super().refuse(target)
        if self.pool.class_count() != target.data.class_count():
            rule = f"must have the {target.data.class_count()} classes of the target"
            raise Refusal("pool", refusal(rule, self.pool.class_count()))
        if self.pool.shape != target.data.shape:
            raise Refusal("pool", refusal(f"must give images of shape {target.data.shape}", self.pool.shape))

    def stored(self) -> list[tuple[Population, int]]:
        return [(Population.of(self.pool, 0), self.pool.available())]

    def metrics(self) -> Mapping[tuple[str, int | None], Metric]:
        return {("accuracy", None): ACCURACY} | self._promised

    def score(self, task: Task) -> list[Score]:
        from scaleback.scaling.privacy import confidence

        (pool,), state = task.others, self.train(task)
        network = Network(task, state, self.recipe)
        answers = [network.logits(pool), network.logits(pool, lambda image_BCHW, index_B: image_BCHW.flip(-1))]
        kept = io.BytesIO()
        np.save(kept, confidence(_chances(np.stack(answers, axis=1)), pool.label_N), allow_pickle=False)
        task.files[FILE] = kept.getvalue()
        test_MK = network.logits(task.test)
        share = Score(metric="accuracy", value=accuracy(test_MK, task.test.label_N), count=len(task.test))
        return [share, *self._guarantee(task, state)]

    @classmethod
    def example(cls) -> Self:
        from scaleback.sources.named import Digits

        recipe = FINETUNE_RECIPES["small"].replace({"budget_images": 2_000, "warmup_images": 100})
        return cls(recipe=recipe, pool=Digits())


def _chances(answer_NVK: NDArray[np.float32]) -> NDArray[np.float64]:
    from scipy.special import softmax

    chance_NVK: NDArray[np.float64] = softmax(answer_NVK.astype(np.float64), axis=2)
    return chance_NVK
