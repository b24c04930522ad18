"""The store: whole artifacts or none, damage found, leases handed on."""

import errno
import hashlib
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scaleback.core import store as store_module
from scaleback.core.errors import DriftError, IntegrityError, StoreError
from scaleback.core.lease import held
from scaleback.core.spec import Spec
from scaleback.core.store import Store


class Thing(Spec):
    size: int = 1


def run_python(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": "platform"},
    ).stdout


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


def test_a_damaged_failure_record_is_named(store):
    store.put("render/x/failure.json", b'{"error": ')
    with pytest.raises(IntegrityError, match=r"render/x/failure\.json"):
        store.failure("render/x")


def test_a_full_disk_is_one_line_and_leaves_nothing(store, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store_module.os, "fsync", full)
    with pytest.raises(StoreError, match="No space left on device"):
        store.put("render/x/a.bin", b"abc")
    assert os.listdir(store.path("render/x")) == []


@pytest.mark.parametrize("where", ["store", "bucket"])
def test_a_file_written_piece_by_piece_is_the_file_of_its_pieces(where, request):
    store = request.getfixturevalue(where)
    pieces = [b"abc" * 1_000, memoryview(b"de"), b""]
    with store.writing("render/x/a.bin") as file:
        for piece in pieces:
            assert file.write(piece) == len(piece)
        assert file.tell() == 3_002
        if store.local:
            assert store.files("render") == []  # nothing under its name until the end
    published = store.publish("render/x", {"a.bin": file, "b.bin": b"f"}, spec=Thing(), record={})
    assert store.manifest("render/x", Thing()) == published
    assert store.read(published, "a.bin") == b"".join(pieces)
    assert published.files["a.bin"] == {"bytes": 3_002, "sha256": hashlib.sha256(b"".join(pieces)).hexdigest()}
    store.put("render/x/a.bin", b"abd" * 1_000 + b"de")
    with pytest.raises(IntegrityError, match="has checksum"):
        store.read(published, "a.bin")


def test_a_file_whose_writer_fails_is_not_there(store):
    store.put("render/x/a.bin", b"before")

    def half():
        with store.writing("render/x/a.bin") as file:
            file.write(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    assert os.listdir(store.path("render/x")) == ["a.bin"]
    assert store.get("render/x/a.bin") == b"before"


def test_a_disk_that_fills_up_while_a_file_is_written_is_one_line_and_leaves_nothing(store, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store_module.os, "fsync", full)
    line = r"render/x/a\.bin: cannot be written: No space left on device"
    with pytest.raises(StoreError, match=line), store.writing("render/x/a.bin") as file:
        file.write(b"abc")
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
    data = bytes([number % 256]) * 200_000
    store.publish(f"pretrain/step-{number:06d}", {"a.bin": data}, spec=Thing(), record={"n": number})
"""


def test_a_killed_writer_leaves_only_whole_artifacts(store, tmp_path):
    for kill in range(5):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, store.root],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": "platform"},
        )
        writer.stdout.readline()
        time.sleep(0.05 + 0.037 * kill)
        writer.kill()
        writer.wait()
        writer.stdout.close()
        assert {len(store.get(name)) for name in store.files("pretrain") if name.endswith("/a.bin")} == {200_000}
        for address in store.addresses("pretrain"):
            manifest = store.manifest(address)
            assert set(store.read(manifest, "a.bin")) == {manifest.record["n"] % 256}
    assert store.addresses("pretrain")


def test_a_damaged_manifest_names_its_file_and_both_seals(store):
    store.publish("render/x", FILES, spec=Thing(), record={"seconds": 1.5})
    path = Path(store.path("render/x/manifest.json"))
    path.write_bytes(path.read_bytes().replace(b"1.5", b"1.6"))
    with pytest.raises(IntegrityError, match=r"render/x/manifest\.json: damaged; its seal is \w{12}, found \w{12}$"):
        store.manifest("render/x")


def test_a_damaged_file_is_named_with_both_checksums(store):
    manifest = store.publish("render/x", FILES, spec=Thing(), record={})
    Path(store.path("render/x/a.bin")).write_bytes(b"abd" * 100)
    expected, found = (hashlib.sha256(data * 100).hexdigest()[:12] for data in (b"abc", b"abd"))
    with pytest.raises(
        IntegrityError, match=rf"{store.root}/render/x/a\.bin: has checksum {found}; expected {expected}"
    ):
        store.read(manifest, "a.bin")


CROWDED = """
import resource, sys
from scaleback.core.errors import StoreError
from scaleback.core.store import Store

store = Store(sys.argv[1])
store.put("render/x/a.bin", b"old")
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))  # the system refuses to write more, as a full disk does
try:
    store.put("render/x/a.bin", b"new" * 10_000)
except StoreError as error:
    print(error)
"""


def test_a_write_the_system_cuts_short_is_one_line_and_keeps_what_was_there(store):
    out = run_python(CROWDED, store.root)
    assert out == f"{store.root}/render/x/a.bin: cannot write 30,000 bytes: File too large\n"
    assert store.files("render") == ["render/x/a.bin"]
    assert os.listdir(store.path("render/x")) == ["a.bin"]
    assert store.get("render/x/a.bin") == b"old"


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "taken").write_bytes(b"a file, not a folder")
    for root in (tmp_path / "taken", Path("/proc/nowhere")):
        with pytest.raises(StoreError, match=rf"^{root}/render/x/a.bin: cannot write 3 bytes: [^\n]+$"):
            Store(root).put("render/x/a.bin", b"abc")


def test_a_folder_that_cannot_be_written_is_one_line_to_a_lease_too(tmp_path):
    (tmp_path / "taken").write_bytes(b"a file, not a folder")
    with pytest.raises(StoreError, match="cannot write"), Store(tmp_path / "taken").lease("render/x"):
        pass


def test_a_root_that_cannot_be_read_is_one_line(tmp_path):
    (tmp_path / "taken").write_bytes(b"a file, not a folder")
    with pytest.raises(StoreError, match="taken"):
        Store(tmp_path / "taken").manifest("render/x")


def test_a_folder_that_cannot_be_listed_is_one_line(tmp_path):
    store = Store(tmp_path / ("l" * 300))
    for name, act in (("listed", store.files), ("removed", store.remove)):
        with pytest.raises(StoreError, match=rf"^{store.root}/render: cannot be {name}: [^\n]+$"):
            act("render")


def test_a_slash_after_the_root_changes_nothing(tmp_path):
    Store(tmp_path).publish("render/x", FILES, spec=Thing(), record={})
    for root in (f"{tmp_path}/", f"file://{tmp_path}/"):
        store = Store(root)
        assert store.addresses("render") == ["render/x"]
        assert store.manifest("render/x", Thing()) is not None


def test_names_above_a_folder_are_not_listed(store):
    for address in ("render/x", "render/xy", "pretrain/x"):
        store.publish(address, FILES, spec=Thing(), record={})
    assert store.addresses("render/x") == ["render/x"]
    assert store.addresses("render") == ["render/x", "render/xy"]
    assert store.addresses("evaluate") == []


def test_what_is_not_there_can_be_removed(store):
    store.remove("render/x")
    store.remove("render/x/a.bin")
    assert store.get("render/x/a.bin") is None


def test_a_file_is_created_by_one_only(store):
    assert store.create("leases/x", b"first")
    assert not store.create("leases/x", b"second")
    assert store.get("leases/x") == b"first"
    assert os.listdir(store.path("leases")) == ["x"]


def test_an_object_store_keeps_the_same_laws(bucket):
    published = bucket.publish("render/x", FILES, spec=Thing(), record={"seconds": 1.5})
    assert bucket.manifest("render/x", Thing()) == published
    assert {name: bucket.read(published, name) for name in FILES} == FILES
    assert bucket.addresses("render") == ["render/x"]
    assert bucket.addresses("pretrain") == []
    with pytest.raises(DriftError):
        bucket.manifest("render/x", Thing(size=2))
    bucket.put("render/x/a.bin", b"abd" * 100)
    with pytest.raises(IntegrityError, match="has checksum"):
        bucket.read(published, "a.bin")
    bucket.remove("render/x")
    assert bucket.manifest("render/x") is None
    assert bucket.get("render/x/a.bin") is None


def test_a_lease_works_on_an_object_store(bucket):
    assert bucket.create("leases/x", b"first")
    assert not bucket.create("leases/x", b"second")
    with bucket.lease("render/x"):
        assert held(bucket) == 1
    assert held(bucket) == 0
