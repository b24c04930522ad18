"""Effective robustness: accuracy under a shift beyond what accuracy without it foretells (Taori et al., NeurIPS 2020).

Models that differ in nothing but how many real images they learnt from lie on a line of logit against logit. What
stands above it is more robust than its accuracy alone makes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scaleback.scaling.content import Content
from scaleback.scaling.intervals import Interval, over_seeds
from scaleback.scaling.metrics import Shown
from scaleback.scaling.table import Cell

# Shapes: C baselines.

Values = Sequence[float] | NDArray[np.float64]

LEAST_POINTS = 3
"""Baselines that a line takes."""
NEAREST = 1e-3
"""Shares nearer to 0 or 1 count as this near: a logit of them is infinite."""


@dataclass(frozen=True, slots=True)
class Beyond:
    """One point."""

    cell: Cell
    """Under the shift."""
    plain: Interval
    """Accuracy without it."""
    gain: Interval | None
    """Share of the test images that it gets right beyond what the line foretells."""
    refused: str
    """Why there is no gain, if so."""


@dataclass(frozen=True, slots=True)
class Shift:
    """One shift: the points beside the line of the baselines."""

    measure: Shown
    slope: Interval | None
    """Of the line, logit by logit; None without one."""
    baselines: Sequence[tuple[float, float]]
    """Accuracy without and with the shift: of each baseline and seed."""
    points: Sequence[Beyond]


def shifts(content: Content) -> list[Shift]:
    """Every ``accuracy_<shift>`` of a study that is measured beside the ``accuracy`` of the same evaluation."""
    plain = {one.evaluation: one for one in content.measures if (one.metric, one.images_seen) == ("accuracy", None)}
    return [
        _shift(content, plain[measure.evaluation], measure)
        for measure in content.measures
        if measure.images_seen is None and measure.metric.startswith("accuracy_") and measure.evaluation in plain
    ]


def robust(shift: Shift) -> list[str]:
    """Which points are surely above or below the line, in a sentence; none without a line."""
    kind, gains = shift.measure.kind, [(one, one.gain) for one in shift.points if one.gain is not None]
    if not gains:
        return []
    above = [(one, gain) for one, gain in gains if gain.low is not None and gain.low > 0]
    below = [(one, gain) for one, gain in gains if gain.high is not None and gain.high < 0]
    said = f"{shift.measure.label}: {len(above)} of {len(gains)} points are above what their accuracy foretells"
    if above:
        best, gain = max(above, key=lambda pair: pair[1].mean)
        said += f" ({best.cell.point} by {kind.change(gain)})"
    said += f", {len(below)} below"
    if below:
        worst, gain = min(below, key=lambda pair: pair[1].mean)
        said += f" ({worst.cell.point} by {kind.change(gain)})"
    return [f"{said}, by more than their intervals."]


def fitted_line(plain_C: Values, shifted_C: Values) -> tuple[float, float]:
    """Least squares of logit(shifted) on logit(plain): (intercept, slope)."""
    slope, intercept = np.polyfit(_logit(plain_C), _logit(shifted_C), 1)
    return float(intercept), float(slope)


def foretold(of_line: tuple[float, float], plain: float) -> float:
    """Accuracy under the shift by the line."""
    return float(1 / (1 + np.exp(-(of_line[0] + of_line[1] * _logit([plain])[0]))))


def _shift(content: Content, plain: Shown, shifted: Shown) -> Shift:
    before, after = ({cell.point: cell for cell in content.cells(measure)} for measure in (plain, shifted))
    both = [point for point in before if point in after]
    baselines = [point for point in both if before[point].baseline]
    # A line for each seed, so that the spread over seeds holds what is unsure of the line.
    seeds = sorted({seed for point in baselines for seed in before[point].by_seed})
    lines = {}
    for seed in seeds:
        pairs = [(before[point].by_seed.get(seed), after[point].by_seed.get(seed)) for point in baselines]
        own = [(one, other) for one, other in pairs if one is not None and other is not None]
        if len({value for value, _ in own}) >= LEAST_POINTS:
            lines[seed] = fitted_line(*zip(*own, strict=True))
    means = [before[point].interval.mean for point in baselines]
    return Shift(
        measure=shifted,
        slope=over_seeds([slope for _, slope in lines.values()]) if lines else None,
        baselines=[
            (value, after[point].by_seed[seed])
            for point in baselines
            for seed, value in before[point].by_seed.items()
            if seed in after[point].by_seed
        ],
        points=[_beyond(before[point], after[point], lines, means) for point in both if point not in baselines],
    )


def _beyond(
    before: Cell, after: Cell, lines: Mapping[int, tuple[float, float]], baseline_means: Sequence[float]
) -> Beyond:
    if not lines:
        return Beyond(after, before.interval, None, f"a line takes {LEAST_POINTS} baselines of different accuracy")
    if not min(baseline_means) <= before.interval.mean <= max(baseline_means):
        return Beyond(after, before.interval, None, "its accuracy is beyond the ends of the line")
    shared = [seed for seed in lines if seed in before.by_seed and seed in after.by_seed]
    if not shared:
        return Beyond(after, before.interval, None, "no seed has both this point and a line")
    gains = [after.by_seed[seed] - foretold(lines[seed], before.by_seed[seed]) for seed in shared]
    return Beyond(after, before.interval, over_seeds(gains), "")


def _logit(share_C: Values) -> NDArray[np.float64]:
    inside_C = np.clip(np.asarray(share_C, float), NEAREST, 1 - NEAREST)
    logit_C: NDArray[np.float64] = np.log(inside_C / (1 - inside_C))
    return logit_C
