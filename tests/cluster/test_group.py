"""Two workers of Ray Train with DDP against one."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from scaleback.cluster.placement import Placement
from scaleback.cluster.render import render
from scaleback.cluster.stages import complete
from scaleback.pretrain.run import CURVE, run_pretrain
from scaleback.pretrain.world import World
from tests.cluster.conftest import PLACEMENT
from tests.cluster.test_stages import processes

pytestmark = pytest.mark.usefixtures("shared_ray")


def test_two_workers_have_the_loss_curve_of_one(tiny, store, tmp_path):
    run = tiny.base.replace({"evaluations": ["knn"]})
    complete(run, store, PLACEMENT.model_copy(update={"workers": 2}))
    manifest = store.manifest(run.pretrain.address, run.pretrain)
    assert manifest.record["workers"] == 2
    pair = json.loads(store.read(manifest, CURVE))
    store.remove(run.pretrain.address)
    single = json.loads(store.read(run_pretrain(run.pretrain, store, World()), CURVE))
    assert [row["images_seen"] for row in pair] == [row["images_seen"] for row in single]
    np.testing.assert_allclose([row["loss"] for row in pair], [row["loss"] for row in single], rtol=1e-5)


@pytest.mark.slow
def test_a_range_of_workers_takes_what_there_is(tiny, store):
    from scaleback.cluster.group import train_in_group

    run = tiny.base
    render(store, run.stored(stream=False))
    train_in_group(run.pretrain, store, Placement(workers="1..2"))
    record = store.manifest(run.pretrain.address, run.pretrain).record
    assert (record["workers"], record["worker_counts"]) == (2, [[0, 2]])


@pytest.mark.slow
def test_a_failure_in_a_worker_is_raised_as_what_it_was(tiny, store):
    from scaleback.cluster.group import train_in_group
    from scaleback.core.errors import DivergedError

    run = tiny.base.replace({"recipe.optimizer": {"kind": "sgd", "lr": 1e30, "weight_decay": 0.0}})
    render(store, run.stored(stream=False))
    with pytest.raises(DivergedError, match="loss nan after"):
        train_in_group(run.pretrain, store, Placement(workers=2, retries=0))


@pytest.mark.slow
def test_a_warned_member_saves_and_the_group_that_follows_goes_on_from_there(tiny, store):
    from scaleback.cluster.group import train_in_group

    run = tiny.base.replace({"recipe.budget_images": 128_000})
    render(store, run.stored(stream=False))
    warned, environment = [], []

    def warn_one():
        # The first checkpoint says that the group is at work; none follows but that of the warned member.
        while not (saved := store.addresses(run.pretrain.address)):
            time.sleep(0.01)
        process = processes("RayTrainWorker")[-1]
        environment.extend(Path(f"/proc/{process}/environ").read_bytes().split(b"\0"))
        os.kill(process, signal.SIGTERM)
        warned.extend([process, max(int(address.rpartition("-")[2]) for address in saved)])

    watcher = threading.Thread(target=warn_one)
    watcher.start()
    train_in_group(run.pretrain, store, Placement(workers=2, retries=1, checkpoint_every_s=3.0))
    watcher.join()
    process, first = warned
    manifest = store.manifest(run.pretrain.address, run.pretrain)
    assert manifest.record["resumed_images"] > first * run.recipe.batch_images
    assert not Path(f"/proc/{process}").exists()
    assert b"MALLOC_ARENA_MAX=1" in environment
