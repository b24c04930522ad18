"""What a user sees while a study runs: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from scaleback.core import units
from scaleback.sources.learnt import Learnt

PLAIN_EVERY_S = 5.0
"""Seconds between two plain lines about the same stage."""


class Progress:
    """Counts images rendered and runs done."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._console = Console(stderr=True)
        self._live = self._console.is_terminal and not quiet
        self._bar: Bar | None = None
        self._tasks: dict[str, TaskID] = {}
        self._begun, self._printed = time.monotonic(), -PLAIN_EVERY_S

    def __enter__(self) -> Self:
        if self._live:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Bar(*columns, TextColumn("{task.fields[note]}"), console=self._console)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def note(self, text: str) -> None:
        """One line that stays."""
        if self._quiet:
            return
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False)
        else:
            elapsed = units.duration(time.monotonic() - self._begun)
            print(f"[{elapsed:>12}] {text}", file=sys.stderr, flush=True)

    def rendered(self, done: int, total: int) -> None:
        """Images of the render stage."""
        self._count("render", done, total, "images")

    def learnt(self, stage: Learnt, row: Mapping[str, Any]) -> None:
        """A row of the curve of a generator's training."""
        if time.monotonic() - self._printed >= PLAIN_EVERY_S:
            self._printed = time.monotonic()
            self.note(f"{stage.address} {int(row['images_seen']):,}/{stage.budget_images:,} image passes")

    def imported(self, done: int, total: int) -> None:
        """Images of a folder that is read."""
        self._count("import", done, total, "images")

    def ran(self, done: int, total: int, note: str) -> None:
        """Runs finished; ``note`` says what the last one found."""
        self._count("run", done, total, note, always=True)

    def _count(self, stage: str, done: int, total: int, note: str, *, always: bool = False) -> None:
        if self._bar is not None:
            if stage not in self._tasks:
                self._tasks[stage] = self._bar.add_task(stage, total=total, note="")
            self._bar.update(self._tasks[stage], completed=done, total=total, note=note)
            return
        now = time.monotonic()
        if always or done == total or now - self._printed >= PLAIN_EVERY_S:
            self._printed = now
            self.note(f"{stage} {done:,}/{total:,} {note}")
