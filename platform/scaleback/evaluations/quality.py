"""What synthetic images are like beside real ones, on the features of a backbone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from scaleback.core.errors import Refusal, refusal
from scaleback.evaluations.base import Evaluation, Score, Target, Task
from scaleback.scaling.metrics import Metric
from scaleback.scaling.quality import copy_rate, quality
from scaleback.sources.population import Images

# Shapes: N images of a set, D width, X pixels.


SHARE_HIGH, SHARE_LOW = Metric("high", share=True), Metric("low", share=True)
METRICS = {
    "images": Metric("neither"),
    "mmd2": Metric("low"),
    "mmd2_linear": Metric("low"),
    "kid": Metric("low"),
    "kid_standard_error": Metric("neither"),
    "frechet": Metric("low"),
    "precision": SHARE_HIGH,
    "recall": SHARE_HIGH,
    "density": Metric("neither"),
    "coverage": SHARE_HIGH,
    "vendi": Metric("high"),
    "vendi_real": Metric("neither"),
    "within_class_spread": Metric("neither"),
    "duplicate_rate": SHARE_LOW,
    "recognised": SHARE_HIGH,
    "copy_rate": SHARE_LOW,
    "copy_rate_pixels": SHARE_LOW,
}


class Quality(Evaluation):
    """Distances, overlap and diversity of a target's synthetic images, against images that no one was given.

    The first half of the test images is what they are compared with, at equal numbers; the other half is held out.
    ``recognised`` is the share of synthetic images that a linear classifier of the first half gives their label (Fan et
    al., CVPR 2024, take a strong pre-trained one). ``copy_rate`` and ``copy_rate_pixels`` are the shares as near to one
    of the target's real images as the nearest 1 % of test images are: about 0.01 where nothing was copied.
    """

    kind: Literal["quality"] = "quality"
    mean: float = 0.5
    std: float = Field(0.5, gt=0)
    """Normalisation of the images; what the backbone was pre-trained with."""

    def metrics(self) -> Mapping[tuple[str, int | None], Metric]:
        return {(name, None): metric for name, metric in METRICS.items()}

    def training_images(self, target: Target) -> int:
        return 0

    def refuse(self, target: Target) -> None:
        if target.synthetic is None:
            raise Refusal("kind", refusal("needs target.synthetic", self.kind))

    def score(self, task: Task) -> list[Score]:
        from scaleback.evaluations.features import features

        assert task.made is not None, "a run refuses a target without synthetic images"
        made, given, half = task.made, task.real, len(task.test) // 2
        test_ND, made_ND, given_ND = (
            features(task, images, self.mean, self.std).double().numpy() for images in (task.test, made, given)
        )
        labels = (task.test.label_N[:half], made.label_N)
        found = quality(test_ND[:half], made_ND, held_out_HD=test_ND[half:], labels=labels)
        for name in ("copy_rate", "nearest_real"):
            del found[name]  # of test images: nobody had them
        found["recognised"] = _recognised(test_ND[:half], task.test.label_N[:half], made_ND, made.label_N)
        found["copy_rate"] = copy_rate(given_ND, made_ND, test_ND)
        found["copy_rate_pixels"] = copy_rate(_pixels(given), _pixels(made), _pixels(task.test))
        return [Score(metric=name, value=value) for name, value in sorted(found.items())]

    @classmethod
    def example(cls) -> Self:
        return cls()


def _pixels(images: Images) -> NDArray[np.float64]:
    return images.image_NHWC.reshape(len(images), -1).astype(np.float64) / 255


def _recognised(
    real_ND: NDArray[np.float64], real_N: NDArray[np.int64], made_ND: NDArray[np.float64], made_N: NDArray[np.int64]
) -> float:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1_000))
    model.fit(real_ND, real_N)
    return float((model.predict(made_ND) == made_N).mean())
