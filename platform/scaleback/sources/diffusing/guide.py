"""How an image is to look: visual guidance from real images."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scaleback.core import seeds

# Shapes: N real images, B images of a batch, F numbers of a look.


class Guide:
    """Looks of the real images, and which of them an image is shown.

    ``class-mean`` is Real-Fake's intra-class guidance: the mean look of ``images`` images of the class, drawn with
    replacement, so that no image shows one real image alone. Images without a class are one class.
    """

    def __init__(self, look_NF: Tensor, label_N: NDArray[np.int64], *, kind: str, images: int, seed: int) -> None:
        self._look_NF, self._label_N, self._kind, self._images, self._seed = look_NF, label_N, kind, images, seed
        self._of_class = {int(label): np.flatnonzero(label_N == label) for label in np.unique(label_N)}

    def __call__(self, real_B: NDArray[np.int64], counter_B: NDArray[np.int64]) -> Tensor | None:
        """(B, F) looks; None without guidance.

        Args:
            real_B: which real image each image is made from.
            counter_B: key of each image's own draws.
        """
        if self._kind == "none":
            return None
        if self._kind == "image":
            return self._look_NF[torch.from_numpy(real_B)]
        draw_BK = seeds.uniform(seeds.key("guidance", self._seed), counter_B, self._images)
        members = [self._of_class[int(label)] for label in self._label_N[real_B]]
        pairs = zip(members, draw_BK, strict=True)
        chosen_BK = np.stack([own_M[(draw_K * len(own_M)).astype(np.int64)] for own_M, draw_K in pairs])
        return self._look_NF[torch.from_numpy(chosen_BK)].mean(1)
