"""What a pre-training method is: which views, which heads, which loss. The loop knows none of them.

Specs live here and import no torch, so that a plan is instant; the modules they build live in ``learners``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Self

from scaleback.core.errors import Refusal, refusal
from scaleback.core.spec import Spec

if TYPE_CHECKING:
    import torch
    from torch import nn

    from scaleback.objectives.learners.base import Learner


class Objective(Spec, ABC):
    """A pre-training method; a spec, ``build`` makes the module."""

    takes_tokens: ClassVar[bool] = False
    """Whether the method hides patches, which only a plain vision transformer has."""

    @property
    def compares_images(self) -> bool:
        """Whether an image's loss depends on the others of its batch (negatives, batch statistics).

        In micro-batches (``recipe.accumulate``) such a loss sees its own micro-batch only, over all workers; any other
        loss is exact.
        """
        return False

    @property
    def view_augmentations(self) -> tuple[int, ...]:
        """For each view of an image, which of the recipe's augmentations makes it."""
        return (0,)

    @property
    def slice_multiple(self) -> int:
        """Images that must be together on a worker, so a worker's slice of a batch holds a multiple of them."""
        return 1

    def refuse(self, *, source_classes: int | None, images: int, batch_images: int) -> None:
        """Raise Refusal if the method cannot work on data of so many classes (None: unlabelled) and images.

        Args:
            source_classes: classes of the source's labels.
            images: images of the set.
            batch_images: images whose losses are computed together, over all workers.
        """
        if self.compares_images and batch_images < 2:
            raise Refusal("kind", refusal("needs another image in a (micro-)batch to compare one with", batch_images))

    def classes(self, *, source_classes: int | None, images: int) -> int:
        """Classes that the method tells apart on a population of so many classes and images; 0 if it has none."""
        return 0

    @abstractmethod
    def build(self, backbone: nn.Module, *, width: int, classes: int, generator: torch.Generator) -> Learner:
        """The module to train; fresh weights come from ``generator``."""

    @abstractmethod
    def trivial_loss(self, *, classes: int, labels_an_image: int, batch_images: int) -> float | None:
        """Loss of a model whose output is the same for every image, at its best, which a collapsed run stays at.

        None where no such number is known. ``batch_images`` is as in ``refuse``.
        """

    def collapse(self, row: Mapping[str, float]) -> str | None:
        """Why a row of the curve shows a collapse in the method's own quantities; None if it does not."""
        return None

    def passes(self, areas: Sequence[float]) -> float:
        """Forward passes through the backbone that one image costs, a backward pass counted as two.

        Args:
            areas: of each view, over the area of an image at the backbone's own size. Heads are not counted.
        """
        return 3 * sum(areas)

    @classmethod
    @abstractmethod
    def example(cls) -> Self:
        """A small instance for the contract tests."""
