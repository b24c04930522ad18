"""What is watched while training: the curve, and the signs of collapse."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

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
RANKED_IMAGES = 4
"""The rank of fewer features says nothing."""
PATIENCE_ROWS, PATIENCE_SHARE = 5, 0.1
"""So many rows in a row must show a collapse, of those behind the first tenth of the run, before it is stopped."""
TAIL = 0.1
"""Share of the curve whose mean is a run's final loss."""


class Watch:
    """Collects losses between two rows of the curve."""

    def __init__(
        self,
        world: World,
        *,
        steps: int,
        batch_images: int,
        trivial_loss: float | None = None,
        parts: dict[str, list[Tensor]] | None = None,
    ) -> None:
        self._world, self._steps, self._batch, self._trivial = world, steps, batch_images, trivial_loss
        self.every = max(1, steps // CURVE_ROWS)
        self._parts = {} if parts is None else parts

    def add(self, losses: Losses, step: int) -> None:
        """Take in one step's losses.

        Raises:
            DivergedError: the loss is not finite.
        """
        if not math.isfinite(losses.total.item()):
            raise DivergedError(f"loss {losses.total.item()} after {step * self._batch:,} images")
        for name, value in {"loss": losses.total, **losses.parts}.items():
            self._parts.setdefault(name, []).append(value.detach().double())

    def due(self, step: int) -> bool:
        """Whether step number ``step`` (1 first) ends a row."""
        return step % self.every == 0 or step == self._steps

    def row(self, step: int, lr: float, gradient_norm: float, features_BD: Tensor) -> Row:
        """Means since the last row, over all workers; features are those of the last (micro-)batch."""
        names = sorted(self._parts)
        means = self._world.mean(torch.stack([torch.stack(self._parts[name]).mean() for name in names])).tolist()
        self._parts.clear()
        features = self._world.gathered(features_BD.float())
        row = {
            "images_seen": step * self._batch,
            **dict(zip(names, means, strict=True)),
            "lr": lr,
            "gradient_norm": gradient_norm,
            "feature_std": features.std(0, correction=0).mean().item(),
        }
        if len(features) >= RANKED_IMAGES:
            row["effective_rank"] = effective_rank(features)
        return row | {"loss_share": row["loss"] / self._trivial} if self._trivial else row


def collapsed(
    rows: Sequence[Row], *, budget_images: int, classes: int, of_method: Callable[[Row], str | None]
) -> str | None:
    """Why the latest rows of a curve show a collapse that will not mend itself; None if they do not.

    Args:
        rows: the curve so far.
        budget_images: of the whole run.
        classes: that the method tells apart; two lie on a line, so with two the rank says nothing.
        of_method: what the method says of a row.
    """
    latest = [row for row in rows[-PATIENCE_ROWS:] if row["images_seen"] > PATIENCE_SHARE * budget_images]
    if len(latest) < PATIENCE_ROWS:
        return None
    if classes != 2 and all(_rank(row) < RANK_LEAST for row in latest):
        return f"features lie on one line: their effective rank is {latest[-1]['effective_rank']:.2f}"
    reasons = [of_method(row) for row in latest]
    return reasons[-1] if all(reasons) else None


def effective_rank(features_BD: Tensor) -> float:
    """Exponential of the entropy of the normalised singular values of centred features (Roy and Vetterli, 2007)."""
    centred = (features_BD - features_BD.mean(0)).double()
    values = torch.linalg.svdvals(centred)
    share = values / values.sum().clamp(min=1e-30)
    return float(torch.exp(-(share * share.clamp(min=1e-30).log()).sum()))


def verdict(rows: list[Row], *, trivial_loss: float | None, classes: int) -> dict[str, float | bool | None]:
    """How a run ended: final loss, how far below the trivial loss, whether it collapsed.

    Two classes that are told apart lie on a line, so with two the rank says nothing.
    """
    tail = rows[-max(1, round(TAIL * len(rows))) :]
    loss = sum(row["loss"] for row in tail) / len(tail)
    learnt = None if trivial_loss is None else 1 - loss / trivial_loss
    unlearnt = learnt is not None and learnt < LEARNT_LEAST
    return {
        "loss": loss,
        "trivial_loss": trivial_loss,
        "learnt_share": learnt,
        "effective_rank": tail[-1].get("effective_rank"),
        "collapsed": bool(unlearnt or (_rank(tail[-1]) < RANK_LEAST and classes != 2)),
    }


def _rank(row: Row) -> float:
    """The effective rank where it says something."""
    return row.get("effective_rank", math.inf)
