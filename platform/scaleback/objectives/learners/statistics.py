"""What is watched of embeddings: cheap scalars that show a collapse before the loss does."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# Shapes: B images, D width, K prototypes.


@torch.no_grad()
def pair_statistics(first_BD: Tensor, second_BD: Tensor) -> dict[str, Tensor]:
    """Alignment and uniformity of two views' embeddings (Wang and Isola, 2020), and mean cosines of pairs.

    ``alignment`` is the mean squared distance of the two views of an image on the unit sphere; ``uniformity`` the
    logarithm of the mean Gaussian potential of different images, 0 where all are one and about -3.9 at best.
    """
    first_BD, second_BD = (F.normalize(value.float(), dim=1) for value in (first_BD, second_BD))
    cosine_BB = first_BD @ second_BD.T
    others = ~torch.eye(len(cosine_BB), dtype=torch.bool, device=cosine_BB.device)
    positive = cosine_BB.diagonal().mean()
    found = {"positive_similarity": positive, "alignment": 2 - 2 * positive}
    if len(cosine_BB) > 1:
        within = torch.cat([(value @ value.T)[others] for value in (first_BD, second_BD)])
        found["negative_similarity"] = cosine_BB[others].mean()
        found["uniformity"] = (-2 * (2 - 2 * within)).exp().mean().log()
    return found


@torch.no_grad()
def entropy(chance_BK: Tensor) -> Tensor:
    """Mean entropy of distributions, in nats."""
    nats_BK: Tensor = torch.special.entr(chance_BK.float())
    return nats_BK.sum(1).mean()


@torch.no_grad()
def perplexity(token_N: Tensor, vocabulary: int) -> Tensor:
    """Exponential of the entropy of the tokens used: how many of the vocabulary do the work."""
    share_K = torch.bincount(token_N.flatten(), minlength=vocabulary).double() / token_N.numel()
    nats_K: Tensor = torch.special.entr(share_K)
    return nats_K.sum().exp()
