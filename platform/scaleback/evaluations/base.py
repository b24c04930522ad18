"""What an evaluation is: a backbone and a labelled task in, named numbers out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from scaleback.backbones import Backbone
from scaleback.core.errors import Refusal, refusal
from scaleback.core.spec import Plain, Spec
from scaleback.scaling.metrics import Metric
from scaleback.sources import AnyRealSource, AnySource, RealSource
from scaleback.sources.base import origin_of, refuse_part
from scaleback.sources.population import Images, Population

if TYPE_CHECKING:
    from torch import nn

    from scaleback.pretrain.checkpoint import Checkpoints
    from scaleback.pretrain.world import World


class Synthetic(Spec):
    """Made images to train on beside the real ones, or in their place."""

    source: AnySource
    """Of the same shape and classes as the data."""
    images: int | None = Field(None, ge=1)
    """The first so many of it."""
    multiplier: float | None = Field(None, gt=0)
    """The same as a multiple of the target's real images."""
    share: float | None = Field(None, gt=0, lt=1)
    """The same as a share of all images: the target's number is then the total of both."""
    role: Literal["added", "alone"] = "added"
    """Whether they are trained on beside the real images, or without them."""

    @model_validator(mode="after")
    def _one_number(self) -> Self:
        if [self.images, self.multiplier, self.share].count(None) != 2:
            raise Refusal("", "needs one of images, multiplier and share")
        if self.share is not None and self.role == "alone":
            raise Refusal("share", refusal("must be left out where they are alone", self.share))
        return self

    @property
    def said_by(self) -> Literal["images", "multiplier", "share"]:
        """The field that says how many they are."""
        if self.images is not None:
            return "images"
        return "multiplier" if self.multiplier is not None else "share"

    def count(self, given: int) -> int:
        """How many they are where the target says so many images."""
        return self.images if self.images is not None else round((self.multiplier or self.share or 0) * given)


class Target(Spec):
    """The downstream task: which data, and how many labelled images of them are given."""

    data: AnyRealSource
    images: int = Field(ge=1)
    """Labelled images for training, balanced over classes; which ones is drawn from the run's seed. With a ``share`` of
    synthetic images, real and synthetic ones together."""
    synthetic: Synthetic | None = None
    """Made images, added to them or in their place."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.data.split != "train":
            raise Refusal("data.split", refusal("must be train; the test split is taken for testing", self.data.split))
        return self

    def canonical(self) -> dict[str, Plain]:
        """A multiple of the real images, or a share of all, is the numbers of images that it comes to."""
        if self.synthetic is None or self.synthetic.said_by == "images":
            return super().canonical()
        none = {"multiplier": None, "share": None}
        number = self.synthetic.model_copy(update={"images": self.synthetic_images, **none})
        return self.model_copy(update={"images": self.labelled_images, "synthetic": number}).canonical()

    def refuse_impossible(self) -> None:
        """Raise Refusal if the data are too few, unlabelled, or of different classes in training and test.

        Apart from construction, because it may have to list files.
        """
        classes, test = self.data.class_count(), self.test
        if classes is None:
            raise Refusal("data", refusal("must have labels", self.data.short))
        available = self.data.available()
        if available is not None and self.images > available:
            raise Refusal("images", refusal(f"must be at most the {available:,} of the train split", self.images))
        if self.synthetic is not None:
            self._refuse_synthetic(self.synthetic, classes)
        if not test.available():
            raise Refusal("data", refusal("must have test images", test.available()))
        if self.labelled_images < classes:
            rule = f"must give each of the {classes} classes an image"
            raise Refusal("images", refusal(rule, self.labelled_images))
        own, own_test = self.data.own_classes(), test.own_classes()
        if own_test != own:  # with a limit too: which classes it leaves depends on how many there are
            raise Refusal("data", refusal(f"must have the same classes in both splits, {own} in train", own_test))

    def _refuse_synthetic(self, synthetic: Synthetic, classes: int) -> None:
        source = synthetic.source
        if source.shape != self.data.shape:
            rule = f"must give images of shape {self.data.shape}, as the data"
            raise Refusal("synthetic.source", refusal(rule, source.shape))
        images, count = self.synthetic_images, synthetic.said_by
        refuse_part(source, images, field="synthetic.source", count=f"synthetic.{count}")
        if images < classes:
            rule = f"must give each of the {classes} classes an image"
            raise Refusal(f"synthetic.{count}", refusal(rule, getattr(synthetic, count)))
        if source.classes(images) != classes:
            rule = f"must have the {classes} classes of the data"
            raise Refusal("synthetic.source", refusal(rule, source.classes(images)))

    def origin(self) -> str | None:
        """Digest of all the files behind it."""
        made = None if self.synthetic is None else self.synthetic.source.origin()
        return origin_of(self.data.origin(), made)

    @property
    def labelled_images(self) -> int:
        """Real images that there are."""
        shared = self.synthetic is not None and self.synthetic.said_by == "share"
        return self.images - self.synthetic_images if shared else self.images

    @property
    def real_images(self) -> int:
        """Real images that are trained on."""
        return 0 if self.synthetic is not None and self.synthetic.role == "alone" else self.labelled_images

    @property
    def synthetic_images(self) -> int:
        """Synthetic images that are trained on."""
        return 0 if self.synthetic is None else self.synthetic.count(self.images)

    @property
    def training_images(self) -> int:
        """Both together."""
        return self.real_images + self.synthetic_images

    def stored(self, seed: int) -> list[tuple[Population, int]]:
        """Populations that it is made of, and how many images of each: real, synthetic if there are any, test."""
        found = [(self.train_population(seed), self.labelled_images)]
        if self.synthetic is not None:
            found.append((Population.of(self.synthetic.source, seed), self.synthetic_images))
        return [*found, (self.test_population(), self.test_images)]

    @cached_property
    def test(self) -> RealSource:
        """The source of the test split."""
        return self.data.as_test()

    def train_population(self, seed: int) -> Population:
        """Where the labelled images of a seed lie."""
        return Population.of(self.data, seed)

    def test_population(self) -> Population:
        """Where the test images lie: all of them, the same for every seed."""
        return Population.of(self.test, 0)

    @property
    def test_images(self) -> int:
        """How many images the test split has."""
        available = self.test.available()
        assert available is not None, "a real source is finite"
        return available


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """One number of one evaluation."""

    metric: str
    value: float
    images_seen: int | None = None
    """Image passes of fine-tuning behind it; None where nothing is trained by passes."""
    count: int | None = None
    """Test images behind a share, for its binomial interval."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """What an evaluation works on."""

    backbone: nn.Module
    train: Images
    """What is trained on: real images, then synthetic ones, or one of them alone."""
    real: Images
    made: Images | None = None
    """Synthetic images."""
    test: Images
    others: list[Images] = field(default_factory=list)
    """Of the evaluation's own populations."""
    classes: int
    image_px: int
    channels: int
    seed: int
    world: World
    checkpoints: Checkpoints | None
    report: Callable[[dict[str, float]], None]
    files: dict[str, bytes] = field(default_factory=dict)
    """What an evaluation finds beside its scores is put here, by name, and becomes part of the artifact."""


class Evaluation(Spec, ABC):
    """A protocol that turns a backbone into named numbers."""

    @abstractmethod
    def score(self, task: Task) -> list[Score]:
        """Run the protocol."""

    @abstractmethod
    def metrics(self) -> Mapping[tuple[str, int | None], Metric]:
        """What it finds: each metric with the image passes behind it, as in its scores."""

    @abstractmethod
    def training_images(self, target: Target) -> int:
        """Image passes it trains for: what a plan counts."""

    def refuse(self, target: Target) -> None:
        """Raise Refusal if it cannot be done on such a target."""

    def refuse_backbone(self, backbone: Backbone) -> None:
        """Raise Refusal if it cannot be done with such a backbone."""

    def stored(self) -> list[tuple[Population, int]]:
        """Populations it reads beside those of the target, and how many images of each."""
        return []

    @classmethod
    @abstractmethod
    def example(cls) -> Self:
        """A small instance for the contract tests."""


def scores_as_rows(scores: list[Score]) -> list[dict[str, Any]]:
    """Scores as plain data, for storage."""
    return [{"metric": s.metric, "value": s.value, "images_seen": s.images_seen, "count": s.count} for s in scores]
