"""Real images found by their likeness to labelled ones: what synthetic images are to be compared with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from scaleback.core.errors import Refusal, refusal
from scaleback.sources.base import Reader, Samples, Source, origin_of, refuse_part

if TYPE_CHECKING:
    from scaleback.core.store import Store
    from scaleback.sources import AnySource  # a union over the registry, which lists this class too
    from scaleback.sources.learnt import Learnt

# Shapes: N real images, M images of the pool, B images of a batch, X pixels.


class Retrieved(Source):
    """Image i is the (i // ``real_images``)-th nearest image of a pool to real image i % ``real_images``.

    The control arm of "The Unmet Promise of Synthetic Training Images" (Geng et al., 2024): a generator's training
    images, retrieved, matched or beat what it drew. Likeness is the distance of pixels, so the pool needs no labels; an
    image has the label of the real one that it was found by. An image of the pool may be found by several.
    """

    kind: Literal["retrieved"] = "retrieved"
    real: AnySource
    """What is to be matched, and whose labels are taken."""
    real_images: int = Field(ge=1)
    pool: AnySource
    """What is searched."""
    pool_images: int = Field(ge=1)
    pool_seed: int = Field(0, ge=0)
    """Draws which images of the pool are the first; a generator's own ``seed`` for what it was trained on."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        refuse_part(self.real, self.real_images, field="real", count="real_images")
        refuse_part(self.pool, self.pool_images, field="pool", count="pool_images")
        if self.real.shape != self.pool.shape:
            raise Refusal("pool", refusal(f"must give images of shape {self.real.shape}, as real", self.pool.shape))
        return self

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.real.shape

    def classes(self, images: int) -> int | None:
        return self.real.classes(self.real_images)

    def available(self) -> int:
        return self.real_images * self.pool_images

    def origin(self) -> str | None:
        return origin_of(self.real.origin(), self.pool.origin())

    def verify(self) -> None:
        self.real.verify()
        self.pool.verify()

    def learnt(self, seed: int) -> list[Learnt]:
        pool_seed = self.pool.population_seed(self.pool_seed)
        return [*self.real.learnt(self.real.population_seed(seed)), *self.pool.learnt(pool_seed)]

    def open(self, seed: int) -> Reader:
        real = self.real.open(self.real.population_seed(seed))
        return RetrievedReader(self, real, self.pool.open(self.pool.population_seed(self.pool_seed)))

    def open_with(self, seed: int, store: Store) -> Reader:
        real = self.real.open_with(self.real.population_seed(seed), store)
        return RetrievedReader(self, real, self.pool.open_with(self.pool.population_seed(self.pool_seed), store))

    @classmethod
    def example(cls, scratch: Path) -> Self:
        from scaleback.sources.named import Digits

        return cls(real=Digits(fold=(0, 2)), real_images=5, pool=Digits(fold=(1, 2)), pool_images=40)


class RetrievedReader:
    """Ranks the pool for each real image that is asked for."""

    def __init__(self, spec: Retrieved, real: Reader, pool: Reader) -> None:
        self._spec = spec
        samples, self._pool = real(np.arange(spec.real_images)), pool(np.arange(spec.pool_images)).image_BHWC
        self._label_N, self.record = samples.label_B, dict(real.record)
        self._real_NX, self._pool_MX = (
            image.reshape(len(image), -1).astype(np.float32) for image in (samples.image_BHWC, self._pool)
        )
        self._ranked: dict[int, NDArray[np.int64]] = {}

    def __call__(self, indices_B: NDArray[np.int64]) -> Samples:
        real_B, turn_B = indices_B % self._spec.real_images, indices_B // self._spec.real_images
        place_B = np.array([self._ranking(int(real))[turn] for real, turn in zip(real_B, turn_B, strict=True)])
        facts: dict[str, NDArray[Any]] = {"real": real_B, "place": place_B}
        return Samples(image_BHWC=self._pool[place_B], label_B=self._label_N[real_B], facts=facts)

    def _ranking(self, real: int) -> NDArray[np.int64]:
        """Places of the pool, the nearest first."""
        if real not in self._ranked:
            distance_M = np.square(self._pool_MX - self._real_NX[real]).sum(1)
            self._ranked[real] = np.argsort(distance_M, kind="stable")
        return self._ranked[real]
