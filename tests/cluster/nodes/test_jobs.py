"""``ray job``, as README tells it: submit, logs, stop and what a job's end says, with Ray's token and without."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scaleback.core.store import Store
from tests.cluster.nodes.machines import Machines
from tests.cluster.nodes.studies import STAGES, scored

pytestmark = pytest.mark.nodes
ROOT = Path(__file__).resolve().parents[3]
SHORT = [
    *("python", "jobs/scaling_sweep.py", "--axis", "images=2", "--axis", "source.delta=0.5", "--no-baseline"),
    *("--set", "recipe.budget_images=640", "--set", "recipe.warmup_images=64"),
    *("--set", "evaluations.finetune.recipe.budget_images=1000"),
    *("--set", "evaluations.finetune.marks_images=[1000]", "--measure", "finetune.accuracy@1000"),
]
"""The default study, cut to one run of seconds for each seed."""
WAIT_S = 240
LEAVE_S = 30
"""Processes of stages are told to save, and end."""
ASKED = """
import json, sys
from ray.job_submission import JobSubmissionClient
info = JobSubmissionClient().get_job_info(sys.argv[1])
print(json.dumps([info.status, info.driver_exit_code]))
"""


@pytest.fixture(scope="module", params=["token", "disabled"])
def cluster(request, permitted):
    """A head and a node, both with a token or both without."""
    if request.param == "token":
        yield request.getfixturevalue("machines")
        return
    with Machines(token=False) as made:
        made.start_head()
        made.start_node()
        yield made


def submitted(cluster, name, *words, wait=True):
    """What ``ray job submit`` said and its exit code; the job is the working directory's."""
    options = ("--working-dir", ".", "--submission-id", name, *(() if wait else ("--no-wait",)))
    told = subprocess.run(
        **cluster.command("ray", "job", "submit", *options, "--", *words, cwd=ROOT), timeout=WAIT_S, check=False
    )
    return told.returncode, told.stdout + told.stderr


def ended(cluster, name):
    """A job's status, and the exit code of its driver."""
    asked = subprocess.run(**cluster.command(sys.executable, "-c", ASKED, name), timeout=WAIT_S, check=True)
    return json.loads(asked.stdout)


def test_a_submitted_job_runs_the_sweep_and_still_finds_the_standard_platform(cluster):
    code, said = submitted(cluster, "standard", "python", "-c", "import platform; print('on', platform.system())")
    assert (code, "on Linux" in said) == (0, True)
    code, said = submitted(cluster, "short", *SHORT, "--seeds", "0")
    assert code == 0, said
    # A relative storage would lie in the job's own copy of the code, which Ray deletes.
    report = Path(re.search(r"Report: (.*/report/scaling-sweep/index.html)", said)[1])
    assert report == cluster.temporary / "scaleback/results/report/scaling-sweep/index.html"
    assert report.is_file()
    logs = cluster.ray("job", "logs", "short").stdout
    assert "run 1/1" in logs
    assert str(report) in logs
    assert ended(cluster, "short") == ["SUCCEEDED", 0]


def test_a_mistake_ends_the_job_with_its_one_line_and_code(cluster):
    code, said = submitted(cluster, "mistaken", "python", "jobs/scaling_sweep.py", "--axis", "imagess=2")
    assert code == 1  # Ray's own for any job that failed
    assert ended(cluster, "mistaken") == ["FAILED", 2]
    told = cluster.ray("job", "logs", "mistaken").stdout.splitlines()
    assert "the nearest known name is 'images'" in told[-1]
    assert told[-2].startswith("Running entrypoint")
    assert "Traceback" not in said


def test_a_stopped_job_leaves_nothing_running_and_the_next_goes_on(cluster):
    store = Store(cluster.temporary / "scaleback/stopped")
    words = [*SHORT, "--seeds", "0..11", "--storage", "stopped"]
    assert submitted(cluster, "stopped", *words, wait=False)[0] == 0
    limit = time.monotonic() + WAIT_S
    while not scored(store):
        assert time.monotonic() < limit, cluster.ray("job", "logs", "stopped").stdout[-2_000:]
        time.sleep(0.2)
    assert cluster.ray("job", "stop", "stopped").returncode == 0
    assert ended(cluster, "stopped")[0] == "STOPPED"
    limit = time.monotonic() + LEAVE_S
    while any(cluster.busy_with(title) for title in STAGES.values()):
        assert time.monotonic() < limit, "a stage goes on"
        time.sleep(0.2)
    kept = scored(store)
    code, said = submitted(cluster, "again", *words)
    assert code == 0, said
    assert "Report: " in said
    assert {address: scored(store)[address] for address in kept} == kept


def test_without_the_token_a_cluster_that_has_one_answers_nobody(cluster):
    stranger = dict(cluster.environment, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="f" * 64)
    for words in (["job", "list"], ["job", "submit", "--", "true"], ["status", "--address", cluster.address]):
        told = subprocess.run(**cluster.command("ray", *words) | {"env": stranger}, timeout=WAIT_S, check=False)
        assert (told.returncode == 0) == (cluster.environment["RAY_AUTH_MODE"] == "disabled"), told.stdout + told.stderr
