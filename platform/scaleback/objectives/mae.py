"""MAE: masked autoencoding of pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from scaleback.core.errors import Refusal, refusal
from scaleback.objectives.base import Objective

if TYPE_CHECKING:
    import torch
    from torch import nn

    from scaleback.objectives.learners.base import Learner

UNLEARNT_LEAST = 0.99
"""A loss above this share of what a prediction of each patch's mean costs says nothing of the patches."""


class MAE(Objective):
    """He et al., CVPR 2022: the encoder sees a quarter of the patches, a light decoder fills in the pixels of the rest.

    The encoder's positions are the backbone's own, learned ones (fixed in the paper). A patch that is the same
    everywhere has zeros for normalised pixels: its variance has 1e-6 added to it, as in the released code.
    """

    kind: Literal["mae"] = "mae"
    takes_tokens: ClassVar[bool] = True
    masked_share: float = Field(0.75, gt=0, lt=1)
    normalised: bool = True
    """Whether the pixels of a patch are predicted less their mean and over their standard deviation."""
    decoder_width: int = Field(512, ge=1)
    decoder_depth: int = Field(8, ge=1)
    decoder_heads: int = Field(16, ge=1)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.decoder_width % self.decoder_heads:
            rule = f"must divide the decoder's width of {self.decoder_width}"
            raise Refusal("decoder_heads", refusal(rule, self.decoder_heads))
        return self

    def build(self, backbone: nn.Module, *, width: int, classes: int, generator: torch.Generator) -> Learner:
        from scaleback.objectives.learners.mae import MAELearner

        return MAELearner(self, backbone, width=width, generator=generator)

    def trivial_loss(self, *, classes: int, labels_an_image: int, batch_images: int) -> None:
        """About 1 less the share of blank patches, of normalised pixels, and so known of the images only.

        The curve has it as ``constant_loss``.
        """

    def passes(self, areas: Sequence[float]) -> float:
        return 3 * (1 - self.masked_share) * sum(areas)

    def collapse(self, row: Mapping[str, float]) -> str | None:
        constant = row.get("constant_loss")
        if constant is not None and row["loss"] > UNLEARNT_LEAST * constant:
            return f"every patch is predicted as its mean: the loss is {row['loss']:.4f}, and that costs {constant:.4f}"
        return None

    @classmethod
    def example(cls) -> Self:
        return cls(masked_share=0.5, decoder_width=32, decoder_depth=1, decoder_heads=2)
