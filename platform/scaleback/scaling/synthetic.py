"""What synthetic images are worth in a study: every kind of them beside real images alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scaleback.scaling.content import Content, baseline_of
from scaleback.scaling.equal_error import EqualError, equal_error
from scaleback.scaling.exchange import Exchange, Run, fit_exchange
from scaleback.scaling.findings import difference
from scaleback.scaling.intervals import Interval
from scaleback.scaling.laws import FitError
from scaleback.scaling.metrics import Shown
from scaleback.scaling.table import Cell


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """Ever more synthetic images of one kind with the same real ones."""

    label: str
    cells: Sequence[Cell]
    """From few to many."""
    baseline: Cell | None
    """The real images alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """One kind of synthetic images: its lines, the law through them, and what each cell is worth without a law."""

    measure: Shown
    name: str
    lines: Sequence[Line]
    law: Exchange | None
    refused: str
    """Why there is no law, if so."""
    worth: Sequence[tuple[Cell, EqualError | None]]
    """None where the curve of real images alone cannot tell."""

    @property
    def title(self) -> str:
        """``classifier.accuracy, target.synthetic.role = added``."""
        return f"{self.measure.label}, {self.name}" if self.name else self.measure.label


def arms(content: Content) -> list[Arm]:
    """The kinds of synthetic images of a study, for each measure that is an accuracy.

    Generations are none: each is another set of as many images, and the law of them is that of collapse.
    """
    if content.fit_form == "generations":
        return []
    found = []
    for measure in content.measures:
        if measure.metric.startswith("accuracy"):
            found += _arms(content, measure)
    return found


def course(arm: Arm) -> list[str]:
    """A sentence a line: its end beside real images alone, and how it got there."""
    sentences, kind = [], arm.measure.kind
    for line in arm.lines:
        last = line.cells[-1]
        of = f"{last.synthetic_images:,} synthetic images, {line.label}"
        text = f"{arm.measure.label}: {of}: {kind.level(last.interval)}"
        gap = difference(last, line.baseline) if line.baseline is not None else None
        if gap is not None and line.baseline is not None:
            text += f", {kind.change(gap)} against {line.baseline.point}"
        sentences.append(f"{text}; {_steps(line)}.")
    return sentences


def exchange(arm: Arm) -> str:
    """The law in a sentence."""
    if arm.law is None:
        return f"{arm.title}: no law of the exchange rate: {arm.refused}."
    if arm.law.unidentified is not None:
        return f"{arm.title}: the law gives no exchange rate: {arm.law.unidentified} (form: {arm.law.form})."
    each = _number(arm.law.worth_each(0))
    return (
        f"{arm.title}: the first synthetic images are worth {each} real ones each, by the law (form: {arm.law.form})."
    )


def images(interval: Interval) -> str:
    """``120 [80, 190]``; none where it is infinite."""
    ends = [end for end in (interval.low, interval.high) if end is not None]
    mean, *bounds = (f"{value:,.0f}" if abs(value) < float("inf") else "none" for value in (interval.mean, *ends))
    return f"{mean} [{', '.join(bounds)}]" if bounds else mean


def _arms(content: Content, measure: Shown) -> list[Arm]:
    cells = content.cells(measure)
    alone = [cell for cell in cells if cell.baseline and cell.real_images]
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        if cell.synthetic_images and not cell.searched:
            groups.setdefault(_named(cell, without=content.count_axes), []).append(cell)
    return [_arm(content, measure, name, members, alone) for name, members in groups.items()]


def _arm(content: Content, measure: Shown, name: str, cells: Sequence[Cell], alone: Sequence[Cell]) -> Arm:
    by_label: dict[str, list[Cell]] = {}
    for cell in cells:
        by_label.setdefault(_named(cell, without=content.synthetic_axes), []).append(cell)
    lines = []
    for label, members in by_label.items():
        ordered = sorted(members, key=lambda cell: cell.synthetic_images)
        lines.append(Line(label=label, cells=ordered, baseline=baseline_of(ordered[0], alone)))
    # Of images made after other numbers of real ones, a number alone does not say what they are.
    law, refused = None, "its images stand alone; what each set is worth is read off the curve"
    if all(cell.real_images for cell in cells):
        try:
            law, refused = fit_exchange([run for cell in (*alone, *cells) for run in _runs(cell)]), ""
        except FitError as error:
            refused = str(error)
    worth = [(cell, _worth(cell, alone)) for line in lines for cell in line.cells]
    return Arm(measure=measure, name=name, lines=lines, law=law, refused=refused, worth=worth)


def _worth(cell: Cell, alone: Sequence[Cell]) -> EqualError | None:
    runs = [run for one in (*alone, cell) for run in _runs(one)]
    try:
        return equal_error(runs, cell.real_images, cell.synthetic_images)
    except FitError:
        return None


def _runs(cell: Cell) -> list[Run]:
    return [
        Run(cell.real_images, cell.synthetic_images, max(0.0, 1 - value), seed) for seed, value in cell.by_seed.items()
    ]


def _named(cell: Cell, *, without: Sequence[str]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in cell.values.items() if name not in without)


def _steps(line: Line) -> str:
    """Whether more images ever made it worse, or better, by more than the paired interval."""
    steps = [(one, other, difference(other, one)) for one, other in zip(line.cells, line.cells[1:], strict=False)]
    rises = [(one, other) for one, other, gap in steps if gap and gap.low is not None and gap.low > 0]
    falls = [(one, other) for one, other, gap in steps if gap and gap.high is not None and gap.high < 0]
    if not steps:
        return "one number of images"
    if any(gap is None or gap.low is None for _, _, gap in steps):
        return "with one seed there is no interval"
    if not rises and not falls:
        return "from few to many it changes by no more than its intervals"
    parts = [
        f"it {word} from {one.synthetic_images:,} to {other.synthetic_images:,}"
        for word, pairs in (("rises", rises), ("falls", falls))
        for one, other in pairs
    ]
    return " and ".join(parts)


def _number(interval: Interval) -> str:
    if interval.low is None or interval.high is None:
        return f"{interval.mean:.3g}"
    return f"{interval.mean:.3g} [{interval.low:.3g}, {interval.high:.3g}]"
