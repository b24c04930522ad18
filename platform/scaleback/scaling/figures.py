"""Figures as SVG text: drawn by matplotlib without a display, embedded in the report as they are."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter
from numpy.typing import NDArray

from scaleback.core import units
from scaleback.scaling.fits import GenerationLaw, StudyLaw
from scaleback.scaling.intervals import over_seeds
from scaleback.scaling.metrics import Shown
from scaleback.scaling.robustness import Shift, fitted_line, foretold
from scaleback.scaling.synthetic import Line
from scaleback.scaling.table import Cell

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7a5195", "#444444")
"""Okabe and Ito's palette, which colour-blind readers tell apart."""
BASELINE_COLOUR = "#666666"
WIDTH_INCHES, HEIGHT_INCHES = 7.2, 4.2
STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "text.parse_math": False,  # names are the user's, and may hold dollars
    "svg.fonttype": "none",
    "svg.hashsalt": "scaleback",
    "legend.frameon": False,
}
LOG_SPREAD = 4
"""Positive values that span more than this factor are drawn on a logarithmic axis."""


def drawn(draw: Callable[[Axes], None], *, height: float = HEIGHT_INCHES, width: float = WIDTH_INCHES) -> str:
    """One figure as an ``<svg>`` element."""
    with rc_context(cast(Any, STYLE)):
        figure = Figure(figsize=(width, height))
        figure.subplots_adjust(left=0.1, right=0.98, bottom=0.52 / height, top=1 - 0.12 / height)  # inches
        draw(figure.add_subplot())
        sink = io.StringIO()
        figure.savefig(sink, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = sink.getvalue()
    return text[text.index("<svg") :]


def curve(cells: Sequence[Cell], field: str, baselines: Sequence[Cell], measure: Shown) -> str:
    """A measure along one axis, one line for each value of the others, bands of 95 % over seeds, dots for the seeds."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        others = (f"{name} = {value}" for name, value in cell.values.items() if name != field)
        groups.setdefault(", ".join(others), []).append(cell)

    def draw(axes: Axes) -> None:
        for colour, (label, members) in zip(_cycle(), groups.items(), strict=False):
            ordered = sorted(members, key=lambda cell: cell.values[field])
            _band(axes, [cell.values[field] for cell in ordered], ordered, measure, colour, label or None)
        for baseline in baselines:
            low, high = _ends(baseline, measure)
            axes.axhspan(low, high, color=BASELINE_COLOUR, alpha=0.15, linewidth=0)
            middle = measure.kind.factor * baseline.interval.mean
            axes.axhline(middle, color=BASELINE_COLOUR, linestyle="--", label=baseline.point)
        _scale_x(axes, [cell.values[field] for cell in cells])
        axes.set_xlabel(field)
        axes.set_ylabel(measure.headed)
        if len(groups) > 1 or baselines:
            axes.legend()

    return drawn(draw)


def synthetic(lines: Sequence[Line], measure: Shown) -> str:
    """A measure against the number of synthetic images; dashed, the same real images alone."""

    def draw(axes: Axes) -> None:
        for colour, line in zip(_cycle(), lines, strict=False):
            counts = [cell.synthetic_images for cell in line.cells]
            _band(axes, counts, line.cells, measure, colour, line.label or None)
            if line.baseline is not None:
                level = measure.kind.factor * line.baseline.interval.mean
                axes.hlines(level, min(counts), max(counts), color=colour, linestyle="--", linewidth=1)
        _scale_x(axes, [cell.synthetic_images for line in lines for cell in line.cells])
        axes.set_xlabel("synthetic images")
        axes.set_ylabel(measure.headed)
        if len(lines) > 1:
            axes.legend()

    return drawn(draw)


def robustness(shift: Shift) -> str:
    """Accuracy under a shift against accuracy without: baselines, the line through their logits, and the points."""
    factor = shift.measure.kind.factor

    def draw(axes: Axes) -> None:
        plain, shifted = np.array(shift.baselines).reshape(-1, 2).T
        axes.plot(factor * plain, factor * shifted, ".", color=BASELINE_COLOUR, label="baselines, each seed")
        if shift.slope is not None:
            ends = np.linspace(plain.min(), plain.max(), 50)
            of_line = fitted_line(plain, shifted)
            axes.plot(factor * ends, [factor * foretold(of_line, one) for one in ends], "--", color=BASELINE_COLOUR)
        means = [(one.plain.mean, one.cell.interval.mean) for one in shift.points]
        if means:
            axes.plot(*factor * np.array(means).T, "o", color=COLOURS[0], markersize=4, label="points, mean over seeds")
        axes.set_xlabel(shift.measure.kind.headed("accuracy"))
        axes.set_ylabel(shift.measure.headed)
        axes.legend()

    return drawn(draw)


def attacks(curves: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """True- against false-positive rates of attacks, both axes logarithmic; dashed, what guessing has."""

    def draw(axes: Axes) -> None:
        least = min(false for curve in curves.values() for false, _ in curve)
        for colour, (label, curve) in zip(_cycle(), curves.items(), strict=False):
            axes.plot(*zip(*curve, strict=True), color=colour, label=label)
        axes.plot([least, 1], [least, 1], color=BASELINE_COLOUR, linestyle="--")
        axes.set(xscale="log", yscale="log", xlim=(least, 1), ylim=(least, 1))
        axes.set_xlabel("false-positive rate")
        axes.set_ylabel("true-positive rate")
        axes.legend()

    return drawn(draw)


def laws(field: str, fits: Sequence[StudyLaw], measure: Shown) -> str:
    """Every run's error, the fitted laws and their 95 % bands."""
    factor = measure.kind.factor

    def draw(axes: Axes) -> None:
        for colour, fit in zip(_cycle(), fits, strict=False):
            axes.plot(fit.counts, factor * np.asarray(fit.errors), "o", color=colour, markersize=3, alpha=0.6)
            if fit.fitted is None:
                continue
            line = np.geomspace(min(fit.counts), max(fit.counts), 100)
            low, high = fit.fitted.band(line)
            axes.fill_between(line, factor * low, factor * high, color=colour, alpha=0.12, linewidth=0)
            axes.plot(line, factor * fit.fitted.law(line), color=colour, label=fit.group or "offset + A n^-a")
        _scale_x(axes, [count for fit in fits for count in fit.counts])
        axes.set_xlabel(field)
        axes.set_ylabel("error, %" if measure.kind.share else measure.label)
        if any(fit.fitted for fit in fits):
            axes.legend()

    return drawn(draw)


def generations(fits: Sequence[GenerationLaw], measure: Shown) -> str:
    """Every run's error along generations, and the best law through their mean."""
    factor = measure.kind.factor

    def draw(axes: Axes) -> None:
        for colour, fit in zip(_cycle(), fits, strict=False):
            errors = factor * np.asarray(fit.errors)
            axes.plot(fit.counts, errors, "o", color=colour, markersize=3, alpha=0.6, label=fit.group or "runs")
            if fit.fitted is not None:
                line = np.linspace(min(fit.counts), max(fit.counts), 100)
                axes.plot(line, factor * fit.fitted(line), color=colour)
        axes.set_xticks(sorted({count for fit in fits for count in fit.counts}))
        axes.set_xlabel("generation")
        axes.set_ylabel("error, %" if measure.kind.share else measure.label)
        axes.legend()

    return drawn(draw)


def training(
    curves: Mapping[str, Mapping[int, Mapping[int, float]]], shown: Sequence[str], measure: Shown, reach: float | None
) -> str:
    """A measure against image passes of fine-tuning, mean and 95 % band over seeds."""
    factor = measure.kind.factor

    def draw(axes: Axes) -> None:
        for colour, point in zip(_cycle(), shown, strict=False):
            marks = sorted({mark for seed in curves[point].values() for mark in seed})
            intervals = [over_seeds([seed[mark] for seed in curves[point].values() if mark in seed]) for mark in marks]
            mean = [factor * interval.mean for interval in intervals]
            axes.plot(marks, mean, "o-", color=colour, markersize=3, label=point)
            low = [factor * (interval.low if interval.low is not None else interval.mean) for interval in intervals]
            high = [factor * (interval.high if interval.high is not None else interval.mean) for interval in intervals]
            axes.fill_between(marks, low, high, color=colour, alpha=0.12, linewidth=0)
        if reach is not None:
            axes.axhline(factor * reach, color=BASELINE_COLOUR, linestyle=":")
        _scale_x(axes, [mark for point in shown for seed in curves[point].values() for mark in seed])
        axes.set_xlabel("image passes of fine-tuning")
        axes.set_ylabel(f"test {measure.kind.headed(measure.metric)}")
        axes.legend()

    return drawn(draw)


def heat_map(cells: Sequence[Cell], across: str, down: str, measure: Shown) -> str:
    """Mean of a measure over two axes, the number written in each field."""
    columns = sorted({cell.values[across] for cell in cells})
    rows = sorted({cell.values[down] for cell in cells}, reverse=True)
    means: dict[tuple[int, int], list[float]] = {}
    for cell in cells:
        place = (rows.index(cell.values[down]), columns.index(cell.values[across]))
        means.setdefault(place, []).append(cell.interval.mean)
    grid = np.full((len(rows), len(columns)), np.nan)
    for place, values in means.items():
        grid[place] = np.mean(values)

    def draw(axes: Axes) -> None:
        image = axes.imshow(measure.kind.factor * grid, cmap="viridis", aspect="auto")
        middle = (np.nanmin(grid) + np.nanmax(grid)) / 2
        for (row, column), value in np.ndenumerate(grid):
            if np.isfinite(value):
                ink = "white" if value < middle else "black"
                axes.text(column, row, measure.kind.number(value), ha="center", va="center", color=ink)
        axes.set_xticks(range(len(columns)), [str(value) for value in columns])
        axes.set_yticks(range(len(rows)), [str(value) for value in rows])
        axes.set_xlabel(across)
        axes.set_ylabel(down)
        axes.grid(visible=False)
        axes.figure.colorbar(image, ax=axes, label=measure.headed)

    return drawn(draw, height=1.2 + 0.55 * max(3, len(rows)))


def pareto(cells: Sequence[Cell], cost: Mapping[str, float], cost_label: str, measure: Shown) -> tuple[str, list[Cell]]:
    """A measure against cost, and the points that no other beats in both; points with a cost of zero are left out."""
    priced = [cell for cell in cells if cost.get(cell.point, 0) > 0]
    front, factor = non_dominated(priced, cost, measure.kind.sign), measure.kind.factor

    def draw(axes: Axes) -> None:
        axes.plot(
            [cost[c.point] for c in priced],
            [factor * c.interval.mean for c in priced],
            "o",
            color="#9db7cc",
            label="point",
        )
        line = sorted(front, key=lambda cell: cost[cell.point])
        axes.plot(
            [cost[c.point] for c in line],
            [factor * c.interval.mean for c in line],
            "o-",
            color=COLOURS[1],
            label="front",
        )
        for cell in line:
            axes.annotate(
                cell.point,
                (cost[cell.point], factor * cell.interval.mean),
                fontsize=7,
                xytext=(4, -9),
                textcoords="offset points",
            )
        _scale_x(axes, [cost[cell.point] for cell in priced])
        axes.set_xlabel(cost_label)
        axes.set_ylabel(measure.headed)
        axes.legend()

    return drawn(draw), front


def non_dominated(cells: Sequence[Cell], cost: Mapping[str, float], sign: int = 1) -> list[Cell]:
    """The cells that no other matches in both value and cost while beating it in one; ``sign`` as of ``Metric``."""

    def beats(other: Cell, cell: Cell) -> bool:
        gain, saved = sign * (other.interval.mean - cell.interval.mean), cost[cell.point] - cost[other.point]
        return min(gain, saved) >= 0 and max(gain, saved) > 0

    return [cell for cell in cells if not any(beats(other, cell) for other in cells)]


def _band(
    axes: Axes, x: Sequence[float], cells: Sequence[Cell], measure: Shown, colour: str, label: str | None
) -> None:
    factor = measure.kind.factor
    mean = [factor * cell.interval.mean for cell in cells]
    ends = np.array([_ends(cell, measure) for cell in cells])
    axes.plot(x, mean, "o-", color=colour, markersize=4, label=label)
    axes.fill_between(x, ends[:, 0], ends[:, 1], color=colour, alpha=0.12, linewidth=0)
    for place, cell in zip(x, cells, strict=True):
        seeds = [factor * value for value in cell.by_seed.values()]
        axes.plot([place] * len(seeds), seeds, ".", color=colour, markersize=3, alpha=0.5)


def _ends(cell: Cell, measure: Shown) -> tuple[float, float]:
    interval, factor = cell.interval, measure.kind.factor
    if interval.low is None or interval.high is None:
        return factor * interval.mean, factor * interval.mean
    return factor * interval.low, factor * interval.high


def _scale_x(axes: Axes, values: Sequence[float]) -> None:
    if min(values) > 0 and max(values) / min(values) > LOG_SPREAD:
        axes.set_xscale("log")
        ticks = _thinned(sorted(set(values)))
        axes.set_xticks(ticks)
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xticks([], minor=True)
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: units.count(value) if value >= 1_000 else f"{value:g}")
    )


def _thinned(values: Sequence[float]) -> list[float]:
    """Values at least a quarter of a decade apart, so that their labels do not overlap."""
    kept: list[float] = []
    for value in values:
        if not kept or math.log10(value / kept[-1]) > 0.15:
            kept.append(value)
    return kept


def _cycle() -> Sequence[str]:
    return COLOURS * 8


def contact_sheet(image_NHWC: NDArray[np.uint8], columns: int, side_px: int) -> bytes:
    """Images side by side on gray, nearest-neighbour enlarged to about ``side_px``, as PNG."""
    from PIL import Image

    factor = max(1, side_px // image_NHWC.shape[1])
    tiles = image_NHWC.repeat(factor, axis=1).repeat(factor, axis=2)
    if tiles.shape[3] == 1:
        tiles = tiles.repeat(3, axis=3)
    count, height, width, _ = tiles.shape
    rows = -(-count // columns)
    gap = 3
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 235, np.uint8)
    for place, tile in enumerate(tiles):
        top, left = (place // columns) * (height + gap), (place % columns) * (width + gap)
        sheet[top : top + height, left : left + width] = tile
    sink = io.BytesIO()
    Image.fromarray(sheet).save(sink, "PNG", optimize=True)
    return sink.getvalue()
