"""What is watched while training: the curve, and the signs of collapse."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from scaleback.core.errors import DivergedError
from scaleback.objectives.learners.base import Losses
from scaleback.pretrain.state import Row
from scaleback.pretrain.world import World

CURVE_ROWS = 100
"""Rows of a run's curve."""
LEARNT_LEAST = 0.02
"""A run whose loss fell by less than this share of the trivial loss has not left it. 1p-frac at delta 0.01 stays within
1 % of ln L in our small runs; at delta 0.2 it falls by a quarter and more."""
RANK_LEAST = 1.5
"""Features of a lower effective rank lie on one line."""
TAIL = 0.1
"""Share of the curve whose mean is a run's final loss."""


class Watch:
    """Collects losses between two rows of the curve."""

    def __init__(self, world: World, *, steps: int, batch_images: int) -> None:
        self._world, self._steps, self._batch = world, steps, batch_images
        self.every = max(1, steps // CURVE_ROWS)
        self._sums: dict[str, Tensor] = {}
        self._count = 0

    def add(self, losses: Losses, step: int) -> None:
        """Take in one step's losses.

        Raises:
            DivergedError: the loss is not finite.
        """
        if not math.isfinite(losses.total.item()):
            raise DivergedError(f"loss {losses.total.item()} after {step * self._batch:,} images")
        for name, value in {"loss": losses.total, **losses.parts}.items():
            total = self._sums.get(name)
            self._sums[name] = value.detach().double() if total is None else total + value.detach()
        self._count += 1

    def due(self, step: int) -> bool:
        """Whether step number ``step`` (1 first) ends a row."""
        return step % self.every == 0 or step == self._steps

    def row(self, step: int, lr: float, gradient_norm: float, features_BD: Tensor) -> Row:
        """Means since the last row, over all workers; features are those of this worker's slice of the last batch."""
        names = sorted(self._sums)
        means = self._world.mean(torch.stack([self._sums[name] for name in names]) / self._count).tolist()
        self._sums, self._count = {}, 0
        features = features_BD.float()
        return {
            "images_seen": step * self._batch,
            **dict(zip(names, means, strict=True)),
            "lr": lr,
            "gradient_norm": gradient_norm,
            "feature_std": features.std(0, correction=0).mean().item(),
            "effective_rank": effective_rank(features),
        }


def effective_rank(features_BD: Tensor) -> float:
    """Exponential of the entropy of the normalised singular values of centred features (Roy and Vetterli, 2007)."""
    centred = (features_BD - features_BD.mean(0)).double()
    values = torch.linalg.svdvals(centred)
    share = values / values.sum().clamp(min=1e-30)
    return float(torch.exp(-(share * share.clamp(min=1e-30).log()).sum()))


def verdict(rows: list[Row], *, trivial_loss: float, classes: int) -> dict[str, float | bool]:
    """How a run ended: final loss, how far below the trivial loss, whether it collapsed.

    Two classes that are told apart lie on a line, so with two the rank says nothing.
    """
    tail = rows[-max(1, round(TAIL * len(rows))) :]
    loss = sum(row["loss"] for row in tail) / len(tail)
    learnt = 1 - loss / trivial_loss
    rank = tail[-1]["effective_rank"]
    return {
        "loss": loss,
        "trivial_loss": trivial_loss,
        "learnt_share": learnt,
        "effective_rank": rank,
        "collapsed": bool(learnt < LEARNT_LEAST or (rank < RANK_LEAST and classes != 2)),
    }
