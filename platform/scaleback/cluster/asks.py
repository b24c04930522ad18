"""What a stage asks a cluster for, and how often that fits; it is never part of identity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from scaleback.cluster.placement import Placement

GB = 1 << 30
SLACK = 1e-6
"""Ray counts in ten-thousandths, and nodes report memory as a float."""
Node = Mapping[str, float]
"""Resources of a node by the names that Ray has for them; ``memory`` in bytes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ask:
    """Resources of one process, all of which one node must have."""

    cpus: float = 1.0
    gpus: float = 0.0
    memory_gb: float | None = None
    resources: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def worker(cls, placement: Placement) -> Ask:
        """What a worker of a training asks for, and an evaluation."""
        return cls(
            cpus=placement.cpus_per_worker,
            gpus=placement.gpus_per_worker,
            memory_gb=placement.memory_gb_per_worker,
            resources=placement.resources_per_worker,
        )

    @classmethod
    def renderer(cls, placement: Placement) -> Ask:
        """What a task that renders asks for; one that wants a GPU takes one wherever it is."""
        return cls(
            cpus=placement.cpus_per_render,
            memory_gb=placement.memory_gb_per_render,
            resources=placement.resources_per_render,
        )

    @property
    def bundle(self) -> dict[str, float]:
        """By the names that Ray has for them in a placement group, without what is not asked for."""
        amounts = {"CPU": float(self.cpus), "GPU": float(self.gpus), **self.resources}
        if self.memory_gb is not None:
            amounts["memory"] = self.memory_gb * GB
        return {name: amount for name, amount in amounts.items() if amount}

    @property
    def options(self) -> dict[str, Any]:
        """As a task's options."""
        named: dict[str, Any] = {"num_cpus": self.cpus, "num_gpus": self.gpus, "resources": dict(self.resources)}
        return named if self.memory_gb is None else {**named, "memory": int(self.memory_gb * GB)}

    def room(self, nodes: Iterable[Node]) -> int:
        """How many such processes these nodes hold at a time."""
        asked = self.bundle.items()
        return sum(min(int(node.get(name, 0.0) / amount + SLACK) for name, amount in asked) for node in nodes)

    def __str__(self) -> str:
        return described(self.bundle)


def described(node: Node) -> str:
    """``4 CPU, 1 GPU, 16 GB memory``, and what else is not Ray's own."""
    known = [f"{node[name]:g} {name}" for name in ("CPU", "GPU") if node.get(name)]
    memory = [f"{node['memory'] / GB:.3g} GB memory"] if node.get("memory") else []
    custom = [f"{amount:g} {name}" for name, amount in sorted(node.items()) if name not in _OWN and ":" not in name]
    return ", ".join(known + memory + custom) or "nothing"


_OWN = {"CPU", "GPU", "memory", "object_store_memory"}
"""``node:...`` and ``accelerator_type:...`` are Ray's own as well."""
