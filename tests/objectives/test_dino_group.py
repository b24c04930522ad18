"""Two workers with micro-batches track what one worker tracks, whoever is whose partner."""

import pytest
import torch

from scaleback.objectives.dino import DINO
from scaleback.objectives.sdmp_dino import SDMPDINO
from scaleback.pretrain.loop import train
from scaleback.pretrain.world import World
from tests.pair import WORKERS
from tests.pretrain.test_group import SMALL
from tests.pretrain.test_loop import BATCH, RECIPE, training

FIELDS = {**DINO.example().model_dump(exclude={"kind"}), "centre_momentum": 0.5, "teacher_temperature": 0.04}
OBJECTIVES = {
    "dino": DINO(**FIELDS),
    "sdmp, local": SDMPDINO(**FIELDS, pairing="local"),
    "sdmp, global": SDMPDINO(**FIELDS, pairing="global"),
}
# Who is whose partner over all workers depends on what is together in a micro-batch.
MICRO_BATCHES = {"dino": 2, "sdmp, local": 2, "sdmp, global": 1}
SHORT = RECIPE.replace({"budget_images": 3 * BATCH, "warmup_images": 0, "ema": None})


def trained(name, micro_batches, world):
    """What is tracked, and the curve, after three steps."""
    recipe = SHORT.replace({"accumulate": micro_batches})
    state = train(training(SMALL, recipe, objective=OBJECTIVES[name]), world)
    learner = state.learner
    return {"centre": learner.centre_K, "told apart": learner.told_apart, "loss": [row["loss"] for row in state.rows]}


def member(rank, folder):
    world = World.joined(torch.device("cpu"))
    found = {name: trained(name, MICRO_BATCHES[name], world) for name in OBJECTIVES}
    torch.save(found, folder / f"found-{rank}.pt")


@pytest.fixture(scope="module")
def left(tmp_path_factory, pair):
    folder = tmp_path_factory.mktemp("dino")
    pair(member, folder)
    return [torch.load(folder / f"found-{rank}.pt", weights_only=True) for rank in range(WORKERS)]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_two_workers_track_what_one_tracks(name, left):
    alone = trained(name, 1, World())
    for theirs in (one[name] for one in left):
        torch.testing.assert_close(theirs["centre"], alone["centre"], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(theirs["told apart"], alone["told apart"], atol=1e-4, rtol=1e-3)
        assert theirs["loss"] == pytest.approx(alone["loss"], rel=1e-4)
    assert torch.equal(*(one[name]["centre"] for one in left))
