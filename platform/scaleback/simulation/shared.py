"""What all nodes share: a server that does one thing after another, and a channel that all flows share equally."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable


class Server:
    """Takes requests in the order they come; the driver is one, and so is what counts requests to storage."""

    def __init__(self, per_s: float | None) -> None:
        self._per_s, self._free_s = per_s, 0.0
        self.busy_s = 0.0

    def served(self, now_s: float, requests: float = 1) -> float:
        """When so many more requests are done."""
        if self._per_s is None:
            return now_s
        taken_s = requests / self._per_s
        self._free_s = max(now_s, self._free_s) + taken_s
        self.busy_s += taken_s
        return self._free_s


class Channel:
    """Bandwidth that flows share equally, each with a limit of its own.

    All flows are equally fast at any time, so one number, the bytes that a flow since the beginning would have moved,
    says of every flow when it ends: a heap of these ends makes an event cost the logarithm of the number of flows.
    """

    def __init__(self, bytes_per_s: float | None, stream_bytes_per_s: float | None) -> None:
        self._whole, self._stream = bytes_per_s or math.inf, stream_bytes_per_s or math.inf
        self._moved, self._at_s = 0.0, 0.0
        self._ends: list[tuple[float, int]] = []
        self._flows: dict[int, Callable[[], None]] = {}
        self._number = 0
        self.full_s = 0.0
        """How long there was no bandwidth left."""

    @property
    def unlimited(self) -> bool:
        """Whether flows take no time."""
        return math.isinf(self._whole) and math.isinf(self._stream)

    def begin(self, now_s: float, size_bytes: float, done: Callable[[], None]) -> int:
        """A new flow; returns its number."""
        self._advance(now_s)
        self._number += 1
        self._flows[self._number] = done
        heapq.heappush(self._ends, (self._moved + size_bytes, self._number))
        return self._number

    def cancel(self, now_s: float, number: int) -> None:
        """A flow ends with nothing done; one that has ended is let be."""
        if number in self._flows:
            self._advance(now_s)
            del self._flows[number]

    def next_s(self) -> float | None:
        """When the next flow ends, if no other comes or goes."""
        while self._ends and self._ends[0][1] not in self._flows:
            heapq.heappop(self._ends)
        if not self._ends:
            self._moved = 0.0
            return None
        return self._at_s + max(0.0, self._ends[0][0] - self._moved) / self._speed()

    def ended(self, now_s: float) -> list[Callable[[], None]]:
        """What is to be called for the flows that end now."""
        self._advance(now_s)
        # The first ends by definition, whatever rounding says of the bytes that it has left.
        self._moved = max(self._moved, self._ends[0][0]) if self._ends else self._moved
        done = []
        while self._ends and (self._ends[0][0] <= self._moved or self._ends[0][1] not in self._flows):
            number = heapq.heappop(self._ends)[1]
            if number in self._flows:
                done.append(self._flows.pop(number))
        return done

    def _speed(self) -> float:
        return min(self._stream, self._whole / len(self._flows))

    def _advance(self, now_s: float) -> None:
        if self._flows:
            passed_s = now_s - self._at_s
            self._moved += passed_s * self._speed()
            if self._whole / len(self._flows) <= self._stream and not math.isinf(self._whole):
                self.full_s += passed_s
        self._at_s = now_s
