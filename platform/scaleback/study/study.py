"""A study: a base run, its axes, its seeds, how they are searched, what is fitted."""

from __future__ import annotations

import itertools
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import Field, JsonValue, model_validator

from scaleback.core.errors import Refusal, SpecError, refusal, unknown
from scaleback.core.spec import Plain, Spec
from scaleback.evaluations import EVALUATIONS
from scaleback.scaling.metrics import Shown
from scaleback.study.axes import AnyAxis, Cases, Choice, Grid, Range, inside
from scaleback.study.run import PRETRAINING, Run

NAME = r"[a-z0-9][a-z0-9-]{0,63}"
MOST_POINTS = 1_000_000


class Measure(Spec):
    """A number of a run that a study looks at: ``finetune.accuracy`` at 2,000 images, ``knn.accuracy``."""

    evaluation: str
    metric: str = "accuracy"
    images_seen: int | None = None
    """Image passes of fine-tuning at which it was taken; None for a number without a budget."""

    @property
    def label(self) -> str:
        """``finetune.accuracy@2000``."""
        at = "" if self.images_seen is None else f"@{self.images_seen}"
        return f"{self.evaluation}.{self.metric}{at}"


class Search(Spec):
    """How searched axes are searched: for a better first measure and, with ``fewest``, for less of that field too."""

    sampler: Literal["tpe", "random", "gp", "nsga2", "qmc"] = "tpe"
    trials: int = Field(ge=1)
    seed: int = 0
    fewest: str | None = None
    """A field of the run to minimise as a second objective, such as ``images``."""


class Fit(Spec):
    """A law along one exhaustive axis."""

    field: str = "images"
    form: Literal["power", "generations"] = "power"
    """``power``: error = offset + A n^-a, n as counted by the axis; ``generations``: the laws of collapse, linear and
    bounded, where it counts generations."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """What every point of a study is compared with."""

    name: str
    changes: Mapping[str, Plain]
    """What makes it of a run."""
    without: Sequence[str]
    """Fields that are of no effect on it."""

    def ignores(self, field: str) -> bool:
        """Whether a dotted field is of no effect on it."""
        return any(inside(field, name) for name in self.without)


class Study(Spec):
    """Runs = every point of the exhaustive axes x every seed, and what the sampler proposes on the searched ones."""

    name: str
    purpose: str = ""
    """The question it answers, in a sentence or two."""
    base: Run
    axes: tuple[AnyAxis, ...] = ()
    seeds: Annotated[tuple[int, ...], Field(min_length=1)]
    baseline: bool = True
    """Also run every seed without pre-training; where the base has none, without synthetic images."""
    measures: Annotated[tuple[Measure, ...], Field(min_length=1)]
    """What the report shows; the first is what a search makes better."""
    reach: float | None = Field(None, gt=0, lt=1)
    """An accuracy: the report says how many image passes of fine-tuning each start needs to reach it."""
    search: Search | None = None
    fit: Fit | None = None

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if not re.fullmatch(NAME, self.name):
            raise Refusal("name", refusal("must be small letters, digits and dashes, at most 64", self.name))
        if len(set(self.seeds)) != len(self.seeds) or min(self.seeds) < 0:
            raise Refusal("seeds", refusal("must be different and not negative", self.seeds))
        fields = [axis.field for axis in self.axes]
        for place, field in enumerate(fields):
            if field in fields[:place]:
                raise Refusal("axes", refusal("name each field once", field))
            if field == "seed":
                raise Refusal("axes", "seed is an axis of every study; list its values in seeds")
        if len(self.seeds) > 1 and any("seed" in axis.fields for axis in self.axes):
            raise Refusal("seeds", refusal("must be one where cases set the seed", self.seeds))
        self._check_apart()
        if bool(self.searched) != (self.search is not None):
            rule = "needs how to search (trials)" if self.searched else "must be left out: no axis is searched"
            raise Refusal("search", rule)
        if self.search is not None and self.search.fewest not in (None, *(axis.field for axis in self.searched)):
            raise Refusal("search.fewest", refusal("must be one of the searched axes", self.search.fewest))
        self._check_values()
        self._check_measures()
        if self.fit is not None:
            self._check_fit(self.fit.field)
        return self

    def _check_apart(self) -> None:
        """Two axes must not set the same field, or one within the other's, but within cases that come before it."""
        for (place, one), (before, other) in itertools.permutations(enumerate(self.axes), 2):
            for field, outer in itertools.product(one.fields, other.fields):
                refined = isinstance(other, Cases) and before < place and field != outer
                if inside(field, outer) and not refined:
                    raise Refusal("axes", refusal(f"must not lie within another axis, {other.field}", field))

    def _check_fit(self, field: str) -> None:
        values = next((grid.values for grid in self.grids if grid.field == field), None)
        if values is None:
            raise Refusal("fit.field", refusal("must be one of the exhaustive axes", field))
        for value in values:
            if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
                raise Refusal("fit.field", refusal("must be an axis of positive numbers", value))

    def _check_values(self) -> None:
        """Every value must make a run; the first fault is refused at its own path."""
        for axis in self.axes:
            values = axis.inside() if isinstance(axis, Range) else axis.values
            for value in values:
                try:
                    self.base.replace(dict(axis.changes(value)))
                except SpecError as error:
                    raise Refusal("", str(error)) from None
        points = 1
        for grid in self.grids:
            points *= len(grid.values)
        if points * len(self.seeds) > MOST_POINTS:
            raise Refusal("axes", refusal(f"must make at most {MOST_POINTS:,} runs", points * len(self.seeds)))

    def _check_measures(self) -> None:
        kinds = {evaluation.short: evaluation for evaluation in self.base.evaluations}
        for place, measure in enumerate(self.measures):
            if measure.evaluation not in EVALUATIONS:
                raise Refusal(
                    "measures", refusal(f"must name an evaluation of {', '.join(EVALUATIONS)}", measure.evaluation)
                )
            if measure.evaluation not in kinds:
                raise Refusal(
                    "measures", refusal(f"must name an evaluation of the run: {', '.join(kinds)}", measure.evaluation)
                )
            found = kinds[measure.evaluation].metrics()
            marks = [images for name, images in found if name == measure.metric]
            if not marks:
                raise Refusal(
                    f"measures.{place}.metric", unknown("metric", measure.metric, {name for name, _ in found})
                )
            if measure.images_seen not in marks:
                rule = "must be left out" if marks == [None] else f"must be one of {', '.join(map(str, marks))}"
                raise Refusal(f"measures.{place}.images_seen", refusal(rule, measure.images_seen))
        if self.search is not None and not self.shown[0].kind.sign:
            raise Refusal("measures", refusal("must begin with one that is better high or low", self.shown[0].label))

    @property
    def short(self) -> str:
        return self.name

    @property
    def shown(self) -> tuple[Shown, ...]:
        """The measures, and how their numbers are read."""
        found = {evaluation.short: evaluation.metrics() for evaluation in self.base.evaluations}
        return tuple(
            Shown(
                label=measure.label,
                evaluation=measure.evaluation,
                metric=measure.metric,
                images_seen=measure.images_seen,
                kind=found[measure.evaluation][measure.metric, measure.images_seen],
            )
            for measure in self.measures
        )

    @property
    def search_fingerprint(self) -> str:
        """Of what a search depends on: everything but how many trials it is given and what is shown of it."""
        shown = {"purpose": "", "reach": None, "fit": None, "measures": self.measures[:1], "baseline": False}
        search = self.search.model_copy(update={"trials": 1}) if self.search else None
        return self.model_copy(update={**shown, "search": search}).fingerprint

    @property
    def compared(self) -> Baseline:
        """The baseline."""
        if self.base.images == 0 and self.base.target.synthetic is not None:
            return Baseline("real images alone", {"target.synthetic": None}, (*PRETRAINING, "target.synthetic"))
        return Baseline("no pre-training", {"images": 0}, PRETRAINING)

    @property
    def grids(self) -> tuple[Grid | Cases, ...]:
        """The exhaustive axes."""
        return tuple(axis for axis in self.axes if isinstance(axis, Grid | Cases))

    @property
    def searched(self) -> tuple[Range | Choice, ...]:
        """The searched axes."""
        return tuple(axis for axis in self.axes if isinstance(axis, Range | Choice))

    def points(self) -> Iterator[Point]:
        """Every exhaustive point, baselines first; if axes are searched, baselines only (the rest is proposed later).

        There is one baseline for each combination of the exhaustive axes that matter to it.
        """
        if self.baseline:
            compared = self.compared
            matter = [grid.field for grid in self.grids if not all(map(compared.ignores, grid.fields))]
            yield from (Point(values=values, baseline=compared.name) for values in self.cells(matter))
        if not self.searched:
            yield from (Point(values=values) for values in self.cells())

    def cells(self, fields: Container[str] | None = None) -> Iterator[dict[str, JsonValue]]:
        """Every combination of the exhaustive axes' values; with ``fields``, of those axes only."""
        grids = [grid for grid in self.grids if fields is None or grid.field in fields]
        for values in itertools.product(*(grid.values for grid in grids)):
            yield dict(zip((grid.field for grid in grids), values, strict=True))

    def run(self, point: Point, seed: int) -> Run:
        """The run of a point and a seed."""
        changes: dict[str, Plain] = {}
        for axis in self.axes:
            if axis.field in point.values:
                changes |= dict(axis.changes(point.values[axis.field]))
        if point.baseline:
            changes |= self.compared.changes
        return self.base.replace({"seed": seed, **changes}, self._made)

    @cached_property
    def _made(self) -> dict[str, Any]:
        """Members of the runs so far, which runs share that agree in them: a plan is several times as fast for it."""
        return {}


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """Values of the axes; of a baseline, those of the axes that matter without pre-training."""

    values: Mapping[str, JsonValue]
    baseline: str = ""
    """What it is called, if it is one."""
    searched: bool = False
    """Whether a sampler proposed it."""

    @property
    def label(self) -> str:
        """``source.delta=0.2 images=16``."""
        named = [self.baseline] if self.baseline else []
        return " ".join([*named, *(f"{field}={value}" for field, value in self.values.items())])
