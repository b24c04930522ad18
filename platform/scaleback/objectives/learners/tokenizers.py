"""Patches to tokens: a vocabulary made of some images before training, kept in every checkpoint."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scaleback.core import seeds
from scaleback.core.errors import TokenizerError
from scaleback.objectives.learners import vit
from scaleback.objectives.learners.base import Learner
from scaleback.objectives.learners.heads import full
from scaleback.objectives.learners.statistics import perplexity
from scaleback.objectives.tokenizers import KMeans, RandomProjection, Tokenizer

# Shapes: N images or patches, C channels, P pixels of a patch times channels, V vocabulary, K = V + 1 tokens, T places.

BLANK_RMS = 1e-3
"""A centred patch whose pixels deviate by less is blank: an eighth of a gray level at std 0.5."""
HELD_OUT = 4
"""One image in so many is kept from the vocabulary, to measure tokens on."""
MEASURED_PATCHES = 16_384
LEAST_USED = 4
"""A perplexity of the vocabulary over this is enough, however small the vocabulary."""
DRAWS = 32
"""How often twice the vocabulary is drawn in search of patches that differ."""
SCORES = 1 << 26
"""Similarities that are held at a time."""
CHUNK_IMAGES = 64


class PatchTokenizer(nn.Module):
    """Tokens 0 to V - 1 by cosine; V of a blank patch."""

    vocabulary_VP: Tensor
    """Unit vectors."""
    mean_P: Tensor
    """The mean patch, where that is what patches are centred by."""
    nats_K: Tensor
    """What each token costs, -log of its share of the images that were looked at (of one more patch each)."""

    def __init__(self, spec: Tokenizer, *, image_px: int, patch_px: int, channels: int, generator: torch.Generator):
        super().__init__()
        self._spec, self._image_px, self._patch_px, self._channels = spec, image_px, patch_px, channels
        self._seed = int(torch.randint(1 << 62, (1,), generator=generator))
        pixels = patch_px**2 * channels
        self.register_buffer("vocabulary_VP", torch.zeros(spec.vocabulary, pixels))
        self.register_buffer("mean_P", torch.zeros(pixels))
        self.register_buffer("nats_K", torch.zeros(spec.vocabulary + 1))
        self.facts: dict[str, float] = {}

    @torch.no_grad()
    def fit(self, image_NCHW: Tensor) -> None:
        """Make the vocabulary of uint8 images, and measure how it is used.

        Raises:
            TokenizerError: the images hold too few different patches, or too many of them get the same token.
        """
        spec, rng = self._spec, seeds.generator("tokenizer", self._seed)
        order_N = rng.permutation(len(image_NCHW))  # that of the set may go through classes in turn
        held = len(image_NCHW) // HELD_OUT
        known_NCHW = image_NCHW[order_N[held:]]
        held_NCHW = image_NCHW[order_N[:held]] if held else image_NCHW
        if spec.center == "global":
            self.mean_P.copy_(self._patches(known_NCHW, MEASURED_PATCHES, rng).mean(0))
        if isinstance(spec, RandomProjection):
            gauss_VP = torch.from_numpy(rng.standard_normal(self.vocabulary_VP.shape)).float()
            vocabulary_VP = F.normalize(gauss_VP if spec.center == "global" else self._centred(gauss_VP), dim=1)
        else:
            vocabulary_VP = self._drawn(known_NCHW, rng)
            if isinstance(spec, KMeans):
                sample_NP = self._patches(known_NCHW, spec.patches_per_vector * spec.vocabulary, rng)
                vocabulary_VP = self._clustered(vocabulary_VP, self._directions(sample_NP), spec.iterations)
        self.vocabulary_VP.copy_(vocabulary_VP)
        self._measure(self(self._patches(held_NCHW, MEASURED_PATCHES, rng)))

    @torch.no_grad()
    def forward(self, patch_NP: Tensor) -> Tensor:
        """(N,) int64 tokens of patches as ``vit.patched`` cuts them; any leading shape."""
        # The matrix product keeps full precision under autocast, or tokens would depend on it.
        with torch.autocast(patch_NP.device.type, enabled=False):
            centred_NP = self._centred(patch_NP.to(self.vocabulary_VP.dtype)).flatten(0, -2)
            rows = max(1, SCORES // len(self.vocabulary_VP))
            nearest = [(part @ self.vocabulary_VP.T).argmax(1) for part in centred_NP.split(rows)]
            token_N = torch.where(_blank(centred_NP), len(self.vocabulary_VP), torch.cat(nearest))
        return token_N.view(patch_NP.shape[:-1])

    def _centred(self, patch_NP: Tensor) -> Tensor:
        match self._spec.center:
            case "none":
                return patch_NP
            case "global":
                return patch_NP - self.mean_P
            case "patch":
                return patch_NP - patch_NP.mean(-1, keepdim=True)
            case "patch_channel":
                pixel: Tensor = patch_NP.unflatten(-1, (-1, self._channels))
                centred: Tensor = (pixel - pixel.mean(-2, keepdim=True)).flatten(-2)
                return centred

    def _directions(self, patch_NP: Tensor) -> Tensor:
        """Unit vectors of those that are not blank."""
        centred_NP = self._centred(patch_NP)
        unit_NP: Tensor = F.normalize(centred_NP[~_blank(centred_NP)], dim=1)
        return unit_NP

    def _patches(self, image_NCHW: Tensor, count: int, rng: np.random.Generator) -> Tensor:
        """(count, P) patches from anywhere in the images, at the size and the scale at which the model sees them."""
        which_N = np.sort(rng.integers(len(image_NCHW), size=count))
        top_N, left_N = rng.integers(self._image_px - self._patch_px + 1, size=(2, count))
        found = []
        for start in range(0, len(image_NCHW), CHUNK_IMAGES):
            chunk = slice(*np.searchsorted(which_N, (start, start + CHUNK_IMAGES)))
            image = image_NCHW[start : start + CHUNK_IMAGES].float() / 127.5 - 1
            if image.shape[-1] != self._image_px:
                image = F.interpolate(image, size=[self._image_px] * 2, mode="bilinear", antialias=True)
            windows = image.unfold(2, self._patch_px, 1).unfold(3, self._patch_px, 1).permute(0, 2, 3, 4, 5, 1)
            found.append(windows[which_N[chunk] - start, top_N[chunk], left_N[chunk]].flatten(1))
        return torch.cat(found)[rng.permutation(count)]

    def _drawn(self, image_NCHW: Tensor, rng: np.random.Generator) -> Tensor:
        """(V, P) directions of random patches, no two alike: equal ones would share their patches by rounding."""
        wanted = self._spec.vocabulary
        found_NP = torch.empty(0, self.vocabulary_VP.shape[1])
        for _ in range(DRAWS):
            fresh_NP = self._directions(self._patches(image_NCHW, 2 * wanted, rng))
            found_NP = _different(torch.cat([found_NP, fresh_NP]))[:wanted]
            if len(found_NP) == wanted:
                return found_NP
        raise TokenizerError(
            f"{self._spec.short}: a vocabulary of {wanted:,} asks for as many different patches, and "
            f"{DRAWS * 2 * wanted:,} draws from {len(image_NCHW):,} images found {len(found_NP):,}"
        )

    def _clustered(self, vocabulary_VP: Tensor, direction_NP: Tensor, iterations: int) -> Tensor:
        """Spherical k-means; a vector that no patch is nearest to stays where it is."""
        for _ in range(iterations):
            rows = max(1, SCORES // len(vocabulary_VP))
            nearest_N = torch.cat([(part @ vocabulary_VP.T).argmax(1) for part in direction_NP.split(rows)])
            sum_VP = torch.zeros_like(vocabulary_VP).index_add_(0, nearest_N, direction_NP)
            vocabulary_VP = torch.where(_blank(sum_VP)[:, None], vocabulary_VP, F.normalize(sum_VP, dim=1))
        return vocabulary_VP

    def _measure(self, token_N: Tensor) -> None:
        spec = self._spec
        count_K = torch.bincount(token_N, minlength=len(self.nats_K)).double()
        self.nats_K.copy_(-((count_K + 1) / (count_K + 1).sum()).log())
        shown_N = token_N[token_N < spec.vocabulary]
        if not len(shown_N):
            raise TokenizerError(f"{spec.short}: every patch of these images is blank")
        self.facts = {
            "perplexity": float(perplexity(shown_N, spec.vocabulary)),
            "top1_share": float(count_K[:-1].max() / len(shown_N)),
            "vocabulary_used": int((count_K[:-1] > 0).sum()),
            "blank_share": 1 - len(shown_N) / len(token_N),
        }
        least = min(spec.least_perplexity, spec.vocabulary / LEAST_USED)
        if self.facts["perplexity"] < least:
            raise TokenizerError(
                f"{spec.short}, center {spec.center}: tokens of perplexity {self.facts['perplexity']:.1f}, "
                f"{self.facts['top1_share']:.0%} of the patches have the same one; "
                f"at least {least:g} is asked for"
            )


class TokenLearner(Learner):
    """What learners that predict tokens have in common."""

    tokenizer: PatchTokenizer
    prepared_images = 4_096

    def prepare(self, image_NCHW: Tensor) -> None:
        self.tokenizer.fit(image_NCHW)

    def facts(self) -> dict[str, Any]:
        return {"tokenizer": self.tokenizer.facts}

    def loss_of_tokens(self, logits_BMK: Tensor, token_BM: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean cross-entropy over all places, and what is watched of it.

        ``constant_loss`` is the loss of an answer that is the same everywhere: the shares measured beforehand.
        """
        answer_BM = logits_BMK.argmax(2)
        parts = {
            "accuracy": (answer_BM == token_BM).float().mean(),
            "constant_loss": self.tokenizer.nats_K[token_BM].mean(),
            "blank_share": (token_BM == logits_BMK.shape[2] - 1).float().mean(),
        }
        return F.cross_entropy(full(logits_BMK.flatten(0, 1)), token_BM.flatten()), parts


def tokenizer_of(spec: Tokenizer, backbone: nn.Module, generator: torch.Generator) -> PatchTokenizer:
    """A tokenizer of the patches that a plain ViT cuts."""
    return PatchTokenizer(
        spec,
        image_px=vit.image_px(backbone),
        patch_px=vit.patch_px(backbone),
        channels=vit.channels(backbone),
        generator=generator,
    )


def _blank(centred_NP: Tensor) -> Tensor:
    return centred_NP.square().mean(-1) < BLANK_RMS**2


def _different(direction_NP: Tensor) -> Tensor:
    """The first of each set of equal rows, in their order."""
    _, first = np.unique((direction_NP.numpy() * 1e4).round().astype(np.int16), axis=0, return_index=True)
    return direction_NP[np.sort(first)]
