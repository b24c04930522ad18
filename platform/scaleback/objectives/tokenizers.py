"""Tokenizers without training: a fixed vocabulary of vectors in pixel space; a patch's token is the nearest of them."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, TypeAlias

from pydantic import Field

from scaleback.core.spec import Spec, variants


class Tokenizer(Spec, ABC):
    """The token of a patch is the vector of the vocabulary with the highest cosine similarity in pixel space.

    El-Nouby et al., 2021 (SplitMask, section on tokenizers). A patch that is the same everywhere has no direction. Such
    patches have one more token, of their own: images on a blank ground consist of them, and where the ground is, is
    something to predict. Not known of the paper: whether it centres patches, and how it draws those of its vocabulary;
    here, anywhere in an image, and no two alike.
    """

    vocabulary: int = Field(8_192, ge=2)
    center: Literal["none", "global", "patch", "patch_channel"] = "patch_channel"
    """What is taken off a patch first: nothing, the mean patch of the set, the patch's own mean, or that of each of its
    channels. Brightness, which is most of a raw patch, is then no part of the target. The last two do not depend on how
    views are normalised; the first two suppose mean 0.5 and std 0.5."""
    least_perplexity: float = Field(50.0, ge=1)
    """A run whose tokens do less than the work of so many equally frequent ones, or of a quarter of the vocabulary if
    that is less, is refused before it starts. Measured on patches that are not blank, of images that the vocabulary was
    not drawn from where there are several. Random projections of raw photographs reach 4 to 49, up to half of all
    patches with one token; with a vocabulary of 256, random patches of fractals of 24 px reach 170 to 210 and their
    centred random projections 55 to 110."""


class RandomPatches(Tokenizer):
    """Patches of the images themselves."""

    kind: Literal["random-patches"] = "random-patches"


class KMeans(Tokenizer):
    """Centroids of the images' patches by cosine (spherical k-means), begun at random patches."""

    kind: Literal["kmeans"] = "kmeans"
    iterations: int = Field(10, ge=1)
    patches_per_vector: int = Field(16, ge=1)
    """Size of the sample that is clustered, over the vocabulary's."""


class RandomProjection(Tokenizer):
    """Gaussian vectors, which look at no image; only with centred patches are their tokens any good."""

    kind: Literal["random-projection"] = "random-projection"


TOKENIZERS: Mapping[str, type[Tokenizer]] = {
    "random-patches": RandomPatches,
    "kmeans": KMeans,
    "random-projection": RandomProjection,
}

if TYPE_CHECKING:
    AnyTokenizer: TypeAlias = Tokenizer
else:
    AnyTokenizer = variants(TOKENIZERS)
