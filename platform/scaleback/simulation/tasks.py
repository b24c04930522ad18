"""A task on a node, from the queue to its end: it waits for room, reads, works, writes, and may lose its node."""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from scaleback.cluster.machines import Machines
from scaleback.simulation.events import Events
from scaleback.simulation.pool import Demand, Node, Pool
from scaleback.simulation.shared import Channel, Server


@dataclass(eq=False, slots=True)
class Task:
    """What one attempt after another tries to finish."""

    demand: Demand
    seconds: float
    """Of work that is left, on one node of the cluster."""
    done: Callable[[], None]
    failed: Callable[[], None]
    workers: int = 1
    keeps: float | Sequence[float] = 0.0
    """A loss leaves what lies before the last checkpoint, one every so many seconds; or before the last block."""
    setup_s: float = 0.0
    torch: bool = True
    """Whether its process must have imported torch."""
    requests: int = 0
    read_bytes: float = 0.0
    along_bytes: float = 0.0
    """Written while it works: blocks while the next is drawn, checkpoints."""
    written_bytes: float = 0.0
    """Written at its end."""
    losses_left: int = 0
    nodes: list[Node] = field(default_factory=list)
    attempt: int = 0
    worked: float = 0.0
    """Seconds of work that earlier attempts left."""
    since_s: float | None = None
    parts: int = 0
    flow: int = 0


class Runner:
    """Gives tasks to nodes: in order; where both wait, stages of runs before what draws images."""

    def __init__(self, machines: Machines, demands: Sequence[Demand], requests: Server) -> None:
        self.machines, self.requests = machines, requests
        self.channel = Channel(machines.storage_bytes_per_s, machines.stream_bytes_per_s)
        self.events = Events(self.channel)
        self.pool = Pool(machines, set(demands))
        self._queues: dict[tuple[bool, Demand], deque[Task]] = {
            (torch, demand): deque() for torch in (True, False) for demand in demands
        }
        self._stage, self._counted_s = demands[0], 0.0
        self.full_s = 0.0
        """How long there was no room for one more stage."""
        self.lost_s, self.losses = 0.0, 0
        """Seconds of work that were lost with nodes, and how many nodes."""

    def submit(self, task: Task) -> None:
        """Into the queue."""
        self.count(self.events.now_s)
        self._queues[task.torch, task.demand].append(task)
        self._dispatch()

    def count(self, now_s: float) -> None:
        """Bring what is counted up to now; called before anything changes."""
        if now_s > self._counted_s:
            if any(self._queues.values()) or not self.pool.has_room(self._stage):
                self.full_s += now_s - self._counted_s
            self._counted_s = now_s
            self.pool.advance(now_s)

    def watch_nodes(self) -> None:
        """From now on nodes may be lost."""
        for node in self.pool.nodes:
            self._fear(node)

    def _fear(self, node: Node) -> None:
        lives_s = self.pool.lifetime_s(node)
        if lives_s is not None:
            self.events.after(lives_s, self._lose, node)

    def _lose(self, node: Node) -> None:
        self.count(self.events.now_s)
        self.losses += 1
        killed = [task for task in node.holds if isinstance(task, Task)]
        self.pool.lose(self.events.now_s, node)
        for task in killed:
            self._kill(task)
        self.events.after(self.machines.replace_s, self._replace, node)

    def _replace(self, node: Node) -> None:
        self.count(self.events.now_s)
        self.pool.replace(self.events.now_s, node)
        self._fear(node)
        self._dispatch()

    def _kill(self, task: Task) -> None:
        now_s = self.events.now_s
        if task.since_s is not None:
            worked = task.worked + (now_s - task.since_s) * self.machines.speed
            kept = min(_kept(task.keeps, worked), worked)
            self.lost_s += (worked - kept) * task.workers
            task.worked = kept
        self.channel.cancel(now_s, task.flow)
        self._leave(task)
        if task.losses_left == 0:
            task.failed()
            return
        task.losses_left -= 1
        self._queues[task.torch, task.demand].appendleft(task)

    def _leave(self, task: Task) -> None:
        for node in task.nodes:
            node.holds.pop(task, None)
            node.warm += 1 if task.torch and task.workers == 1 and node.up else 0
            self.pool.give(node, task.demand)
        task.nodes, task.since_s = [], None
        task.attempt += 1

    def _dispatch(self) -> None:
        self.count(self.events.now_s)
        for queue in self._queues.values():
            while queue and self._begin(queue[0]):
                queue.popleft()

    def _begin(self, task: Task) -> bool:
        while len(task.nodes) < task.workers:
            node = self.pool.take(task.demand)
            if node is None:
                for taken in task.nodes:
                    self.pool.give(taken, task.demand)
                task.nodes = []
                return False
            task.nodes.append(node)
        setup_s = task.setup_s
        for node in task.nodes:
            node.holds[task] = None
        if task.torch and task.workers == 1:
            node = task.nodes[0]
            setup_s += 0.0 if node.warm else self.machines.overheads.import_s
            node.warm -= 1 if node.warm else 0
        self.events.after(setup_s, self._ask, task, task.attempt)
        return True

    def _ask(self, task: Task, attempt: int) -> None:
        if attempt == task.attempt:
            told_s = self.requests.served(self.events.now_s, task.requests) + task.requests * self.machines.latency_s
            self.events.at(told_s, self._read, task, attempt)

    def _read(self, task: Task, attempt: int) -> None:
        if attempt == task.attempt:
            self._flow(task, task.read_bytes, self._work)

    def _work(self, task: Task, attempt: int) -> None:
        if attempt != task.attempt:
            return
        left_s = task.seconds - task.worked
        task.since_s, task.parts = self.events.now_s, 2
        self.events.after(left_s / self.machines.speed, self._worked, task, attempt)
        self._flow(task, task.along_bytes * left_s / task.seconds if left_s else 0.0, self._part)

    def _worked(self, task: Task, attempt: int) -> None:
        if attempt == task.attempt:
            task.worked, task.since_s = task.seconds, None
            self._part(task, attempt)

    def _part(self, task: Task, attempt: int) -> None:
        if attempt != task.attempt:
            return
        task.parts -= 1
        if task.parts == 0:
            self._flow(task, task.written_bytes, self._end)

    def _end(self, task: Task, attempt: int) -> None:
        if attempt == task.attempt:
            self.count(self.events.now_s)
            self._leave(task)
            task.done()
            self._dispatch()

    def _flow(self, task: Task, size_bytes: float, then: Callable[[Task, int], None]) -> None:
        attempt = task.attempt
        if size_bytes and not self.channel.unlimited:
            task.flow = self.channel.begin(self.events.now_s, size_bytes, lambda: then(task, attempt))
        else:
            then(task, attempt)


def _kept(keeps: float | Sequence[float], worked: float) -> float:
    """Seconds of work that are safe."""
    if isinstance(keeps, int | float):
        return worked // keeps * keeps if keeps else worked
    place = bisect.bisect_right(keeps, worked)
    return keeps[place - 1] if place else 0.0
