"""What a pre-training run depends on, and nothing else."""

from __future__ import annotations

from functools import cached_property
from typing import Self

from pydantic import Field, model_validator

from scaleback.backbones import Backbone
from scaleback.core.errors import Refusal, refusal
from scaleback.core.spec import Spec
from scaleback.objectives import AnyObjective, Objective
from scaleback.recipes import Augmentation, PretrainRecipe, Recipe
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
        assert self._looked_at
        return self

    @cached_property
    def _looked_at(self) -> bool:
        """Looks once: pydantic asks again for every stage that this one becomes a member of."""
        refuse_impossible(self.population.source, self.images, self.objective, self.recipe, self.backbone)
        return True

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
    def trivial_loss(self) -> float | None:
        """Loss of a model that has learnt nothing, where it is known."""
        return self.objective.trivial_loss(
            classes=self.classes,
            labels_an_image=self.population.source.labels_an_image,
            batch_images=self.recipe.batch_images // self.recipe.accumulate,
        )

    @cached_property
    def flops_an_image(self) -> float:
        """Operations of training on one image: of the backbone, all views, forward and backward."""
        return flops_an_image(self.objective, self.recipe, self.backbone)

    @property
    def sized_recipe(self) -> Recipe:
        """The recipe, its budget in image passes."""
        return self.recipe.sized(images=self.images, flops_an_image=self.flops_an_image)


def views_of(objective: Objective, recipe: Recipe) -> tuple[Augmentation, ...]:
    """What makes each view of an image."""
    kinds = objective.view_augmentations
    return tuple(recipe.views[0 if len(recipe.views) == 1 else kind] for kind in kinds)


def flops_an_image(objective: Objective, recipe: Recipe, backbone: Backbone) -> float:
    """As in ``Pretrain``."""
    sizes = [view.size_px or backbone.image_px for view in views_of(objective, recipe)]
    areas = [(size / backbone.image_px) ** 2 for size in sizes]
    return objective.passes(areas) * backbone.cost().forward_flops


def refuse_impossible(source: Source, images: int, objective: Objective, recipe: Recipe, backbone: Backbone) -> None:
    """Raise Refusal if these do not fit together; fields are named as in ``Pretrain`` and in a run."""
    recipe.slice_images(1, objective.slice_multiple)
    available = source.available()
    if available is not None and images > available:
        raise Refusal("images", refusal(f"must be at most the {available:,} of source {source.short}", images))
    kinds = max(objective.view_augmentations) + 1
    if len(recipe.views) not in (1, kinds):
        rule = f"must be one augmentation, or one for each of the {kinds} kinds of view of {objective.short}"
        raise Refusal("recipe.views", refusal(rule, len(recipe.views)))
    if objective.takes_tokens and not backbone.has_tokens:
        raise Refusal("backbone.model", refusal(f"{objective.short} hides patches of a plain ViT", backbone.model))
    for view in recipe.views:
        if view.size_px is not None:
            backbone.refuse_size(view.size_px, "recipe.views")
    try:
        micro_batch = recipe.batch_images // recipe.accumulate
        objective.refuse(source_classes=source.classes(images), images=images, batch_images=micro_batch)
    except Refusal as error:
        raise Refusal(f"objective.{error.field}", str(error)) from None
    if recipe.online_knn and (source.classes(images) is None or source.labels_an_image > 1):
        raise Refusal("recipe.online_knn", refusal("needs images of one class each", recipe.online_knn))
    recipe.sized(images=images, flops_an_image=flops_an_image(objective, recipe, backbone))
