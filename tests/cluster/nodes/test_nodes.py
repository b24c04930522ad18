"""A study on several machines, one of which dies in each stage, against the same study undisturbed on one."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest

from scaleback.core.plain import to_yaml
from scaleback.core.store import Store
from scaleback.pretrain.run import CURVE, run_pretrain
from scaleback.pretrain.world import World
from scaleback.study.files import study_to_yaml
from tests.cluster.nodes.machines import Machines, namespaces_permitted
from tests.cluster.test_stages import alone, outcome

pytestmark = pytest.mark.nodes
WAIT_S, POLL_S = 300, 0.02
STAGES = {"render": "ray::FlatMap(_RenderBlocks)", "pretrain": "ray::pretrain ", "evaluate": "ray::evaluate "}
"""What Ray calls the process of a stage."""


@pytest.fixture(scope="module")
def machines():
    """A head and two nodes of one core."""
    if not namespaces_permitted():
        pytest.skip("network namespaces are not permitted here")
    made = Machines()
    try:
        made.start_head()
        for _ in range(2):
            made.start_node()
        yield made
    finally:
        made.close()


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


def alone_in(tiny, changes, measures):
    """A study of one run."""
    base = tiny.base.replace(changes).plain()
    whole = {**tiny.plain(), "base": base, "axes": [], "seeds": [0], "baseline": False, "measures": measures}
    return type(tiny).parse(whole)


def driver(machines, study, folder, **fields):
    """The command that a user would give on the head."""
    (folder / "study.yaml").write_text(study_to_yaml(study))
    placement = {"address": machines.address, "retries": 5, "checkpoint_every_s": 0.0, **fields}
    (folder / "placement.yaml").write_text(to_yaml(placement))
    words = ["run", folder / "study.yaml", "--placement", folder / "placement.yaml", "--storage", folder / "store"]
    return machines.command(sys.executable, "-m", "scaleback.cli", *words, "--json")


def facts(process):
    said, told = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, told[-2_000:]
    return json.loads(said.splitlines()[-1])


def test_two_machines_train_one_model_as_one_does(machines, tiny, tmp_path):
    study = alone_in(tiny, {}, [{"evaluation": "knn"}])
    found = facts(subprocess.Popen(**driver(machines, study, tmp_path, workers=2)))
    assert (found["runs_started"], found["runs_failed"]) == (1, 0)
    store, run = Store(tmp_path / "store"), study.base
    manifest = store.manifest(run.pretrain.address, run.pretrain)
    assert manifest.record["workers"] == 2  # of one core each, so on two machines
    pair = json.loads(store.read(manifest, CURVE))
    store.remove(run.pretrain.address)
    single = json.loads(store.read(run_pretrain(run.pretrain, store, World()), CURVE))
    np.testing.assert_allclose([row["loss"] for row in pair], [row["loss"] for row in single], rtol=1e-5)


@pytest.mark.parametrize("stage", STAGES)
def test_a_machine_that_dies_costs_nothing_but_time(machines, long, tmp_path, stage):
    process = subprocess.Popen(**driver(machines, long, tmp_path))
    limit = time.monotonic() + WAIT_S
    while (node := machines.busy_with(STAGES[stage])) is None:
        assert process.poll() is None, process.communicate()[1][-2_000:]
        assert time.monotonic() < limit, f"no node was seen at {stage}"
        time.sleep(POLL_S)
    machines.kill(node)
    machines.start_node()
    found = facts(process)
    assert (found["runs_started"], found["runs_failed"]) == (1, 0)
    store, run = Store(tmp_path / "store"), long.base
    assert outcome(run, store) == alone(run, Store(tmp_path / "alone"))
