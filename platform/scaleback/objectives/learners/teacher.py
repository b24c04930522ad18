"""A teacher: a copy of the student that follows it slowly and is never reached by a gradient."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn


def teacher_of(student: nn.Module) -> nn.Module:
    """A copy without gradients and without dropped branches."""
    teacher = copy.deepcopy(student)
    teacher.requires_grad_(False)
    for part in teacher.modules():
        if isinstance(getattr(part, "drop_prob", None), float):
            part.drop_prob = 0.0  # type: ignore[assignment]
    return teacher


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Move the teacher's parameters towards the student's; buffers (batch statistics) are the teacher's own."""
    mine = [value.detach() for value in teacher.parameters()]
    theirs = [value.detach() for value in student.parameters()]
    torch._foreach_lerp_(mine, theirs, 1 - momentum)


def momentum_at(progress: float, start: float) -> float:
    """From ``start`` to 1 along a half cosine (BYOL, MoCo v3, DINO)."""
    return 1 - (1 - start) * 0.5 * (1 + math.cos(math.pi * progress))
