import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from scaleback.core import memory

STEPS = """
import json, resource
import numpy as np
from scaleback.core import memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def held_mb():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 1e6

def step():
    arrays = [np.ones(size, np.uint8) for size in (1_000_000, 20_000_000, 48_000_000)]
    return sum(int(array[-1]) for array in arrays)

def stage():
    step()
    before = faults()
    for _ in range(5):
        step()
    return faults() - before

found = {"plain": stage(), "before_mb": held_mb()}
with memory.kept():
    found["kept"], found["inside_mb"] = stage(), held_mb()
found["after_mb"] = held_mb()
with memory.kept(), memory.kept():
    found["again"] = stage()
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found():
    said = subprocess.run([sys.executable, "-c", STEPS], check=True, capture_output=True, text=True, timeout=60)
    return json.loads(said.stdout)


def test_a_step_finds_the_memory_of_the_one_before(found):
    assert found["kept"] < found["plain"] / 10
    assert found["again"] < found["plain"] / 10


def test_what_was_kept_goes_back_at_the_end(found):
    assert found["inside_mb"] > found["before_mb"] + 40
    assert found["after_mb"] < found["before_mb"] + 10


def test_without_glibc_nothing_changes(monkeypatch):
    monkeypatch.setattr(memory, "ctypes", SimpleNamespace(CDLL=lambda name: object()))
    with memory.kept():
        pass


def test_a_glibc_that_refuses_is_asked_for_what_it_grants(monkeypatch):
    asked = []

    class Refusing:
        def mallopt(self, number, value):
            asked.append((number, value))
            return int(value <= memory.GRANTED_BYTES or number != memory.MMAP_THRESHOLD)

        def malloc_trim(self, pad):
            return 1

    monkeypatch.setattr(memory, "ctypes", SimpleNamespace(CDLL=lambda name: Refusing()))
    with memory.kept():
        pass
    assert asked[:2] == [(memory.MMAP_THRESHOLD, memory.LARGEST_BYTES), (memory.MMAP_THRESHOLD, memory.GRANTED_BYTES)]
