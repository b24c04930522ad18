"""Whole studies on Ray Tune."""

import pytest

from scaleback.cluster.progress import Progress
from scaleback.cluster.search import run_study
from scaleback.core.store import Store
from scaleback.study.plan import plan_study
from scaleback.study.results import found_runs, study_runs, table_of
from tests.cluster.test_stages import alone
from tests.cluster.test_stages import outcome as outcome_of

pytestmark = pytest.mark.usefixtures("shared_ray")
QUIET = Progress(quiet=True)


def table_rows(study, store):
    return table_of(found_runs(study_runs(study, store), store)).rows


def table(study, store):
    return [(row.point, row.seed, row.metric, row.value) for row in table_rows(study, store)]


def test_a_grid_study_runs_every_point_and_seed_and_then_nothing(tiny, store, placement):
    outcome = run_study(tiny, store, placement, QUIET)
    assert (outcome.started, list(outcome.failed), outcome.interrupted) == (6, [], False)
    assert plan_study(tiny, store).to_do == []
    rows = table(tiny, store)
    assert {(point, seed) for point, seed, *_ in rows} == {
        (point, seed) for point in ("no pre-training", "images=2", "images=4") for seed in (0, 1)
    }
    again = run_study(tiny, store, placement, QUIET)
    assert again.started == 0
    assert table(tiny, store) == rows


@pytest.mark.slow
def test_the_first_run_trains_while_images_of_another_are_drawn(tiny, store, placement, tmp_path):
    # The second takes far longer to draw than a worker takes to start.
    axis = {"kind": "grid", "field": "source.points", "values": [2_000, 32_000_000]}
    study = type(tiny).parse({**tiny.plain(), "axes": [axis], "seeds": [0], "baseline": False})
    study = study.model_copy(update={"base": study.base.replace({"source.renderer": "exact"})})
    outcome = run_study(study, store, placement, QUIET)
    assert (outcome.started, list(outcome.failed)) == (2, [])
    first, second = (run for _, run in study_runs(study, store))
    trained = store.manifest(first.pretrain.address, first.pretrain)
    begun_s = store.modified(f"{trained.address}/manifest.json") - trained.record["train_s"]
    last_block = second.pretrain.population.block_address(0)
    assert begun_s < store.modified(f"{last_block}/manifest.json")
    assert outcome_of(second, store) == alone(second, Store(tmp_path / "alone"))


def test_a_failing_point_is_reported_and_the_others_finish(tiny, store, placement):
    study = tiny.model_copy(update={"seeds": (0,)})
    study = type(study).parse(
        {**study.plain(), "axes": [{"kind": "grid", "field": "recipe.optimizer.lr", "values": [1e-3, 1e30]}]}
    )
    study = study.model_copy(
        update={"base": study.base.replace({"recipe.optimizer": {"kind": "sgd", "lr": 1e-3, "weight_decay": 0.0}})}
    )
    outcome = run_study(study, store, placement, QUIET)
    assert outcome.started == 3
    assert len(outcome.failed) == 1
    assert "DivergedError" in outcome.failed[0]
    plan = plan_study(study, store)
    assert [planned.point.label for planned in plan.to_do] == ["recipe.optimizer.lr=1e+30"]
    again = run_study(study, store, placement, QUIET)
    assert again.started == 0
    assert "--retry-failed tries again" in again.failed[0]


def searching(tiny, **search):
    axes = [
        {"kind": "range", "field": "source.delta", "low": 0.01, "high": 0.5, "scale": "log"},
        {"kind": "range", "field": "images", "low": 2, "high": 8, "whole": True},
    ]
    return type(tiny).parse({**tiny.plain(), "axes": axes, "seeds": [0], "search": search, "baseline": False})


@pytest.mark.slow
def test_a_search_for_accuracy_alone(tiny, store, placement):
    study = searching(tiny, sampler="tpe", trials=3)
    assert run_study(study, store, placement, QUIET).started == 3
    assert len({point for point, *_ in table(study, store)}) == 3


def test_a_search_with_two_objectives_goes_on_where_it_ended(tiny, store, placement):
    import optuna

    from scaleback.cluster.optuna_search import journal

    study = searching(tiny, sampler="nsga2", trials=1, fewest="images")
    assert run_study(study, store, placement, QUIET).started == 1
    more = searching(tiny, sampler="nsga2", trials=2, fewest="images")
    assert run_study(more, store, placement, QUIET).started == 1
    assert run_study(more, store, placement, QUIET).started == 0
    assert len({point for point, *_ in table(more, store)}) == 2

    backend = optuna.storages.journal.JournalFileBackend(str(journal(more, store)))
    found = optuna.load_study(study_name="tiny", storage=optuna.storages.JournalStorage(backend))
    assert [direction.name for direction in found.directions] == ["MAXIMIZE", "MINIMIZE"]
    accuracies = {score.value for score in table_rows(more, store)}
    for trial in found.trials:
        accuracy, images = trial.values
        assert accuracy in accuracies
        assert images == trial.params["images"]
