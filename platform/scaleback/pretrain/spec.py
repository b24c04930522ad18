"""What a pre-training run depends on, and nothing else."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from scaleback.backbones import Backbone
from scaleback.core.errors import Refusal, refusal
from scaleback.core.spec import Spec
from scaleback.objectives import AnyObjective, Objective
from scaleback.recipes import PretrainRecipe, Recipe
from scaleback.sources import Source
from scaleback.sources.population import Population


class Pretrain(Spec):
    """The stage whose artifact is a backbone's weights."""

    population: Population
    images: int = Field(ge=1)
    """The first this many of the population."""
    objective: AnyObjective
    backbone: Backbone
    recipe: PretrainRecipe
    seed: int

    @model_validator(mode="after")
    def _possible(self) -> Self:
        refuse_impossible(self.population.source, self.images, self.objective, self.recipe)
        return self

    @property
    def short(self) -> str:
        return self.objective.short

    @property
    def address(self) -> str:
        """``pretrain/<method>-<hash>``."""
        return f"pretrain/{self.slug}"

    @property
    def classes(self) -> int:
        """Outputs of the head."""
        return self.objective.classes(source_classes=self.population.source.classes(self.images), images=self.images)

    @property
    def trivial_loss(self) -> float:
        """Loss of a model that has learnt nothing."""
        return self.objective.trivial_loss(self.classes, labels_an_image=self.population.source.labels_an_image)


def refuse_impossible(source: Source, images: int, objective: Objective, recipe: Recipe) -> None:
    """Raise Refusal if these do not fit together; fields are named as in ``Pretrain`` and in a run."""
    recipe.slice_images(1, objective.slice_multiple)
    available = source.available()
    if available is not None and images > available:
        raise Refusal("images", refusal(f"must be at most the {available:,} of source {source.short}", images))
    if len(recipe.views) not in (1, objective.views):
        rule = f"must be one augmentation, or one for each of the {objective.views} views of {objective.short}"
        raise Refusal("recipe.views", refusal(rule, len(recipe.views)))
    try:
        objective.refuse(source_classes=source.classes(images), images=images)
    except Refusal as error:
        raise Refusal(f"objective.{error.field}", str(error)) from None
