"""Heads that methods put on a backbone: linear ones, and multilayer perceptrons with batch norms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

STD = 0.02
"""Of a vision transformer's weights that are drawn from a normal distribution: heads, tokens."""


def linear(width: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """A head whose first answer is close to zero: normal weights cut at two units, as timm's classifier."""
    head = nn.Linear(width, outputs)
    nn.init.trunc_normal_(head.weight, std=STD, a=-2 * STD, b=2 * STD, generator=generator)
    nn.init.zeros_(head.bias)
    return head


def mlp(widths: Sequence[int], *, generator: torch.Generator, last: nn.Module | None = None) -> nn.Sequential:
    """Linear layers from width to width, each but the last followed by a batch norm and a ReLU.

    Weights are drawn as torch draws a linear layer's, from ``generator``. A linear layer before a batch norm has no
    bias, which the norm would take out again.

    Args:
        widths: of the features, of each hidden layer, of the output.
        generator: what fresh weights come from.
        last: what follows the last linear layer; None for nothing, and then that layer has a bias.
    """
    layers: list[nn.Module] = []
    for number, (fan_in, fan_out) in enumerate(pairwise(widths)):
        ends = number == len(widths) - 2
        linear = nn.Linear(fan_in, fan_out, bias=ends and last is None)
        for parameter in linear.parameters():
            nn.init.uniform_(parameter, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in), generator=generator)
        layers += [linear] if ends else [linear, nn.BatchNorm1d(fan_out), nn.ReLU()]
    return nn.Sequential(*layers, *([last] if last is not None else []))


def full(value: Tensor) -> Tensor:
    """Half precision becomes single; what is more precise stays."""
    return value.to(torch.promote_types(value.dtype, torch.float32))
