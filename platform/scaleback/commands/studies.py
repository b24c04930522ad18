"""plan, run, status, report and fit."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scaleback.cluster.placement import Placement, load_placement
from scaleback.cluster.runtime import in_job
from scaleback.core import units
from scaleback.core.errors import InputError, SpecError, short, unknown
from scaleback.core.plain import beside, exists
from scaleback.core.spec import Plain
from scaleback.core.store import Store
from scaleback.sources import REAL_SOURCES
from scaleback.study.axes import Cases
from scaleback.study.files import DEFAULT, changed, load_study, study_to_yaml
from scaleback.study.plan import Plan, plan_study
from scaleback.study.study import Study

OK, SOME_FAILED, INTERRUPTED = 0, 3, 130
LISTED_FAILURES = 20
OWN_DATA_PX = 64
"""Size that images given by a path are cut to; ``--set target.data.size_px`` sets another."""


def chosen(options: Namespace, fields_of: Mapping[str, Any] | None) -> Study:
    """The study named on the command line, with its changes.

    With a search, the study's own exhaustive axes are left out unless ``--axis`` names them: they would multiply it.
    """
    if fields_of is None:
        study = load_study(DEFAULT if options.study is None else options.study)
    else:
        study = Study.parse(fields_of)
    fields: dict[str, Plain] = {}
    if options.seeds is not None:
        fields["seeds"] = _seeds(options.seeds)
    if options.measure:
        fields["measures"] = [_measure(text) for text in options.measure]
    if options.name is not None:
        fields["name"] = options.name
    if options.no_baseline:
        fields["baseline"] = False
    if any(given is not None for given in (options.search, options.trials, options.fewest)):
        fields["search"] = _search(options, study)
        listed = {text.partition("=")[0].strip() for text in options.axis}
        kept = [axis for axis in study.grids if isinstance(axis, Cases) and axis.field in listed]
        study = study.model_copy(update={"axes": (*kept, *study.searched)})
    named = {text.partition("=")[0].strip() for text in options.settings}
    grids = {axis.field for axis in study.grids}
    grids |= {text.partition("=")[0].strip() for text in options.axis if not _is_searched(text)}
    if study.fit is not None and (study.fit.field not in grids or study.fit.field in named):
        fields["fit"] = None
    settings = [*_target_settings(options.target), *options.settings]
    return changed(study, settings=settings, axes=options.axis, fields=fields)


def _measure(text: str) -> Plain:
    """``finetune.accuracy@2000`` or ``knn.accuracy``."""
    form = re.fullmatch(r"\s*(\w+)\.(\w+)(?:@(\d{1,15}))?\s*", text)
    if form is None:
        raise SpecError(f"--measure: must be EVALUATION.METRIC or EVALUATION.METRIC@IMAGES; got {short(text)}")
    return {"evaluation": form[1], "metric": form[2], "images_seen": int(form[3]) if form[3] else None}


def _search(options: Namespace, study: Study) -> Plain:
    earlier: dict[str, Plain] = study.search.plain() if study.search else {}
    given = {"sampler": options.search, "trials": options.trials, "fewest": options.fewest}
    search = {**earlier, **{name: value for name, value in given.items() if value is not None}}
    if "trials" not in search:
        raise SpecError("--trials: is required with --search; the number of points it may propose")
    return search


def _is_searched(text: str) -> bool:
    return re.match(r"[^=]+=\s*(lin|log|int|logint|choice):", text) is not None


def _seeds(text: str) -> list[Plain]:
    """``0,1,2`` or ``0..4``, both ends included."""
    span = re.fullmatch(r"\s*(\d{1,15})\s*\.\.\s*(\d{1,15})\s*", text)
    if span:
        first, last = int(span[1]), int(span[2])
        if last < first or last - first >= 10_000:
            raise SpecError(f"--seeds: must be FIRST..LAST with FIRST at most LAST; got {short(text)}")
        return list(range(first, last + 1))
    if not re.fullmatch(r"\s*\d{1,15}\s*(,\s*\d{1,15}\s*)*", text):
        raise SpecError(f"--seeds: must be numbers such as 0,1,2 or 0..4; got {short(text)}")
    return [int(part) for part in text.split(",")]


def _target_settings(target: str | None) -> list[str]:
    """``--target`` as settings: a kind of source, or a path whose form tells the kind."""
    if target is None:
        return []
    if target in REAL_SOURCES:
        return [f"target.data={target}"]
    kind = {".parquet": "parquet", ".npz": "arrays"}.get(Path(target).suffix, "folder")
    if not exists(target):
        raise SpecError(f"--target: {unknown('source or path', target, [*REAL_SOURCES, *beside(target)])}")
    size = {} if kind == "arrays" else {"size_px": OWN_DATA_PX}
    return [f"target.data={json.dumps({'kind': kind, 'path': target, **size}, ensure_ascii=False)}"]


def placed(options: Namespace, *, stream: bool = False) -> tuple[Placement, Store]:
    """The placement and the store that the options name."""
    given = {"storage": options.storage, "render": "stream" if stream else None}
    placement = load_placement(options.placement, {name: value for name, value in given.items() if value})
    store = Store(_rooted(placement.storage))
    if store.local:
        try:
            os.stat(store.path(""))  # ends in a slash, so a file is refused too
        except FileNotFoundError:
            pass  # made when it is first written to
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", error)
            raise InputError(f"--storage: must be a folder; got {short(placement.storage)} ({reason})") from None
    return placement, store


def _rooted(storage: str) -> str:
    """In a submitted job the working directory is a copy that Ray throws away; results go below the home folder."""
    if "://" in storage or os.path.isabs(storage) or not in_job():
        return storage
    return str(Path.home() / "scaleback" / storage)


def plan(study: Study, options: Namespace) -> int:
    """Print what there is to do."""
    if options.yaml:
        print(study_to_yaml(study), end="")
        return OK
    if options.fields:
        print("\n".join(f"{name} = {json.dumps(value)}" for name, value in _leaves("", study.base.plain())))
        return OK
    placement, store = placed(options, stream=options.stream)
    planned = plan_study(study, store, stream=placement.streams)
    facts = _facts(study, planned, placement, store)
    if options.json:
        print(json.dumps(facts))
        return OK
    for line in _plan_lines(study, planned, placement, facts):
        print(line)
    return OK


def run(study: Study, options: Namespace) -> int:
    """Do what is missing, then write the report."""
    from scaleback.cluster.progress import Progress
    from scaleback.cluster.search import run_study

    placement, store = placed(options, stream=options.stream)
    begun = time.monotonic()
    with Progress(quiet=options.quiet) as progress:
        outcome = run_study(study, store, placement, progress, retry=options.retry_failed)
        written = write_report(study, store)
    facts = {
        "study": study.name,
        "runs_started": outcome.started,
        "runs_failed": len(outcome.failed),
        "wall_s": round(time.monotonic() - begun, 2),
        "storage": store.root,
        "report": written["report"],
        "findings": written["findings"],
    }
    if options.json:
        print(json.dumps(facts))
    else:
        _print_table(written["content"])
        for line in outcome.failed[:LISTED_FAILURES]:
            print(f"failed: {line}", file=sys.stderr)
        done = "Interrupted after" if outcome.interrupted else f"{outcome.started} runs in"
        print(f"\n{done} {units.duration(facts['wall_s'])}. Report: {written['report']}")
    if outcome.interrupted:
        return INTERRUPTED
    return SOME_FAILED if outcome.failed else OK


def status(study: Study, options: Namespace) -> int:
    """Print how far a study is."""
    from scaleback.core.lease import held

    placement, store = placed(options, stream=options.stream)
    planned = plan_study(study, store, stream=placement.streams)
    facts = {
        "study": study.name,
        "runs": len(planned.runs),
        "done": len(planned.runs) - len(planned.to_do),
        "failed": len(planned.failed),
        "to_do": len(planned.to_do) - len(planned.failed),
        "stages_in_progress": held(store),
        "storage": store.root,
    }
    if options.json:
        print(json.dumps(facts))
        return OK
    print(
        f"{study.name}: {facts['done']} of {facts['runs']} runs done, {facts['failed']} failed, {facts['to_do']} to do"
    )
    print(f"{facts['stages_in_progress']} stages in progress, storage {store.root}")
    for one in planned.failed[:LISTED_FAILURES]:
        failure = store.failure(one.failed or "") or {}
        print(f"failed: {one.point.label} seed={one.run.seed}: {failure.get('error')}: {failure.get('message')}")
    return OK


def report(study: Study, options: Namespace) -> int:
    """Write the report of what is there."""
    _, store = placed(options)
    written = write_report(study, store)
    if options.json:
        print(json.dumps({"report": written["report"], "table": written["table"], "findings": written["findings"]}))
        return OK
    _print_table(written["content"])
    print(f"\nReport: {written['report']}")
    return OK


def fit(study: Study, options: Namespace) -> int:
    """Fit the laws of what is there; print and store them."""
    from scaleback.scaling.fits import generation_laws, study_laws
    from scaleback.study.gather import gather

    if study.fit is None:
        raise SpecError("fit: is required; set the field of an exhaustive axis in the study")
    _, store = placed(options)
    content = gather(study, store)
    laws = [
        *(law.plain() for law in study_laws(content)),
        *(law.plain() for law in generation_laws(content)),
    ]
    where = f"fit/{study.name}/laws.json"
    store.put(where, json.dumps(laws, indent=1).encode())
    if options.json:
        print(json.dumps({"laws": laws, "file": f"{store.root}/{where}"}))
        return OK
    for law in laws:
        if law.get("refused"):
            print(f"{law['law']}: no fit: {law['refused']}")
            continue
        if "said" in law:
            print(law["said"])
            continue
        parts = [
            f"{name} {law[name]:.4g} [{law[f'{name}_interval'][0]:.4g}, {law[f'{name}_interval'][1]:.4g}]"
            for name in ("offset", "scale", "exponent")
        ]
        caveat = "" if law["determined"] else "; not determined: other exponents fit as well"
        explained = f"explains {units.percent(law['explained'])} between points"
        print(f"{law['law']}: {', '.join(parts)}; {explained}{caveat}")
    print(f"{store.root}/{where}")
    return OK


def write_report(study: Study, store: Store) -> dict[str, Any]:
    """Gather, render, publish; returns the paths of report and table, the findings, the content."""
    from scaleback.scaling.findings import findings
    from scaleback.scaling.report import render_report
    from scaleback.study.gather import gather

    content = gather(study, store)
    folder = f"report/{study.name}"
    store.put(f"{folder}/index.html", render_report(content).encode())
    store.put(f"{folder}/table.parquet", content.table.parquet())
    store.put(f"{folder}/study.yaml", study_to_yaml(study).encode())
    return {
        "report": f"{store.root}/{folder}/index.html",
        "table": f"{store.root}/{folder}/table.parquet",
        "findings": findings(content),
        "content": content,
    }


def _print_table(content: Any) -> None:
    """The points' means with intervals, one column a measure, and the findings."""
    from rich.console import Console
    from rich.table import Table

    from scaleback.scaling.findings import findings

    table = Table(title=content.name, title_justify="left", pad_edge=False, box=None)
    table.add_column("point")
    rows: dict[str, list[str]] = {}
    for place, measure in enumerate(content.measures):
        table.add_column(measure.label, justify="right")
        for cell in content.table.cells(measure.evaluation, measure.metric, measure.images_seen):
            rows.setdefault(cell.point, [""] * len(content.measures))[place] = measure.kind.level(cell.interval)
    for point, values in rows.items():
        table.add_row(point, *values)
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False, markup=False)
    console.print(table)
    for sentence in findings(content):
        console.print(f"- {sentence}", soft_wrap=True)


def _facts(study: Study, planned: Plan, placement: Placement, store: Store) -> dict[str, Any]:
    hours = planned.worker_hours
    searching = study.search is not None
    return {
        "study": study.name,
        "storage": store.root,
        "runs": len(planned.runs),
        "done": len(planned.runs) - len(planned.to_do),
        "failed": len(planned.failed),
        "to_do": len(planned.to_do),
        "searched_trials": study.search.trials if searching and study.search else 0,
        "images_to_render": planned.images_missing,
        "images_stored": planned.images_stored,
        "generators_to_train": len(planned.learnt),
        "pretrain_stages": len(planned.pretrains),
        "evaluate_stages": len(planned.evaluates),
        "pretrain_flops": planned.pretrain_flops,
        "evaluate_flops": planned.evaluate_flops,
        "worker_hours": hours,
        "price": placement.price(hours) if hours is not None else None,
        "storage_bytes": planned.bytes_missing,
    }


def _plan_lines(study: Study, planned: Plan, placement: Placement, facts: dict[str, Any]) -> list[str]:
    lines = [
        f"{study.name}: {facts['runs']} runs, {facts['done']} done, {facts['failed']} failed, {facts['to_do']} to do"
    ]
    if study.search is not None:
        cells = len(list(study.cells()))
        times = f"{cells} x " if cells > 1 else ""
        trials = f"{times}{facts['searched_trials']} trials of {len(study.seeds)} seeds"
        lines.append(f"search    {trials}, proposed by {study.search.sampler}")
    stored = f", {units.count(facts['images_stored'])} stored" if facts["images_stored"] else ""
    lines.append(f"render    {units.count(facts['images_to_render'])} images{stored}")
    if facts["generators_to_train"]:
        lines.append(f"adapt     {facts['generators_to_train']} generators to train or adapt, not in the time below")
    for verb in ("pretrain", "evaluate"):
        lines.append(f"{verb:10}{facts[f'{verb}_stages']} stages, {facts[f'{verb}_flops']:.2g} FLOP of training")
    if facts["worker_hours"] is None:
        lines.append("time      not known before the first run is measured")
    else:
        price = f", {facts['price']:.2f} {placement.prices.currency}" if placement.prices and facts["price"] else ""
        wait = units.duration(3600 * facts["worker_hours"])
        lines.append(f"time      {wait} of one worker at the measured rate{price}")
    lines.append(f"storage   about {units.size(facts['storage_bytes'])} more in {facts['storage']}")
    return lines


def _leaves(path: str, value: Any) -> list[tuple[str, Any]]:
    """Dotted names of plain data, members of a list by their kind."""
    if isinstance(value, dict) and value:
        return [leaf for name, item in value.items() for leaf in _leaves(f"{path}.{name}" if path else name, item)]
    if isinstance(value, list) and value and isinstance(value[0], dict):
        named = [(str(item.get("kind", place)), item) for place, item in enumerate(value)]
        return [leaf for name, item in named for leaf in _leaves(f"{path}.{name}", item)]
    return [(path, value)]
