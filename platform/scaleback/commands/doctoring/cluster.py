"""Ray: its token, who can reach its ports, and whether the placement fits what is there."""

from __future__ import annotations

import ipaddress
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scaleback.cluster.asks import Ask
from scaleback.cluster.placement import Placement
from scaleback.commands.doctoring.check import Check, judged
from scaleback.commands.doctoring.machine import cores
from scaleback.core.errors import PlacementError

if TYPE_CHECKING:
    import psutil

TOKEN = Path("~/.ray/auth_token")
OPEN = "whoever reaches Ray's ports can run code"
DASHBOARD = "ray/dashboard/dashboard.py"


@dataclass(frozen=True, slots=True)
class Listening:
    """A process of Ray on this machine, and the ports it listens on."""

    name: str
    token: bool
    """Whether it asks for a token."""
    public: tuple[int, ...]
    """Ports that other machines reach."""


def ray(placement: Placement) -> Iterator[Check]:
    """Everything about Ray; joins the placement's cluster, if it is not one that a run would start here."""
    mode = os.environ.get("RAY_AUTH_MODE")
    yield _mode(mode, placement)
    yield from _token_file(mode)
    host = os.environ.get("RAY_DASHBOARD_HOST", "127.0.0.1")
    cure = "set RAY_AUTH_MODE=token, or bind it to 127.0.0.1"
    yield judged("dashboard", _loopback(host) or mode == "token", f"to be bound to {host}", cure)
    yield from reachable(list(listening()))
    yield _local(placement) if placement.address == "local" else _running(placement)


def _mode(mode: str | None, placement: Placement) -> Check:
    if mode == "disabled":
        return Check("Ray token", "warn", "RAY_AUTH_MODE=disabled", OPEN)
    if mode is None and placement.address != "local":
        cure = "set RAY_AUTH_MODE=token in every process; before Ray 2.61 a cluster has none unless it is told"
        return Check("Ray token", "warn", "RAY_AUTH_MODE is not set", cure)
    return Check("Ray token", "ok", f"RAY_AUTH_MODE={mode or 'not set: on for clusters started here'}")


def _token_file(mode: str | None) -> Iterator[Check]:
    """A token that others can read is none; without a file or a variable, ``token`` mode stops every command."""
    file = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or TOKEN).expanduser()
    if file.is_file():
        rights = stat.S_IMODE(file.stat().st_mode)
        hidden = any(not folder.stat().st_mode & 0o011 for folder in file.resolve().parents)
        yield judged("token file", hidden or not rights & 0o077, f"{file}, mode {rights:o}", f"chmod 600 {file}")
    elif mode == "token" and not os.environ.get("RAY_AUTH_TOKEN"):
        cure = "ray get-auth-token --generate makes one; every node and client needs the same"
        yield Check("token file", "fail", f"none at {file}", cure)


def listening() -> Iterator[Listening]:
    """Ray's processes on this machine, as far as this user may look into them."""
    import psutil

    for process in psutil.process_iter():
        try:
            name = _part_of_ray(process.name(), process.cmdline())
            if name is None:
                continue
            ports = [one.laddr for one in process.net_connections("inet") if one.status == psutil.CONN_LISTEN]
            token = _mode_of(process) == "token"
        except (psutil.Error, OSError):
            continue
        yield Listening(name, token, tuple(sorted({one.port for one in ports if not _loopback(one.ip)})))


def _mode_of(process: psutil.Process) -> str | None:
    """Of a process, or of what started it: one that renames itself writes over what was its environment."""
    import psutil

    for one in (process, *process.parents()):
        try:
            mode = one.environ().get("RAY_AUTH_MODE")
        except (psutil.Error, OSError):
            return None
        if mode is not None:
            return mode
    return None


def _part_of_ray(name: str, command: list[str]) -> str | None:
    """What a process is to Ray: its daemon, its dashboard, a worker (they rename themselves); None if nothing."""
    if name in ("raylet", "gcs_server"):
        return name
    if any(DASHBOARD in word for word in command):
        return "dashboard"
    first = command[0].split() if command else []
    return first[0] if first and first[0].startswith("ray::") else None


def reachable(found: list[Listening]) -> Iterator[Check]:
    """Ray listens on all interfaces for its own nodes; without a token that is an open door."""
    public = [one for one in found if one.public]
    if not public:
        note = "none reachable from other machines" if found else "no Ray runs here"
        yield Check("Ray's ports", "ok", note)
        return
    without = [one for one in public if not one.token]
    ports = sorted({port for one in without or public for port in one.public})
    some = ", ".join(map(str, ports[:5])) + (f" and {len(ports) - 5} more" if len(ports) > 5 else "")
    names = ", ".join(sorted({one.name for one in without or public})[:4])
    cure = f"{OPEN}: end it, start it again with RAY_AUTH_MODE=token, and close the ports to all but its nodes"
    kind = "without a token" if without else "behind a token"
    yield judged(
        "Ray's ports", not without, f"{len(ports)} reachable from other machines {kind} ({names}: {some})", cure
    )


def _local(placement: Placement) -> Check:
    import torch

    has = {
        "CPU": float(placement.cpus or int(cores())),
        "GPU": float(torch.cuda.device_count() if placement.gpus is None else placement.gpus),
    }
    # Memory is Ray's to measure, once it is started.
    asked = {name: placement.fewest_workers * amount for name, amount in Ask.worker(placement).bundle.items()}
    asked |= {name: amount for name, amount in Ask.renderer(placement).bundle.items() if name not in has}
    for resource, amount in asked.items():
        if resource != "memory" and amount > has.get(resource, 0.0):
            found = f"one run asks for {amount:g} {resource}, this machine has {has.get(resource, 0.0):g}"
            return Check("placement", "fail", found, "ask for fewer workers or choose another placement")
    gpus = asked.get("GPU", 0.0)
    return Check("placement", "ok", f"a run takes {asked['CPU']:g} of {has['CPU']:g} CPU here, {gpus:g} GPU")


def _running(placement: Placement) -> Check:
    from scaleback.cluster import runtime

    try:
        with runtime.cluster(placement):
            return Check("placement", "ok", runtime.where())
    except PlacementError as error:
        return Check("placement", "fail", str(error), "ray status says what there is; ray start --head starts one")


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
