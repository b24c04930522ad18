"""Fill in the pixels of patches that were left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from scaleback.objectives.learners import vit
from scaleback.objectives.learners.base import Batch, Learner, Losses
from scaleback.objectives.learners.decoder import Decoder
from scaleback.objectives.learners.heads import full, linear
from scaleback.objectives.learners.masking import hidden_patches, shuffled

if TYPE_CHECKING:
    from scaleback.objectives.mae import MAE

# Shapes: B images, C channels, H rows, W columns, T patches, S seen, M missing, E width of the decoder, P pixels of a
# patch times channels.

VARIANCE = 1e-6
"""Added to a patch's variance; views have a std of about 1, so a blank patch stays zero."""


class MAELearner(Learner):
    """Backbone, decoder, linear head to pixels."""

    def __init__(self, spec: MAE, backbone: nn.Module, *, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.backbone = backbone
        self.decoder = Decoder(
            encoder_width=width,
            width=spec.decoder_width,
            depth=spec.decoder_depth,
            heads=spec.decoder_heads,
            generator=generator,
        )
        pixels = vit.patch_px(backbone) ** 2 * vit.channels(backbone)
        self.head = linear(spec.decoder_width, pixels, generator)
        self._spec = spec

    def forward(self, batch: Batch) -> Losses:
        spec, backbone, image_BCHW = self._spec, self.backbone, batch.view_VBCHW[0]
        embedded = vit.embed(backbone, image_BCHW)
        patches = embedded.shape[1]
        order_BT = shuffled(batch.draw("hide", patches))
        seen_BS, missing_BM = order_BT.split(_counts(patches, spec.masked_share), dim=1)
        encoded = vit.encode(backbone, embedded, seen_BS)
        decoded_BTE = self.decoder(vit.normalised(backbone, encoded), seen_BS, patches)

        target_BMP = vit.taken(vit.patched(image_BCHW, vit.patch_px(backbone)), missing_BM)
        parts = {}
        if spec.normalised:
            target_BMP = normalised_pixels(target_BMP)
            parts["constant_loss"] = target_BMP.square().mean()
        answer_BMP = full(self.head(vit.taken(decoded_BTE, missing_BM)))
        loss = (answer_BMP - target_BMP).square().mean()
        return Losses(total=loss, features_BD=vit.pool(backbone, encoded).detach(), parts=parts)


def normalised_pixels(patch_BMP: Tensor) -> Tensor:
    """Each patch with mean 0 and, but for ``VARIANCE``, unbiased variance 1."""
    variance_BM1, mean_BM1 = torch.var_mean(patch_BMP, dim=-1, keepdim=True)
    return (patch_BMP - mean_BM1) * (variance_BM1 + VARIANCE).rsqrt()


def _counts(patches: int, masked_share: float) -> list[int]:
    """Patches that are seen, and that are missing."""
    missing = hidden_patches(patches, masked_share)
    return [patches - missing, missing]
