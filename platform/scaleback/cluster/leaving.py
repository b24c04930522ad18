"""SIGTERM: a stage's process saves what it has and ends, and a driver stops as on Ctrl-C."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from scaleback.pretrain.leaving import NOTICE

GRACE_S = 25.0
"""A process that was warned ends by then, whether or not its stage could save: it has 30 s."""


@contextmanager
def saving_first() -> Iterator[None]:
    """While inside, SIGTERM lets the stage save before the process ends. To be entered in the main thread.

    Ray's own answer is to end the process at once; it is called in the end, so Ray sees a process that died.
    """
    NOTICE.withdraw()
    before = signal.signal(signal.SIGTERM, _warn)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        if NOTICE.given:
            os.kill(os.getpid(), signal.SIGTERM)


def save_first() -> None:
    """The same for the rest of this process's life."""
    signal.signal(signal.SIGTERM, _warn)


@contextmanager
def as_interrupt() -> Iterator[None]:
    """While inside, SIGTERM does to this process what Ctrl-C does; Ray's own answer would leave Tune no time."""
    if threading.current_thread() is not threading.main_thread():
        yield  # of a program that has its own answer
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _warn(number: int, frame: FrameType | None) -> None:
    if NOTICE.given:
        return
    NOTICE.give()
    end = threading.Timer(GRACE_S, os._exit, (1,))
    end.daemon = True
    end.start()
