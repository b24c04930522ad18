"""The counter-based generator of ``core.seeds``, word for word, on any device."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scaleback.core import seeds

# Shapes: B images, K blocks of four words, S slots.

LOW = 0xFFFFFFFF


class Draws:
    """Random numbers of some images for one corruption; each purpose is a stream of its own."""

    def __init__(self, name: str, index_B: NDArray[np.int64], device: torch.device) -> None:
        self._name, self._device = name, device
        self._index_B = torch.from_numpy(np.asarray(index_B, np.int64)).to(device)

    def uniform(self, purpose: str, *shape: int) -> Tensor:
        """(B, *shape) float32 in [0, 1), with 24 bits."""
        word_BS = words(seeds.key("corruption", self._name, purpose), self._index_B, math.prod(shape))
        return ((word_BS >> 8).float() * 2.0**-24).view(-1, *shape)

    def normal(self, purpose: str, *shape: int) -> Tensor:
        """(B, *shape) float32 of the standard normal distribution (Box and Muller, 1958)."""
        count = math.prod(shape)
        half = -(-count // 2)
        share_BS = self.uniform(purpose, 2 * half)
        radius = (-2 * torch.log(1 - share_BS[:, :half])).sqrt()  # 1 - u lies in (0, 1]
        angle = 2 * math.pi * share_BS[:, half:]
        return torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)[:, :count].reshape(-1, *shape)


def words(stream_key: int, index_B: Tensor, slots: int) -> Tensor:
    """(B, slots) words in int64: ``seeds.words`` on the device of ``index_B``."""
    blocks = -(-slots // 4)
    shape = (len(index_B), blocks)
    c0 = torch.arange(blocks, device=index_B.device).expand(shape)
    c1 = torch.zeros_like(c0)
    c2, c3 = (index_B & LOW)[:, None].expand(shape), ((index_B >> 32) & LOW)[:, None].expand(shape)
    k0, k1 = stream_key & LOW, stream_key >> 32
    for _ in range(seeds.ROUNDS):
        # Products wrap to the right 64 bits; the sign that they may get is masked away.
        low, high = seeds.MULTIPLIERS[0] * c0, seeds.MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = ((high >> 32) & LOW) ^ c1 ^ k0, high & LOW, ((low >> 32) & LOW) ^ c3 ^ k1, low & LOW
        k0, k1 = (k0 + seeds.WEYL[0]) & LOW, (k1 + seeds.WEYL[1]) & LOW
    return torch.stack([c0, c1, c2, c3], dim=2).view(len(index_B), 4 * blocks)[:, :slots]
