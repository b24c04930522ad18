"""A method at work: what goes into a learner, what comes out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from scaleback.core import seeds

# Shapes: B images of a worker's slice, C channels, H rows, W columns, D width of the backbone, K classes.


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """A worker's slice of one global batch."""

    view_VBCHW: list[Tensor]
    """One normalised tensor a view; views may differ in size."""
    label_B: Tensor
    """Class of each image, -1 where there is none; (B, L) of a source whose images show up to L classes."""
    index_B: Tensor
    """Index of each image in its population."""
    counter_B: NDArray[np.int64]
    """Key of each image's own draws: its index and the pass over the data (``seeds.counter``)."""
    seed: int
    """The run's seed, and with ``step`` the key of every draw that concerns the batch as a whole."""
    step: int
    progress: float
    """Share of the budget behind this step, in [0, 1)."""
    watched: bool = True
    """Whether a row of the curve ends with this step: what costs time to watch is computed only then."""

    def draw(self, purpose: str, slots: int) -> Tensor:
        """(B, slots) float32 numbers in [0, 1) of each image's own, whatever batch or worker it is in."""
        draw_BS = seeds.uniform(seeds.key("objective", purpose, self.seed), self.counter_B, slots)
        draw = torch.from_numpy(draw_BS).to(self.view_VBCHW[0].device, torch.float32)
        return draw.clamp(max=1 - 2**-24)  # float32 rounds the largest up to 1

    def generator(self, purpose: str) -> np.random.Generator:
        """For draws that concern the batch as a whole; the same on every worker."""
        return seeds.generator(purpose, self.seed, self.step)


@dataclass(frozen=True, kw_only=True, slots=True)
class Losses:
    """What a learner returns; means over the slice."""

    total: Tensor
    """Scalar to minimise. Averaged over workers it is the loss of the batch."""
    features_BD: Tensor
    """Backbone features of the first view, detached: collapse is watched on them."""
    parts: dict[str, Tensor] = field(default_factory=dict)
    """Detached scalars for the curve, such as accuracy; means over the slice too. What costs time is among them only
    where ``Batch.watched``."""


class Learner(nn.Module):
    """A backbone with what the method adds to it.

    Everything that lasts (a teacher, a centre, a queue) is a parameter that needs no gradient or a buffer, so that it
    lies in every checkpoint.
    """

    backbone: nn.Module
    """What is trained."""
    kept: str = "backbone"
    """The submodule whose weights are the result: ``backbone``, or that of a teacher."""
    slice_multiple: int = 1
    """The objective's."""
    prepared_images: int = 0
    """At most so many images of the set are shown to ``prepare``; 0 if it is not needed."""

    def prepare(self, image_NCHW: Tensor) -> None:
        """Look at the first images before the first step, uint8, (N, C, S, S), the same on every worker.

        Raises:
            RunError: the method cannot work on such images.
        """

    def forward(self, batch: Batch) -> Losses:
        """Losses of one slice; under DDP this is the call that is wrapped, so every trained parameter takes part."""
        raise NotImplementedError

    def before_step(self, progress: float) -> None:
        """Called after the backward pass, before gradients are clipped and the optimizer steps; may drop gradients.

        ``progress`` is the share of the budget behind this step.
        """

    def after_step(self, progress: float) -> None:
        """Upkeep after an optimizer step: a teacher's average, a centre. ``progress`` now counts this step too."""

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that are not decayed whatever their shape: timm reads this."""
        own = getattr(self.backbone, "no_weight_decay", set)
        return {f"backbone.{name}" for name in own()}

    def facts(self) -> dict[str, Any]:
        """What the run's record should say of this learner, as plain data."""
        return {}
