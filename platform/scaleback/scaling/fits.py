"""The laws of a study: one for each measure and each value of the other axes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from scaleback.scaling.content import Content
from scaleback.scaling.generations import Growth, Observed, fit_growth
from scaleback.scaling.intervals import Interval
from scaleback.scaling.laws import FitError, Fitted, fit_power_law
from scaleback.scaling.metrics import Shown
from scaleback.scaling.table import Cell


@dataclass(frozen=True, slots=True)
class _Law:
    """One fit, or why there is none."""

    measure: Shown
    group: str
    """Values of the other axes, such as ``source.delta = 0.2``; empty without any."""
    counts: Sequence[float]
    errors: Sequence[float]

    @property
    def title(self) -> str:
        """``finetune.accuracy@2000, source.delta = 0.2``."""
        return f"{self.measure.label}, {self.group}" if self.group else self.measure.label


@dataclass(frozen=True, slots=True)
class StudyLaw(_Law):
    """The power law."""

    fitted: Fitted | None
    refused: str | None

    def plain(self) -> dict[str, Any]:
        """As stored and printed."""
        if self.fitted is None:
            return {"law": self.title, "refused": self.refused}
        law, fit = self.fitted.law, self.fitted
        return {
            "law": self.title,
            "form": "error = offset + scale * n ** -exponent",
            "offset": law.offset,
            "offset_interval": list(fit.offset),
            "scale": law.scale,
            "scale_interval": list(fit.scale),
            "exponent": law.exponent,
            "exponent_interval": list(fit.exponent),
            "residual_std": fit.residual_std,
            "explained": fit.explained,
            "determined": fit.determined,
            "runs": len(self.counts),
        }


@dataclass(frozen=True, slots=True)
class GenerationLaw(_Law):
    """The laws of collapse; ``counts`` are generations."""

    fitted: Growth | None
    refused: str | None

    @property
    def said(self) -> str:
        """In a sentence."""
        if self.fitted is None:
            return f"{self.title}: no law along generations: {self.refused}."
        fit, kind = self.fitted, self.measure.kind
        each = f"{kind.change(fit.slope)} a generation"
        if fit.course == "none":
            return f"{self.title}: no growth of the error is seen over {len(set(self.counts))} generations ({each})."
        other = "bounded" if fit.form == "linear" else "linear"
        end = "" if fit.form == "linear" else f", towards a bound: {of_bound(fit.bound, self.measure)}"
        return (
            f"{self.title}: the error {fit.course}, {each}{end} ({fit.form}; {other}: AICc {fit.aicc[other]:.1f} more)."
        )

    def plain(self) -> dict[str, Any]:
        """As stored and printed."""
        if self.fitted is None:
            return {"law": self.title, "refused": self.refused}
        fit = self.fitted
        return {
            "law": self.title,
            "form": fit.form,
            "aicc": dict(fit.aicc),
            "course": fit.course,
            "start": fit.start,
            "slope": fit.slope.mean,
            "slope_interval": [fit.slope.low, fit.slope.high],
            "rise": fit.rise,
            "rate": fit.rate,
            # JSON has no infinity.
            "bound": _finite(fit.bound.mean),
            "bound_interval": [_finite(fit.bound.low), _finite(fit.bound.high)],
            "runs": len(self.counts),
            "said": self.said,
        }


def study_laws(content: Content) -> list[StudyLaw]:
    """Fit every power law that the study asks for."""
    laws = []
    for measure, group, counts, cells in _along(content, "power"):
        errors = [measure.kind.error(value) for cell in cells for value in cell.by_seed.values()]
        try:
            laws.append(StudyLaw(measure, group, counts, errors, fit_power_law(counts, errors), None))
        except FitError as error:
            laws.append(StudyLaw(measure, group, counts, errors, None, str(error)))
    return laws


def generation_laws(content: Content) -> list[GenerationLaw]:
    """Fit the laws of collapse where the study asks for them."""
    laws = []
    for measure, group, counts, cells in _along(content, "generations"):
        seeds = [(seed, measure.kind.error(value)) for cell in cells for seed, value in cell.by_seed.items()]
        runs = [Observed(count, error, seed) for count, (seed, error) in zip(counts, seeds, strict=True)]
        errors = [run.error for run in runs]
        try:
            laws.append(GenerationLaw(measure, group, counts, errors, fit_growth(runs), None))
        except FitError as error:
            laws.append(GenerationLaw(measure, group, counts, errors, None, str(error)))
    return laws


def of_bound(bound: Interval, measure: Shown) -> str:
    """``28.1 % [25.0, 31.2]``, or that these generations do not tell."""
    return "not determined" if math.isinf(bound.mean) else measure.kind.level(bound)


def _along(content: Content, form: str) -> Iterator[tuple[Shown, str, list[float], list[Cell]]]:
    """Cells of each curve along the fitted axis, and the axis's value for each of their seeds.

    Baseline and searched points are no part of one.
    """
    if content.fit_field is None or content.fit_form != form:
        return
    for measure in content.measures:
        if not measure.kind.has_error:
            continue
        groups: dict[str, list[Cell]] = {}
        for cell in content.cells(measure):
            if cell.baseline or cell.searched:
                continue
            rest = {name: value for name, value in cell.values.items() if name != content.fit_field}
            groups.setdefault(", ".join(f"{name} = {value}" for name, value in rest.items()), []).append(cell)
        for group, cells in groups.items():
            yield measure, group, [float(cell.values[content.fit_field]) for cell in cells for _ in cell.by_seed], cells


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
