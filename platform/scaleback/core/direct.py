"""Large files of a local disk, written past the page cache from memory that is used again.

A job that draws writes more than there is memory, and reads none of it. Through the page cache every byte is copied
to a page that is new, which pushes out what others read; and a virtual machine may be lent its memory page by page, so
that a new page takes its host many times as long as the copy.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from typing import Any, Self

PIECE_BYTES = 8 * 2**20
ALIGNED_BYTES = 4_096
"""The disk is given whole multiples of it, from addresses that are multiples (``open(2)``, O_DIRECT)."""

_spare: list[mmap.mmap] = []
"""Pieces of this process that no file holds; as many as its files have ever held at a time."""


class DirectFile:
    """A new file that lies in memory until it is flushed, once and at its end; then it is on its way to the disk.

    Where the file system knows no direct writes it goes through the page cache. It is of use for files of some
    megabytes, up to what may lie in memory.

    Raises:
        OSError: it cannot be made, or not be written when it is flushed.
    """

    def __init__(self, path: str) -> None:
        self.name = path
        self._descriptor = _opened(path)
        self._pieces: list[mmap.mmap] = []
        self._bytes = 0

    def write(self, data: Any) -> int:
        """Keep the next bytes; any contiguous buffer will do."""
        left = memoryview(data).cast("B")
        count = len(left)
        while left:
            number, start = divmod(self._bytes, PIECE_BYTES)
            if number == len(self._pieces):
                self._pieces.append(_spare.pop() if _spare else mmap.mmap(-1, PIECE_BYTES))
            here = left[: PIECE_BYTES - start]
            self._pieces[number][start : start + len(here)] = here
            self._bytes += len(here)
            left = left[len(here) :]
        return count

    def flush(self) -> None:
        """Hand all of it to the disk."""
        for number, piece in enumerate(self._pieces):
            held = min(PIECE_BYTES, self._bytes - number * PIECE_BYTES)
            with memoryview(piece) as whole, whole[: -(-held // ALIGNED_BYTES) * ALIGNED_BYTES] as aligned:
                self._hand_over(aligned)
        os.ftruncate(self._descriptor, self._bytes)

    def _hand_over(self, data: memoryview) -> None:
        done = 0
        while done < len(data):
            try:
                done += os.write(self._descriptor, data[done:])
            except OSError as error:
                if error.errno != errno.EINVAL or not _through_the_cache(self._descriptor):
                    raise

    def fileno(self) -> int:
        """Of the open file."""
        return self._descriptor

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        _spare.extend(self._pieces)
        os.close(self._descriptor)


def _opened(path: str) -> int:
    flags = os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC
    try:
        return os.open(path, flags | os.O_DIRECT, 0o666)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return os.open(path, flags, 0o666)


def _through_the_cache(descriptor: int) -> bool:
    """From now on; whether that is a change."""
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, flags & ~os.O_DIRECT)
    return bool(flags & os.O_DIRECT)
