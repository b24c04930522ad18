"""Some of the images of another source, as an audit of privacy divides them: which model is made from which image."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from scaleback.core import seeds
from scaleback.core.errors import InputError, Refusal, refusal
from scaleback.sources.real import Catalogue, RealSource

if TYPE_CHECKING:
    from scaleback.sources import AnyRealSource  # a union over the registry, which lists this class too

# Shapes: M models, N samples, X canaries.

LEAST_MODELS = 4
"""With one left out, each sample is still in one of the others, and out of one."""


class Members(RealSource):
    """The images of a pool that one of several models is made from; each image is in half of the models.

    The pool is the first ``images`` of ``real`` in the order of ``draw``. A share of them are canaries, with wrong
    labels: what a model says of those it has learnt by heart (Carlini et al., S&P 2022, section II). The test split is
    that of ``real``.
    """

    kind: Literal["members"] = "members"
    real: AnyRealSource
    images: int = Field(ge=2)
    """Of the pool."""
    models: int = Field(ge=LEAST_MODELS)
    model: int | None = Field(None, ge=0)
    """Whose images these are; None for the whole pool."""
    canaries: float = Field(0.0, ge=0, le=1)
    """Share of the pool with a wrong label."""
    draw: int = Field(0, ge=0)
    """Seed of the pool, of who is in which model, and of the canaries."""

    @model_validator(mode="after")
    def _of_the_models(self) -> Self:
        if self.models % 2:
            raise Refusal("models", refusal("must be even", self.models))
        if self.model is not None and self.model >= self.models:
            raise Refusal("model", refusal(f"must be below the {self.models} models", self.model))
        if self.split != "train":
            raise Refusal("split", refusal("must be train", self.split))
        if self.real.split != "train":
            raise Refusal("real.split", refusal("must be train", self.real.split))
        if self.real.class_limit is not None:
            raise Refusal("real.class_limit", "must be left out; say class_limit of the members")
        if self.fold is not None:
            raise Refusal("fold", "must be left out; say fold of real")
        if self.view != "as_is":
            raise Refusal("view", "must be left out; say view of real")
        if self.real.own_classes() is None:
            raise Refusal("real", refusal("must have labels", self.real.short))
        available = self.real.available()
        if available is not None and self.images > available:
            raise Refusal("images", refusal(f"must be at most the {available:,} there are", self.images))
        return self

    @property
    def own_shape(self) -> tuple[int, int, int]:
        return self.real.shape

    def own_classes(self) -> int | None:
        return self.real.own_classes()

    def own_images(self) -> int:
        return len(self.places())

    def labels(self) -> NDArray[np.int64]:
        return _pool_labels(self)[self.places()]

    def places(self) -> NDArray[np.int64]:
        """Places of the images in the pool, ascending."""
        if self.model is None:
            return np.arange(self.images)
        return np.flatnonzero(memberships(self.images, self.models, self.draw)[self.model])

    def catalogue(self) -> Catalogue:
        reader, place_N = self.real.open(self.real.population_seed(self.draw)), self.places()

        def decode(place: int) -> NDArray[np.uint8]:
            image: NDArray[np.uint8] = reader(place_N[place : place + 1]).image_BHWC[0]
            return image

        names: Sequence[str] = reader.record["class_names"]
        return Catalogue(label_N=self.labels(), decode=decode, class_names=names)

    def names_of(self, place: int) -> tuple[str, ...]:
        order_N = self.real.ordered(self.real.population_seed(self.draw))
        return self.real.names_of(int(order_N[self.places()[place]]))

    def as_test(self) -> RealSource:
        return self.real.as_test().model_copy(update={"class_limit": self.class_limit, "class_order": self.class_order})

    def origin(self) -> str | None:
        return self.real.origin()

    def verify(self) -> None:
        self.real.verify()

    @classmethod
    def example(cls, scratch: Path) -> Self:
        from scaleback.sources.named import Digits

        return cls(real=Digits(), images=60, models=4, model=1, canaries=0.1)


@lru_cache(maxsize=16)
def _pool_labels(source: Members) -> NDArray[np.int64]:
    order_N = source.real.ordered(source.real.population_seed(source.draw))
    label_N = source.real.labels()[order_N[: source.images]]
    if source.canaries:
        index_X, wrong_X = mislabelled_canaries(label_N, source.canaries, source.own_classes() or 0, source.draw)
        label_N[index_X] = wrong_X
    return label_N


def memberships(samples: int, models: int, seed: int) -> NDArray[np.bool_]:
    """(M, N) which model is made from which sample: each sample is in exactly half of the models.

    A sample's row of models depends on its index and the seed alone, not on how many samples there are.
    """
    if models < LEAST_MODELS or models % 2:
        raise InputError(refusal(f"models must be an even number of at least {LEAST_MODELS}", models))
    draw_NM = seeds.uniform(seeds.key("memberships", seed), np.arange(samples), models)
    rank_NM = draw_NM.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
    half = models // 2
    return np.ascontiguousarray(half > rank_NM.T)


def mislabelled_canaries(
    label_N: NDArray[np.int64], share: float, classes: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of the canaries, ascending, and their wrong labels, (X,) each: samples that can only be memorised.

    Every other class is as likely. The canaries of a smaller share are among those of a larger one.
    """
    if not 0 < share <= 1:
        raise InputError(refusal("the share of canaries must lie in (0, 1]", share))
    if classes < 2 or not ((label_N >= 0) & (label_N < classes)).all():
        raise InputError(refusal("canaries need at least 2 classes, and labels among them", classes))
    count = max(1, round(share * len(label_N)))
    index_X = np.sort(seeds.permutation(seeds.key("canaries", seed), len(label_N))[:count])
    draw_X = seeds.uniform(seeds.key("canary labels", seed), index_X, 1)[:, 0]
    return index_X, (label_N[index_X] + 1 + (draw_X * (classes - 1)).astype(np.int64)) % classes
