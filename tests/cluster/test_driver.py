"""The command line as a user starts it: a killed driver, a warned one, a second start."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from scaleback.core.store import Store
from scaleback.study.files import study_to_yaml

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 240


def command(study_file, storage):
    job = [sys.executable, "-m", "scaleback.cli", "run", str(study_file), "--storage", str(storage), "--json"]
    return {"args": job, "cwd": ROOT / "platform", "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}


def finish(study_file, storage):
    done = subprocess.run(**command(study_file, storage), timeout=WAIT_S, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def table(storage):
    return pq.read_table(Path(storage) / "report/tiny/table.parquet").to_pylist()


@pytest.fixture
def study_file(tiny, tmp_path):
    file = tmp_path / "tiny.yaml"
    file.write_text(study_to_yaml(tiny))
    return file


@pytest.mark.parametrize("killed_after", [1, 4])
def test_a_killed_driver_costs_nothing_but_time(study_file, tmp_path, killed_after):
    finish(study_file, tmp_path / "whole")
    store = Store(tmp_path / "broken")
    driver = subprocess.Popen(**command(study_file, store.root))
    limit = time.monotonic() + WAIT_S
    while len(store.addresses("evaluate")) < killed_after and time.monotonic() < limit:
        time.sleep(0.02)
    os.kill(driver.pid, signal.SIGKILL)
    driver.communicate()
    kept = {address: store.manifest(address).record for address in store.addresses("")}
    assert len(store.addresses("evaluate")) < 12
    facts = finish(study_file, store.root)
    assert facts["runs_failed"] == 0
    assert {address: store.manifest(address).record for address in kept if "step-" not in address} == {
        address: record for address, record in kept.items() if "step-" not in address
    }
    assert table(store.root) == table(tmp_path / "whole")


def test_a_driver_that_is_warned_ends_as_on_ctrl_c(study_file, tmp_path):
    store = Store(tmp_path / "broken")
    driver = subprocess.Popen(**command(study_file, store.root))
    limit = time.monotonic() + WAIT_S
    while not store.addresses("evaluate") and time.monotonic() < limit:
        time.sleep(0.02)
    os.kill(driver.pid, signal.SIGTERM)
    begun = time.monotonic()
    driver.communicate(timeout=WAIT_S)
    assert (driver.returncode, time.monotonic() - begun < 30) == (130, True)
    assert finish(study_file, store.root)["runs_failed"] == 0


def test_the_second_start_computes_nothing_and_does_not_start_ray(study_file, tmp_path):
    finish(study_file, tmp_path / "store")
    begun = time.monotonic()
    facts = finish(study_file, tmp_path / "store")
    assert facts["runs_started"] == 0
    assert time.monotonic() - begun < 15
