"""The benchmarks in ``jobs/``: each runs, and its last line is what programs read."""

import json
import subprocess
import sys

import pytest

from scaleback.study.files import JOBS

WAIT_S = 300


@pytest.mark.slow
@pytest.mark.parametrize("job", [path.name for path in sorted(JOBS.glob("bench_*.py"))])
def test_a_benchmark_ends_with_one_json_object_of_numbers(job, tmp_path):
    command = [sys.executable, JOBS / job, "--quick", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found
    assert all(isinstance(value, int | float) for value in found.values()), found
