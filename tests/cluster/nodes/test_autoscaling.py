"""Ray's autoscaler under a study, as the files in ``clusters/launch`` use it: no node while there is nothing to do."""

import re
import subprocess
import time

import pytest

from scaleback.cluster.placement import load_placement
from tests.cluster.nodes import autoscaling
from tests.cluster.nodes.machines import Machines
from tests.cluster.nodes.studies import driver, facts

pytestmark = pytest.mark.nodes
IDLE_MINUTES, DOWN_S = 0.1, 120
TYPES = {"cpu_render": ({"CPU": 1, "renders": 1}, 1), "gpu_train": ({"CPU": 1, "GPU": 1}, 2)}
"""As in ``aws.yaml`` and its like; the GPU is declared, not there."""


@pytest.fixture
def growing(permitted):
    with Machines() as made:
        made.environment |= autoscaling.ENVIRONMENT
        file = made.temporary / "growing.yaml"
        file.write_text(autoscaling.configuration(made.address, TYPES, IDLE_MINUTES))
        made.start_head(f"--autoscaling-config={file}")
        yield made


def workers(machines):
    """How many nodes of each type ``ray status`` counts, busy or idle; the head is none of them."""
    said = machines.ray("status").stdout
    nodes = re.search(r"Active:\n(.*?)Pending:", said, re.DOTALL)
    assert nodes, said
    counted = re.findall(r"^ (\d+) (\w+)$", nodes[1], re.MULTILINE)
    return {name: int(count) for count, name in counted if name in TYPES}


def test_a_cluster_grows_from_nothing_under_a_study_and_goes_back_to_nothing(growing, tiny, tmp_path):
    assert workers(growing) == {}
    # Nodes that are there take the place of the bucket and of four cores; all else is the placement as it is.
    placement = load_placement("cpu_render_gpu_train", {"address": growing.address, "cpus_per_worker": 1})
    process = subprocess.Popen(**driver(growing, tiny, tmp_path, placement))
    most = dict.fromkeys(TYPES, 0)
    while process.poll() is None:
        now = workers(growing)
        most = {name: max(count, now.get(name, 0)) for name, count in most.items()}
        time.sleep(0.5)
    found = facts(process)
    assert (found["runs_started"], found["runs_failed"]) == (6, 0)
    assert most == {name: limit for name, (_, limit) in TYPES.items()}
    limit = time.monotonic() + DOWN_S
    while left := workers(growing):
        assert time.monotonic() < limit, f"still there: {left}"
        time.sleep(1)
