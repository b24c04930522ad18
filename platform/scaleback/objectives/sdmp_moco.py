"""SDMP on MoCo v3: mixed images that share sources are positive pairs, as far as they share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Self

from scaleback.objectives.mixing import Mixing
from scaleback.objectives.moco import MoCoV3

if TYPE_CHECKING:
    import torch
    from torch import nn

    from scaleback.objectives.learners.base import Learner


class SDMPMoCoV3(Mixing, MoCoV3):
    """Ren et al., CVPR 2022: MoCo v3's loss, plus those of mixed queries against clean and against mixed keys.

    A mixed query has two right answers: among clean keys those of its two sources, by their shares; among mixed keys
    its own and its partner's, 1 to lambda_c. Both losses are reconstructed from the paper's equations and its
    pseudo-code; each takes both views in turn and counts as MoCo's own does. The released code differs: one direction a
    batch (``symmetric``), half the weight (``mix_weight``), ResizeMix alone (``mixers``), and in its last version
    another loss (``mix_loss``) and no mixed pixels at all. Its first version takes lambda_c from another image's share
    where there are several workers. Neither of these two faults is offered.
    """

    kind: Literal["sdmp-moco-v3"] = "sdmp-moco-v3"  # type: ignore[assignment]
    mix_loss: Literal["soft", "log-mixture"] = "soft"
    """Of two right answers: cross-entropy with both as a soft label (paper), or minus the logarithm of their weighted
    mean probability (the released code's last version)."""
    symmetric: bool = True
    """Whether each view finds the other in every batch, as in MoCo v3; or one finds the other, by a coin a batch, and
    mixed queries are of the view that is found (released code)."""

    def build(self, backbone: nn.Module, *, width: int, classes: int, generator: torch.Generator) -> Learner:
        from scaleback.objectives.learners.sdmp_moco import SDMPMoCoLearner

        return SDMPMoCoLearner(self, backbone, width=width, generator=generator)

    def trivial_loss(self, *, classes: int, labels_an_image: int, batch_images: int) -> float:
        of_moco = super().trivial_loss(classes=classes, labels_an_image=labels_an_image, batch_images=batch_images)
        return of_moco * (1 + 2 * self.mix_weight) * (1.0 if self.symmetric else 0.5)

    def passes(self, areas: Sequence[float]) -> float:
        # Of each view: clean and mixed queries forward and backward, clean and mixed keys forward. By a coin, a query
        # of either kind is of one view, and so is the mixed key.
        return (8.0 if self.symmetric else 4.5) * sum(areas)

    @classmethod
    def example(cls) -> Self:
        return cls(hidden=64, output=256, projector_layers=2, pairing="global")
