"""What a pre-training method is: how many views, which heads, which loss. The loop knows none of them.

Specs live here and import no torch, so that a plan is instant; the modules they build live in ``learners``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Self

from scaleback.core.spec import Spec

if TYPE_CHECKING:
    import torch
    from torch import nn

    from scaleback.objectives.learners.base import Learner


class Objective(Spec, ABC):
    """A pre-training method; a spec, ``build`` makes the module."""

    views: ClassVar[int] = 1
    """Views of an image that the method compares."""

    @property
    def slice_multiple(self) -> int:
        """Images that must be together on a worker, so a worker's slice of a batch holds a multiple of them."""
        return 1

    @abstractmethod
    def refuse(self, *, source_classes: int | None, images: int) -> None:
        """Raise Refusal if the method cannot work on data of so many classes (None: unlabelled) and images."""

    @abstractmethod
    def classes(self, *, source_classes: int | None, images: int) -> int:
        """Outputs of the head on a population of so many classes and images."""

    @abstractmethod
    def build(self, backbone: nn.Module, *, width: int, classes: int, generator: torch.Generator) -> Learner:
        """The module to train; fresh weights come from ``generator``."""

    @abstractmethod
    def trivial_loss(self, classes: int, *, labels_an_image: int = 1) -> float:
        """Loss of a model that has learnt nothing, which a collapsed run stays at."""

    @classmethod
    @abstractmethod
    def example(cls) -> Self:
        """A small instance for the contract tests."""
