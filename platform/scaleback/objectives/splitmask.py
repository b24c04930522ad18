"""SplitMask: two halves of an image predict each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field

from scaleback.objectives.base import Objective
from scaleback.objectives.beit import nothing_to_predict
from scaleback.objectives.tokenizers import AnyTokenizer, RandomPatches

if TYPE_CHECKING:
    import torch
    from torch import nn

    from scaleback.objectives.learners.base import Learner

ALIKE_LEAST = 0.999
"""Descriptors of different images with a mean cosine above that are one."""


class SplitMask(Objective):
    """El-Nouby et al., 2021: split the patches of an image in two, inpaint each part from the other, match the two.

    No code was released. Where the sources are silent: the decoder has the encoder's width and heads, fixed positions
    and a linear layer before it; the class token passes through it and is no part of the descriptor; losses of the two
    parts are added, those of matching averaged over both directions; negatives are both parts of all other images of
    the whole batch, over all workers, with gradient.
    """

    kind: Literal["splitmask"] = "splitmask"
    takes_tokens: ClassVar[bool] = True
    tokenizer: AnyTokenizer = RandomPatches()
    visible_share: float = Field(0.5, gt=0, le=0.5)
    """Of the patches, for each of the two parts; 0.25 is for very small sets. An odd patch is seen by neither."""
    decoder_depth: int = Field(2, ge=1)
    match_weight: float = Field(1.0, ge=0)
    """Of the matching loss beside the two of inpainting."""
    temperature: float = Field(0.2, gt=0)

    @property
    def compares_images(self) -> bool:
        return self.match_weight > 0

    def build(self, backbone: nn.Module, *, width: int, classes: int, generator: torch.Generator) -> Learner:
        from scaleback.objectives.learners.splitmask import SplitMaskLearner

        return SplitMaskLearner(self, backbone, width=width, generator=generator)

    def trivial_loss(self, *, classes: int, labels_an_image: int, batch_images: int) -> None:
        """As for BEiT, known of the images only."""

    def passes(self, areas: Sequence[float]) -> float:
        return 3 * 2 * self.visible_share * sum(areas)

    def collapse(self, row: Mapping[str, float]) -> str | None:
        if row.get("negative_similarity", 0.0) > ALIKE_LEAST:
            return f"descriptors of different images are one: their mean cosine is {row['negative_similarity']:.4f}"
        return nothing_to_predict(row)

    @classmethod
    def example(cls) -> Self:
        return cls(tokenizer=RandomPatches(vocabulary=16), decoder_depth=1)
