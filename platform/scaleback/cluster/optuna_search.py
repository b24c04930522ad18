"""Searched axes: Optuna proposes points, Tune runs them, every seed of a point within one trial."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from scaleback.cluster import runtime
from scaleback.cluster.placement import Placement
from scaleback.cluster.progress import Progress
from scaleback.cluster.search import FINAL, last_line, measured, runs_at_once, trial_folder, tune_folder
from scaleback.cluster.stages import complete
from scaleback.cluster.watcher import Watcher
from scaleback.core.store import Store
from scaleback.study.axes import Choice, Range
from scaleback.study.results import keep_proposal, proposals_folder
from scaleback.study.study import Point, Search, Study

JOURNAL = "optuna.log"
DIGITS = 6
"""A proposed number is rounded to so many digits, so that a point can be written down and run again."""


@dataclass(frozen=True, slots=True)
class CellSearch:
    """The search within one combination of the exhaustive axes."""

    cell: Mapping[str, JsonValue]
    name: str
    """Of the Optuna study."""
    done: int
    left: int


def searches_left(study: Study, store: Store) -> list[CellSearch]:
    """The searches that have trials left, with what earlier attempts finished counted in."""
    if study.search is None:
        return []
    found = []
    for cell in study.cells():
        name = " ".join([study.name, *(f"{field}={value}" for field, value in cell.items())])
        done = _finished(study, store, name)
        if done < study.search.trials:
            found.append(CellSearch(cell, name, done, study.search.trials - done))
    return found


def run_search(
    study: Study, search: CellSearch, store: Store, placement: Placement, progress: Progress, retry: bool
) -> tuple[int, list[str], bool]:
    """Run the trials that are left; returns (started, one line for each failure, whether it was interrupted)."""
    import optuna
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    assert study.search is not None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = _storage(study, store)
    _fail_abandoned(storage, search.name)
    objectives = {study.shown[0].label: "max" if study.shown[0].kind.better == "high" else "min"}
    if study.search.fewest is not None:
        objectives[study.search.fewest] = "min"
    # Lists also for one objective: with a single metric OptunaSearch expects it in every row of progress.
    searcher = OptunaSearch(
        {axis.field: distribution(axis) for axis in study.searched},
        metric=list(objectives),
        mode=list(objectives.values()),
        sampler=sampler(study.search, search.done),
        study_name=search.name,
        storage=storage,
    )
    watcher = Watcher(progress, total=search.left, headline=study.shown[0])
    tuner = tune.Tuner(
        tune.with_resources(SearchTrial(study, search, store, placement, retry), runtime.no_core()),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            num_samples=search.left,
            max_concurrent_trials=runs_at_once(placement),
            reuse_actors=True,
            trial_dirname_creator=trial_folder,
        ),
        run_config=tune.RunConfig(name=study.name, storage_path=tune_folder(store), verbose=0, callbacks=[watcher]),
    )
    results = tuner.fit()
    failed = [last_line(str(error)) for error in results.errors]
    return search.left, failed, watcher.finished < search.left


class SearchTrial:
    """What Tune runs for one proposed point: all its seeds, then the mean of each measure."""

    __name__ = "scaleback"

    def __init__(self, study: Study, search: CellSearch, store: Store, placement: Placement, retry: bool) -> None:
        self._study, self._search, self._store = study, search, store
        self._placement, self._retry = placement, retry

    def __call__(self, config: Mapping[str, Any]) -> None:
        from ray import tune

        proposed = {axis.field: decoded(axis, config[axis.field]) for axis in self._study.searched}
        point = Point(values={**self._search.cell, **proposed}, searched=True)
        keep_proposal(self._study, self._store, point)
        runs = [self._study.run(point, seed) for seed in self._study.seeds]
        for run in runs:
            complete(run, self._store, self._placement, tune.report, retry=self._retry)
        tune.report({**proposed, FINAL: True, **measured(self._study.measures, runs, self._store)})


def distribution(axis: Range | Choice) -> Any:
    """An axis as Optuna's distribution."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(axis, Choice):
        return CategoricalDistribution([_encoded(value) for value in axis.values])
    if axis.whole:
        return IntDistribution(int(axis.low), int(axis.high), log=axis.scale == "log")
    return FloatDistribution(axis.low, axis.high, log=axis.scale == "log")


def decoded(axis: Range | Choice, value: Any) -> JsonValue:
    """A proposed value as the field takes it."""
    if isinstance(axis, Choice):
        return next(known for known in axis.values if _encoded(known) == value)
    if axis.whole:
        return int(value)
    return min(max(float(f"{value:.{DIGITS}g}"), axis.low), axis.high)


def sampler(search: Search, done: int) -> Any:
    """Optuna's sampler. Its seed moves on with the trials done, so that a restart does not repeat its proposals."""
    from optuna import samplers

    seed = search.seed + done
    match search.sampler:
        case "tpe":
            return samplers.TPESampler(seed=seed)
        case "random":
            return samplers.RandomSampler(seed=seed)
        case "gp":
            return samplers.GPSampler(seed=seed)
        case "nsga2":
            return samplers.NSGAIISampler(seed=seed)
        case "qmc":
            return samplers.QMCSampler(seed=seed)


def _encoded(value: JsonValue) -> Any:
    """Optuna's categories are scalars; anything else stands for itself as JSON."""
    return json.dumps(value, sort_keys=True) if isinstance(value, dict | list) else value


def journal(study: Study, store: Store) -> Path | None:
    """Optuna's journal of a study, which optuna-dashboard opens; None where storage is not a local folder."""
    return Path(store.path(proposals_folder(study))).parent / JOURNAL if store.local else None


def _storage(study: Study, store: Store) -> Any:
    from optuna.storages import InMemoryStorage, JournalStorage
    from optuna.storages.journal import JournalFileBackend

    file = journal(study, store)
    if file is None:
        return InMemoryStorage()
    file.parent.mkdir(parents=True, exist_ok=True)
    return JournalStorage(JournalFileBackend(str(file)))


def _finished(study: Study, store: Store, name: str) -> int:
    file = journal(study, store)
    if file is None or not file.is_file():
        return 0
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = _storage(study, store)
    if name not in [summary.study_name for summary in storage.get_all_studies()]:
        return 0
    states = [trial.state for trial in storage.get_all_trials(storage.get_study_id_from_name(name), deepcopy=False)]
    return sum(state == optuna.trial.TrialState.COMPLETE for state in states)


def _fail_abandoned(storage: Any, name: str) -> None:
    """Trials that a killed driver left running will never be told; a sampler must not wait for them."""
    from optuna.trial import TrialState

    if name not in [summary.study_name for summary in storage.get_all_studies()]:
        return
    for trial in storage.get_all_trials(storage.get_study_id_from_name(name), states=(TrialState.RUNNING,)):
        storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
