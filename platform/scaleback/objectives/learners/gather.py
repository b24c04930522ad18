"""Collectives that losses need; of one process they change nothing.

Under DDP gradients are averaged over workers, and every loss here is a mean over a worker's own images, so the
gradient of the mean over the batch comes out right as long as whatever is gathered *with* gradient also passes
gradients back to the worker it came from: summed, not averaged (solo-learn's issue 253, lightly's pull request 1531).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def workers() -> int:
    """Size of the process group, 1 without one."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """This process's place in the group."""
    return dist.get_rank() if dist.is_initialized() else 0


def gathered(value_B: Tensor) -> Tensor:
    """Rows of all workers in order of rank, (workers x B, ...), without gradient."""
    if workers() == 1:
        return value_B.detach()
    parts = [torch.empty_like(value_B) for _ in range(workers())]
    dist.all_gather(parts, value_B.detach().contiguous())
    return torch.cat(parts)


def gathered_with_gradient(value_B: Tensor) -> Tensor:
    """The same, and gradients of all workers' losses flow back to the rows' own worker."""
    if workers() == 1:
        return value_B
    rows: Tensor = _Gather.apply(value_B)  # type: ignore[no-untyped-call]
    return rows


def summed(value: Tensor) -> Tensor:
    """Sum over workers, without gradient."""
    if workers() == 1:
        return value.detach()
    total = value.detach().clone()
    dist.all_reduce(total)
    return total


def summed_with_gradient(value: Tensor) -> Tensor:
    """Sum over workers; gradients of all workers' losses are summed on the way back."""
    if workers() == 1:
        return value
    total: Tensor = _Sum.apply(value)  # type: ignore[no-untyped-call]
    return total


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, value_B: Tensor) -> Tensor:
        context.rows = len(value_B)
        return gathered(value_B)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        start = rank() * context.rows
        return summed(gradients[0])[start : start + context.rows]


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, value: Tensor) -> Tensor:
        return summed(value)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        return summed(gradients[0])
