"""A light transformer that fills in what an encoder has not seen (MAE, SplitMask)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scaleback.torchvision_operators import declare

declare()  # before timm, which imports torchvision
from timm.models.vision_transformer import Block  # noqa: E402

# Shapes: B images, T patches, S patches that were seen, P prefix tokens, D width of the encoder, E of the decoder.

STD = 0.02


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
        whole_BTE = whole_BTE + sine_cosine(patches, width, embedded)
        decoded: Tensor = self.norm(self.blocks(torch.cat([embedded[:, :prefix], whole_BTE], dim=1)))
        return decoded[:, prefix:]


def sine_cosine(patches: int, width: int, like: Tensor) -> Tensor:
    """(T, E) positions of a square grid (Vaswani et al., 2017, in two dimensions): column first, then row."""
    side, quarter = round(patches**0.5), -(-width // 4)
    assert side * side == patches, "a square grid"
    dtype = torch.promote_types(like.dtype, torch.float32)
    frequency = 10_000 ** -(torch.arange(quarter, device=like.device, dtype=dtype) / quarter)
    phase = torch.arange(side, device=like.device, dtype=dtype)[:, None] * frequency
    axis = torch.cat([phase.sin(), phase.cos()], dim=1)
    column = axis.repeat(side, 1)
    row = axis.repeat_interleave(side, dim=0)
    return torch.cat([column, row], dim=1)[:, :width]


def prediction(width: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """A linear head whose first answer is close to zero: normal weights cut at two units, as timm's classifier."""
    head = nn.Linear(width, outputs)
    nn.init.trunc_normal_(head.weight, std=STD, a=-2 * STD, b=2 * STD, generator=generator)
    nn.init.zeros_(head.bias)
    return head
