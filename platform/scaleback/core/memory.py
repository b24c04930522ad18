"""Memory that one step of training frees, kept for the next."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Numbers of ``mallopt(3)``."""
KEPT_BYTES = 2**31 - 1
"""A process keeps about so much that is free, at most."""
LARGEST_BYTES, GRANTED_BYTES = 2**30, 2**25
"""What is larger goes back as soon as it is free, such as an array that holds a whole set of images. A glibc that keeps
to the limit in ``mallopt(3)`` refuses more than the second."""
ONE_ARENA = {"MALLOC_ARENA_MAX": "1"}
"""For the environment of a process that trains in another thread than its first: such threads have arenas of 64 MB
pieces, each of which goes back when it is free, whatever is to be kept."""


@contextmanager
def kept() -> Iterator[None]:
    """Keep what is freed inside, and give it back at the end.

    glibc takes new memory for every array of 32 MB or more, and gives back what is free in between: a step then starts
    with memory that the kernel must first find and clear, page by page. Its settings cannot be read, so they stay, and
    later work of the process keeps its memory too, until another end. Elsewhere than on glibc nothing changes.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        yield
        return
    if not libc.mallopt(MMAP_THRESHOLD, LARGEST_BYTES):
        libc.mallopt(MMAP_THRESHOLD, GRANTED_BYTES)
    libc.mallopt(TRIM_THRESHOLD, KEPT_BYTES)
    try:
        yield
    finally:
        libc.malloc_trim(0)
