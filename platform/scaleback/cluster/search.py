"""A study on Ray Tune: every exhaustive point, and the points that Optuna proposes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scaleback.cluster import runtime
from scaleback.cluster.asks import Ask
from scaleback.cluster.drawing import Drawing, Promise
from scaleback.cluster.learn import learn_all
from scaleback.cluster.leaving import as_interrupt
from scaleback.cluster.placement import Placement
from scaleback.cluster.progress import Progress
from scaleback.cluster.stages import complete
from scaleback.cluster.watcher import Watcher
from scaleback.core.errors import PlacementError, Refusal
from scaleback.core.store import Store
from scaleback.evaluations.run import SCORES
from scaleback.sources.population import Population
from scaleback.study.plan import Planned, plan_study
from scaleback.study.run import Run
from scaleback.study.study import Measure, Point, Study

FINAL = "final"
"""Marks the last report of a trial."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt at a study ended."""

    started: int
    """Runs or trials that were started."""
    failed: Sequence[str]
    """One line for each that failed."""
    interrupted: bool = False


def run_study(study: Study, store: Store, placement: Placement, progress: Progress, *, retry: bool = False) -> Outcome:
    """Do what is missing of a study; Ray is started only if something is."""
    from scaleback.cluster.optuna_search import run_search, searches_left

    plan = plan_study(study, store, stream=placement.streams)
    failed = [] if retry else [_earlier(planned, store) for planned in plan.to_do if _lasting(planned, store)]
    to_do = plan.to_do if retry else [planned for planned in plan.to_do if not _lasting(planned, store)]
    searches = searches_left(study, store)
    if not to_do and not searches:
        return Outcome(0, failed)
    _refuse_workers(to_do, placement)
    ordered = sorted(to_do, key=lambda planned: planned.run.seed)  # so that every point has its first seed early
    progress.note("starting Ray")
    with runtime.cluster(placement), as_interrupt():
        progress.note(runtime.where())
        started, interrupted = len(to_do), False
        if to_do:
            learn_all((planned.run for planned in to_do), store, placement, progress, retry=retry)
            with Drawing(store, _wanted(ordered, store, placement), Ask.renderer(placement), progress) as drawing:
                broken, interrupted = run_grid(study, ordered, store, placement, progress, retry, drawing.promise)
            failed += broken
        for search in searches:
            if not interrupted:
                count, broken, interrupted = run_search(study, search, store, placement, progress, retry)
                started, failed = started + count, failed + broken
    return Outcome(started, failed, interrupted)


def run_grid(
    study: Study,
    ordered: Sequence[Planned],
    store: Store,
    placement: Placement,
    progress: Progress,
    retry: bool,
    promise: Promise,
) -> tuple[list[str], bool]:
    """One Tune trial for each run, in this order."""
    from ray import tune

    trials = [
        {**planned.point.values, "seed": planned.run.seed, "baseline": planned.point.baseline} for planned in ordered
    ]
    watcher = Watcher(progress, total=len(ordered), headline=study.shown[0])
    tuner = tune.Tuner(
        tune.with_resources(GridTrial(study, store, placement, retry, promise), runtime.no_core()),
        param_space={"run": tune.grid_search(trials)},
        tune_config=tune.TuneConfig(
            max_concurrent_trials=runs_at_once(placement),
            reuse_actors=True,
            trial_dirname_creator=trial_folder,
        ),
        run_config=tune.RunConfig(name=study.name, storage_path=tune_folder(store), verbose=0, callbacks=[watcher]),
    )
    results = tuner.fit()
    failed = [last_line(str(error)) for error in results.errors]
    return failed, watcher.finished + len(failed) < len(ordered)


class GridTrial:
    """What Tune runs for one run: it waits for the stages and reports what they found."""

    __name__ = "scaleback"

    def __init__(self, study: Study, store: Store, placement: Placement, retry: bool, promise: Promise) -> None:
        self._study, self._store, self._placement = study, store, placement
        self._retry, self._promise = retry, promise

    def __call__(self, config: Mapping[str, Any]) -> None:
        from ray import tune

        values = dict(config["run"])
        seed, baseline = values.pop("seed"), values.pop("baseline")
        run = self._study.run(Point(values=values, baseline=baseline), seed)
        complete(run, self._store, self._placement, tune.report, retry=self._retry, promise=self._promise)
        tune.report({FINAL: True, **measured(self._study.measures, [run], self._store)})


def measured(measures: Iterable[Measure], runs: Sequence[Run], store: Store) -> dict[str, float]:
    """Mean of each measure over finished runs, under its label."""
    found: dict[str, list[float]] = {}
    for run in runs:
        for spec in run.evaluates:
            manifest = store.manifest(spec.address, spec)
            assert manifest is not None, f"{spec.address} was to be complete"
            for score in json.loads(store.read(manifest, SCORES)):
                key = Measure(evaluation=spec.short, metric=score["metric"], images_seen=score["images_seen"]).label
                found.setdefault(key, []).append(score["value"])
    return {label: sum(found[label]) / len(found[label]) for label in (measure.label for measure in measures)}


def runs_at_once(placement: Placement) -> int:
    """Trials in progress: one for each place, and one more, so that a place is never idle between two stages."""
    return placement.runs_at_once or runtime.places(placement) + 1


def tune_folder(store: Store) -> str:
    """Where Tune writes what TensorBoard shows."""
    return f"{store.root}/tune"


def _wanted(ordered: Sequence[Planned], store: Store, placement: Placement) -> list[tuple[Population, int]]:
    """Images that these runs read from storage, in the order of the runs."""
    stored = dict.fromkeys(one for planned in ordered for one in planned.run.stored(stream=placement.streams))
    # What it draws with is missing only where it failed to learn.
    return [(population, images) for population, images in stored if _learnt(population, store)]


def _learnt(population: Population, store: Store) -> bool:
    stages = population.source.learnt(population.seed)
    return all(store.manifest(stage.address, stage) is not None for stage in stages)


def _refuse_workers(to_do: Iterable[Planned], placement: Placement) -> None:
    for spec in (planned.run.pretrain for planned in to_do):
        try:
            if spec is not None:
                spec.recipe.slice_images(placement.fewest_workers, spec.objective.slice_multiple)
        except Refusal as error:
            raise PlacementError(f"placement.workers: {error.field} {error}") from None


def _lasting(planned: Planned, store: Store) -> bool:
    failure = store.failure(planned.failed) if planned.failed else None
    return failure is not None and failure["lasting"]


def _earlier(planned: Planned, store: Store) -> str:
    failure = store.failure(planned.failed or "") or {}
    where = f"{planned.point.label} seed={planned.run.seed}"
    return f"{where}: failed before ({failure.get('error')}: {failure.get('message')}); --retry-failed tries again"


def trial_folder(trial: Any) -> str:
    """A readable name for a trial's folder, which TensorBoard shows."""
    values = trial.config.get("run", trial.config)
    named = [f"{name}={value}" for name, value in values.items() if name != "baseline"]
    baseline = str(values.get("baseline") or "").replace(" ", "-")
    text = ",".join([baseline] * bool(baseline) + named)
    plain = "".join(letter if letter.isalnum() or letter in "=.,-_" else "_" for letter in text)
    return f"{plain[:80]}-{trial.trial_id[-5:]}"


def last_line(text: str) -> str:
    """The last line of a traceback: what was raised."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "failed"
