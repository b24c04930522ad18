"""A study on several machines, one of which dies in each stage, against the same study undisturbed on one."""

import io
import json
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from scaleback.core.errors import StoreError
from scaleback.core.store import Store
from scaleback.pretrain.checkpoint import Checkpoints
from scaleback.pretrain.run import CURVE, run_pretrain
from scaleback.pretrain.state import NUMBERS
from scaleback.pretrain.world import World
from tests.cluster.nodes.studies import STAGES, WAIT_S, alone_in, driver, facts, joined, scored
from tests.cluster.test_stages import alone, outcome

pytestmark = pytest.mark.nodes
POLL_S = 0.02
MEMBER = "ray::RayTrainWorker"
ROWS = 5
"""The curve's beginning: later, steps have multiplied what the orders of two sums differ by."""


@pytest.fixture
def long(tiny):
    """One run, each of whose stages lasts for seconds."""
    recipe = {"preset": "small", "budget_images": 20_000, "warmup_images": 50}
    changes = {
        "source.points": 8_000_000,
        "source.renderer": "exact",
        "recipe.budget_images": 51_200,
        "evaluations": [{"kind": "finetune", "recipe": recipe, "marks_images": [20_000]}],
    }
    return alone_in(tiny, changes, [{"evaluation": "finetune", "images_seen": 20_000}])


def until(process, happened, what, limit_s=WAIT_S):
    """Wait beside a driver for what ``happened`` returns."""
    limit = time.monotonic() + limit_s
    while not (found := happened()):
        assert process.poll() is None, f"ended before {what}: {process.communicate()[1][-2_000:]}"
        assert time.monotonic() < limit, f"never saw {what}"
        time.sleep(POLL_S)
    return found


def one_run(process):
    found = facts(process)
    assert (found["runs_started"], found["runs_failed"]) == (1, 0)


@pytest.mark.parametrize("stage", STAGES)
def test_a_machine_that_dies_costs_nothing_but_time(machines, long, tmp_path, stage):
    process = subprocess.Popen(**driver(machines, long, tmp_path, joined(machines)))
    machines.kill(until(process, lambda: machines.busy_with(STAGES[stage]), stage))
    machines.start_node()
    one_run(process)
    store, run = Store(tmp_path / "store"), long.base
    assert outcome(run, store) == alone(run, Store(tmp_path / "alone"))


def test_two_machines_train_one_model_as_one_does_and_one_of_them_may_die(machines, tiny, tmp_path):
    study = alone_in(tiny, {"recipe.budget_images": 25_600}, [{"evaluation": "knn"}])
    run, whole, broken = study.base, Store(tmp_path / "whole/store"), Store(tmp_path / "broken/store")
    one_run(subprocess.Popen(**driver(machines, study, tmp_path / "whole", joined(machines, workers=2))))
    manifest = whole.manifest(run.pretrain.address, run.pretrain)
    assert manifest.record["workers"] == 2  # of one core each, so on two machines
    told = [
        json.loads(line)["stage"]
        for file in Path(whole.root).rglob("tune/**/result.json")
        for line in file.read_text().splitlines()[:-1]  # the last is the trial's own
    ]
    assert {"pretrain", "evaluate"} == set(told)

    process = subprocess.Popen(**driver(machines, study, tmp_path / "broken", joined(machines, workers=2)))
    until(process, lambda: broken.addresses(run.pretrain.address), "a checkpoint")
    machines.kill(machines.busy_with(MEMBER))
    machines.start_node()
    one_run(process)
    assert broken.manifest(run.pretrain.address).record["resumed_images"] > 0
    assert outcome(run, broken) == outcome(run, whole)

    pair = json.loads(whole.read(manifest, CURVE))[:ROWS]
    whole.remove(run.pretrain.address)
    single = json.loads(whole.read(run_pretrain(run.pretrain, whole, World()), CURVE))[:ROWS]
    np.testing.assert_allclose([row["loss"] for row in pair], [row["loss"] for row in single], rtol=1e-5)


def saved(store, stage):
    """The numbers of the newest checkpoint; empty if there is none, or as it makes room for the next."""
    try:
        files = Checkpoints(store, stage.address, stage, 0.0).newest()
    except (StoreError, RuntimeWarning):
        files = None
    return json.loads(files[NUMBERS]) if files else {}


def test_a_group_goes_on_with_fewer_machines_and_grows_again(machines, tiny, tmp_path):
    study = alone_in(tiny, {"recipe.budget_images": 10_000_000}, [{"evaluation": "knn"}])  # longer than all of this
    store, stage = Store(tmp_path / "store"), study.base.pretrain
    placement = joined(machines, workers="1..2").replace({"checkpoint_every_s": 1.0})
    process = subprocess.Popen(**driver(machines, study, tmp_path, placement))

    def sizes(*wanted):
        numbers = saved(store, stage)
        return numbers if [workers for _, workers in numbers.get("workers", [])] == list(wanted) else None

    whole = until(process, lambda: sizes(2), "a group of two")
    machines.kill(machines.busy_with(MEMBER))
    fewer = until(process, lambda: sizes(2, 1), "a group of one")
    machines.start_node()
    again = until(process, lambda: sizes(2, 1, 2), "a group of two again")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=WAIT_S)
    assert process.returncode == 130
    assert whole["step"] <= fewer["workers"][1][0] < fewer["step"] <= again["workers"][2][0] < again["step"]
    images = [row["images_seen"] for row in saved(store, stage)["rows"]]
    assert images == sorted(set(images))


def table(store):
    return pq.read_table(io.BytesIO(store.get("report/tiny/table.parquet"))).to_pylist()


def test_a_sweep_into_a_bucket_that_loses_a_machine_has_the_table_of_one_that_does_not(
    machines, bucket, tiny, tmp_path, monkeypatch
):
    for name, value in bucket.environment.items():
        monkeypatch.setenv(name, value)
    remote, folder = Store(f"{bucket.url}/sweep"), Store(tmp_path / "whole/store")
    process = subprocess.Popen(**driver(machines, tiny, tmp_path / "broken", joined(machines), remote.root))
    until(process, lambda: len(scored(remote)) >= 2, "two evaluations")
    machines.kill(2 if 2 in machines.nodes else max(machines.nodes))
    machines.start_node()
    found = facts(process)
    assert (found["runs_started"], found["runs_failed"]) == (6, 0)
    facts(subprocess.Popen(**driver(machines, tiny, tmp_path / "whole", joined(machines))))
    assert table(remote) == table(folder)
    for address in [*scored(folder), *folder.addresses("pretrain")]:
        assert remote.manifest(address).files == folder.manifest(address).files
