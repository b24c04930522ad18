"""The warning that a process is about to be taken away, as a spot machine gives it, and what training does about it."""

from __future__ import annotations

import time

ROW_WAIT_S = 15.0
"""A member of a group waits so long for the end of a row of its curve: only there are the workers' means made one.
Machines are taken away 30 s after a warning and later (Google Cloud 30 s, AWS two minutes)."""


class Notice:
    """Whether this process was warned, and since when."""

    def __init__(self) -> None:
        self._since_s: float | None = None

    @property
    def given(self) -> bool:
        """Whether a warning has come."""
        return self._since_s is not None

    def give(self) -> None:
        """The warning comes; a second one changes nothing."""
        if self._since_s is None:
            self._since_s = time.monotonic()

    def withdraw(self) -> None:
        """A new stage begins in this process."""
        self._since_s = None

    def heeded_now(self, *, whole: bool) -> bool:
        """Whether to save and leave now: at once where what is saved is ``whole``, a little later where it is not."""
        since = self._since_s
        return since is not None and (whole or time.monotonic() - since > ROW_WAIT_S)


NOTICE = Notice()
"""Of this process: a signal concerns all that runs in it."""
