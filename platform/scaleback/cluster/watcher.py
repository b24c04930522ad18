"""Follows Tune's trials and tells the user."""

from __future__ import annotations

import time
from typing import Any

from ray.tune import Callback

from scaleback.cluster.progress import Progress
from scaleback.core import units
from scaleback.scaling.metrics import Shown

PACED = 4
"""Trials that must have ended before the pace of those to come is foretold."""


class Watcher(Callback):
    """Counts finished trials and foretells the end."""

    def __init__(self, progress: Progress, *, total: int, headline: Shown) -> None:
        self._progress, self._total, self._headline = progress, total, headline
        self._first = time.monotonic()
        self.finished = 0

    def __getstate__(self) -> dict[str, Any]:
        """Tune stores its callbacks; a terminal cannot be stored, and a stored one is never used here."""
        return {**self.__dict__, "_progress": None}

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.finished += 1
        label, kind = self._headline.label, self._headline.kind
        value = (trial.last_result or {}).get(label)
        found = f"{label} {kind.text(value)}" if value is not None else ""
        self._tell(trial, found)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.finished += 1
        self._tell(trial, "failed")

    def _tell(self, trial: Any, found: str) -> None:
        values = trial.config.get("run", trial.config)
        named = " ".join(f"{name}={_short(value)}" for name, value in values.items() if name != "baseline")
        if values.get("baseline"):
            named = f"{values['baseline']} {named}"
        self._progress.ran(self.finished, self._total, f"{named}: {found}{self._ahead()}")

    def _ahead(self) -> str:
        """How long it will take, by the pace since the first trial ended: what came before is the start of workers."""
        if self.finished == 1:
            self._first = time.monotonic()
        if not PACED <= self.finished < self._total:
            return ""
        left = (time.monotonic() - self._first) / (self.finished - 1) * (self._total - self.finished)
        return f", about {units.duration(left)} left"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
