"""What the numbers say, in sentences that name their numbers. Nothing is said that was not measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from scaleback.core import units
from scaleback.scaling.content import Content, baseline_of
from scaleback.scaling.intervals import Interval, of_pairs, over_seeds
from scaleback.scaling.metrics import Metric, Shown
from scaleback.scaling.table import Cell


@dataclass(frozen=True, slots=True)
class Reached:
    """Image passes of fine-tuning that one point needs to reach the stated accuracy."""

    point: str
    baseline: bool
    passes: float | None
    """Geometric mean over seeds; None if a seed never gets there."""
    text: str


def findings(content: Content) -> list[str]:
    """One sentence a fact."""
    said = [sentence for measure in content.measures for sentence in _best_against_baseline(content, measure)]
    return [*said, *_convergence(content), *_reach(content)]


def reached(content: Content) -> list[Reached]:
    """How soon every point reaches the accuracy that the study names."""
    measure = content.budgeted
    if content.reach is None or measure is None:
        return []
    rows = []
    for point, seeds in content.table.curves(measure.evaluation, measure.metric).items():
        passes = [passes_to_reach(marks, content.reach) for marks in seeds.values()]
        finite = [math.log(value) for value in passes if math.isfinite(value)]
        interval = over_seeds(finite) if len(finite) == len(passes) else None
        text = _geometric(interval) if interval else f"reached by {len(finite)} of {len(passes)} seeds"
        rows.append(Reached(point, point in content.baselines, math.exp(interval.mean) if interval else None, text))
    return rows


def passes_to_reach(marks: Mapping[int, float], reach: float) -> float:
    """Image passes at which a curve first reaches ``reach``, between two marks on a log scale; inf if never."""
    before: tuple[int, float] | None = None
    for images, value in sorted(marks.items()):
        if value >= reach:
            if before is None:
                return float(images)
            share = (reach - before[1]) / (value - before[1])
            return math.exp(math.log(before[0]) + share * (math.log(images) - math.log(before[0])))
        before = (images, value)
    return math.inf


def difference(first: Cell, second: Cell) -> Interval | None:
    """Paired difference over the seeds that both have; None if there is none."""
    shared = sorted(set(first.by_seed) & set(second.by_seed))
    if not shared:
        return None
    return of_pairs([first.by_seed[seed] for seed in shared], [second.by_seed[seed] for seed in shared])


def _best_against_baseline(content: Content, measure: Shown) -> list[str]:
    cells, kind = content.cells(measure), measure.kind
    others = [cell for cell in cells if not cell.baseline]
    if not others:
        return []
    sign = kind.sign or 1
    best, worst = (choose(others, key=lambda cell: sign * cell.interval.mean) for choose in (max, min))
    first, last = ("best", "last") if kind.sign else ("highest", "lowest")
    baseline = baseline_of(best, cells)
    text = f"{measure.label}: {first} is {best.point} with {kind.level(best.interval)}"
    if baseline is None:
        said = [f"{text}."]
    else:
        text += f"; {baseline.point} {kind.level(baseline.interval)}"
        said = [f"{text}; {_compared(best, baseline, kind)}."]
    if worst is not best:
        gap = difference(worst, best)
        behind = f", {kind.change(gap)} against the {first}" if gap else ""
        said.append(f"{measure.label}: {last} is {worst.point} with {kind.level(worst.interval)}{behind}.")
    return said


def _compared(best: Cell, baseline: Cell, kind: Metric) -> str:
    if best.interval.low is None or baseline.interval.low is None:
        touch = "with one seed there is no interval"
    else:
        apart = best.interval.apart_from(baseline.interval)
        touch = "the intervals do not touch" if apart else "the intervals touch"
    gap = difference(best, baseline)
    return f"{touch}; paired difference {kind.change(gap)}" if gap else touch


def _convergence(content: Content) -> list[str]:
    """How much the baseline still gains at the end of its budget."""
    measure = content.budgeted
    if measure is None:
        return []
    curves, said = content.table.curves(measure.evaluation, measure.metric), []
    for point in content.baselines:
        seeds = curves.get(point, {})
        marks = sorted(set.intersection(*(set(curve) for curve in seeds.values()))) if seeds else []
        if len(marks) < 2:
            continue
        gain = of_pairs([curve[marks[-1]] for curve in seeds.values()], [curve[marks[-2]] for curve in seeds.values()])
        between = f"between {marks[-2]:,} and {marks[-1]:,} image passes of fine-tuning"
        said.append(f"{point.capitalize()} changes by {measure.kind.change(gain)} {between}.")
    return said


def _reach(content: Content) -> list[str]:
    measure, rows = content.budgeted, {row.point: row for row in reached(content)}
    if content.reach is None or measure is None:
        return []
    cells = content.cells(measure)
    others = [cell for cell in cells if not cell.baseline and rows[cell.point].passes is not None]
    if not others:
        return []
    best_cell = min(others, key=lambda cell: rows[cell.point].passes or math.inf)
    best, baseline = rows[best_cell.point], baseline_of(best_cell, cells)
    if baseline is None or rows[baseline.point].passes is None:
        return []
    times = (rows[baseline.point].passes or math.nan) / (best.passes or math.nan)
    compared = f"{times:.2f} times fewer" if times >= 1 else f"{1 / times:.2f} times more"
    return [
        f"Image passes of fine-tuning to reach {units.percent(content.reach)}: {rows[baseline.point].text} from "
        f"{baseline.point}, {best.text} from {best.point}, {compared}."
    ]


def _geometric(interval: Interval) -> str:
    text = f"{math.exp(interval.mean):,.0f}"
    if interval.low is None or interval.high is None:
        return text
    return f"{text} [{math.exp(interval.low):,.0f}, {math.exp(interval.high):,.0f}]"
