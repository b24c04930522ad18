"""The doctor: every line says what was found, and what is wrong has a cure; nothing is touched."""

import json
import os
import socket
import subprocess
import sys
import time

import pytest

from scaleback.cli import main
from scaleback.cluster.placement import Placement
from scaleback.commands.doctoring import cluster, machine, storage, versions
from scaleback.commands.doctoring.cluster import Listening, reachable
from scaleback.core.errors import StoreError
from scaleback.core.store import Store
from scaleback.sources.named import Digits
from scaleback.sources.population import Population, missing_blocks, render_block


@pytest.fixture(autouse=True)
def quiet_environment(monkeypatch, tmp_path):
    """A home of its own, and none of Ray's variables."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_DASHBOARD_HOST", "RAY_TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def by_what(checks):
    return {check.what: check for check in checks}


def test_every_line_has_a_state_and_what_is_wrong_has_a_cure(tmp_path, capsys):
    code = main(["doctor", "--storage", str(tmp_path / "none"), "--json"])
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert code == (3 if said["failed"] else 0)
    assert said["failed"] == sum(check["state"] == "fail" for check in said["checks"])
    for check in said["checks"]:
        assert check["state"] in ("ok", "warn", "fail")
        assert check["found"]
        assert bool(check["cure"]) == (check["state"] != "ok"), check
    names = [check["what"] for check in said["checks"]]
    wanted = ["Python", "torch", "torchvision", "cores", "memory", "shared memory", "disk", "storage access"]
    assert [name for name in wanted if name in names] == wanted
    assert {"Ray token", "Ray's ports", "dashboard", "placement"} <= set(names)
    assert not (tmp_path / "none").exists()


# Versions -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "state"),
    [("2.60.0", "ok"), ("2.60.0+cpu", "ok"), ("2.61.1", "warn"), ("2.59.9", "fail"), ("2.60rc1", "warn")],
)
def test_a_version_is_too_old_or_untested_or_fine(version, state):
    assert versions._package("ray", version, "2.60.0").state == state


def test_versions_are_compared_with_those_of_the_constraints():
    tested = versions._tested()
    assert set(versions.TESTED) <= set(tested)
    assert tested["ray"].startswith("2.60")


# Machine ------------------------------------------------------------------------------------------------------------


def test_a_container_s_share_of_cores_and_memory_is_what_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    free = machine.cores()
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert machine.cores() == 0.5
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert machine.cores() == free
    (tmp_path / "memory.max").write_text(f"{1 << 30}\n")
    (tmp_path / "memory.current").write_text(f"{1 << 29}\n")
    assert machine.memory_bytes() == (1 << 30, 1 << 29)
    assert by_what(machine.machine())["memory"].state == "warn"
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.memory_bytes()[0] > 1 << 30


# Ray ----------------------------------------------------------------------------------------------------------------


def test_a_dashboard_on_a_public_address_needs_a_token(monkeypatch):
    monkeypatch.setenv("RAY_DASHBOARD_HOST", "0.0.0.0")
    found = by_what(cluster.ray(Placement()))
    assert found["dashboard"].state == "fail"
    assert found["dashboard"].cure == "set RAY_AUTH_MODE=token, or bind it to 127.0.0.1"
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    found = by_what(cluster.ray(Placement()))
    assert found["dashboard"].state == "ok"
    assert found["token file"].state == "fail"  # and nothing could log in
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert by_what(cluster.ray(Placement()))["Ray token"].state == "warn"


def test_a_token_that_others_can_read_is_none(tmp_path, monkeypatch):
    folder = tmp_path / "home" / ".ray"
    folder.mkdir(parents=True)
    token = folder / "auth_token"
    token.write_text("secret")
    token.chmod(0o644)
    for one in token.resolve().parents:
        if not one.stat().st_mode & 0o011:
            pytest.skip("this machine's temporary folders are closed to others already")
    found = by_what(cluster.ray(Placement()))["token file"]
    assert (found.state, found.cure) == ("fail", f"chmod 600 {token}")
    assert "secret" not in str(found)
    folder.chmod(0o700)
    assert by_what(cluster.ray(Placement()))["token file"].state == "ok"
    folder.chmod(0o755)
    token.chmod(0o600)
    assert by_what(cluster.ray(Placement()))["token file"].state == "ok"


def test_open_ports_without_a_token_fail():
    closed, guarded, open_ = (
        Listening("dashboard", False, ()),
        Listening("raylet", True, (1, 2)),
        Listening("gcs_server", False, (6379, 7000)),
    )
    assert [check.state for check in reachable([])] == ["ok"]
    assert [check.state for check in reachable([closed])] == ["ok"]
    (found,) = reachable([closed, guarded])
    assert (found.state, found.found) == ("ok", "2 reachable from other machines behind a token (raylet: 1, 2)")
    (found,) = reachable([closed, guarded, open_])
    assert found.state == "fail"
    assert found.found == "2 reachable from other machines without a token (gcs_server: 6379, 7000)"


PRETENDER = """
import socket, sys, time
public, private = socket.create_server(("0.0.0.0", 0)), socket.create_server(("127.0.0.1", 0))
print(public.getsockname()[1], private.getsockname()[1], flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("mode", ["token", "disabled", None])
def test_listening_processes_of_ray_are_found_with_their_ports_and_their_mode(mode, monkeypatch):
    """A process that calls itself what Ray's workers call themselves, on a public port and a private one."""
    if mode is not None:
        monkeypatch.setenv("RAY_AUTH_MODE", mode)
    name = f"ray::pretender-{os.getpid()}-{mode}"
    process = subprocess.Popen([name, "-c", PRETENDER], executable=sys.executable, stdout=subprocess.PIPE, text=True)
    try:
        public, private = map(int, process.stdout.readline().split())
        (found,) = [one for one in cluster.listening() if one.name == name]
        assert found.public == (public,)
        assert private not in found.public
        assert found.token == (mode == "token")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_placement_that_this_machine_cannot_hold_is_told():
    found = by_what(cluster.ray(Placement(workers=1_000)))["placement"]
    assert found.state == "fail"
    assert found.found.startswith("one run asks for 1000 CPU, this machine has ")
    assert by_what(cluster.ray(Placement(gpus=0, gpus_per_worker=1)))["placement"].state == "fail"


TOLD = """
from scaleback.cluster.placement import Placement
from scaleback.commands.doctoring import cluster
for check in cluster.ray(Placement(address="{}")):
    print(check)
"""


@pytest.mark.parametrize("address", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "[::1]:{}"])
def test_a_cluster_that_is_not_there_is_told_at_once(address):
    """In a process of its own: one that has a Ray already uses that."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    script = TOLD.format(address.format(port))
    begun = time.monotonic()
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert time.monotonic() - begun < 50  # Ray itself would wait for a minute
    found = done.stdout.splitlines()[-1]
    assert found.startswith(
        f"fail placement: placement.address: cannot reach a Ray cluster at '{address.format(port)}' ("
    )


# Storage ------------------------------------------------------------------------------------------------------------


def test_storage_is_used_once_and_left_as_it_was(tmp_path):
    (tmp_path / "here").mkdir()
    found = by_what(storage.storage(Store(tmp_path / "here"), repair=False))
    assert {name: found[name].state for name in ("storage access", "clock", "storage")} == dict.fromkeys(
        ("storage access", "clock", "storage"), "ok"
    )
    assert [path for path in (tmp_path / "here").rglob("*") if path.is_file()] == []


def test_a_storage_whose_clock_is_wrong_or_that_cannot_be_written_is_told(tmp_path, monkeypatch):
    store = Store(tmp_path)
    monkeypatch.setattr(Store, "modified", lambda self, name: time.time() - 7_300)
    found = by_what(storage.storage(store, repair=False))["clock"]
    assert found.state == "warn"
    assert found.found == "2 h 1 min from the storage's"

    def refused(self, name, data):
        raise StoreError(f"{self.root}/{name}: cannot be written: Permission denied")

    monkeypatch.setattr(Store, "put", refused)
    found = by_what(storage.storage(store, repair=False))
    assert found["storage access"].state == "fail"
    assert "Permission denied" in found["storage access"].found
    assert "storage" not in found  # what cannot be used is not read


def test_a_damaged_artifact_is_told_and_removed_when_asked(tmp_path):
    store, population = Store(tmp_path), Population.of(Digits(), 0)
    for block in missing_blocks(store, population, 100):
        render_block(store, population, block)
    name = next(name for name in store.files("render") if name.endswith(".arrow"))
    data = bytearray(store.get(name))
    data[len(data) // 2] ^= 1
    store.put(name, bytes(data))
    for repair, state in ((False, "fail"), (True, "warn")):
        found = by_what(storage.storage(store, repair=repair))
        assert found["artifact"].state == state
        assert name.rpartition("/")[0] in found["artifact"].found
    assert "artifact" not in by_what(storage.storage(store, repair=False))
