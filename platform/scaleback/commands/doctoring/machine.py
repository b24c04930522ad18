"""Cores, memory, disks and files that may be open."""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from scaleback.commands.doctoring.check import Check, judged
from scaleback.core import units

LEAST_MEMORY_BYTES = 3 << 30
"""Ray with its dashboard, and two workers that have imported torch."""
LEAST_DISK_BYTES = 1 << 30
LEAST_SHM_SHARE = 0.3
"""Of the memory: what Ray takes for its object store."""
LEAST_OPEN_FILES = 4_096
FULLEST = 0.95
"""Ray writes no more objects to a disk that is fuller."""
CGROUP = Path("/sys/fs/cgroup")


def machine() -> Iterator[Check]:
    """What a node of its own would have to offer."""
    whole, mine = os.cpu_count() or 1, cores()
    yield Check("cores", "ok", f"{mine:g}" if mine == whole else f"{mine:g} of the machine's {whole}")
    total, free = memory_bytes()
    found = f"{units.size(free)} free of {units.size(total)}"
    yield judged(
        "memory", free >= LEAST_MEMORY_BYTES, found, "end what else runs: Ray kills workers when it is out", "warn"
    )
    if os.path.isdir("/dev/shm"):
        shared = shutil.disk_usage("/dev/shm").free
        cure = "enlarge /dev/shm (docker run --shm-size): Ray's object store is slow on a disk"
        yield judged("shared memory", shared >= LEAST_SHM_SHARE * total, units.size(shared), cure, "warn")
    open_files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    many = open_files == resource.RLIM_INFINITY or open_files >= LEAST_OPEN_FILES
    yield judged("open files", many, f"{open_files:,} at most", f"ulimit -n {LEAST_OPEN_FILES * 16}", "warn")
    yield _ray_disk()


def cores() -> float:
    """Cores that this process may use: its affinity, and the share of its container."""
    allowed = float(len(os.sched_getaffinity(0)))
    quota = _number(CGROUP / "cpu.max", 0)
    period = _number(CGROUP / "cpu.max", 1)
    return min(allowed, quota / period) if quota and period else allowed


def memory_bytes() -> tuple[int, int]:
    """All and free memory, of the container if it is given less than the machine has."""
    import psutil

    machine = psutil.virtual_memory()
    limit, used = _number(CGROUP / "memory.max", 0), _number(CGROUP / "memory.current", 0)
    if limit is None or used is None or limit >= machine.total:
        return machine.total, machine.available
    return int(limit), int(min(limit - used, machine.available))


def free_bytes(folder: str) -> tuple[str, int]:
    """The nearest folder above that is there, and the free bytes of its disk."""
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return folder, shutil.disk_usage(folder).free


def _ray_disk() -> Check:
    folder = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    usage = shutil.disk_usage(folder)
    full = 1 - usage.free / usage.total
    cure = f"free some, or set RAY_TMPDIR: Ray stops writing objects at {units.percent(FULLEST)}"
    return judged("Ray's disk", full < FULLEST, f"{folder} is {units.percent(full)} full", cure)


def _number(file: Path, place: int) -> float | None:
    """A number of a control group's file; None if it is not there, or ``max``."""
    try:
        return float(file.read_text().split()[place])
    except (OSError, ValueError, IndexError):
        return None
