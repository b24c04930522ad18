"""Files of remote artifacts, kept on this node, so that several runs on it fetch a block once.

Files are kept by their checksum, so nothing in a cache is ever out of date and any number of stores and processes may
share one. Each is verified when it is read; a damaged one is dropped and fetched again. What was not read for longest
makes room for what is new. A cache that cannot be written costs time only: it never fails a run.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
import uuid
from pathlib import Path
from typing import NamedTuple, Self

from scaleback.core.errors import InputError, refusal

CAP_VARIABLE = "SCALEBACK_CACHE_GB"
DEFAULT_GB = 10.0
TEMPORARY = ".tmp"
ABANDONED_S = 3_600.0
"""No file takes longer to write, so whoever wrote a temporary one that old is dead."""


class _Kept(NamedTuple):
    used: float
    bytes: int
    path: str


class Cache:
    """A folder of files named by their SHA-256, of at most ``cap_bytes`` together."""

    def __init__(self, folder: Path, cap_bytes: int) -> None:
        self.folder, self.cap_bytes = folder, cap_bytes

    @classmethod
    def of_node(cls) -> Self | None:
        """The cache that this node's environment asks for; None if it asks for none.

        Raises:
            InputError: the cap is not a number of gigabytes.
        """
        stated = os.environ.get(CAP_VARIABLE, str(DEFAULT_GB))
        try:
            cap_bytes = int(float(stated) * 1e9)
        except (ValueError, OverflowError):
            cap_bytes = -1
        if cap_bytes < 0:
            raise InputError(f"{CAP_VARIABLE}: {refusal('must be a number of gigabytes, 0 for no cache', stated)}")
        home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        return cls(Path(home) / "scaleback", cap_bytes) if cap_bytes else None

    def get(self, sha256: str) -> bytes | None:
        """The file of that checksum, or None if it is not here or no longer what it was."""
        path = self.folder / sha256
        try:
            data = path.read_bytes()
            if hashlib.sha256(data).hexdigest() == sha256:
                os.utime(path)
                return data
            path.unlink()
        except OSError:  # never kept, or dropped by another process
            pass
        return None

    def put(self, sha256: str, data: bytes) -> None:
        """Keep a file whose checksum was verified, in place of those that were not read for longest."""
        if len(data) > self.cap_bytes:
            return
        part = self.folder / f"{uuid.uuid4().hex}{TEMPORARY}"
        with contextlib.suppress(OSError):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._make_room(len(data))
            try:
                part.write_bytes(data)
                os.replace(part, self.folder / sha256)
            finally:
                part.unlink(missing_ok=True)

    def _make_room(self, needed: int) -> None:
        kept = sorted(self._kept())
        total = sum(one.bytes for one in kept)
        for one in kept:
            abandoned = one.path.endswith(TEMPORARY) and time.time() - one.used > ABANDONED_S
            if abandoned or total + needed > self.cap_bytes:
                with contextlib.suppress(FileNotFoundError):  # another process makes room, too
                    os.unlink(one.path)
                total -= one.bytes

    def _kept(self) -> list[_Kept]:
        found = []
        for entry in os.scandir(self.folder):
            with contextlib.suppress(FileNotFoundError):
                about = entry.stat()
                found.append(_Kept(about.st_mtime, about.st_size, entry.path))
        return found
