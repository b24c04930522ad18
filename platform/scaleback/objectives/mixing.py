"""What the methods on mixed images (SDMP) have in common: how two images become one."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from scaleback.core.errors import Refusal, refusal
from scaleback.core.spec import Spec

Mixer = Literal["mixup", "cutmix", "resizemix"]


class Mixing(Spec):
    """Fields of SDMP (Ren et al., CVPR 2022): every image is mixed with a partner, by a share of its own.

    The released code knows ResizeMix alone; the paper's mixup and CutMix are written here from the paper. An image's
    two views have one share and boxes of their own, so boxes lie inside the image: one that is cut at the border would
    leave the views with different shares.
    """

    mixers: tuple[Mixer, ...] = ("mixup", "cutmix", "resizemix")
    """Each batch is mixed by one of these, drawn uniformly."""
    alpha: float = Field(1.0, gt=0)
    """An image's own share is drawn from Beta(alpha, alpha)."""
    pairing: Literal["local", "global"] = "local"
    """Who an image's partner is. ``global``: image i of N has N - 1 - i, as in the paper; images are gathered over
    workers. ``local``: rows 2i and 2i + 1 are partners; batches are in random order, so such a partner is as random,
    and it is on the same worker."""
    mix_weight: float = Field(1.0, gt=0)
    """Weight of either loss on mixed images, where that on clean ones has 1: 1 in the paper, 0.5 in the code."""

    @model_validator(mode="after")
    def _possible_mixers(self) -> Self:
        if not self.mixers or len(set(self.mixers)) < len(self.mixers):
            raise Refusal("mixers", refusal("must name at least one way to mix, each once", self.mixers))
        return self

    @property
    def slice_multiple(self) -> int:
        """Partners on one worker; and no image is its own partner."""
        return 2
