"""What tests of methods that hide patches share: a small ViT of 4 x 4 patches, batches, a loss by loops."""

import math

import numpy as np
import torch

from scaleback.backbones import Backbone, width_of
from scaleback.core import seeds
from scaleback.objectives.learners.base import Batch

IMAGES, SIZE, PATCH, CHANNELS, PATCHES = 6, 16, 4, 3, 16


def backbone(pool="token"):
    return Backbone(
        model="vit_tiny_patch16_224",
        image_px=SIZE,
        channels=CHANNELS,
        patch_px=PATCH,
        width=16,
        depth=2,
        heads=2,
        mlp_ratio=2.0,
        pool=pool,
    )


def raw(count=64, size=SIZE):
    """Noise with some blank patches, uint8."""
    image = np.random.default_rng(3).integers(0, 256, (count, CHANNELS, size, size), dtype=np.uint8)
    image[:, :, : size // 4, : size // 2] = 40
    return torch.from_numpy(image)


def learner(objective, pool="token", seed=0, dtype=torch.float64):
    module = backbone(pool).build(seed)
    generator = torch.Generator().manual_seed(seed)
    made = objective.build(module, width=width_of(module), classes=0, generator=generator)
    made.prepare(raw())
    with torch.no_grad():  # norms and biases that do something
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return made.to(dtype)


def batch(step=0, dtype=torch.float64):
    image = raw()[:IMAGES].to(dtype) / 127.5 - 1
    index = torch.arange(IMAGES)
    return Batch(
        view_VBCHW=[image],
        label_B=index,
        index_B=index,
        counter_B=seeds.counter(step, index.numpy()),
        seed=1,
        step=step,
        progress=0.0,
    )


def cross_entropy(logits, right):
    """Of one row of logits, in plain Python."""
    most = max(logits)
    return most + math.log(sum(math.exp(value - most) for value in logits)) - logits[right]


def patch_of(image, place):
    """Pixels of one patch, row by row, channels last."""
    top, left = PATCH * (place // (SIZE // PATCH)), PATCH * (place % (SIZE // PATCH))
    return image[:, top : top + PATCH, left : left + PATCH].permute(1, 2, 0).reshape(-1)


def token_by_hand(tokenizer, patch, channels=CHANNELS):
    """The nearest vector by cosine of a patch less each channel's mean; the last token for a blank one."""
    pixels = patch.double().view(-1, channels)
    centred = (pixels - pixels.mean(0)).flatten()
    if centred.abs().max() < 1e-6:
        return len(tokenizer.vocabulary_VP)
    cosines = [
        float(centred @ one.double() / (centred.norm() * one.double().norm())) for one in tokenizer.vocabulary_VP
    ]
    return int(np.argmax(cosines))


def encoded_by_hand(vit, tokens):
    """What timm's ViT makes of (T, D) tokens whose positions have been added; every token after the last norm."""
    value = vit.norm(vit.blocks(tokens[None]))
    return vit.fc_norm(value)[0]
