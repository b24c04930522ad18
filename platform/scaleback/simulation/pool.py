"""Nodes with free cores and GPUs, and how long they were busy, idle and up."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from scaleback.cluster.machines import Machines
from scaleback.core import seeds

ROUNDING = 1e-9
"""Half GPUs add up to whole ones within this."""


class Demand(NamedTuple):
    """What one worker or one render task holds."""

    cores: float
    gpus: float


class Node:
    """One machine."""

    __slots__ = ("cores", "gpus", "holds", "life", "listed", "number", "up", "warm")

    def __init__(self, number: int, cores: float, gpus: float) -> None:
        self.number, self.cores, self.gpus = number, cores, gpus
        self.up, self.life, self.warm = True, 0, 0
        self.holds: dict[object, None] = {}
        """Tasks that run there, in the order in which they came."""
        self.listed: set[Demand] = set()


class Pool:
    """All nodes.

    A node that may have room for a demand is on the demand's list, and is taken off it when it is met and has none:
    looking for room costs the same however many nodes there are.
    """

    def __init__(self, machines: Machines, demands: set[Demand]) -> None:
        self._cores, self._gpus = float(machines.cores), float(machines.gpus)
        self._demands, self._machines = demands, machines
        self.nodes = [Node(number, self._cores, self._gpus) for number in range(machines.nodes)]
        self._open: dict[Demand, list[Node]] = {demand: [] for demand in demands}
        for node in reversed(self.nodes):
            self._list(node)
        self._lives: dict[int, np.ndarray[tuple[int, ...], np.dtype[np.float64]]] = {}
        self._at_s, self._up = 0.0, machines.nodes
        self._used, self._free = Demand(0, 0), Demand(self._cores * machines.nodes, self._gpus * machines.nodes)
        self.busy, self.idle, self.up_s = Demand(0, 0), Demand(0, 0), 0.0
        """Core-seconds and GPU-seconds so far, and seconds of nodes."""

    def places(self, demand: Demand, workers: int) -> int:
        """How many groups of so many the whole cluster holds at a time; at least one, as the runtime counts."""
        return max(1, self.room(demand) // workers)

    def room(self, demand: Demand) -> int:
        """How many such processes an empty cluster holds: a process is on one node."""
        each = int((self._cores + ROUNDING) // demand.cores)
        if demand.gpus:
            each = min(each, int((self._gpus + ROUNDING) // demand.gpus))
        return each * len(self.nodes)

    def take(self, demand: Demand) -> Node | None:
        """A node that has room, which is taken."""
        waiting = self._open[demand]
        while waiting:
            node = waiting[-1]
            if self._has(node, demand):
                self._move(node, demand, 1)
                return node
            waiting.pop()
            node.listed.discard(demand)
        return None

    def has_room(self, demand: Demand) -> bool:
        """Whether so much is free, on whatever nodes."""
        return self._free.cores + ROUNDING >= demand.cores and self._free.gpus + ROUNDING >= demand.gpus

    def give(self, node: Node, demand: Demand) -> None:
        """Room that is free again; a node that is lost has none."""
        if node.up:
            self._move(node, demand, -1)
            self._list(node)

    def lose(self, now_s: float, node: Node) -> None:
        """A node is gone, with all that ran there."""
        self.advance(now_s)
        node.up, node.warm, node.life = False, 0, node.life + 1
        self._used = Demand(self._used.cores - (self._cores - node.cores), self._used.gpus - (self._gpus - node.gpus))
        self._free = Demand(self._free.cores - node.cores, self._free.gpus - node.gpus)
        self._up -= 1

    def replace(self, now_s: float, node: Node) -> None:
        """A new node in its place."""
        self.advance(now_s)
        node.up, node.cores, node.gpus = True, self._cores, self._gpus
        self._free = Demand(self._free.cores + node.cores, self._free.gpus + node.gpus)
        self._up += 1
        self._list(node)

    def lifetime_s(self, node: Node) -> float | None:
        """How long a node lives from its start; a pure function of the seed, the node and which of its lives it is."""
        rate = self._machines.losses_per_s
        if not rate:
            return None
        if node.life not in self._lives:
            key = seeds.key("node lost", self._machines.seed, node.life)
            self._lives[node.life] = -np.log1p(-seeds.uniform(key, np.arange(len(self.nodes)), 1)[:, 0])
        return float(self._lives[node.life][node.number]) / rate

    def advance(self, now_s: float) -> None:
        """Count the time since the last change."""
        passed_s = now_s - self._at_s
        if passed_s > 0:
            self.busy = Demand(*(a + passed_s * b for a, b in zip(self.busy, self._used, strict=True)))
            self.idle = Demand(*(a + passed_s * b for a, b in zip(self.idle, self._free, strict=True)))
            self.up_s += passed_s * self._up
            self._at_s = now_s

    def _has(self, node: Node, demand: Demand) -> bool:
        return node.up and node.cores + ROUNDING >= demand.cores and node.gpus + ROUNDING >= demand.gpus

    def _move(self, node: Node, demand: Demand, sign: int) -> None:
        cores, gpus = sign * demand.cores, sign * demand.gpus
        node.cores, node.gpus = node.cores - cores, node.gpus - gpus
        self._used = Demand(self._used.cores + cores, self._used.gpus + gpus)
        self._free = Demand(self._free.cores - cores, self._free.gpus - gpus)

    def _list(self, node: Node) -> None:
        for demand in self._demands:
            if demand not in node.listed and self._has(node, demand):
                node.listed.add(demand)
                self._open[demand].append(node)
