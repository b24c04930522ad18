"""Everything a report is made of, read from storage."""

from __future__ import annotations

import platform
import re
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

import scaleback
from scaleback.core.plain import to_yaml
from scaleback.core.store import Store
from scaleback.pretrain.spec import Pretrain
from scaleback.scaling.content import Content, RunLine, Sheet
from scaleback.scaling.figures import contact_sheet
from scaleback.sources.population import Population, Stream, load_images, missing_blocks
from scaleback.study.axes import Cases, Grid
from scaleback.study.files import study_to_yaml
from scaleback.study.plan import Inventory
from scaleback.study.results import found_runs, study_runs, table_of
from scaleback.study.run import Run
from scaleback.study.study import Point, Study

SHEET_COLUMNS, SHEET_SEEDS, MOST_SHEETS = 8, 5, 12
SHEET_SIDE_PX = 56
REAL_COUNT = r"target\.images|target\.synthetic\.source\.(.+\.)?real_images"
SYNTHETIC_COUNT = r"target\.synthetic\.(images|multiplier|share)"
"""Fields that say how many labelled images there are."""


def gather(study: Study, store: Store) -> Content:
    """Numbers, images and states of a study as far as it has come."""
    runs = study_runs(study, store)
    found = list(found_runs(runs, store))
    done = {one.run.fingerprint for one in found}
    notes = []
    if len(found) < len(runs):
        notes.append(f"{len(found)} of {len(runs)} runs are done; the numbers below are of those.")
    if any(run.target.synthetic is not None and run.target.synthetic.source.discloses for _, run in runs):
        notes.append(
            "Drawn images begin from single real ones, or are shown them: they disclose what is in those. Where the "
            "real images are private, so are these; strength 1 and guidance by class-mean or none would not do so."
        )
    return Content(
        name=study.name,
        purpose=study.purpose,
        axes=[grid.field for grid in study.grids],
        measures=study.shown,
        reach=study.reach,
        fit_field=study.fit.field if study.fit else None,
        fit_form=study.fit.form if study.fit else "power",
        table=table_of(found),
        cost={point.label: float(run.images) for point, run in runs},
        sheets=_sheets(runs, store),
        runs=_run_lines(runs, done, store),
        base_spec=to_yaml(study.base.plain()),
        study_spec=study_to_yaml(study),
        made=_made(),
        notes=notes,
        count_axes=[grid.field for grid in study.grids if _sets_only(grid, (REAL_COUNT, SYNTHETIC_COUNT))],
        synthetic_axes=[grid.field for grid in study.grids if _sets_only(grid, (SYNTHETIC_COUNT,))],
        compared=study.compared.name,
    )


def _sets_only(grid: Grid | Cases, patterns: Sequence[str]) -> bool:
    return bool(grid.fields) and all(any(re.fullmatch(pattern, field) for pattern in patterns) for field in grid.fields)


def _run_lines(runs: Sequence[tuple[Point, Run]], done: set[str], store: Store) -> list[RunLine]:
    inventory = Inventory(store)
    lines = []
    for point, run in runs:
        stages = [*([run.pretrain.address] if run.pretrain else []), *(spec.address for spec in run.evaluates)]
        failed = next((address for address in stages if inventory.failed(address)), None)
        state = "done" if run.fingerprint in done else f"failed at {failed}" if failed else "to do"
        lines.append(
            RunLine(point=point.label, seed=run.seed, fingerprint=run.fingerprint, state=state, addresses=stages)
        )
    return lines


def _sheets(runs: Sequence[tuple[Point, Run]], store: Store) -> list[Sheet]:
    """One sheet for each source that the axes make: a row a seed, the first images of each."""
    by_source: dict[str, tuple[str, dict[int, _Used]]] = {}
    for point, run in runs:
        for field, used in _used(run):
            fields = {name: value for name, value in point.values.items() if name.startswith(field)}
            source = used.population.source
            title = " ".join(f"{name}={value}" for name, value in fields.items()) or source.short
            seeds = by_source.setdefault(source.fingerprint, (title, {}))[1]
            seeds[run.seed] = max(used, seeds.get(run.seed, used), key=lambda one: one.images)
    sheets = []
    for title, seeds in list(by_source.values())[:MOST_SHEETS]:
        first = {seed: _first_images(store, seeds[seed]) for seed in sorted(seeds)[:SHEET_SEEDS]}
        shown = {seed: row for seed, row in first.items() if row is not None}
        rows = list(shown.values())
        if rows:
            count = min(len(row) for row in rows)
            png = contact_sheet(np.concatenate([row[:count] for row in rows]), count, SHEET_SIDE_PX)
            seeds_shown = ", ".join(str(seed) for seed in shown)
            sheets.append(Sheet(title=f"{title}: images 0 to {count - 1} of seeds {seeds_shown}, a row each", png=png))
    return sheets


class _Used(NamedTuple):
    """Images of a population that a run uses."""

    population: Population
    images: int
    pretrain: Pretrain | None
    """What is trained on them; it may have drawn them as it went."""


def _used(run: Run) -> list[tuple[str, _Used]]:
    """What a run is pre-trained on, and its synthetic images, by field."""
    found = []
    if run.pretrain is not None:
        found.append(("source", _Used(run.pretrain.population, run.images, run.pretrain)))
    if run.target.synthetic is not None:
        population = Population.of(run.target.synthetic.source, run.seed)
        found.append(("target.synthetic.source", _Used(population, run.target.synthetic_images, None)))
    return found


def _first_images(store: Store, used: _Used) -> NDArray[np.uint8] | None:
    count = min(SHEET_COLUMNS, used.images)
    if not missing_blocks(store, used.population, count):
        return load_images(store, used.population, count).image_NHWC
    if used.pretrain is None or store.manifest(used.pretrain.address, used.pretrain) is None:
        return None
    return Stream(used.population, count, store).draw(np.arange(count), np.zeros(count, np.int64)).image_BHWC


def _made() -> str:
    stamp = time.strftime("%Y-%m-%d %H:%M %Z")
    machine = f"Python {platform.python_version()}, {platform.platform()}"
    return f"Made on {stamp} by scaleback {scaleback.__version__}, {machine}."
