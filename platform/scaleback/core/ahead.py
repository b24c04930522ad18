"""Work that is done before it is asked for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")


def ahead(function: Callable[[T], U], items: Iterator[T], depth: int = 2) -> Iterator[U]:
    """``map`` in a thread, up to ``depth`` results before they are asked for, in order; items are drawn by the caller.

    What one of them raises is raised where its result is asked for.
    """
    with ThreadPoolExecutor(1, "ahead") as pool:
        waiting = deque(pool.submit(function, item) for item in islice(items, depth))
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(function, item) for item in islice(items, 1))
            yield result
