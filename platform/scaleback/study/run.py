"""One point of a study: everything that could change its numbers."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Self

from pydantic import Field, model_validator

from scaleback.backbones import Backbone
from scaleback.core.errors import DataError, Refusal, refusal
from scaleback.core.spec import Plain, Spec
from scaleback.evaluations import AnyEvaluation, Target
from scaleback.evaluations.run import Evaluate
from scaleback.objectives import AnyObjective
from scaleback.pretrain.spec import Pretrain, refuse_impossible
from scaleback.recipes import PretrainRecipe
from scaleback.sources import AnySource
from scaleback.sources.base import Source, origin_of
from scaleback.sources.learnt import Learnt
from scaleback.sources.population import Population

MOST_IMAGES = 1_000_000_000
PRETRAINING = ("source", "images", "objective", "recipe")
"""Fields that are of no effect on a run without pre-training."""


class Run(Spec):
    """Render, pre-train, evaluate. With ``images`` 0 there is no pre-training: the baseline of every study."""

    source: AnySource
    images: int = Field(ge=0, le=MOST_IMAGES)
    """Images of the source to pre-train on; 0 for none, and then source, objective and recipe are of no effect."""
    objective: AnyObjective
    backbone: Backbone
    recipe: PretrainRecipe
    target: Target
    evaluations: Annotated[tuple[AnyEvaluation, ...], Field(min_length=1)]
    seed: int = Field(ge=0)
    """Draws the population, the first weights, the order of training, and which images are labelled."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        kinds = [evaluation.short for evaluation in self.evaluations]
        if len(set(kinds)) != len(kinds):
            raise Refusal("evaluations", refusal("must be of different kinds", kinds))
        try:
            if self.images:
                refuse_impossible(self.source, self.images, self.objective, self.recipe, self.backbone)
        except DataError as error:
            raise Refusal("source", str(error)) from None
        try:
            self.target.refuse_impossible()
        except DataError as error:
            raise Refusal("target.data", str(error)) from None
        except Refusal as error:
            raise Refusal(f"target.{error.field}", str(error)) from None
        for evaluation in self.evaluations:
            try:
                evaluation.refuse(self.target)
                evaluation.refuse_backbone(self.backbone)
            except Refusal as error:
                raise Refusal(f"evaluations.{evaluation.short}.{error.field}", str(error)) from None
        return self

    def canonical(self) -> dict[str, Plain]:
        """Without pre-training, what would have been its settings is no part of identity."""
        fields = super().canonical()
        if not self.images:
            for name in PRETRAINING:
                fields.pop(name, None)
            fields["images"] = 0
        return fields

    @cached_property
    def pretrain(self) -> Pretrain | None:
        """The pre-training stage, or None."""
        if not self.images:
            return None
        return Pretrain(
            population=Population.of(self.source, self.seed),
            images=self.images,
            objective=self.objective,
            backbone=self.backbone,
            recipe=self.recipe,
            seed=self.seed,
        )

    @cached_property
    def evaluates(self) -> tuple[Evaluate, ...]:
        """The evaluation stages."""
        return tuple(
            Evaluate(
                evaluation=evaluation,
                target=self.target,
                backbone=self.backbone,
                pretrain=self.pretrain,
                seed=self.seed,
                origin=origin_of(self.target.origin(), *(one.origin for one, _ in evaluation.stored())),
            )
            for evaluation in self.evaluations
        )

    @property
    def learnt(self) -> list[Learnt]:
        """What generators must have learnt before images are drawn, in order."""
        of_pretraining = [self.pretrain.population] if self.pretrain is not None else []
        of_target = [population for population, _ in self.target.stored(self.seed)]
        found = [stage for one in (*of_pretraining, *of_target) for stage in one.source.learnt(one.seed)]
        return list({stage.address: stage for stage in found}.values())

    def verify(self) -> None:
        """Look at the files behind the sources.

        Raises:
            DataError: one cannot be read; the message begins with the field.
        """
        made = (self.target.synthetic.source,) if self.target.synthetic is not None else ()
        sources: dict[str, tuple[Source, ...]] = {
            "target.data": (self.target.data, self.target.test),
            "target.synthetic.source": made,
            **{f"evaluations.{one.short}": tuple(each.source for each, _ in one.stored()) for one in self.evaluations},
            "source": (self.source,) if self.images else (),
        }
        for field, named in sources.items():
            for source in named:
                try:
                    source.verify()
                except DataError as error:
                    raise DataError(f"{field}: {error}") from None

    def stored(self, *, stream: bool) -> list[tuple[Population, int]]:
        """Populations that the run reads from storage, and how many images of each.

        Args:
            stream: whether what it is pre-trained on is drawn as it goes.
        """
        needed = [*self.target.stored(self.seed), *(one for each in self.evaluations for one in each.stored())]
        if self.pretrain is not None and not (stream or self.source.fresh):
            needed.insert(0, (self.pretrain.population, self.images))
        return needed
