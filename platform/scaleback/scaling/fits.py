"""The laws of a study: one for each measure and each value of the other axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scaleback.scaling.content import Content
from scaleback.scaling.laws import FitError, Fitted, fit_power_law
from scaleback.scaling.metrics import Shown
from scaleback.scaling.table import Cell


@dataclass(frozen=True, slots=True)
class StudyLaw:
    """One fit, or why there is none."""

    measure: Shown
    group: str
    """Values of the other axes, such as ``source.delta = 0.2``; empty without any."""
    counts: Sequence[float]
    errors: Sequence[float]
    fitted: Fitted | None
    refused: str | None

    @property
    def title(self) -> str:
        """``finetune.accuracy@2000, source.delta = 0.2``."""
        return f"{self.measure.label}, {self.group}" if self.group else self.measure.label

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


def study_laws(content: Content) -> list[StudyLaw]:
    """Fit every law that the study asks for; baseline and searched points are no part of one."""
    if content.fit_field is None:
        return []
    laws = []
    for measure in content.measures:
        if not measure.kind.has_error:
            continue
        groups: dict[str, list[Cell]] = {}
        for cell in content.cells(measure):
            if cell.baseline or cell.searched:
                continue
            rest = {name: value for name, value in cell.values.items() if name != content.fit_field}
            groups.setdefault(", ".join(f"{name} = {value}" for name, value in rest.items()), []).append(cell)
        laws += [_law(content.fit_field, measure, rest, cells) for rest, cells in groups.items()]
    return laws


def _law(name: str, measure: Shown, rest: str, cells: Sequence[Cell]) -> StudyLaw:
    counts = [float(cell.values[name]) for cell in cells for _ in cell.by_seed]
    errors = [measure.kind.error(value) for cell in cells for value in cell.by_seed.values()]
    try:
        return StudyLaw(measure, rest, counts, errors, fit_power_law(counts, errors), None)
    except FitError as error:
        return StudyLaw(measure, rest, counts, errors, None, str(error))
