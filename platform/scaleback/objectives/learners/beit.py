"""Predict the tokens of patches that a mask token stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from scaleback.objectives.learners import vit
from scaleback.objectives.learners.base import Batch, Losses
from scaleback.objectives.learners.heads import STD, linear
from scaleback.objectives.learners.masking import BLOCK_DRAWS, block_masks, hidden_patches
from scaleback.objectives.learners.tokenizers import TokenLearner, tokenizer_of

if TYPE_CHECKING:
    from scaleback.objectives.beit import BEiT

# Shapes: B images, C channels, H rows, W columns, T patches, M hidden ones, D width, K tokens.


class BEiTLearner(TokenLearner):
    """Backbone, mask token, linear head; the tokenizer has no weights that are trained."""

    def __init__(self, spec: BEiT, backbone: nn.Module, *, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.backbone = backbone
        self.mask_token = nn.Parameter(torch.empty(width).normal_(std=STD, generator=generator))
        self.head = linear(width, spec.tokenizer.vocabulary + 1, generator)
        self.tokenizer = tokenizer_of(spec.tokenizer, backbone, generator)
        self._spec = spec

    def forward(self, batch: Batch) -> Losses:
        image_BCHW, backbone = batch.view_VBCHW[0], self.backbone
        embedded_BTD = vit.embed(backbone, image_BCHW)
        hidden_BT = self.hidden(batch, embedded_BTD.shape[1])
        place_BM = hidden_BT.nonzero()[:, 1].view(len(hidden_BT), -1)
        encoded = vit.encode(backbone, torch.where(hidden_BT[:, :, None], self.mask_token, embedded_BTD))
        token_BM = self.tokenizer(vit.taken(vit.patched(image_BCHW, vit.patch_px(backbone)), place_BM))
        logits_BMK = self.head(vit.taken(vit.patch_tokens(backbone, encoded), place_BM))
        loss, parts = self.loss_of_tokens(logits_BMK, token_BM)
        return Losses(total=loss, features_BD=vit.pool(backbone, encoded).detach(), parts=parts)

    def hidden(self, batch: Batch, patches: int) -> Tensor:
        """(B, T) which patches are hidden, of every image as many."""
        spec, image_BCHW = self._spec, batch.view_VBCHW[0]
        side = vit.patch_px(self.backbone)
        mask_BT = block_masks(
            batch.draw("blocks", BLOCK_DRAWS).cpu().numpy(),
            (image_BCHW.shape[-2] // side, image_BCHW.shape[-1] // side),
            hidden=hidden_patches(patches, spec.masked_share),
            least_area=max(1.0, patches * spec.least_block_share),
            narrowest=spec.narrowest_block,
        )
        return torch.from_numpy(mask_BT).to(image_BCHW.device)
