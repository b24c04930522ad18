"""The storage: whether it can be used, its clock, and every byte in it."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator

from scaleback.commands.doctoring.check import Check, judged
from scaleback.commands.doctoring.machine import LEAST_DISK_BYTES, free_bytes
from scaleback.core import units
from scaleback.core.errors import StoreError
from scaleback.core.store import Store

MOST_SKEW_S = 30.0
"""A lease is given up after a time without a sign of life; clocks that differ by more would give up live ones."""


def storage(store: Store, *, repair: bool) -> Iterator[Check]:
    """Access first; what cannot be used is not read."""
    if store.local:
        folder, free = free_bytes(store.root)
        yield judged("disk", free >= LEAST_DISK_BYTES, f"{units.size(free)} free at {folder}", "free some")
    access = list(_access(store))
    yield from access
    if all(check.state != "fail" for check in access):
        yield from _artifacts(store, repair)


def _access(store: Store) -> Iterator[Check]:
    """One small file is written, read and removed; a folder that is not there yet is only asked for."""
    if store.local and not os.path.isdir(store.root):
        folder, _ = free_bytes(store.root)
        good = os.access(folder, os.W_OK)
        yield judged("storage access", good, f"{store.root} will be made", f"{folder} cannot be written to")
        return
    name, told = f"scratch/doctor-{uuid.uuid4().hex}", uuid.uuid4().bytes
    begun = time.time()
    try:
        store.put(name, told)
        same, written = store.get(name) == told, store.modified(name)
        store.remove(name)
    except StoreError as error:
        cure = "check that the folder or bucket exists, its rights, and the credentials in the environment"
        yield Check("storage access", "fail", str(error), cure)
        return
    ended = time.time()
    took = units.duration(ended - begun)
    yield judged("storage access", same, f"a file written, read and removed in {took}", "it gave other bytes back")
    if written is not None:
        # Whole seconds in some object stores.
        skew = max(begun - 1 - written, written - ended, 0.0)
        found = f"{units.duration(skew)} from the storage's" if skew else "as the storage's"
        yield judged("clock", skew <= MOST_SKEW_S, found, "set the clock (NTP): leases of stages go by it", "warn")


def _artifacts(store: Store, repair: bool) -> Iterator[Check]:
    """Every file of every artifact against its checksum."""
    damaged, artifacts, total = [], 0, 0
    for address in store.addresses(""):
        try:
            manifest = store.manifest(address)
            assert manifest is not None, f"{address} was listed"
            for name in manifest.files:
                store.read(manifest, name, anew=True)
            artifacts, total = artifacts + 1, total + manifest.bytes
        except StoreError as error:
            damaged.append((address, str(error)))
    for address, message in damaged:
        if repair:
            store.remove(address)
        cure = "removed; a run makes it again" if repair else "doctor --repair removes it, and a run makes it again"
        yield Check("artifact", "warn" if repair else "fail", message, cure)
    yield Check("storage", "ok", f"{artifacts:,} whole artifacts, {units.size(total)}, in {store.root}")
