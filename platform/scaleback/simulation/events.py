"""What happens next: a heap of times, and what is shared at them."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

from scaleback.simulation.shared import Channel

Call = Callable[..., None]


class Events:
    """Calls in the order of their times; those of one time in the order in which they were asked for."""

    def __init__(self, channel: Channel) -> None:
        self.now_s, self.count = 0.0, 0
        self._channel = channel
        self._heap: list[tuple[float, int, Call, tuple[Any, ...]]] = []

    def at(self, time_s: float, call: Call, *given: Any) -> None:
        """Call it then."""
        self.count += 1
        heapq.heappush(self._heap, (time_s, self.count, call, given))

    def after(self, wait_s: float, call: Call, *given: Any) -> None:
        """Call it so much later."""
        self.at(self.now_s + wait_s, call, *given)

    def step(self) -> bool:
        """Do what is next; False if nothing is."""
        flow_s = self._channel.next_s()
        if flow_s is not None and (not self._heap or flow_s <= self._heap[0][0]):
            self.now_s = max(self.now_s, flow_s)
            for call in self._channel.ended(self.now_s):
                call()
            return True
        if not self._heap:
            return False
        self.now_s, _, call, given = heapq.heappop(self._heap)
        call(*given)
        return True
