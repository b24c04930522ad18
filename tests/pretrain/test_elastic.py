"""A run that loses a worker and gets it back, at a constant global batch, has the curve of one that kept both."""

import json

import numpy as np
import pytest
import torch

from scaleback.core.store import Store
from scaleback.objectives import OBJECTIVES
from scaleback.pretrain.loop import train, usable
from scaleback.pretrain.state import NUMBERS
from scaleback.pretrain.world import World
from tests.pretrain.test_group import ODD, SMALL
from tests.pretrain.test_loop import BATCH, RECIPE, STEPS, resumed, stopped, training

EXAMPLES = {name: OBJECTIVES[name].example() for name in ("classify", "moco-v3", "dino")}
WATCHED = RECIPE.replace({"online_knn": 16})
LOST, BACK = 5, 9
"""The worker is lost in this step, and comes back in that one; the checkpoint of the step before is gone on from."""


def both(rank, folder, name, stop):
    """A worker of the pair, up to ``stop`` or to the end."""
    world, store = World.joined(torch.device("cpu")), Store(folder / name)
    job = training(SMALL, WATCHED, objective=EXAMPLES[name])
    if stop:
        stopped(job, store, step=stop, world=world)
        return
    (folder / f"{name}-{rank}").write_bytes(resumed(job, store, world).save()[NUMBERS])


def undisturbed(rank, folder, name):
    state = train(training(SMALL, WATCHED, objective=EXAMPLES[name]), World.joined(torch.device("cpu")))
    (folder / f"{name}-whole-{rank}").write_bytes(state.save()[NUMBERS])


@pytest.mark.parametrize("name", EXAMPLES)
def test_two_workers_then_one_then_two_have_the_curve_of_two(name, pair, tmp_path):
    pair(both, tmp_path, name, LOST)
    stopped(training(SMALL, WATCHED, objective=EXAMPLES[name]), Store(tmp_path / name), step=BACK)
    pair(both, tmp_path, name, None)
    pair(undisturbed, tmp_path, name)
    found, whole = (json.loads((tmp_path / f"{name}{part}-0").read_bytes()) for part in ("", "-whole"))
    assert found["workers"] == [[0, 2], [LOST - 1, 1], [BACK - 1, 2]]
    assert len(found["rows"]) == STEPS
    for mine, theirs in zip(found["rows"], whole["rows"], strict=True):
        assert (mine["images_seen"], mine["lr"]) == (theirs["images_seen"], theirs["lr"])
        assert mine["online_knn"] == pytest.approx(theirs["online_knn"], abs=1e-6)
        np.testing.assert_allclose(mine["loss"], theirs["loss"], rtol=1e-5)


def left_over(rank, folder):
    world = World.joined(torch.device("cpu"))
    job = training(SMALL, ODD)  # pairs stay together, and a batch of six has three
    used = usable(job, world)
    size = None if used is None else (used.size, train(job, used).step)
    (folder / str(rank)).write_text(str(size))


def test_a_worker_that_the_batch_has_no_slice_for_is_left_over(pair, tmp_path):
    pair(left_over, tmp_path)
    assert [(tmp_path / str(rank)).read_text() for rank in range(2)] == [f"(1, {ODD.steps})", "None"]


def test_the_largest_group_that_the_batch_can_be_cut_for():
    assert [RECIPE.usable_workers(most, 1) for most in range(1, 10)] == [1, 2, 2, 4, 4, 4, 4, 8, 8]
    assert RECIPE.usable_workers(8, 4) == 2
    assert RECIPE.replace({"accumulate": 4}).usable_workers(8, 1) == 2
    assert BATCH == 8
