"""Two images in one: mixup, CutMix and ResizeMix, with a share of each image's own, over a batch at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from scaleback.core.errors import RunError
from scaleback.objectives.learners.base import Batch
from scaleback.objectives.learners.classify import partner as neighbour
from scaleback.objectives.learners.gather import gathered, rank, workers

if TYPE_CHECKING:
    from scaleback.objectives.mixing import Mixer, Mixing

# Shapes: B images of a worker's slice, N of the batch over all workers, V views that are mixed, C channels, H rows,
# W columns.

LEAST_RESIZED, MOST_RESIZED = 0.1, 0.9
"""A ResizeMix leaves an image at least and at most this share of itself (released code)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mix:
    """How the images of a slice are mixed; the same sizes for all views, another place in each."""

    mixer: Mixer
    pairing: Literal["local", "global"]
    share_B: Tensor
    """What is left of an image itself; the rest is its partner's. With a box, exactly the pixels outside of it."""
    partner_share_B: Tensor
    """What is left of the partner in the partner's own mixed image."""
    box_B2: Tensor
    """Height and width of the pasted box, px; of no meaning in mixup."""
    corner_BV2: Tensor
    """Top and left of the box in each view, px."""

    @property
    def in_common(self) -> Tensor:
        """(B,) what the mixed images of two partners have in common, in [0, 1]: SDMP's lambda_c."""
        mine, theirs = self.share_B, self.partner_share_B
        return torch.minimum(mine, 1 - theirs) + torch.minimum(1 - mine, theirs)


def draw_mix(spec: Mixing, batch: Batch, views: int = 2) -> Mix:
    """One way to mix a batch, the same on every worker; shares and places are each image's own draws.

    Args:
        spec: the method.
        batch: a slice.
        views: the first so many views are mixed.

    Raises:
        RunError: these views differ in size, so a box would not have one share in all.
    """
    sizes = {tuple(view.shape[-2:]) for view in batch.view_VBCHW[:views]}
    if len(sizes) > 1:
        raise RunError(f"mixed views must be of one size; got {sorted(sizes)}")
    image_BCHW = batch.view_VBCHW[0]
    mixer = spec.mixers[int(batch.generator("mixer").integers(len(spec.mixers)))]
    drawn_B = beta_quantile(batch.draw("share", 1)[:, 0], spec.alpha)
    if mixer == "resizemix":
        drawn_B = LEAST_RESIZED + (MOST_RESIZED - LEAST_RESIZED) * drawn_B
    size_2 = torch.tensor(image_BCHW.shape[-2:], device=image_BCHW.device)
    box_B2 = ((1 - drawn_B).sqrt()[:, None] * size_2).floor().long()
    share_B = drawn_B if mixer == "mixup" else (size_2.prod() - box_B2.prod(1)) / size_2.prod()
    room_B12 = (size_2 - box_B2)[:, None]
    draw_BV2 = batch.draw("box", 2 * views).view(-1, views, 2)
    # A draw just below 1 is 1 in single precision.
    corner_BV2 = torch.minimum((draw_BV2 * (room_B12 + 1)).floor().long(), room_B12)
    return Mix(
        mixer=mixer,
        pairing=spec.pairing,
        share_B=share_B,
        partner_share_B=partner(share_B, spec.pairing),
        box_B2=box_B2,
        corner_BV2=corner_BV2,
    )


def mixed(image_BCHW: Tensor, mix: Mix, view: int) -> Tensor:
    """Each image of view number ``view`` mixed with its partner in that view."""
    other_BCHW = partner(image_BCHW, mix.pairing)
    if mix.mixer == "mixup":
        share_B111 = mix.share_B[:, None, None, None]
        return share_B111 * image_BCHW + (1 - share_B111) * other_BCHW
    # Where each pixel lies in the box: 0 at its first row or column, its height or width just behind it.
    corner_B2, (height, width) = mix.corner_BV2[:, view], image_BCHW.shape[-2:]
    row_BH = torch.arange(height, device=image_BCHW.device) - corner_B2[:, :1]
    column_BW = torch.arange(width, device=image_BCHW.device) - corner_B2[:, 1:]
    in_rows_BH = (row_BH >= 0) & (row_BH < mix.box_B2[:, :1])
    in_columns_BW = (column_BW >= 0) & (column_BW < mix.box_B2[:, 1:])
    if mix.mixer == "resizemix":
        # Bilinear, and torch's convention for the middle of a pixel: the whole partner fills the box.
        side_B2 = mix.box_B2.clamp(min=1)
        y_BH = 2 * (row_BH + 0.5) / side_B2[:, :1] - 1
        x_BW = 2 * (column_BW + 0.5) / side_B2[:, 1:] - 1
        grid_BHW2 = torch.stack(
            [x_BW[:, None, :].expand(-1, height, -1), y_BH[:, :, None].expand(-1, -1, width)], dim=3
        )
        other_BCHW = F.grid_sample(
            other_BCHW, grid_BHW2.to(other_BCHW.dtype), padding_mode="border", align_corners=False
        )
    return torch.where((in_rows_BH[:, :, None] & in_columns_BW[:, None, :])[:, None], other_BCHW, image_BCHW)


def partner(value_B: Tensor, pairing: Literal["local", "global"]) -> Tensor:
    """Rows (images, shares, a teacher's answers) of each image's partner, without gradient."""
    if pairing == "local":
        return neighbour(value_B.detach())
    mine = slice(rank() * len(value_B), (rank() + 1) * len(value_B))
    return gathered(value_B).flip(0)[mine]


def places(images: int, pairing: Literal["local", "global"], device: torch.device) -> tuple[Tensor, Tensor]:
    """(B,) and (B,) where the images of a slice, and their partners, are among the rows of all workers."""
    own_B = rank() * images + torch.arange(images, device=device)
    return own_B, own_B ^ 1 if pairing == "local" else workers() * images - 1 - own_B


def beta_quantile(chance_B: Tensor, alpha: float) -> Tensor:
    """Numbers distributed as Beta(alpha, alpha) of uniform ones."""
    if alpha == 1:
        return chance_B
    from scipy.special import betaincinv

    return torch.from_numpy(betaincinv(alpha, alpha, chance_B.double().cpu().numpy())).to(chance_B)
