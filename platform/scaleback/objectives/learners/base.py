"""A method at work: what goes into a learner, what comes out."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

# Shapes: B images of a worker's slice, C channels, H rows, W columns, D width of the backbone, K classes.


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """A worker's slice of one global batch."""

    view_VBCHW: list[Tensor]
    """One normalised tensor a view."""
    label_B: Tensor
    """Class of each image, -1 where there is none; (B, L) of a source whose images show up to L classes."""
    index_B: Tensor
    """Index of each image in its population."""
    seed: int
    """The run's seed, and with ``step`` the key of every draw that concerns the batch as a whole."""
    step: int
    progress: float
    """Share of the budget behind this step, in [0, 1)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Losses:
    """What a learner returns; means over the slice."""

    total: Tensor
    """Scalar to minimise."""
    features_BD: Tensor
    """Backbone features of the first view, detached: collapse is watched on them."""
    parts: dict[str, Tensor] = field(default_factory=dict)
    """Scalars to record, such as accuracy."""


class Learner(nn.Module):
    """A backbone with what the method adds to it."""

    backbone: nn.Module
    """What evaluations look at."""
    slice_multiple: int = 1
    """The objective's."""

    def forward(self, batch: Batch) -> Losses:
        """Losses of one slice; under DDP this is the call that is wrapped."""
        raise NotImplementedError

    def after_step(self, progress: float) -> None:
        """Upkeep after an optimizer step: a teacher's average, a queue. Often nothing."""

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that are not decayed whatever their shape: timm reads this."""
        own = getattr(self.backbone, "no_weight_decay", set)
        return {f"backbone.{name}" for name in own()}
