"""Stages on Ray against the same stages called directly, and against deaths."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from scaleback.cluster.stages import complete
from scaleback.core.errors import DivergedError, RunError
from scaleback.core.store import Store
from scaleback.evaluations.run import SCORES, run_evaluate
from scaleback.pretrain.run import CURVE, WEIGHTS, run_pretrain
from scaleback.pretrain.world import World
from scaleback.sources.population import missing_blocks, render_block

pytestmark = pytest.mark.usefixtures("shared_ray")


def outcome(run, store):
    """What must not depend on how a run was computed."""
    found = [store.read(store.manifest(spec.address, spec), SCORES) for spec in run.evaluates]
    manifest = store.manifest(run.pretrain.address, run.pretrain)
    return [store.read(manifest, WEIGHTS), store.read(manifest, CURVE), *found]


def alone(run, store):
    """The same run without Ray."""
    for population, images in run.stored(stream=False):
        for block in missing_blocks(store, population, images):
            render_block(store, population, block)
    run_pretrain(run.pretrain, store, World())
    for spec in run.evaluates:
        run_evaluate(spec, store, World())
    return outcome(run, store)


def processes(title):
    """Ids of Ray's processes that now run a task of this name."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if file.read_bytes().decode(errors="replace").startswith(f"ray::{title}"):
                found.append(int(file.parent.name))
        except OSError:
            continue
    return found


def test_a_run_on_ray_equals_the_run_without_it_to_the_bit(tiny, store, placement, tmp_path):
    run, rows = tiny.base, []
    complete(run, store, placement, rows.append)
    assert outcome(run, store) == alone(run, Store(tmp_path / "alone"))
    assert {row["stage"] for row in rows} == {"pretrain", "evaluate"}
    complete(run, store, placement, lambda row: pytest.fail("computed again"))


def test_a_streamed_run_equals_the_stored_one_and_stores_no_image_of_its_source(tiny, store, placement, tmp_path):
    run = tiny.base
    complete(run, store, placement.replace({"render": "stream"}))
    assert outcome(run, store) == alone(run, Store(tmp_path / "alone"))
    assert not store.addresses(run.pretrain.population.address)


def test_a_stage_that_two_runs_share_is_computed_once(tiny, store, placement):
    runs = [tiny.base, tiny.base.replace({"evaluations": [{"kind": "knn", "neighbours": 3}]})]
    assert runs[0].pretrain == runs[1].pretrain
    rows = {0: [], 1: []}
    threads = [
        threading.Thread(target=complete, args=(run, store, placement, rows[number].append))
        for number, run in enumerate(runs)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    trained = [number for number in rows if any(row["stage"] == "pretrain" for row in rows[number])]
    assert len(trained) == 1
    assert all(store.manifest(spec.address) for run in runs for spec in run.evaluates)


def test_a_killed_worker_is_replaced_and_goes_on_from_its_checkpoint(tiny, store, placement, tmp_path):
    run = tiny.base.replace({"recipe.budget_images": 12_800})
    title, killed = f"pretrain {run.pretrain.slug}", []

    def kill_once():
        while not store.addresses(run.pretrain.address):
            time.sleep(0.01)
        killed.extend(processes(title))
        for process in killed:
            os.kill(process, signal.SIGKILL)

    killer = threading.Thread(target=kill_once)
    killer.start()
    rows = []
    complete(run, store, placement, rows.append)
    killer.join()
    assert len(killed) == 1
    assert outcome(run, store) == alone(run, Store(tmp_path / "alone"))
    assert [name for name in store.addresses("pretrain") if "step-" in name] == []


def test_a_worker_that_is_warned_saves_and_its_successor_goes_on_from_there(tiny, store, placement, tmp_path):
    run = tiny.base.replace({"recipe.budget_images": 64_000})
    warned = []

    def warn_once(row):
        if not warned:
            warned.extend(processes(f"pretrain {run.pretrain.slug}"))
            for process in warned:
                os.kill(process, signal.SIGTERM)

    # No checkpoint but the one of the warned process.
    complete(run, store, placement.replace({"checkpoint_every_s": 3_600.0}), warn_once)
    assert len(warned) == 1
    assert not Path(f"/proc/{warned[0]}").exists()
    assert 0 < store.manifest(run.pretrain.address).record["resumed_images"] < 64_000
    assert outcome(run, store) == alone(run, Store(tmp_path / "alone"))
    assert [name for name in store.addresses("pretrain") if "step-" in name] == []


def test_a_diverged_run_leaves_a_record_and_is_not_tried_again_unless_asked(tiny, store, placement):
    run = tiny.base.replace({"recipe.optimizer": {"kind": "sgd", "lr": 1e30, "weight_decay": 0.0}})
    with pytest.raises(DivergedError, match="loss nan after"):
        complete(run, store, placement)
    failure = store.failure(run.pretrain.address)
    assert (failure["error"], failure["lasting"]) == ("DivergedError", True)
    begun = time.monotonic()
    with pytest.raises(RunError, match=f"{run.pretrain.address} failed: DivergedError"):
        complete(run, store, placement)
    assert time.monotonic() - begun < 1
    with pytest.raises(DivergedError, match="loss nan after"):
        complete(run, store, placement, retry=True)
