"""Everything that a run needs to go on as if it had not stopped, as tensors and plain numbers: no pickle."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn
from torch.optim import Optimizer

from scaleback.objectives.learners.base import Learner
from scaleback.pretrain.online import OnlineKNN

TENSORS, NUMBERS = "state.safetensors", "state.json"
PARTS = ("learner", "optimizer", "average", "online", "watched")
"""Tensors are named ``<part>.<name>``."""
Row = dict[str, float]
"""Of a curve: ``images_seen`` and what was watched up to there."""


class Average:
    """Exponential average of a module's floating-point parameters and buffers."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._decay = decay
        self._live = _floating(module)
        self.tensors = {name: value.detach().clone() for name, value in self._live.items()}

    def update(self, updates: int) -> None:
        """Move towards the live weights after update number ``updates`` (0 first); young averages move faster."""
        weight = 1 - min(self._decay, (1 + updates) / (10 + updates))
        live = [self._live[name].detach() for name in self.tensors]
        torch._foreach_lerp_(list(self.tensors.values()), live, weight)


@dataclass(slots=True)
class TrainState:
    """A run in progress."""

    learner: Learner
    optimizer: Optimizer
    average: Average | None = None
    online: OnlineKNN | None = None
    step: int = 0
    """Optimizer steps behind us."""
    rows: list[Row] = field(default_factory=list)
    """The curve so far; hooks may add to it."""
    watched: dict[str, list[Tensor]] = field(default_factory=dict)
    """What the next row of the curve will be made of; empty where a row ends."""
    workers: list[list[int]] = field(default_factory=list)
    """``[step, workers]``: from that step on, so many trained."""
    resumed: int = 0
    """Step of the checkpoint that it went on from; in no checkpoint."""

    def save(self, watched: dict[str, Tensor] | None = None) -> dict[str, bytes]:
        """The files of a checkpoint; ``watched`` by each worker, (W, steps), or None for what this one has watched."""
        watched = self.watched_by_this() if watched is None else watched
        tensors = {f"learner.{name}": value for name, value in self.learner.state_dict().items()}
        numbers: dict[str, Any] = {"step": self.step, "rows": self.rows, "workers": self.workers, "optimizer": {}}
        for name, value in _optimizer_entries(self.optimizer).items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{name}"] = value
            else:
                numbers["optimizer"][name] = value
        if self.average is not None:
            tensors |= {f"average.{name}": value for name, value in self.average.tensors.items()}
        if self.online is not None:
            tensors |= {f"online.{name}": value for name, value in self.online.tensors.items()}
        tensors |= {f"watched.{name}": values_WS for name, values_WS in watched.items()}
        return {
            TENSORS: save_tensors({name: _own(value) for name, value in tensors.items()}),
            NUMBERS: json.dumps(numbers, sort_keys=True).encode(),
        }

    def watched_by_this(self) -> dict[str, Tensor]:
        """What this worker has watched since the last row, (1, steps) of each name."""
        return {name: torch.stack(values)[None] for name, values in sorted(self.watched.items())}

    def load(self, files: dict[str, bytes], *, rank: int = 0, workers: int = 1) -> None:
        """Continue from a checkpoint's files as one of so many workers; if others saved, each takes their means."""
        numbers = json.loads(files[NUMBERS])
        parts: dict[str, dict[str, Tensor]] = {name: {} for name in PARTS}
        for name, value in load_tensors(files[TENSORS]).items():
            part, _, rest = name.partition(".")
            parts[part][rest] = value
        self.learner.load_state_dict(parts["learner"])
        _load_optimizer(self.optimizer, {**parts["optimizer"], **numbers["optimizer"]})
        if self.average is not None:
            for name, tensor in self.average.tensors.items():
                tensor.copy_(parts["average"][name])
        if self.online is not None:
            for name, tensor in self.online.tensors.items():
                tensor.copy_(parts["online"][name])
        device = next(self.learner.parameters()).device
        for name, values_WS in parts["watched"].items():
            own_S = values_WS[rank] if len(values_WS) == workers else values_WS.mean(0)
            self.watched[name] = list(own_S.to(device))
        self.workers = numbers["workers"]
        self.step, self.rows, self.resumed = numbers["step"], numbers["rows"], numbers["step"]

    def trained_by(self, workers: int) -> None:
        """From this step on, so many train."""
        self.workers = [count for count in self.workers if count[0] < self.step]
        if not self.workers or self.workers[-1][1] != workers:
            self.workers.append([self.step, workers])

    def weights(self, prefix: str) -> dict[str, Tensor]:
        """Weights of a part of the learner as evaluations see them: averaged where the recipe averages."""
        tensors = dict(self.learner.state_dict())
        if self.average is not None:
            tensors |= self.average.tensors
        return {name.removeprefix(prefix): _own(value) for name, value in tensors.items() if name.startswith(prefix)}


def _floating(module: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in module.state_dict(keep_vars=True).items() if value.is_floating_point()}


def _own(value: Tensor) -> Tensor:
    """A contiguous copy on the CPU: safetensors refuses views that share memory."""
    return value.detach().to("cpu", copy=True).contiguous()


def _optimizer_entries(optimizer: Optimizer) -> dict[str, Tensor | float | int | bool]:
    """What an optimizer remembers, flat: ``state.<parameter>.<name>``, and counters in ``group.<number>.<name>``."""
    described = optimizer.state_dict()
    entries: dict[str, Any] = {}
    for number, slots in described["state"].items():
        entries |= {f"state.{number}.{name}": value for name, value in slots.items() if value is not None}
    for number, group in enumerate(described["param_groups"]):
        if "step" in group:  # timm's LAMB counts there
            entries[f"group.{number}.step"] = group["step"]
    return entries


def _load_optimizer(optimizer: Optimizer, entries: dict[str, Any]) -> None:
    described = optimizer.state_dict()
    described["state"] = {}
    for name, value in entries.items():
        kind, number, slot = name.split(".", 2)
        if kind == "group":
            described["param_groups"][int(number)][slot] = value
        else:
            described["state"].setdefault(int(number), {})[slot] = value
    optimizer.load_state_dict(described)
