"""The report: one HTML file, no script, nothing fetched, with the table behind every figure."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from scaleback.scaling import figures
from scaleback.scaling.content import Content, baseline_of
from scaleback.scaling.findings import difference, findings, reached
from scaleback.scaling.fits import GenerationLaw, StudyLaw, generation_laws, of_bound, study_laws
from scaleback.scaling.generations import FORMS
from scaleback.scaling.intervals import of_share
from scaleback.scaling.metrics import Metric, Shown
from scaleback.scaling.robustness import Shift, robust, shifts
from scaleback.scaling.synthetic import Arm, arms, course, exchange, images
from scaleback.scaling.table import Cell

CSP = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
SHOWN_CURVES = 5


def render_report(content: Content) -> str:
    """The HTML."""
    synthetic, shifted, generations = arms(content), shifts(content), generation_laws(content)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("scaleback.scaling", ""), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("report.html.j2").render(
        csp=CSP,
        content=content,
        findings=[
            *findings(content),
            *(sentence for arm in synthetic for sentence in (*course(arm), exchange(arm))),
            *(sentence for shift in shifted for sentence in robust(shift)),
            *(law.said for law in generations),
        ],
        sections=[_measure_section(content, measure) for measure in content.measures],
        training=_training_section(content),
        arms=[_arm_section(arm) for arm in synthetic],
        shifts=[_shift_section(shift) for shift in shifted],
        laws=_law_sections(content),
        generations=_generation_sections(generations),
        pareto=_pareto_section(content),
        sheets=[{"title": sheet.title, "data": base64.b64encode(sheet.png).decode()} for sheet in content.sheets],
    )


def _measure_section(content: Content, measure: Shown) -> dict[str, Any]:
    cells = content.cells(measure)
    gridded = [cell for cell in cells if not cell.baseline and not cell.searched]
    baselines = [cell for cell in cells if cell.baseline]
    numeric = [name for name in content.axes if gridded and all(_is_number(cell.values[name]) for cell in gridded)]
    drawings = []
    if any(cell.synthetic_images for cell in cells):
        numeric = []  # drawn below, each kind for itself
    for name in numeric:
        drawings.append(figures.curve(gridded, name, baselines, measure))
    if len(numeric) == len(content.axes) == 2:
        drawings.append(figures.heat_map(gridded, numeric[1], numeric[0], measure))
    return {
        "title": measure.label,
        "unit": ", %" if measure.kind.share else "",
        "figures": [Markup(drawing) for drawing in drawings],
        "rows": [_table_row(cell, baseline_of(cell, cells), measure.kind) for cell in cells],
    }


def _table_row(cell: Cell, baseline: Cell | None, kind: Metric) -> dict[str, str]:
    gap = difference(cell, baseline) if baseline is not None and not cell.baseline else None
    return {
        "point": cell.point,
        "mean": kind.number(cell.interval.mean),
        "interval": kind.bounds(cell.interval),
        "binomial": kind.bounds(of_share(cell.interval.mean, cell.count)) if cell.count else "",
        "seeds": ", ".join(kind.number(value) for _, value in sorted(cell.by_seed.items())),
        "difference": kind.change(gap) if gap else "",
        "collapsed": f"{cell.collapsed} of {len(cell.by_seed)}" if cell.collapsed else "",
    }


def _training_section(content: Content) -> dict[str, Any] | None:
    measure = content.budgeted
    if measure is None:
        return None
    curves = content.table.curves(measure.evaluation, measure.metric)
    others = [cell for cell in content.cells(measure) if not cell.baseline]
    ranked = [cell.point for cell in sorted(others, key=lambda cell: -(measure.kind.sign or 1) * cell.interval.mean)]
    spread = np.unique(np.linspace(0, len(ranked) - 1, min(SHOWN_CURVES - 1, len(ranked))).round().astype(int))
    shown = [*(point for point in content.baselines[:1] if point in curves), *(ranked[place] for place in spread)]
    if not shown:
        return None
    drawing = figures.training({point: curves[point] for point in shown}, shown, measure, content.reach)
    return {"figure": Markup(drawing), "reach": reached(content)}


def _arm_section(arm: Arm) -> dict[str, Any]:
    """A figure, what every point is worth, and the law in a sentence."""
    rows = []
    for cell, found in arm.worth:
        unknown = "" if found is None else found.unidentified
        extra = found.extra if found is not None else None
        rate = found.per_real if found is not None else None
        rows.append(
            {
                "point": cell.point,
                "synthetic": f"{cell.synthetic_images:,}",
                "extra": images(extra) if extra else unknown,
                "rate": images(rate) if rate else "",
            }
        )
    return {
        "title": arm.title,
        "figure": Markup(figures.synthetic(arm.lines, arm.measure)),
        "rows": rows,
        "law": exchange(arm),
    }


def _shift_section(shift: Shift) -> dict[str, Any]:
    """A figure, and how far every point is from the line."""
    kind = shift.measure.kind
    rows = [
        {
            "point": one.cell.point,
            "plain": kind.level(one.plain),
            "shifted": kind.level(one.cell.interval),
            "gain": one.refused if one.gain is None else kind.change(one.gain),
        }
        for one in shift.points
    ]
    slope = None if shift.slope is None else str(shift.slope)
    return {"title": shift.measure.label, "figure": Markup(figures.robustness(shift)), "slope": slope, "rows": rows}


def _law_sections(content: Content) -> list[dict[str, Any]]:
    """One figure a measure, and a row of parameters for each law in it."""
    by_measure: dict[Shown, list[StudyLaw]] = {}
    for law in study_laws(content):
        by_measure.setdefault(law.measure, []).append(law)
    return [
        {
            "title": measure.label,
            "figure": Markup(figures.laws(content.fit_field or "", laws, measure)),
            "rows": [_law_row(law) for law in laws],
        }
        for measure, laws in by_measure.items()
    ]


def _law_row(law: StudyLaw) -> dict[str, Any]:
    fit = law.fitted
    if fit is None:
        return {"group": law.group, "refused": law.refused}
    return {
        "group": law.group,
        "refused": None,
        "parameters": [
            f"{value:.3g} [{low:.3g}, {high:.3g}]"
            for value, (low, high) in (
                (fit.law.offset, fit.offset),
                (fit.law.scale, fit.scale),
                (fit.law.exponent, fit.exponent),
            )
        ],
        "explained": f"{100 * fit.explained:.0f} %",
        "residual": _residual(fit.residual_std, law.measure.kind),
        "determined": "yes" if fit.determined else "no",
    }


def _generation_sections(laws: Sequence[GenerationLaw]) -> list[dict[str, Any]]:
    """One figure a measure, and a row for each succession in it."""
    by_measure: dict[Shown, list[GenerationLaw]] = {}
    for law in laws:
        by_measure.setdefault(law.measure, []).append(law)
    return [
        {
            "title": measure.label,
            "figure": Markup(figures.generations(found, measure)),
            "rows": [_generation_row(law) for law in found],
        }
        for measure, found in by_measure.items()
    ]


def _generation_row(law: GenerationLaw) -> dict[str, Any]:
    fit = law.fitted
    if fit is None:
        return {"group": law.group, "refused": law.refused}
    return {
        "group": law.group,
        "refused": None,
        "slope": law.measure.kind.change(fit.slope),
        "bound": of_bound(fit.bound, law.measure),
        "aicc": ", ".join(f"{fit.aicc[form]:.1f}" for form in FORMS),
        "course": {"none": "no growth seen", "grows": f"grows, {fit.form}", "falls": f"falls, {fit.form}"}[fit.course],
    }


def _residual(std: float, kind: Metric) -> str:
    return f"{kind.number(std)} points" if kind.share else kind.number(std)


def _pareto_section(content: Content) -> dict[str, Any] | None:
    measure = content.measures[0]
    cells = [cell for cell in content.cells(measure) if not cell.baseline]
    if len({content.cost.get(cell.point) for cell in cells}) < 2 or not measure.kind.sign:
        return None
    drawing, front = figures.pareto(cells, content.cost, "images for pre-training", measure)
    ordered: Sequence[Cell] = sorted(front, key=lambda cell: content.cost[cell.point])
    rows = [(cell.point, f"{content.cost[cell.point]:,.0f}", measure.kind.level(cell.interval)) for cell in ordered]
    return {"figure": Markup(drawing), "rows": rows, "measure": measure.label}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))
