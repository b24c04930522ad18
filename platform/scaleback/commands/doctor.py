"""doctor: what stands in the way of a study, and the cure."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata, util
from typing import Literal

from scaleback.cluster.placement import Placement
from scaleback.commands.studies import placed
from scaleback.core import units
from scaleback.core.errors import StoreError
from scaleback.core.store import Store

LEAST_DISK_BYTES = 1 << 30
LEAST_SHM_BYTES = 256 << 20
LEAST = {"ray": (2, 60), "torch": (2, 10), "pydantic": (2, 11), "optuna": (5, 0)}
"""ray below 2.55 runs code out of Parquet metadata (CVE-2026-41486); torch below 2.10 out of checkpoints."""


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the doctor."""

    what: str
    state: Literal["ok", "warn", "fail"]
    found: str
    cure: str = ""


def doctor(options: Namespace) -> int:
    """Run all checks; exit code 3 if one fails."""
    placement, store = placed(options)
    checks = [*_versions(), *_machine(store), *_ray(placement), *_storage(store, options.repair)]
    failed = sum(check.state == "fail" for check in checks)
    if options.json:
        print(json.dumps({"checks": [asdict(check) for check in checks], "failed": failed}))
        return 3 if failed else 0
    for check in checks:
        cure = f"; {check.cure}" if check.cure else ""
        print(f"{check.state:5}{check.what}: {check.found}{cure}")
    return 3 if failed else 0


def _versions() -> Iterator[Check]:
    yield Check("Python", "ok" if sys.version_info >= (3, 11) else "fail", platform.python_version())
    for name, least in LEAST.items():
        version = metadata.version(name)
        enough = tuple(int(part) for part in version.split("+")[0].split(".")[:2]) >= least
        wanted = ".".join(str(part) for part in least)
        yield Check(name, "ok" if enough else "fail", version, "" if enough else f"install {wanted} or later")
    import torch

    from scaleback.torchvision_operators import declare

    declare()
    util.find_spec("timm")
    import timm

    yield Check("timm", "ok", f"{timm.__version__} imports beside torch {torch.__version__}")
    devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    yield Check("GPU", "ok" if devices else "warn", f"{devices} for CUDA", "" if devices else "runs use the CPU")


def _machine(store: Store) -> Iterator[Check]:
    yield Check("cores", "ok", str(os.cpu_count()))
    if os.path.isdir("/dev/shm"):
        free = shutil.disk_usage("/dev/shm").free
        enough = free >= LEAST_SHM_BYTES
        yield Check("shared memory", "ok" if enough else "warn", units.size(free), "" if enough else "enlarge /dev/shm")
    if store.local:
        folder = store.root
        while not os.path.isdir(folder):
            folder = os.path.dirname(folder)
        free = shutil.disk_usage(folder).free
        enough = free >= LEAST_DISK_BYTES
        yield Check(
            "disk", "ok" if enough else "fail", f"{units.size(free)} free at {folder}", "" if enough else "free some"
        )


def _ray(placement: Placement) -> Iterator[Check]:
    mode = os.environ.get("RAY_AUTH_MODE")
    if mode == "disabled":
        yield Check("Ray token", "warn", "RAY_AUTH_MODE=disabled", "whoever reaches Ray's ports can run code")
    else:
        yield Check("Ray token", "ok", f"RAY_AUTH_MODE={mode or 'not set: on for clusters started here'}")
    host = os.environ.get("RAY_DASHBOARD_HOST", "127.0.0.1")
    if host not in ("127.0.0.1", "localhost") and mode != "token":
        yield Check(
            "dashboard", "fail", f"bound to {host} without a token", "set RAY_AUTH_MODE=token, or bind it to 127.0.0.1"
        )
    yield Check("placement", "ok", f"{placement.workers} workers a run at {placement.address}")


def _storage(store: Store, repair: bool) -> Iterator[Check]:
    """Every file of every artifact against its checksum."""
    damaged, artifacts, total = [], 0, 0
    for address in store.addresses(""):
        try:
            manifest = store.manifest(address)
            assert manifest is not None, f"{address} was listed"
            for name in manifest.files:
                store.read(manifest, name)
            artifacts, total = artifacts + 1, total + manifest.bytes
        except StoreError as error:
            damaged.append((address, str(error)))
    for address, message in damaged:
        if repair:
            store.remove(address)
        cure = "removed; a run makes it again" if repair else "doctor --repair removes it, and a run makes it again"
        yield Check("artifact", "warn" if repair else "fail", message, cure)
    yield Check("storage", "ok", f"{artifacts:,} whole artifacts, {units.size(total)}, in {store.root}")
