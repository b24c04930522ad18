"""A kNN accuracy while pre-training goes on: an early look at the features that costs next to nothing."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from scaleback.pretrain.world import World

# Shapes: B images of a slice, G images of all slices, M features remembered, D width, K neighbours.

NEIGHBOURS, TEMPERATURE = 20, 0.07
"""DINO's vote: twenty neighbours by cosine, weighted by exp(similarity / temperature)."""


class OnlineKNN:
    """The latest features of the training images, and whether their neighbours tell a new batch's labels.

    An image's own earlier features do not vote. Features are those of the augmented first view, as old as the memory is
    long, so the number lies below that of a kNN evaluation and is comparable along a run only.
    """

    def __init__(self, images: int, width: int, world: World) -> None:
        self._world = world
        self._right: list[Tensor] = []
        self.tensors: dict[str, Tensor] = {
            "features": torch.zeros(images, width, device=world.device),
            "label": torch.full((images,), -1, device=world.device),
            "index": torch.full((images,), -1, device=world.device),
            "seen": torch.zeros((), dtype=torch.int64),
        }

    @torch.no_grad()
    def add(self, features_BD: Tensor, label_B: Tensor, index_B: Tensor, *, scored: bool) -> None:
        """Remember a slice; with ``scored``, first see what the memory says of it."""
        gather, memory = self._world.gathered, self.tensors
        features_GD, label_G, index_G = gather(F.normalize(features_BD.float())), gather(label_B), gather(index_B)
        if scored:
            self._right.append((self._vote(features_GD, index_G) == label_G).float().mean())
        rows = min(len(features_GD), len(memory["label"]))
        place = (int(memory["seen"]) + torch.arange(rows, device=label_G.device)) % len(memory["label"])
        for name, value in {"features": features_GD, "label": label_G, "index": index_G}.items():
            memory[name][place] = value[-rows:]
        memory["seen"] += rows

    def row(self) -> dict[str, float]:
        """Accuracy of the batches scored since the last row."""
        right, self._right = self._right, []
        return {"online_knn": float(torch.stack(right).mean())}

    def _vote(self, features_GD: Tensor, index_G: Tensor) -> Tensor:
        """The label that the neighbours of each image give it, (G,); -1 where nothing is remembered."""
        label_M, index_M = self.tensors["label"], self.tensors["index"]
        similarity_GM = features_GD @ self.tensors["features"].T
        similarity_GM[(index_M < 0) | (index_G[:, None] == index_M)] = -torch.inf
        near = similarity_GM.topk(min(NEIGHBOURS, len(label_M)), dim=1)
        weight_GK = (near.values / TEMPERATURE).exp()
        vote = torch.zeros(len(index_G), int(label_M.max()) + 2, device=label_M.device)
        vote.scatter_add_(1, label_M[near.indices] + 1, weight_GK)
        return vote.argmax(1) - 1
