"""Evaluations that leave the backbone as it is: a linear classifier on its features, and their nearest neighbours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from scaleback.evaluations.base import Evaluation, Score, Target, Task
from scaleback.scaling.metrics import ACCURACY, Metric

if TYPE_CHECKING:
    from torch import Tensor

# Shapes: N training images, M test images, D width, K classes.


class _Frozen(Evaluation):
    """Scores standardised features of the frozen backbone."""

    mean: float = 0.5
    std: float = Field(0.5, gt=0)
    """Normalisation of the images; what the backbone was pre-trained with."""

    def training_images(self, target: Target) -> int:
        return 0

    def metrics(self) -> Mapping[tuple[str, int | None], Metric]:
        return {("accuracy", None): ACCURACY}

    def score(self, task: Task) -> list[Score]:
        from scaleback.evaluations.features import features

        train_ND = features(task, task.train, self.mean, self.std)
        test_MD = features(task, task.test, self.mean, self.std)
        guess_M = self.classify(train_ND, task.train.label_N, test_MD, task.classes)
        return [Score(metric="accuracy", value=float((guess_M == task.test.label_N).mean()), count=len(guess_M))]

    def classify(
        self, train_ND: Tensor, label_N: NDArray[np.int64], test_MD: Tensor, classes: int
    ) -> NDArray[np.int64]:
        """Class of each test image, (M,)."""
        raise NotImplementedError


class Linear(_Frozen):
    """Logistic regression with an L2 penalty on standardised features, to convergence (scikit-learn, L-BFGS)."""

    kind: Literal["linear"] = "linear"
    inverse_penalty: float = Field(0.1, gt=0)
    """scikit-learn's C."""
    iterations: int = Field(1_000, ge=1)

    def classify(
        self, train_ND: Tensor, label_N: NDArray[np.int64], test_MD: Tensor, classes: int
    ) -> NDArray[np.int64]:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        model: Any = make_pipeline(
            StandardScaler(), LogisticRegression(C=self.inverse_penalty, max_iter=self.iterations)
        )
        model.fit(train_ND.double().numpy(), label_N)
        return np.asarray(model.predict(test_MD.double().numpy()), np.int64)

    @classmethod
    def example(cls) -> Self:
        return cls()


class KNN(_Frozen):
    """Vote of the nearest neighbours by cosine, weighted by exp(similarity / temperature) (Wu et al., 2018; DINO)."""

    kind: Literal["knn"] = "knn"
    neighbours: int = Field(20, ge=1)
    """DINO's choice; cut to the number of labelled images."""
    temperature: float = Field(0.07, gt=0)

    def classify(
        self, train_ND: Tensor, label_N: NDArray[np.int64], test_MD: Tensor, classes: int
    ) -> NDArray[np.int64]:
        import torch
        import torch.nn.functional as F

        similarity_MN = F.normalize(test_MD, dim=1) @ F.normalize(train_ND, dim=1).T
        near = similarity_MN.topk(min(self.neighbours, len(train_ND)), dim=1)
        # Relative to the nearest, which leaves the vote as it is and keeps a low temperature from overflowing.
        weight_MK = ((near.values - near.values[:, :1]) / self.temperature).exp()
        vote_MK = torch.zeros(len(test_MD), classes)
        vote_MK.scatter_add_(1, torch.from_numpy(label_N)[near.indices], weight_MK)
        return np.asarray(vote_MK.argmax(1).numpy(), np.int64)

    @classmethod
    def example(cls) -> Self:
        return cls(neighbours=5)
