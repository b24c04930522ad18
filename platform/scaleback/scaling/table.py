"""Results as rows: one number of one run in each, with everything needed to group them."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from scaleback.scaling.intervals import Interval, over_seeds


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One number."""

    point: str
    """Label of the point; the same for all its seeds."""
    values: Mapping[str, Any]
    """Value of each axis; empty for the baseline."""
    baseline: bool
    searched: bool
    """Whether a sampler proposed the point, so that it is no part of a curve."""
    seed: int
    run: str
    """Fingerprint."""
    evaluation: str
    metric: str
    value: float
    images_seen: int | None
    count: int | None
    collapsed: bool
    """Whether the pre-training behind it stayed at its trivial loss, or its features fell to a line."""
    real_images: int = 0
    """Labelled real images that were trained on."""
    synthetic_images: int = 0
    """Synthetic images that were trained on."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One number of one point over its seeds."""

    point: str
    values: Mapping[str, Any]
    baseline: bool
    searched: bool
    by_seed: Mapping[int, float]
    interval: Interval
    count: int | None
    """Test images behind each value."""
    collapsed: int
    """How many of the seeds collapsed in pre-training."""
    real_images: int
    synthetic_images: int


class Table:
    """All rows of a study."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.rows: Sequence[Row] = tuple(rows)

    def cells(self, evaluation: str, metric: str, images_seen: int | None) -> list[Cell]:
        """Every point's value of one measure, in the order in which points first appear."""
        chosen = [
            row
            for row in self.rows
            if (row.evaluation, row.metric, row.images_seen) == (evaluation, metric, images_seen)
        ]
        groups: dict[str, list[Row]] = {}
        for row in chosen:
            groups.setdefault(row.point, []).append(row)
        return [_cell(group) for group in groups.values()]

    def curves(self, evaluation: str, metric: str) -> dict[str, dict[int, dict[int, float]]]:
        """Point -> seed -> images seen -> value: accuracy along fine-tuning."""
        curves: dict[str, dict[int, dict[int, float]]] = {}
        for row in self.rows:
            if (row.evaluation, row.metric) == (evaluation, metric) and row.images_seen is not None:
                curves.setdefault(row.point, {}).setdefault(row.seed, {})[row.images_seen] = row.value
        return curves

    def parquet(self) -> bytes:
        """The table as Parquet, one column an axis."""
        axes = sorted({axis for row in self.rows for axis in row.values})
        names = [name for name in Row.__slots__ if name != "values"]
        columns = {name: [getattr(row, name) for row in self.rows] for name in names}
        for axis in axes:
            columns[axis] = [_scalar(row.values.get(axis)) for row in self.rows]
        sink = io.BytesIO()
        pq.write_table(pa.table(columns), sink)
        return sink.getvalue()


def _cell(rows: Sequence[Row]) -> Cell:
    first, by_seed = rows[0], {row.seed: row.value for row in rows}
    return Cell(
        point=first.point,
        values=first.values,
        baseline=first.baseline,
        searched=first.searched,
        by_seed=by_seed,
        interval=over_seeds(list(by_seed.values())),
        count=first.count,
        collapsed=sum(row.collapsed for row in rows),
        real_images=first.real_images,
        synthetic_images=first.synthetic_images,
    )


def _scalar(value: Any) -> Any:
    return value if value is None or isinstance(value, int | float | bool) else str(value)
