"""What is learnt to draw with, as an artifact: a generator, words for real images, low-rank weights, a judge."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal, TypeAlias

from pydantic import Field

from scaleback.backbones import Backbone
from scaleback.core.spec import Spec
from scaleback.recipes import FinetuneRecipe, Recipe
from scaleback.sources.generators import AnyAdaptation, AnyGenerator, Embedded
from scaleback.sources.population import Population

Guidance = Literal["none", "image", "class-mean"]
"""What a generator is shown of how an image looks: nothing; the real image itself; the mean of some of its class."""


class Trained(Spec):
    """The stage whose artifact is a generator's weights."""

    generator: Embedded
    population: Population
    """The first images of what it is trained on."""

    @classmethod
    def of(cls, generator: Embedded) -> Trained:
        """The stage that makes a generator."""
        return cls(generator=generator, population=Population.of(generator.source, generator.seed))

    @property
    def short(self) -> str:
        return self.generator.short

    @property
    def address(self) -> str:
        """``generator/<kind>-<hash>``."""
        return f"generator/{self.slug}"

    @property
    def images(self) -> int:
        """How many of the population."""
        return self.generator.images

    @property
    def budget_images(self) -> int:
        """Image passes of its training."""
        return self.generator.schedule.budget_images


class Captioned(Spec):
    """The stage whose artifact is what real images show, in words."""

    beside: ClassVar[frozenset[str]] = frozenset({"download"})
    captioner: str
    """A BLIP-2 checkpoint of transformers."""
    precision: Literal["fp32", "fp16", "bf16"]
    download: bool = False
    population: Population
    """Of the real images."""
    images: int = Field(ge=1)
    """The first so many of them."""
    origin: str | None = None
    """Digest of the captioner's files."""

    @property
    def short(self) -> str:
        return "blip-2"

    @property
    def address(self) -> str:
        """``captions/<captioner>-<hash>``."""
        return f"captions/{self.slug}"

    @property
    def budget_images(self) -> int:
        """Images that are looked at."""
        return self.images


class Adapted(Spec):
    """The stage whose artifact is low-rank weights for a generator."""

    generator: AnyGenerator
    adaptation: AnyAdaptation
    guidance: Guidance
    guidance_images: int
    population: Population
    """Of the real images."""
    images: int = Field(ge=1)
    """The first so many of them."""
    seed: int
    origin: str | None = None
    """Digest of the files behind the generator."""

    @property
    def short(self) -> str:
        return self.generator.short

    @property
    def address(self) -> str:
        """``adapt/<generator>-<hash>``."""
        return f"adapt/{self.slug}"

    @property
    def budget_images(self) -> int:
        """Image passes of its training."""
        return self.adaptation.schedule.budget_images

    @property
    def trained(self) -> Trained | None:
        """The stage before; None if the generator comes from elsewhere."""
        return Trained.of(self.generator) if isinstance(self.generator, Embedded) else None


class Judged(Spec):
    """The stage whose artifact is a classifier of real images."""

    backbone: Backbone
    recipe: FinetuneRecipe
    population: Population
    """Of the real images."""
    images: int = Field(ge=1)
    """The first so many of them."""
    seed: int

    @property
    def short(self) -> str:
        return self.backbone.short

    @property
    def address(self) -> str:
        """``judge/<backbone>-<hash>``."""
        return f"judge/{self.slug}"

    @property
    def classes(self) -> int:
        """What it tells apart."""
        found = self.population.source.classes(self.images)
        assert found is not None, "steering refuses unlabelled images"
        return found

    @property
    def sized_recipe(self) -> Recipe:
        """The recipe, its budget in image passes."""
        return self.recipe.sized(images=self.images, flops_an_image=1)

    @property
    def budget_images(self) -> int:
        """Image passes of its training."""
        return self.sized_recipe.budget_images


Learnt: TypeAlias = Trained | Captioned | Adapted | Judged


def waves(stages: Iterable[Learnt]) -> list[list[Learnt]]:
    """Stages, each once, in groups that can learn side by side: what a group needs of them is in groups before it."""
    left = {stage.address: stage for stage in stages}
    found: list[list[Learnt]] = []
    while left:
        found.append([stage for stage in left.values() if not any(one.address in left for one in before(stage))])
        for stage in found[-1]:
            del left[stage.address]
    return found


def before(stage: Learnt) -> list[Learnt]:
    """What a stage needs: all that its images are drawn with, and for an adaptation what is adapted and told."""
    found = stage.population.source.learnt(stage.population.seed)
    if isinstance(stage, Adapted):
        captioned = stage.generator.captioned(stage.population, stage.images)
        found += [one for one in (stage.trained, captioned) if one is not None]
    return found
