"""Batch normalisation over the whole batch, however many workers it is cut over.

torch's SyncBatchNorm runs on GPUs only; this one runs wherever the process group does, and of one process it is
torch's own batch normalisation.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scaleback.objectives.learners.gather import summed_with_gradient, workers
from scaleback.objectives.learners.heads import full

# Shapes: B images of a slice, C channels.


class _OverWorkers(nn.Module):
    """Replaces the forward pass of a batch normalisation; its parameters, buffers and names stay."""

    def forward(self: nn.modules.batchnorm._BatchNorm, value_BC: Tensor) -> Tensor:  # type: ignore[misc]
        if not self.training or workers() == 1:
            return super().forward(value_BC)  # type: ignore[misc,no-any-return]
        value = full(value_BC)
        others = [dimension for dimension in range(value.ndim) if dimension != 1]
        count = value.numel() // value.shape[1] * workers()
        shape = [1, -1] + [1] * (value.ndim - 2)
        mean_C = summed_with_gradient(value.sum(others)) / count
        centred = value - mean_C.view(shape)
        variance_C = summed_with_gradient(centred.square().sum(others)) / count
        if self.track_running_stats:
            self._remember(mean_C.detach(), variance_C.detach() * count / max(1, count - 1))  # type: ignore[operator]
        result = centred * (variance_C + self.eps).rsqrt().view(shape)
        if self.affine:
            result = result * self.weight.view(shape) + self.bias.view(shape)
        return result.to(value_BC.dtype)

    def _remember(self: nn.modules.batchnorm._BatchNorm, mean_C: Tensor, variance_C: Tensor) -> None:  # type: ignore[misc]
        assert self.num_batches_tracked is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        self.num_batches_tracked.add_(1)
        weight = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        with torch.no_grad():
            self.running_mean.lerp_(mean_C.to(self.running_mean.dtype), weight)
            self.running_var.lerp_(variance_C.to(self.running_var.dtype), weight)


class _BatchNorm1d(_OverWorkers, nn.BatchNorm1d):
    pass


class _BatchNorm2d(_OverWorkers, nn.BatchNorm2d):
    pass


def over_workers(module: nn.Module) -> None:
    """Let every batch normalisation in ``module`` look at the slices of all workers."""
    for part in module.modules():
        if type(part) is nn.BatchNorm1d:
            part.__class__ = _BatchNorm1d
        elif type(part) is nn.BatchNorm2d:
            part.__class__ = _BatchNorm2d
