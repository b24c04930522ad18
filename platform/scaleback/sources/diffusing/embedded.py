"""The embedded generator: a UNet of diffusers on squares of pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scaleback.core import seeds
from scaleback.sources.diffusing.model import Diffuser
from scaleback.sources.generators import GROUPS
from scaleback.torchvision_operators import declare

if TYPE_CHECKING:
    from scaleback.sources.generators import Embedded

# Shapes: B images, C channels, H rows, W columns, D width of a token, K classes.

LOOK_CELLS = 7
"""A look is the image's mean in so many by so many cells: 4 px of 28."""
STD = 0.02
HEADS = 4
"""Of attention."""


class EmbeddedDiffuser(Diffuser):
    """Predicts the noise of pixels that were folded into squares."""

    # Stable Diffusion's schedule: it ends at a signal of 0.07, where a prediction of noise still says something.
    noise_schedule = {  # noqa: RUF012 (a constant)
        "num_train_timesteps": 1_000,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
    }

    def __init__(self, spec: Embedded, *, classes: int) -> None:
        super().__init__()
        declare()  # before diffusers, which imports torchvision
        from diffusers import UNet2DConditionModel

        height, width, channels = spec.source.shape
        self._square = spec.square_px
        self.latent_shape = (channels * self._square**2, height // self._square, width // self._square)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seeds.key("embedded generator", spec.seed) >> 1)
            self.unet = UNet2DConditionModel(
                sample_size=self.latent_shape[1:],
                in_channels=self.latent_shape[0],
                out_channels=self.latent_shape[0],
                layers_per_block=1,
                block_out_channels=spec.widths,
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
                cross_attention_dim=spec.token_width,
                attention_head_dim=HEADS,  # which is their number
                norm_num_groups=GROUPS,
            )
            self.look = nn.Linear(channels * LOOK_CELLS**2, spec.token_width)
            self.no_look = nn.Parameter(STD * torch.randn(spec.token_width))
            self.no_class = nn.Parameter(STD * torch.randn(spec.token_width))
        if classes:
            self.classes = nn.Parameter(self.no_class.detach().expand(classes, -1).clone())

    def encode(self, image_BCHW: Tensor) -> Tensor:
        return F.pixel_unshuffle(image_BCHW, self._square)

    def decode(self, latent_BCHW: Tensor) -> Tensor:
        return F.pixel_shuffle(latent_BCHW, self._square).clamp(-1, 1)

    def looks(self, image_BCHW: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(image_BCHW, LOOK_CELLS).flatten(1)

    def told(self, label_B: Tensor, real_B: Tensor, look_BF: Tensor | None, hidden_B2: Tensor | None = None) -> Tensor:
        of_class = self.no_class.expand(len(label_B), -1)
        if hasattr(self, "classes"):
            of_class = torch.where(label_B[:, None] >= 0, self.classes[label_B.clamp(min=0)], of_class)
        of_look = self.no_look.expand(len(label_B), -1) if look_BF is None else self.look(look_BF)
        if hidden_B2 is not None:
            of_class = torch.where(hidden_B2[:, :1], self.no_class, of_class)
            of_look = torch.where(hidden_B2[:, 1:], self.no_look, of_look)
        return torch.stack([of_class, of_look], dim=1)

    def untold(self, images: int) -> Tensor:
        return torch.stack([self.no_class, self.no_look]).expand(images, -1, -1)

    def adapted_parts(self) -> list[nn.Parameter]:
        return [self.classes] if hasattr(self, "classes") else []
