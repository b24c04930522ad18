"""The right to compute one address, so that two processes do not do the same work.

A lease is a small file that its holder refreshes. It is taken over when its holder is dead (same host) or has been
silent for ``STALE_S``. It saves time and guards nothing: artifacts are the same bytes whoever writes them.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scaleback.core.store import Store

FOLDER = "leases"
BEAT_S = 2.0
STALE_S = 20.0
"""Ten missed beats: long enough for a paused machine, short enough to wait for."""
POLL_S = 0.1


class Lease:
    """One process's hold on one address."""

    def __init__(self, store: Store, address: str) -> None:
        self._store = store
        self._file = file_of(address)
        self._owner = uuid.uuid4().hex
        self._stop = threading.Event()
        self._beating: threading.Thread | None = None

    def acquire(self) -> None:
        """Wait for the lease, taking over a dead one."""
        while not self.take():
            time.sleep(POLL_S)

    def take(self) -> bool:
        """Take the lease, or that of a dead holder; False where another live process has it."""
        if not self._store.create(self._file, self._content()):
            if not self.dead(read(self._store, self._file)):
                return False
            self._store.remove(self._file)
            if not self._store.create(self._file, self._content()):
                return False
        self._beating = threading.Thread(target=self._beat, daemon=True, name=f"lease {self._file}")
        self._beating.start()
        return True

    def release(self) -> None:
        """Give the lease back, if it is still ours."""
        self._stop.set()
        if self._beating is not None:
            self._beating.join()
        holder = read(self._store, self._file)
        if holder is not None and holder.get("owner") == self._owner:
            self._store.remove(self._file)

    @staticmethod
    def dead(holder: dict[str, Any] | None) -> bool:
        """Whether a holder is gone: its process ended on this host, or it has not been heard of for ``STALE_S``."""
        if holder is None:
            return False  # released just now: try again to create it
        if not holder:
            return True  # damaged: nobody can refresh it
        if time.time() - holder["beat"] > STALE_S:
            return True
        return bool(holder["host"] == socket.gethostname() and not _alive(holder["pid"]))

    def _content(self) -> bytes:
        holder = {"owner": self._owner, "host": socket.gethostname(), "pid": os.getpid(), "beat": time.time()}
        return json.dumps(holder).encode()

    def _beat(self) -> None:
        while not self._stop.wait(BEAT_S):
            self._store.put(self._file, self._content())


def file_of(address: str) -> str:
    """Where the holder of an address is recorded."""
    return f"{FOLDER}/{address.replace('/', '--')}.json"


def alive(store: Store, address: str) -> bool:
    """Whether a live process holds an address."""
    holder = read(store, file_of(address))
    return holder is not None and not Lease.dead(holder)


def read(store: Store, file: str) -> dict[str, Any] | None:
    """The holder recorded in a lease file; None if there is no file, empty if it cannot be read."""
    data = store.get(file)
    if data is None:
        return None
    try:
        holder = json.loads(data)
        read_as = {"owner": str, "host": str, "pid": int, "beat": float}
        return {name: form(holder[name]) for name, form in read_as.items()}
    except (ValueError, KeyError, TypeError):
        return {}


def held(store: Store) -> int:
    """How many leases have a live holder now."""
    holders = [read(store, file) for file in store.files(FOLDER)]
    return sum(holder is not None and not Lease.dead(holder) for holder in holders)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
