"""Vocabularies in pixel space: what they hold, which token a patch gets, which are refused."""

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_images

from scaleback.core.errors import RunError, SpecError, TokenizerError
from scaleback.core.spec import Spec
from scaleback.objectives.learners.tokenizers import PatchTokenizer
from scaleback.objectives.learners.vit import patched
from scaleback.objectives.tokenizers import TOKENIZERS, AnyTokenizer, KMeans, RandomPatches, RandomProjection

PX, PATCH, CHANNELS = 12, 4, 3
CENTERS = ["none", "global", "patch", "patch_channel"]


class Holder(Spec):
    tokenizer: AnyTokenizer


def noise(count=40, size=PX):
    rng = np.random.default_rng(1)
    return torch.from_numpy(rng.integers(0, 256, (count, CHANNELS, size, size), dtype=np.uint8))


def made(spec, image_px=PX, patch_px=PATCH, channels=CHANNELS, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return PatchTokenizer(spec, image_px=image_px, patch_px=patch_px, channels=channels, generator=generator)


def fitted(spec, image=None, **shape):
    tokenizer = made(spec, **shape)
    tokenizer.fit(noise() if image is None else image)
    return tokenizer


def centred_by_hand(patch, center, mean):
    match center:
        case "none":
            return patch
        case "global":
            return patch - mean
        case "patch":
            return patch - patch.mean()
    channels = [patch[channel::CHANNELS] for channel in range(CHANNELS)]
    return np.stack([one - one.mean() for one in channels], axis=1).ravel()


@pytest.mark.parametrize("center", CENTERS)
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_token_is_the_vector_of_the_highest_cosine(kind, center):
    tokenizer = fitted(TOKENIZERS[kind](vocabulary=32, center=center, least_perplexity=1.0))
    patch = patched(noise(5).float() / 127.5 - 1, PATCH)
    vocabulary, mean = tokenizer.vocabulary_VP.double().numpy(), tokenizer.mean_P.double().numpy()
    expected = []
    for one in patch.double().reshape(-1, PATCH * PATCH * CHANNELS).numpy():
        centred = centred_by_hand(one, center, mean)
        cosines = [centred @ vector / np.linalg.norm(centred) / np.linalg.norm(vector) for vector in vocabulary]
        expected.append(int(np.argmax(cosines)))
    found = tokenizer(patch)
    assert found.shape == (5, 9)
    assert found.flatten().tolist() == expected
    assert len(set(expected)) > 8


@pytest.mark.parametrize("center", ["patch", "patch_channel"])
def test_tokens_of_centred_patches_do_not_depend_on_the_normalisation(center):
    tokenizer = fitted(RandomPatches(vocabulary=64, center=center))
    pixels = patched(noise(20).double() / 255, PATCH)
    assert torch.equal(tokenizer((pixels - 0.5) / 0.5), tokenizer((pixels - 0.449) / 0.226))


def test_tokens_are_those_of_full_precision_under_autocast():
    tokenizer, patch = fitted(RandomPatches(vocabulary=64)), patched(noise().float() / 127.5 - 1, PATCH)
    with torch.autocast("cpu", torch.bfloat16):
        half = tokenizer(patch)
    assert torch.equal(half, tokenizer(patch))


def test_a_blank_patch_has_a_token_of_its_own():
    tokenizer = fitted(RandomPatches(vocabulary=8, least_perplexity=1.0))
    patch = patched(noise(2).float() / 127.5 - 1, PATCH)
    patch[0, 3] = torch.tensor([0.2, -0.7, 1.0]).repeat(PATCH * PATCH)  # one colour
    patch[1, 5] = torch.full((PATCH * PATCH * CHANNELS,), 0.3) + 1e-7 * torch.randn(PATCH * PATCH * CHANNELS)
    blank = tokenizer(patch) == 8
    assert blank.nonzero().tolist() == [[0, 3], [1, 5]]


def test_random_patches_are_patches_of_the_images_no_two_alike():
    image = noise(6)
    image[::2] = image[0]  # many patches that are equal
    tokenizer = fitted(RandomPatches(vocabulary=60, center="patch"), image)
    windows = (image.double() / 127.5 - 1).unfold(2, PATCH, 1).unfold(3, PATCH, 1).permute(0, 2, 3, 4, 5, 1)
    there = windows.reshape(-1, PATCH * PATCH * CHANNELS)
    there = torch.nn.functional.normalize(there - there.mean(1, keepdim=True), dim=1)
    cosine = tokenizer.vocabulary_VP.double() @ there.T
    assert cosine.max(1).values.min() > 1 - 1e-6
    among = tokenizer.vocabulary_VP @ tokenizer.vocabulary_VP.T
    assert (among - 2 * torch.eye(60)).max() < 0.999


def ramps(angles):
    """For each angle an image whose patches are all alike up to brightness."""
    y, x = np.mgrid[:PX, :PX] - (PX - 1) / 2
    image = [128 + 14 * (np.cos(angle) * x + np.sin(angle) * y) for angle in angles]
    return torch.from_numpy(np.rint(image).astype(np.uint8))[:, None].repeat(1, CHANNELS, 1, 1)


def test_images_kept_for_measuring_are_not_in_the_vocabulary():
    image = ramps(np.arange(4) * np.pi / 2)
    assert len(fitted(RandomPatches(vocabulary=3, least_perplexity=1.0), image).vocabulary_VP) == 3
    with pytest.raises(TokenizerError, match=r"draws from 3 images found 3$"):
        fitted(RandomPatches(vocabulary=4), image)


def test_images_are_brought_to_the_model_s_size_first():
    image = noise(30, size=3).repeat_interleave(8, 2).repeat_interleave(8, 3)  # 24 px, flat in squares of 8
    shown = fitted(RandomPatches(vocabulary=16), image, image_px=6, patch_px=2)
    kept = fitted(RandomPatches(vocabulary=16), image, image_px=24, patch_px=2)
    assert kept.facts["blank_share"] > 0.7
    assert shown.facts["blank_share"] < 0.2


def test_k_means_moves_each_vector_to_the_mean_direction_of_its_patches():
    tokenizer = made(KMeans(vocabulary=5))
    rng = np.random.default_rng(0)
    direction = rng.normal(size=(50, 48))
    direction[:, 0] += 9
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    vectors = np.concatenate([direction[:4], -np.eye(48)[:1]])  # the last one points away from all
    expected = vectors.copy()
    for _ in range(3):
        nearest = [max(range(5), key=lambda k, one=one: one @ expected[k]) for one in direction]
        for k in range(5):
            members = [one for one, token in zip(direction, nearest, strict=True) if token == k]
            if members:
                expected[k] = np.sum(members, axis=0) / np.linalg.norm(np.sum(members, axis=0))
    found = tokenizer._clustered(torch.from_numpy(vectors), torch.from_numpy(direction), 3)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)
    assert np.array_equal(expected[4], vectors[4])
    assert not np.allclose(expected[:4], vectors[:4], atol=0.01)


def test_k_means_lies_closer_to_patches_than_random_ones():
    image = ramps(np.random.default_rng(0).random(200) * 2 * np.pi)

    def mean_distance(spec):
        tokenizer = fitted(spec, image)
        direction = tokenizer._directions(patched(image.float() / 127.5 - 1, PATCH).flatten(0, 1))
        return 1 - (direction @ tokenizer.vocabulary_VP.T).max(1).values.mean()

    assert mean_distance(KMeans(vocabulary=8)) < 0.8 * mean_distance(RandomPatches(vocabulary=8))


def test_a_vocabulary_depends_on_images_and_generator_only():
    for kind in TOKENIZERS.values():
        torch.manual_seed(0)
        first = fitted(kind(vocabulary=16)).state_dict()
        torch.manual_seed(1)
        again, other = fitted(kind(vocabulary=16)).state_dict(), fitted(kind(vocabulary=16), seed=1).state_dict()
        assert all(torch.equal(first[name], again[name]) for name in first)
        assert not torch.equal(first["vocabulary_VP"], other["vocabulary_VP"])


def test_the_vocabulary_lies_in_the_checkpoint():
    tokenizer, other = fitted(RandomPatches(vocabulary=16)), fitted(RandomPatches(vocabulary=16), seed=1)
    patch = patched(noise().float() / 127.5 - 1, PATCH)
    assert not torch.equal(tokenizer(patch), other(patch))
    other.load_state_dict(tokenizer.state_dict())
    assert torch.equal(tokenizer(patch), other(patch))
    assert torch.equal(tokenizer.nats_K, other.nats_K)


def test_the_measured_figures_are_those_of_a_count_by_hand():
    tokenizer = made(RandomPatches(vocabulary=8, least_perplexity=1.0))
    tokenizer._measure(torch.tensor([0] * 6 + [1] * 3 + [5] + [8] * 10))
    share = [0.6, 0.3, 0.1]
    assert tokenizer.facts == {
        "perplexity": pytest.approx(math.exp(-sum(one * math.log(one) for one in share))),
        "top1_share": 0.6,
        "vocabulary_used": 3,
        "blank_share": 0.5,
    }
    counts = [7, 4, 1, 1, 1, 2, 1, 1, 11]
    assert tokenizer.nats_K.tolist() == pytest.approx([-math.log(one / 29) for one in counts])


# Refused ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("vocabulary", [256, 2_048])
def test_random_projection_of_raw_photographs_is_refused_and_of_centred_ones_is_not(number, vocabulary):
    photo = torch.from_numpy(load_sample_images().images[number].copy()).permute(2, 0, 1)[None, :, :416, :416]
    shape = {"image_px": 416, "patch_px": 16}
    with pytest.raises(TokenizerError, match=r"^random-projection, center none: tokens of perplexity \d+\.\d, \d+% of"):
        fitted(RandomProjection(vocabulary=vocabulary, center="none"), photo, **shape)
    for spec in (RandomProjection(vocabulary=vocabulary), RandomPatches(vocabulary=vocabulary)):
        assert fitted(spec, photo, **shape).facts["perplexity"] > 90


def test_a_small_vocabulary_of_pictures_of_two_levels_passes():
    rng = np.random.default_rng(0)
    walk = np.cumsum(rng.normal(size=(40, 1, 24, 24)), axis=3).cumsum(axis=2)
    image = torch.from_numpy(np.where(walk > 20, 255, 0).astype(np.uint8))
    facts = fitted(RandomPatches(vocabulary=64), image, image_px=24, channels=1).facts
    assert facts["blank_share"] > 0.5
    assert facts["perplexity"] > 16


def test_what_cannot_be_a_vocabulary_is_said_in_one_line():
    blank = torch.full((4, CHANNELS, PX, PX), 30, dtype=torch.uint8)
    line = r"^random-patches: a vocabulary of 16 asks for as many different patches, and 1,024 draws from 3 images "
    with pytest.raises(TokenizerError, match=f"{line}found 0$"):
        fitted(RandomPatches(vocabulary=16), blank)
    with pytest.raises(TokenizerError, match=r"^random-projection: every patch of these images is blank$"):
        fitted(RandomProjection(vocabulary=16), blank)
    image = torch.cat([noise(1), ramps([0.0] * 30)])  # and the noise is not among those that are measured
    line = r"^random-patches, center patch_channel: tokens of perplexity 1\.0, 100% of the patches have the same one; "
    for asked, least in ((50.0, 16), (10.0, 10)):  # a quarter of the vocabulary is enough
        with pytest.raises(TokenizerError, match=f"{line}at least {least} is asked for$"):
            fitted(RandomPatches(vocabulary=64, least_perplexity=asked), image)
    assert issubclass(TokenizerError, RunError)


def test_tokenizers_are_told_apart_by_kind():
    assert Holder.parse({"tokenizer": "kmeans"}).tokenizer == KMeans()
    for kind, spec in TOKENIZERS.items():
        assert Holder.parse({"tokenizer": {"kind": kind, "vocabulary": 5}}).tokenizer == spec(vocabulary=5)
    with pytest.raises(
        SpecError, match=r"tokenizer: unknown kind, known are kmeans, random-patches, random-projection"
    ):
        Holder.parse({"tokenizer": "dall-e"})
    with pytest.raises(SpecError, match=r"tokenizer.vocabulary: must be greater than or equal to 2; got 1"):
        Holder.parse({"tokenizer": {"kind": "kmeans", "vocabulary": 1}})
