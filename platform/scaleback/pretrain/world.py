"""The workers of one run: alone in a process, or a group of torch.distributed."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from scaleback.objectives.learners.batch_norm import over_workers
from scaleback.objectives.learners.gather import gathered

T = TypeVar("T")


def _meeting() -> str:
    """Where a new group meets: a free port of this machine, by the name that the others know it by."""
    host = os.environ.get("MASTER_ADDR", "127.0.0.1")
    with socket.create_server((host, 0)) as listening:
        return f"{host}:{listening.getsockname()[1]}"


@dataclass(frozen=True, slots=True)
class World:
    """Rank, number of workers and device of this process."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @classmethod
    def joined(cls, device: torch.device) -> World:
        """The process group of this process, or a world of one."""
        if not dist.is_initialized():
            return cls(device=device)
        return cls(dist.get_rank(), dist.get_world_size(), device)

    @property
    def first(self) -> bool:
        """Whether this worker writes what is written once."""
        return self.rank == 0

    def cut(self, size: int) -> World | None:
        """The first ``size`` workers as a group of their own; None for one of the others, which has no more to do."""
        if size == self.size:
            return self
        meeting = self.told_by_first(_meeting() if self.first else "")
        self.mean(torch.zeros(1, device=self.device))  # all have heard it
        backend = dist.get_backend()
        dist.destroy_process_group()
        if self.rank >= size:
            return None
        if size > 1:
            dist.init_process_group(backend, init_method=f"tcp://{meeting}", rank=self.rank, world_size=size)
        return World.joined(self.device)

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module whose backward pass averages gradients over workers, and whose batch norms see all of them."""
        if self.size == 1:
            return module
        over_workers(module)
        ids = [self.device] if self.device.type == "cuda" else None
        # Buffers (batch statistics, a centre, a vocabulary) are computed alike by all workers; none is sent each step.
        ddp = nn.parallel.DistributedDataParallel
        ddp._set_params_and_buffers_to_ignore_for_model(module, [name for name, _ in module.named_buffers()])
        # Gradients stay where they were averaged: one copy of all of them less, each step.
        return ddp(module, device_ids=ids, gradient_as_bucket_view=True)

    def mean(self, value: Tensor) -> Tensor:
        """Mean over workers; slices are of equal size, so this is the mean over the batch."""
        if self.size == 1:
            return value
        value = value.clone()
        dist.all_reduce(value)
        return value / self.size

    def gathered(self, value_B: Tensor) -> Tensor:
        """Rows of all workers, without gradient."""
        return gathered(value_B)

    def told_by_first(self, value: T) -> T:
        """What worker 0 passed, on every worker."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=self.device)
        return box[0]
