"""Images of a whole study, drawn beside its training: one Ray Data job of the driver, which trials wait for.

No one waits while holding a core: tasks that draw take no lease that another has, tasks that train find their images
there, and trials, which hold none, do the waiting.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from scaleback.cluster import failures
from scaleback.cluster.asks import Ask
from scaleback.cluster.progress import Progress
from scaleback.cluster.render import render
from scaleback.core.lease import Lease, alive
from scaleback.core.store import Store
from scaleback.sources.population import Population, missing_blocks

FIRST_POLL_S, LAST_POLL_S = 0.1, 2.0
STOP_S = 10.0
"""An interrupted driver gives its job so long to end."""


@dataclass(frozen=True, slots=True)
class Promise:
    """What a driver's job is bound to draw, for as long as its lease is alive."""

    lease: str
    populations: frozenset[str]

    def wait(self, store: Store, population: Population, images: int, retry: bool) -> None:
        """Return when the images are there, or will not be made by that job.

        Raises:
            RunError: they could not be drawn.
        """
        poll_s = FIRST_POLL_S
        while population.address in self.populations and missing_blocks(store, population, images):
            failures.refuse_failed(store, population.address, retry)
            if not alive(store, self.lease):
                return
            time.sleep(poll_s)
            poll_s = min(1.5 * poll_s, LAST_POLL_S)


class Drawing:
    """Draws in a thread while its body runs. What cannot be drawn is recorded, and met by the runs that want it."""

    def __init__(self, store: Store, wanted: Sequence[tuple[Population, int]], ask: Ask, progress: Progress) -> None:
        self._store, self._ask, self._progress = store, ask, progress
        self._wanted = [one for one in wanted if missing_blocks(store, *one)]
        self._lease = Lease(store, address := f"drawing/{uuid.uuid4().hex}")
        self.promise = Promise(address, frozenset(population.address for population, _ in self._wanted))
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._draw, daemon=True, name="drawing")

    def __enter__(self) -> Self:
        if self._wanted:
            import ray.data  # noqa: F401  # here, as the main thread goes on to import what imports it

            self._lease.acquire()
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()  # nothing left is wanted
        if self._wanted:
            self._thread.join(STOP_S)
        if self._error is not None and error is None:
            self._progress.note(f"drawing ahead ended, and runs drew what they missed: {self._error}")

    def _draw(self) -> None:
        try:
            render(
                self._store, self._wanted, ask=self._ask, progress=self._progress.rendered, stopped=self._stop.is_set
            )
        except Exception as error:
            self._error = error
        finally:
            self._lease.release()
