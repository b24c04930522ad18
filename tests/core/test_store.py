"""The store: whole artifacts or none, damage found, leases handed on."""

import errno
import json
import os
import pickle
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from scaleback.core import lease as lease_module
from scaleback.core import store as store_module
from scaleback.core.errors import DriftError, IntegrityError, StoreError
from scaleback.core.lease import Lease, held
from scaleback.core.spec import Spec
from scaleback.core.store import Store


class Thing(Spec):
    size: int = 1


FILES = {"a.bin": b"abc" * 100, "b.bin": b""}


def test_what_is_published_is_read_back(store):
    published = store.publish("render/x", FILES, spec=Thing(), record={"seconds": 1.5})
    manifest = store.manifest("render/x", Thing())
    assert manifest == published
    assert {name: store.read(manifest, name) for name in manifest.files} == FILES
    assert manifest.record == {"seconds": 1.5}
    assert Thing.parse(manifest.spec) == Thing()
    assert manifest.bytes == 300


def test_publishing_twice_leaves_the_same_bytes(store):
    for _ in range(2):
        store.publish("render/x", FILES, spec=Thing(), record={})
    before = {name: store.get(name) for name in store.files("render")}
    store.publish("render/x", FILES, spec=Thing(), record={})
    assert {name: store.get(name) for name in store.files("render")} == before


def test_nothing_is_there_until_the_manifest_is(store):
    store.put("render/x/a.bin", b"abc")
    assert store.manifest("render/x") is None
    assert store.addresses("render") == []


def test_another_spec_at_the_address_is_drift(store):
    store.publish("render/x", FILES, spec=Thing(), record={})
    with pytest.raises(DriftError, match="render/x"):
        store.manifest("render/x", Thing(size=2))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda path: path.write_bytes(b"x" + path.read_bytes()[1:]), "has checksum .* expected"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "holds 299 bytes; expected 300"),
        (lambda path: path.unlink(), "is missing"),
    ],
)
def test_a_damaged_file_is_found_before_it_is_used(store, damage, says):
    manifest = store.publish("render/x", FILES, spec=Thing(), record={})
    damage(Path(store.path("render/x/a.bin")))
    with pytest.raises(IntegrityError, match=says):
        store.read(manifest, "a.bin")


def test_every_flipped_bit_of_a_manifest_is_found(store):
    store.publish("render/x", {"a.bin": b"abc"}, spec=Thing(), record={"value": 0.5})
    path = Path(store.path("render/x/manifest.json"))
    whole = path.read_bytes()
    for place in range(0, 8 * len(whole), 7):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << (place % 8)
        path.write_bytes(damaged)
        with pytest.raises(IntegrityError):
            store.manifest("render/x")


def test_an_artifact_in_anothers_place_is_found(store):
    store.publish("render/x", FILES, spec=Thing(), record={})
    store.publish("render/y", FILES, spec=Thing(), record={})
    Path(store.path("render/x")).rename(store.path("render/z"))
    with pytest.raises(IntegrityError, match="put in its place"):
        store.manifest("render/z")


def test_a_failure_record_goes_when_the_artifact_comes(store):
    store.fail("render/x", {"error": "DivergedError"})
    assert store.failure("render/x") == {"error": "DivergedError"}
    store.publish("render/x", FILES, spec=Thing(), record={})
    assert store.failure("render/x") is None


def test_a_full_disk_is_one_line_and_leaves_nothing(store, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store_module.os, "fsync", full)
    with pytest.raises(StoreError, match="No space left on device"):
        store.put("render/x/a.bin", b"abc")
    assert os.listdir(store.path("render/x")) == []


def test_a_store_can_be_sent_to_a_worker(store):
    store.put("a", b"1")
    assert pickle.loads(pickle.dumps(store)).get("a") == b"1"


def test_a_uri_is_a_store_too(tmp_path):
    store = Store(f"file://{tmp_path}")
    store.publish("render/x", FILES, spec=Thing(), record={})
    assert Store(tmp_path).manifest("render/x", Thing()) is not None
    store.remove("render/x")
    assert store.addresses("") == []


WRITER = """
import sys
from scaleback.core.store import Store
from scaleback.core.spec import Spec
class Thing(Spec):
    size: int = 1
store = Store(sys.argv[1])
number = 0
print("ready", flush=True)
while True:
    number += 1
    store.publish(f"pretrain/step-{number:06d}", {"a.bin": bytes([number % 256]) * 200_000}, spec=Thing(), record={"n": number})
"""


def test_a_killed_writer_leaves_only_whole_artifacts(store, tmp_path):
    for kill in range(5):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, store.root], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": "platform"}
        )
        writer.stdout.readline()
        time.sleep(0.05 + 0.037 * kill)
        writer.kill()
        writer.wait()
        writer.stdout.close()
        for address in store.addresses("pretrain"):
            manifest = store.manifest(address)
            assert set(store.read(manifest, "a.bin")) == {manifest.record["n"] % 256}
    assert store.addresses("pretrain")


def test_one_of_two_holds_the_lease(store):
    order = []

    def work(name):
        with store.lease("pretrain/x"):
            order.append(f"{name} in")
            time.sleep(0.3)
            order.append(f"{name} out")

    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert order in (["a in", "a out", "b in", "b out"], ["b in", "b out", "a in", "a out"])
    assert held(store) == 0


def test_a_dead_process_loses_its_lease_at_once(store):
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    gone.wait()
    store.put("leases/pretrain--x.json", json.dumps({**json.loads(Lease(store, "x")._content()), "pid": gone.pid}).encode())
    begun = time.monotonic()
    with store.lease("pretrain/x"):
        assert time.monotonic() - begun < 1


def test_a_silent_holder_elsewhere_loses_its_lease(store):
    content = {**json.loads(Lease(store, "x")._content()), "host": "elsewhere"}
    assert not Lease.dead(content)
    assert Lease.dead({**content, "beat": time.time() - lease_module.STALE_S - 1})


def test_a_live_holder_keeps_its_lease(store, monkeypatch):
    monkeypatch.setattr(lease_module, "BEAT_S", 0.02)
    with store.lease("pretrain/x"):
        first = json.loads(store.get("leases/pretrain--x.json"))["beat"]
        time.sleep(0.2)
        assert json.loads(store.get("leases/pretrain--x.json"))["beat"] > first
        assert held(store) == 1
    assert store.get("leases/pretrain--x.json") is None
