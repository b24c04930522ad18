"""Leases: work is done once, and what a dead or silent holder left is taken over."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time

import pytest

from scaleback.core import lease as lease_module
from scaleback.core.lease import Lease, held, read

FILE = "leases/pretrain--x.json"

WORKER = """
import os, sys, time
from scaleback.core.spec import Spec
from scaleback.core.store import Store

class Thing(Spec):
    size: int = 1

store = Store(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
with store.lease("pretrain/x"):
    if store.manifest("pretrain/x") is None:
        store.put(f"computed/{os.getpid()}", b"")
        time.sleep(0.5)
        store.publish("pretrain/x", {"a.bin": b"abc"}, spec=Thing(), record={})
print(len(store.files("pretrain")), flush=True)
"""

HOLDER = """
import sys, time
from scaleback.core.store import Store

with Store(sys.argv[1]).lease("pretrain/x"):
    print("held", flush=True)
    time.sleep(60)
"""


@contextlib.contextmanager
def process(code, store):
    with subprocess.Popen(
        [sys.executable, "-c", code, store.root],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": "platform"},
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def holder(store, **changes):
    return {**json.loads(Lease(store, "pretrain/x")._content()), **changes}


def leave(store, content):
    store.put(FILE, content if isinstance(content, bytes) else json.dumps(content).encode())


def seconds_to_take(store):
    begun = time.monotonic()
    with store.lease("pretrain/x"):
        return time.monotonic() - begun


def test_two_processes_that_want_one_artifact_compute_it_once(store):
    with process(WORKER, store) as first, process(WORKER, store) as second:
        for worker in (first, second):
            assert worker.stdout.readline() == "ready\n"
        for worker in (first, second):
            worker.stdin.write("go\n")
            worker.stdin.flush()
        found = [worker.communicate()[0] for worker in (first, second)]
    assert found == ["2\n", "2\n"]
    assert len(store.files("computed")) == 1
    assert store.files("leases") == []


def test_a_killed_holder_loses_its_lease_at_once(store):
    with process(HOLDER, store) as running:
        assert running.stdout.readline() == "held\n"
        assert held(store) == 1
        running.kill()
        running.wait()
        assert held(store) == 0
        assert seconds_to_take(store) < 1


def test_a_live_holder_keeps_others_waiting(store, monkeypatch):
    monkeypatch.setattr(lease_module, "POLL_S", 0.01)
    waited = []
    with store.lease("pretrain/x"):
        waiting = threading.Thread(target=lambda: waited.append(seconds_to_take(store)))
        waiting.start()
        time.sleep(0.3)
        assert waited == []
    waiting.join()
    assert waited[0] >= 0.25


def test_other_addresses_are_not_kept_waiting(store):
    with store.lease("pretrain/y"):
        assert seconds_to_take(store) < 1


def test_a_holder_on_another_host_keeps_its_lease_until_it_is_silent(store):
    elsewhere = holder(store, host="elsewhere", pid=1)
    assert not Lease.dead({**elsewhere, "beat": time.time() - lease_module.STALE_S + 5})
    leave(store, {**elsewhere, "beat": time.time() - lease_module.STALE_S - 1})
    assert held(store) == 0
    assert seconds_to_take(store) < 1


def test_a_process_of_another_host_is_not_judged_by_our_process_table(store):
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    gone.wait()
    assert Lease.dead(holder(store, pid=gone.pid))
    assert not Lease.dead(holder(store, pid=gone.pid, host="elsewhere"))


def test_a_lease_is_free_again_even_if_the_work_fails(store):
    with pytest.raises(ZeroDivisionError), store.lease("pretrain/x"):
        raise ZeroDivisionError
    assert store.files("leases") == []
    assert seconds_to_take(store) < 1


@pytest.mark.parametrize("content", [b"", b'{"owner": "ab', b"\xff\xfe", b"{}", b"[]"])
def test_a_damaged_lease_is_taken_over(store, content):
    leave(store, content)
    assert Lease.dead(read(store, FILE))
    assert held(store) == 0
    assert seconds_to_take(store) < 1


@pytest.mark.parametrize("content", [b'{"owner": "ab"}', b"[1]", b"3", b'"text"', b"null"])
def test_a_lease_of_another_form_is_taken_over(store, content):
    leave(store, content)
    assert Lease.dead(read(store, FILE))
    assert seconds_to_take(store) < 1


def test_who_lost_a_lease_does_not_release_its_successors(store):
    lost = Lease(store, "pretrain/x")
    lost.acquire()
    leave(store, holder(store, owner="successor"))
    lost.release()
    assert json.loads(store.get(FILE))["owner"] == "successor"


def test_a_holder_shows_that_it_lives(store, monkeypatch):
    monkeypatch.setattr(lease_module, "BEAT_S", 0.02)
    with store.lease("pretrain/x"):
        first = json.loads(store.get(FILE))["beat"]
        deadline = time.monotonic() + 5
        while json.loads(store.get(FILE))["beat"] == first:
            assert time.monotonic() < deadline
            time.sleep(0.02)
