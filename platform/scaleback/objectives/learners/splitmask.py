"""Split, inpaint, match."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scaleback.objectives.learners import vit
from scaleback.objectives.learners.base import Batch, Losses
from scaleback.objectives.learners.decoder import Decoder
from scaleback.objectives.learners.gather import gathered_with_gradient, rank
from scaleback.objectives.learners.heads import full, linear
from scaleback.objectives.learners.masking import hidden_patches, shuffled
from scaleback.objectives.learners.statistics import pair_statistics
from scaleback.objectives.learners.tokenizers import TokenLearner, tokenizer_of

if TYPE_CHECKING:
    from scaleback.objectives.splitmask import SplitMask

# Shapes: B images, C channels, H rows, W columns, T patches, S seen by a part, M missing, D width, K tokens. Rows of
# both parts (Q = 2B) come first part first.


class SplitMaskLearner(TokenLearner):
    """Backbone, decoder, linear head."""

    def __init__(self, spec: SplitMask, backbone: nn.Module, *, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.backbone = backbone
        self.decoder = Decoder(
            encoder_width=width,
            width=width,
            depth=spec.decoder_depth,
            heads=vit.heads(backbone),
            generator=generator,
        )
        self.head = linear(width, spec.tokenizer.vocabulary + 1, generator)
        self.tokenizer = tokenizer_of(spec.tokenizer, backbone, generator)
        self._spec = spec

    def forward(self, batch: Batch) -> Losses:
        spec, backbone, image_BCHW = self._spec, self.backbone, batch.view_VBCHW[0]
        embedded_BTD = vit.embed(backbone, image_BCHW)
        images, patches, _ = embedded_BTD.shape
        seen_QS, missing_QM = self.parts(batch, patches)
        encoded = vit.encode(backbone, embedded_BTD.repeat(2, 1, 1), seen_QS)
        decoded_QTD = self.decoder(vit.normalised(backbone, encoded), seen_QS, patches)

        token_BT = self.tokenizer(vit.patched(image_BCHW, vit.patch_px(backbone)))
        logits_QMK = self.head(vit.taken(decoded_QTD, missing_QM))
        inpaint, parts = self.loss_of_tokens(logits_QMK, token_BT.repeat(2, 1).gather(1, missing_QM))
        total = 2 * inpaint  # the mean over both parts, of which the sum is wanted
        parts["inpaint"] = total.detach()
        if spec.match_weight:
            descriptor_2BD = decoded_QTD.mean(1).view(2, images, -1)
            match = matching_loss(descriptor_2BD[0], descriptor_2BD[1], spec.temperature)
            total = total + spec.match_weight * match
            parts["match"] = match.detach()
            if batch.watched:
                parts |= pair_statistics(descriptor_2BD[0], descriptor_2BD[1])
        return Losses(total=total, features_BD=vit.pool(backbone, encoded[:images]).detach(), parts=parts)

    def parts(self, batch: Batch, patches: int) -> tuple[Tensor, Tensor]:
        """(2B, S) the patches that each part sees, (2B, M) those that it must fill in."""
        order_BT = shuffled(batch.draw("split", patches))
        seen = min(patches - hidden_patches(patches, 1 - self._spec.visible_share), patches // 2)
        first, second, neither = order_BT.tensor_split([seen, 2 * seen], dim=1)
        missing = [torch.cat([second, neither], dim=1), torch.cat([first, neither], dim=1)]
        return torch.cat([first, second]), torch.cat(missing)


def matching_loss(first_BD: Tensor, second_BD: Tensor, temperature: float) -> Tensor:
    """InfoNCE of the two parts' descriptors, mean over images and both directions.

    The negatives of an image are both descriptors of every other image of the batch, over all workers.
    """
    with torch.autocast(first_BD.device.type, enabled=False):
        own_B2D = F.normalize(full(torch.stack([first_BD, second_BD], dim=1)), dim=2)
        all_ND = gathered_with_gradient(own_B2D).flatten(0, 1)
        logits_QN = own_B2D.flatten(0, 1) @ all_ND.T / temperature
        row = torch.arange(len(logits_QN), device=logits_QN.device)
        own = row + rank() * len(row)
        logits_QN = logits_QN.index_put((row, own), logits_QN.new_tensor(-torch.inf))
        return F.cross_entropy(logits_QN, own ^ 1)
