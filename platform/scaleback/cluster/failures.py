"""Failure records: a stage that fails leaves one in place of its artifact, and the study goes on."""

from __future__ import annotations

import socket
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from scaleback.core.errors import InputError, RunError, ScalebackError
from scaleback.core.store import Store


def record(store: Store, address: str, error: BaseException) -> None:
    """Write what happened. A failure is *lasting* if the same stage would fail again: it diverged, its data are bad."""
    store.fail(
        address,
        {
            "error": type(error).__name__,
            "message": " ".join(str(error).split())[:500],
            "lasting": isinstance(error, RunError | InputError),
            "host": socket.gethostname(),
            "time": time.time(),
            "traceback": None if isinstance(error, ScalebackError) else traceback.format_exc()[-4_000:],
        },
    )


def refuse_failed(store: Store, address: str, retry: bool) -> None:
    """Raise what was recorded, unless it is to be tried again.

    Raises:
        RunError: a lasting failure is recorded there.
    """
    earlier = store.failure(address)
    if earlier is None:
        return
    if earlier["lasting"] and not retry:
        raise RunError(f"{address} failed: {earlier['error']}: {earlier['message']}")


@contextmanager
def recorded(store: Store, address: str, retry: bool) -> Iterator[None]:
    """Record what goes wrong inside, and raise it again."""
    refuse_failed(store, address, retry)
    try:
        yield
    except Exception as error:
        record(store, address, error)
        raise
