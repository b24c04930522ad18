"""What a generator of images is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

from scaleback.core.spec import Spec

if TYPE_CHECKING:
    from scaleback.sources.base import Source
    from scaleback.sources.diffusing.model import Diffuser
    from scaleback.sources.learnt import Captioned
    from scaleback.sources.population import Population


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """The real images that a generator is to learn or to draw, as far as it must know of them beforehand."""

    shape: tuple[int, int, int]
    """(height, width, channels) of an image."""
    classes: int = 0
    """0 if they are unlabelled."""
    class_names: Sequence[str] = ()
    """In the order of labels; none where the source has none."""
    captions: Sequence[str] = ()
    """What each real image shows; none if nobody said."""
    drawn: bool = False
    """Whether images are drawn; False where the generator learns."""


class Generator(Spec, ABC):
    """A diffusion model that predicts noise, told of an image's class and of how it looks."""

    trains: ClassVar[bool] = False
    """Whether it begins with weights that are trained here."""

    @abstractmethod
    def refuse(self, real: Source, images: int, *, guided: bool) -> None:
        """Raise Refusal if it cannot draw the first so many images of a source.

        Args:
            real: the source.
            images: how many.
            guided: whether it is shown how they look.
        """

    @abstractmethod
    def build(self, subject: Subject) -> Diffuser:
        """The model, with fresh weights or those of its checkpoint.

        Raises:
            DataError: its files are not there, or are not what they should be.
        """

    def verify(self) -> None:
        """Look at the files behind it, as far as that is cheap, before anything is started.

        Raises:
            DataError: one is missing or says what cannot be; the message begins with ``generator.`` and the field.
        """

    def origin(self) -> str | None:
        """A digest of the files behind it; None if it needs none of its own."""
        return None

    def written_captions(self, population: Population, images: int) -> Sequence[str]:
        """What each of the first real images shows, by a file of the user's; none without such a file.

        Raises:
            DataError: an image has none.
        """
        return ()

    def captioned(self, population: Population, images: int) -> Captioned | None:
        """The stage that says what each of the first real images shows; None if nobody is asked."""
        return None

    @classmethod
    @abstractmethod
    def example(cls, scratch: Path) -> Self:
        """A small instance for the contract tests; files it needs go into ``scratch``."""
