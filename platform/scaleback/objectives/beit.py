"""BEiT: masked image modelling with tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field

from scaleback.objectives.base import Objective
from scaleback.objectives.tokenizers import AnyTokenizer, RandomPatches

if TYPE_CHECKING:
    import torch
    from torch import nn

    from scaleback.objectives.learners.base import Learner

BLANK_MOST = 0.99
"""With more blank patches than that there is nothing to predict."""


class BEiT(Objective):
    """Bao et al., ICLR 2022: blocks of patches are replaced by a mask token, and their tokens predicted.

    The backbone is timm's plain ViT, so BEiT's relative positions and LayerScale are left out; absolute positions are
    the backbone's. Tokens are of a fixed vocabulary in pixel space in place of DALL-E's encoder, which has seen
    hundreds of millions of images, and are taken from the very view that the encoder sees.
    """

    kind: Literal["beit"] = "beit"
    takes_tokens: ClassVar[bool] = True
    tokenizer: AnyTokenizer = RandomPatches()
    masked_share: float = Field(75 / 196, gt=0, lt=1)
    """Of an image's patches."""
    least_block_share: float = Field(16 / 196, gt=0, lt=1)
    """Smallest area from which a block's is drawn, of the image's; at least one patch."""
    narrowest_block: float = Field(0.3, gt=0, le=1)
    """Least aspect ratio of a block; the greatest is its inverse."""

    def build(self, backbone: nn.Module, *, width: int, classes: int, generator: torch.Generator) -> Learner:
        from scaleback.objectives.learners.beit import BEiTLearner

        return BEiTLearner(self, backbone, width=width, generator=generator)

    def trivial_loss(self, *, classes: int, labels_an_image: int, batch_images: int) -> None:
        """The entropy of the tokens, which is known of the images only; the curve has it as ``constant_loss``."""

    def collapse(self, row: Mapping[str, float]) -> str | None:
        return nothing_to_predict(row)

    @classmethod
    def example(cls) -> Self:
        return cls(tokenizer=RandomPatches(vocabulary=16))


def nothing_to_predict(row: Mapping[str, float]) -> str | None:
    """Why the tokens of a row are no task; None if they are."""
    if row["blank_share"] > BLANK_MOST:
        return f"nothing to predict: {row['blank_share']:.1%} of the hidden patches are blank"
    return None
