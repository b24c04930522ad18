"""Inside a plain vision transformer of timm: patches in, tokens out, any of them left out, at any size of image."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn

# Shapes: B images, C channels, H rows, W columns, T patches (or some of them), P prefix tokens, D width.


def features(backbone: nn.Module, image_BCHW: Tensor) -> Tensor:
    """(B, D) pooled features of images of any size that divides into patches.

    Positions of another size than the model's own are interpolated (bicubic, as timm and DINO do).
    """
    if not is_plain(backbone) or tuple(image_BCHW.shape[-2:]) == tuple(cast(Any, backbone).patch_embed.img_size):
        pooled: Tensor = backbone(image_BCHW)
        return pooled
    return pool(backbone, encode(backbone, embed(backbone, image_BCHW)))


def embed(backbone: nn.Module, image_BCHW: Tensor) -> Tensor:
    """(B, T, D) embedded patches, without positions: a mask token may take the place of some of them."""
    vit = cast(Any, backbone)
    grid_BDHW = vit.patch_embed.proj(image_BCHW)
    tokens: Tensor = vit.patch_embed.norm(grid_BDHW.flatten(2).transpose(1, 2))
    return tokens


def positions(backbone: nn.Module, patches: int) -> Tensor:
    """(1, T, D) positions of a square grid of so many patches."""
    from timm.layers import resample_abs_pos_embed  # type: ignore[attr-defined]

    vit = cast(Any, backbone)
    own_1TD: Tensor = vit.pos_embed[:, _prefix_positions(vit) :]
    if own_1TD.shape[1] == patches:
        return own_1TD
    side = round(patches**0.5)
    assert side * side == patches, "a square grid"
    resampled: Tensor = resample_abs_pos_embed(
        own_1TD, new_size=[side, side], old_size=list(vit.patch_embed.grid_size), num_prefix_tokens=0
    )
    return resampled


def encode(backbone: nn.Module, tokens_BTD: Tensor, kept_BT: Tensor | None = None) -> Tensor:
    """(B, P + T, D) encoded tokens after the final norm, the prefix (class token) first.

    Args:
        backbone: a plain ViT.
        tokens_BTD: embedded patches, without positions.
        kept_BT: places of the patches that the encoder sees, int64; None for all. The others are left out, as in MAE.
    """
    vit = cast(Any, backbone)
    tokens_BTD = tokens_BTD + positions(backbone, tokens_BTD.shape[1])
    if kept_BT is not None:
        tokens_BTD = taken(tokens_BTD, kept_BT)
    prefix = [part for part in (vit.cls_token, vit.reg_token) if part is not None]
    if prefix:
        prefix_1PD = torch.cat(prefix, dim=1)
        if _prefix_positions(vit):
            prefix_1PD = prefix_1PD + vit.pos_embed[:, : _prefix_positions(vit)]
        tokens_BTD = torch.cat([prefix_1PD.expand(len(tokens_BTD), -1, -1), tokens_BTD], dim=1)
    tokens_BTD = vit.norm_pre(vit.patch_drop(vit.pos_drop(tokens_BTD)))
    encoded: Tensor = vit.norm(vit.blocks(tokens_BTD))
    return encoded


def pool(backbone: nn.Module, encoded_BTD: Tensor) -> Tensor:
    """(B, D) what the model's own pooling makes of its encoded tokens."""
    pooled: Tensor = cast(Any, backbone).forward_head(encoded_BTD, pre_logits=True)
    return pooled


def normalised(backbone: nn.Module, encoded_BTD: Tensor) -> Tensor:
    """(B, P + T, D) encoded tokens, normalised by the model's last norm wherever it has it: before or after pooling."""
    tokens: Tensor = cast(Any, backbone).fc_norm(encoded_BTD)
    return tokens


def patch_tokens(backbone: nn.Module, encoded_BTD: Tensor) -> Tensor:
    """(B, T, D) encoded patches, normalised likewise."""
    return normalised(backbone, encoded_BTD[:, prefix_tokens(backbone) :])


def prefix_tokens(backbone: nn.Module) -> int:
    """P, the class token and registers."""
    return int(cast(Any, backbone).num_prefix_tokens)


def heads(backbone: nn.Module) -> int:
    """Attention heads of a block."""
    return int(cast(Any, backbone).blocks[0].attn.num_heads)


def channels(backbone: nn.Module) -> int:
    """Channels of the images it looks at."""
    return int(cast(Any, backbone).patch_embed.proj.in_channels)


def image_px(backbone: nn.Module) -> int:
    """Side of the images it was built for."""
    return int(cast(Any, backbone).patch_embed.img_size[0])


def taken(value_BTD: Tensor, place_BT: Tensor) -> Tensor:
    """Rows of each image at its own places."""
    return value_BTD.gather(1, place_BT[:, :, None].expand(-1, -1, value_BTD.shape[2]))


def patch_px(backbone: nn.Module) -> int:
    """Side of a patch."""
    return int(cast(Any, backbone).patch_embed.patch_size[0])


def patched(image_BCHW: Tensor, side_px: int) -> Tensor:
    """(B, T, side x side x C) pixels of each patch, row by row, channels last."""
    b, c, h, w = image_BCHW.shape
    grid = image_BCHW.reshape(b, c, h // side_px, side_px, w // side_px, side_px)
    return grid.permute(0, 2, 4, 3, 5, 1).reshape(b, -1, side_px * side_px * c)


def _prefix_positions(vit: Any) -> int:
    """Prefix tokens that have a position of their own."""
    return 0 if vit.no_embed_class else int(vit.num_prefix_tokens)


def is_plain(backbone: nn.Module) -> bool:
    """Whether this is timm's vision transformer of patches cut by one convolution, with absolute positions.

    Of models alike in part (CaiT, EVA, BEiT), the functions here know nothing.
    """
    vit = cast(Any, backbone)
    plain = type(vit).__name__ == "VisionTransformer" and type(vit.patch_embed).__name__ == "PatchEmbed"
    return plain and vit.pos_embed is not None and vit.attn_pool is None


@torch.no_grad()
def redraw_xavier(backbone: nn.Module, generator: torch.Generator) -> None:
    """Draw a plain ViT's weights as MoCo v3 does: Glorot's uniform, queries, keys and values as three matrices.

    The patch projection counts as a matrix, too. Biases are 0, the class token is all but 0.
    """
    vit = cast(Any, backbone)
    for name, part in backbone.named_modules():
        if isinstance(part, nn.Linear) or part is vit.patch_embed.proj:
            weight = cast(nn.Linear, part).weight.flatten(1)
            fan_out, fan_in = weight.shape
            bound = math.sqrt(6 / (fan_in + (fan_out // 3 if name.endswith(".qkv") else fan_out)))
            nn.init.uniform_(weight, -bound, bound, generator=generator)
            if part.bias is not None:
                nn.init.zeros_(cast(Tensor, part.bias))
    if vit.cls_token is not None:
        nn.init.normal_(vit.cls_token, std=1e-6, generator=generator)


@torch.no_grad()
def fix_sincos_positions(backbone: nn.Module) -> None:
    """Give a plain ViT sines and cosines of its grid as positions, which are not trained; 0 for prefix tokens."""
    vit = cast(Any, backbone)
    rows, columns = vit.patch_embed.grid_size
    prefix, width = _prefix_positions(vit), vit.pos_embed.shape[2]
    vit.pos_embed.zero_()
    vit.pos_embed[0, prefix:] = sincos(rows, columns, width)
    vit.pos_embed.requires_grad_(False)


def sincos(rows: int, columns: int, width: int) -> Tensor:
    """(rows x columns, width) for each place of a grid, row by row: sine and cosine of its column, then of its row.

    Wavelengths grow from 2 pi to 10,000 times that. A width that is no multiple of 4 ends in zeros.
    """
    quarter = width // 4
    frequency_Q = 10_000 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    row_T, column_T = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    angles = [place.flatten()[:, None] * frequency_Q for place in (column_T, row_T)]
    found_TD = torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], dim=1)
    return nn.functional.pad(found_TD, (0, width - 4 * quarter)).float()
