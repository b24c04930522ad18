"""What a report is made of: plain data that the study room gathers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from scaleback.scaling.metrics import Shown
from scaleback.scaling.table import Cell, Table


@dataclass(frozen=True, kw_only=True, slots=True)
class Sheet:
    """Images of one point."""

    title: str
    png: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class RunLine:
    """One run in the list of runs."""

    point: str
    seed: int
    fingerprint: str
    state: str
    addresses: Sequence[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Content:
    """Everything a report is made of."""

    name: str
    purpose: str
    axes: Sequence[str]
    """Fields of the exhaustive axes."""
    measures: Sequence[Shown]
    reach: float | None
    fit_field: str | None
    table: Table
    cost: Mapping[str, float]
    """Point to images used for pre-training."""
    sheets: Sequence[Sheet]
    runs: Sequence[RunLine]
    base_spec: str
    """The base run, as YAML."""
    study_spec: str
    made: str
    """When, with which versions."""
    notes: Sequence[str] = field(default_factory=tuple)
    count_axes: Sequence[str] = ()
    """Axes that set nothing but how many real or synthetic images there are,"""
    synthetic_axes: Sequence[str] = ()
    """and those among them that set nothing but the synthetic ones."""
    fit_form: Literal["power", "generations"] = "power"
    """Which law is fitted along ``fit_field``."""
    compared: str = "no pre-training"
    """What every point is compared with."""

    @property
    def baselines(self) -> list[str]:
        """Labels of the points without pre-training."""
        return list(dict.fromkeys(row.point for row in self.table.rows if row.baseline))

    @property
    def budgeted(self) -> Shown | None:
        """The first measure that has a budget: the evaluation whose curve is shown."""
        return next((measure for measure in self.measures if measure.images_seen is not None), None)

    def cells(self, measure: Shown) -> list[Cell]:
        """Every point's value of a measure."""
        return self.table.cells(measure.evaluation, measure.metric, measure.images_seen)


def baseline_of(cell: Cell, cells: Sequence[Cell]) -> Cell | None:
    """The cell without pre-training that differs from this one in nothing else."""
    return next((one for one in cells if one.baseline and one.values.items() <= cell.values.items()), None)
