"""SDMP on DINO: mixed images that share sources have outputs in common, as far as they share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Self

from scaleback.objectives.dino import DINO, GLOBAL_CROPS
from scaleback.objectives.mixing import Mixing

if TYPE_CHECKING:
    import torch
    from torch import nn

    from scaleback.objectives.learners.base import Learner


class SDMPDINO(Mixing, DINO):
    """Ren et al., CVPR 2022: DINO's loss, plus those of mixed crops against clean and against mixed teacher views.

    No code of this was ever released. The paper says that the two losses are added; their form is reconstructed from
    the one on MoCo v3. Against clean views the target is the teacher's output on the two sources, by their shares;
    against mixed ones that on the mixed image itself and on its partner's, 1 to lambda_c; both of the other view. Our
    own choices: global crops are mixed and local ones stay clean; clean images alone move the centre; mixed crops go
    through the backbone apart from clean ones.
    """

    kind: Literal["sdmp-dino"] = "sdmp-dino"  # type: ignore[assignment]

    @property
    def compares_images(self) -> bool:
        return True

    def build(self, backbone: nn.Module, *, width: int, classes: int, generator: torch.Generator) -> Learner:
        from scaleback.objectives.learners.sdmp_dino import SDMPDINOLearner

        return SDMPDINOLearner(self, backbone, width=width, generator=generator)

    def trivial_loss(self, *, classes: int, labels_an_image: int, batch_images: int) -> float:
        of_dino = super().trivial_loss(classes=classes, labels_an_image=labels_an_image, batch_images=batch_images)
        return of_dino * (1 + 2 * self.mix_weight)

    def passes(self, areas: Sequence[float]) -> float:
        # Of each global crop a mixed one too, forward and backward, and the teacher's pass.
        return super().passes(areas) + 4 * sum(areas[:GLOBAL_CROPS])

    @classmethod
    def example(cls) -> Self:
        return cls(**DINO.example().model_dump(exclude={"kind"}), pairing="global", mix_weight=0.2)
