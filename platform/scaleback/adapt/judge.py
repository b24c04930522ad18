"""How a judge learns: as a classifier does, on whole images."""

from __future__ import annotations

import torch

from scaleback.backbones import width_of
from scaleback.core import seeds
from scaleback.objectives.classify import Classify
from scaleback.pretrain.loop import Training
from scaleback.sources.learnt import Judged
from scaleback.sources.population import Images


def judge_training(spec: Judged, images: Images) -> Training:
    """Its training on the first images of its population."""
    backbone = spec.backbone.build(seeds.key("judge", spec.seed) >> 1)
    generator = torch.Generator().manual_seed(seeds.key("head of a judge", spec.seed) >> 1)
    return Training(
        learner=Classify().build(backbone, width=width_of(backbone), classes=spec.classes, generator=generator),
        views=spec.recipe.views,
        images=images,
        image_px=spec.backbone.image_px,
        channels=spec.backbone.channels,
        recipe=spec.sized_recipe,
        seed=spec.seed,
    )
