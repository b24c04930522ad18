"""Two sources in one, by ratio."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from scaleback.core.errors import Refusal, refusal
from scaleback.sources.base import UNLABELLED, Reader, Samples, Source, origin_of, refuse_part

if TYPE_CHECKING:
    from scaleback.core.store import Store
    from scaleback.sources import AnySource  # a union over the registry, which lists this class too
    from scaleback.sources.learnt import Learnt

MOST_IMAGES = 10**12
"""No total is larger: where a part is hardly drawn from, it sets no bound."""


class Mixture(Source):
    """Of any first n images, ``floor(n * share)`` come from ``second`` and the rest from ``first``, evenly spread.

    Each part is itself a prefix, so both the total and the parts are nested. The total is the run's number of images.
    """

    kind: Literal["mixture"] = "mixture"
    first: AnySource
    second: AnySource
    share: float = Field(ge=0, le=1)
    """Share of ``second``."""
    labels: Literal["apart", "shared"] = "apart"
    """``apart``: every class belongs to one part, the part whose classes do not grow with the number of images first;
    ``shared``: class k is the same class in both."""

    @model_validator(mode="after")
    def _compatible(self) -> Self:
        if self.first.shape != self.second.shape:
            raise Refusal(
                "second", refusal(f"must give images of shape {self.first.shape}, as first does", self.second.shape)
            )
        for name, part in (("first", self.first), ("second", self.second)):
            refuse_part(part, field=name, count="images")
        if self.labels == "apart" and _limit(self.first) is None and _limit(self.second) is None:
            raise Refusal(
                "labels", refusal("must be shared where both parts have more classes the more images", "apart")
            )
        return self

    @cached_property
    def offset(self) -> tuple[int, int]:
        """What is added to the labels of (first, second)."""
        first, second = _limit(self.first), _limit(self.second)
        return (0, first) if first is not None else (second or 0, 0)

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.first.shape

    def classes(self, images: int) -> int | None:
        first = self.first.classes(images - self.of_second(images))
        second = self.second.classes(self.of_second(images))
        if first is None or second is None:
            return None
        if self.labels == "shared":
            return max(first, second)
        return self.offset[0] + first if self.offset[0] else self.offset[1] + second

    def available(self) -> int | None:
        first, second = self.first.available(), self.second.available()
        totals = []
        if first is not None and self.share < 1:
            totals.append(_largest(lambda total: total - self.of_second(total), first, 1 - self.share))
        if second is not None and self.share > 0:
            totals.append(_largest(self.of_second, second, self.share))
        return min(totals) if totals else None

    def origin(self) -> str | None:
        return origin_of(self.first.origin(), self.second.origin())

    def verify(self) -> None:
        self.first.verify()
        self.second.verify()

    def population_seed(self, seed: int) -> int:
        same = self.first.population_seed(seed) == self.second.population_seed(seed) == 0
        return 0 if same else seed

    def of_second(self, images: int) -> int:
        """How many of the first ``images`` come from ``second``."""
        return int(np.floor(images * self.share + 1e-9))

    def learnt(self, seed: int) -> list[Learnt]:
        return [stage for part in self._parts for stage in part.learnt(part.population_seed(seed))]

    def open(self, seed: int) -> MixtureReader:
        return MixtureReader(self, *(part.open(part.population_seed(seed)) for part in self._parts))

    def open_with(self, seed: int, store: Store) -> MixtureReader:
        return MixtureReader(self, *(part.open_with(part.population_seed(seed), store) for part in self._parts))

    @property
    def discloses(self) -> bool:
        return any(part.discloses for part in self._parts)

    @property
    def rounds(self) -> int:
        return max(part.rounds for part in self._parts)

    @property
    def _parts(self) -> tuple[Source, Source]:
        return self.first, self.second

    @classmethod
    def example(cls, scratch: Path) -> Self:
        from scaleback.sources.named import Digits
        from scaleback.sources.tables import Arrays

        file = scratch / "mixed.npz"
        np.savez(file, x=np.full((12, 8, 8), 200, np.uint8), y=np.arange(12) % 3)
        return cls(first=Digits(), second=Arrays(path=str(file)), share=0.25)


class MixtureReader:
    """Sends each index to the part it belongs to."""

    def __init__(self, spec: Mixture, first: Reader, second: Reader) -> None:
        self._spec, self._parts = spec, (first, second)

    @property
    def record(self) -> dict[str, Any]:
        """What both parts realised, and what classes are called where they share them."""
        first, second = (dict(part.record) for part in self._parts)
        named = self._spec.labels == "shared" and "class_names" in first
        return {"first": first, "second": second, **({"class_names": first["class_names"]} if named else {})}

    def __call__(self, indices_B: NDArray[np.int64]) -> Samples:
        before_B = np.array([self._spec.of_second(int(index)) for index in indices_B])
        after_B = np.array([self._spec.of_second(int(index) + 1) for index in indices_B])
        part_B = (after_B > before_B).astype(np.int64)
        place_B = np.where(part_B == 1, before_B, indices_B - before_B)
        image_BHWC = np.empty((len(indices_B), *self._spec.shape), np.uint8)
        label_B = np.empty(len(indices_B), np.int64)
        for part, reader in enumerate(self._parts):
            chosen = part_B == part
            if chosen.any():
                samples = reader(place_B[chosen])
                image_BHWC[chosen], label_B[chosen] = samples.image_BHWC, samples.label_B
                if self._spec.labels == "apart":
                    label_B[chosen] += self._spec.offset[part] * (samples.label_B != UNLABELLED)
        return Samples(image_BHWC=image_BHWC, label_B=label_B, facts={"part": part_B, "place": place_B})


def _limit(source: Source) -> int | None:
    """The number of classes of a whole source; 0 if unlabelled, None if they grow with the number of images."""
    available = source.available()
    return None if available is None else source.classes(available) or 0


def _largest(taken: Callable[[int], int], available: int, share: float) -> int:
    """The largest total of which this part, about ``share`` of it, takes at most ``available``."""
    return bisect_right(range(int(min((available + 2) / share, MOST_IMAGES)) + 2), available, key=taken) - 1
