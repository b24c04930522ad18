"""Checkpoints of a run in progress, below the address of what it makes."""

from __future__ import annotations

import math
import time
import warnings

from torch import Tensor

from scaleback.core.errors import StoreError
from scaleback.core.spec import Spec
from scaleback.core.store import Store
from scaleback.pretrain.state import TrainState

KEPT = 2
"""Checkpoints kept of a run in progress: a damaged newest one falls back to the one before."""


class Checkpoints:
    """Saves and restores a run's state; only worker 0 saves."""

    def __init__(self, store: Store, address: str, spec: Spec, every_s: float) -> None:
        self._store, self._address, self._spec, self._every_s = store, address, spec, every_s
        self._last_s = time.monotonic()
        self._judged: tuple[int, float] | None = None

    def judge(self, step: int) -> tuple[bool, int]:
        """Whether to save after a step, and after how many more to ask again: as many as pass in the time that is left.

        So workers that must all save after the same step need to hear of it seldom.
        """
        now = time.monotonic()
        due = now - self._last_s >= self._every_s
        left_s = self._every_s if due else self._every_s - (now - self._last_s)
        judged, judged_s = self._judged or (step - 1, self._last_s)
        self._judged = (step, now)
        return due, max(1, math.ceil(left_s * (step - judged) / max(now - judged_s, 1e-9)))

    def save(self, state: TrainState, watched: dict[str, Tensor] | None = None) -> None:
        """Publish a checkpoint and drop all but the newest ones.

        Args:
            state: the run.
            watched: by each worker since the last row, (W, steps); None for what this one has watched.
        """
        address = self._at(state.step)
        self._store.publish(address, state.save(watched), spec=self._spec, record={"step": state.step})
        for old in self._steps()[:-KEPT]:
            self._store.remove(self._at(old))
        self._last_s = time.monotonic()

    def newest(self) -> dict[str, bytes] | None:
        """Files of the newest checkpoint that is whole, or None; a damaged one is passed over with a warning."""
        for step in reversed(self._steps()):
            try:
                manifest = self._store.manifest(self._at(step), self._spec)
                if manifest is not None:
                    return {name: self._store.read(manifest, name) for name in manifest.files}
            except StoreError as error:
                warnings.warn(f"passing over a checkpoint: {error}", RuntimeWarning, stacklevel=2)
        return None

    def clear(self) -> None:
        """Remove all; the run is done."""
        for step in self._steps():
            self._store.remove(self._at(step))

    def _at(self, step: int) -> str:
        return f"{self._address}/step-{step:09d}"

    def _steps(self) -> list[int]:
        prefix = f"{self._address}/step-"
        found = self._store.addresses(self._address)
        return sorted(int(name.removeprefix(prefix)) for name in found if name.startswith(prefix))
