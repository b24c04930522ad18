"""A light transformer that fills in what an encoder has not seen (MAE, SplitMask)."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn

from scaleback.objectives.learners import vit
from scaleback.objectives.learners.heads import STD
from scaleback.torchvision_operators import declare

declare()  # before timm, which imports torchvision
from timm.models.vision_transformer import Block  # noqa: E402

# Shapes: B images, T patches, S patches that were seen, P prefix tokens, D width of the encoder, E of the decoder.


class Decoder(nn.Module):
    """Encoded patches at their places, a mask token at all others, fixed sine-cosine positions, pre-norm blocks.

    Weights of blocks are Xavier uniform (He et al., 2022, appendix), the mask token normal.
    """

    def __init__(self, *, encoder_width: int, width: int, depth: int, heads: int, generator: torch.Generator) -> None:
        super().__init__()
        self.embed = nn.Linear(encoder_width, width)
        self.mask_token = nn.Parameter(torch.empty(width).normal_(std=STD, generator=generator))
        self.blocks = nn.Sequential(*(Block(width, heads, qkv_bias=True) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        for part in self.modules():
            if isinstance(part, nn.Linear):
                nn.init.xavier_uniform_(part.weight, generator=generator)
                nn.init.zeros_(part.bias)

    def forward(self, encoded_BSD: Tensor, place_BS: Tensor, patches: int) -> Tensor:
        """(B, T, E) decoded patches.

        Args:
            encoded_BSD: prefix tokens, then the patches that were seen.
            place_BS: where these are, int64.
            patches: of the whole image, a square.
        """
        embedded = self.embed(encoded_BSD)
        prefix = embedded.shape[1] - place_BS.shape[1]
        width = embedded.shape[2]
        whole_BTE = self.mask_token.to(embedded.dtype).expand(len(embedded), patches, width)
        whole_BTE = whole_BTE.scatter(1, place_BS[:, :, None].expand(-1, -1, width), embedded[:, prefix:])
        whole_BTE = whole_BTE + _positions(patches, width, embedded.device)
        decoded: Tensor = self.norm(self.blocks(torch.cat([embedded[:, :prefix], whole_BTE], dim=1)))
        return decoded[:, prefix:]


@lru_cache(maxsize=8)
def _positions(patches: int, width: int, device: torch.device) -> Tensor:
    """(T, E) sines and cosines of a square grid."""
    side = round(patches**0.5)
    assert side * side == patches, "a square grid"
    return vit.sincos(side, side, width).to(device)
