"""What a recipe does to gradients and to weight decay, step by step: DINO's settings."""

import math

import pytest
import torch

from scaleback.backbones import Backbone
from scaleback.objectives.classify import Classify
from scaleback.pretrain.loop import train
from scaleback.pretrain.world import World
from scaleback.recipes.optimizers import SGD, AdamW
from tests.pretrain.test_loop import BATCH, RECIPE, STEPS, training

VIT = Backbone(model="vit_tiny_patch16_224", image_px=16, channels=1, patch_px=8, width=16, depth=2, heads=2)
PLAIN = RECIPE.replace({"optimizer": SGD(lr=1.0, weight_decay=0.0, momentum=0.0).plain(), "warmup_images": 0})
ONE_STEP = PLAIN.replace({"budget_images": BATCH, "schedule": "constant", "ema": None})


def first_step(**changes):
    """How far one step of plain descent with rate 1 moves each parameter: its gradient; and the row of that step."""
    job = training(VIT, ONE_STEP.replace(changes), objective=Classify())
    before = {name: value.detach().clone() for name, value in job.learner.named_parameters()}
    state = train(job, World())
    return {name: before[name] - value.detach() for name, value in job.learner.named_parameters()}, state.rows[0]


def test_each_tensor_s_gradient_is_clipped_by_itself_and_keeps_its_direction():
    free, row = first_step()
    norms = {name: float(gradient.norm()) for name, gradient in free.items()}
    most = sorted(norms.values())[len(norms) // 2]  # half of the tensors are longer
    each, clipped_row = first_step(clip_norm=most, clip_each=True)
    for name, gradient in each.items():
        expected = free[name] * min(1.0, most / norms[name])
        torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-7, msg=name)
        assert float(gradient.norm()) <= most * (1 + 1e-4)
    # As a whole it is longer than the limit, where clipping as one would have held it below.
    assert math.sqrt(sum(float(gradient.norm()) ** 2 for gradient in each.values())) > 1.5 * most
    whole, _ = first_step(clip_norm=most)
    assert math.sqrt(sum(float(gradient.norm()) ** 2 for gradient in whole.values())) == pytest.approx(most, rel=1e-3)
    assert clipped_row["gradient_norm"] == pytest.approx(row["gradient_norm"])  # before it was clipped


def test_the_decay_of_decayed_parameters_follows_a_cosine_and_others_are_never_decayed():
    recipe = RECIPE.replace({"optimizer": AdamW(lr=1e-3, weight_decay=0.04).plain(), "end_weight_decay": 0.4})
    seen = []

    def hook(state):
        seen.append([(group["weight_decay"], group["params"]) for group in state.optimizer.param_groups])

    job = training(VIT, recipe, objective=Classify())
    train(job, World(), hooks=[hook])
    matrices = {
        id(value) for name, value in job.learner.named_parameters() if name.endswith("weight") and value.ndim > 1
    }
    assert len(seen) == STEPS
    for step, groups in enumerate(seen):
        expected = 0.4 + (0.04 - 0.4) * 0.5 * (1 + math.cos(math.pi * step / STEPS))
        decayed = [decay for decay, parameters in groups for value in parameters if id(value) in matrices]
        others = [decay for decay, parameters in groups for value in parameters if id(value) not in matrices]
        assert decayed == pytest.approx([expected] * len(matrices))
        assert others
        assert set(others) == {0.0}


def test_prototypes_that_are_held_count_for_nothing_in_the_recorded_norm():
    # What ``before_step`` drops is neither clipped nor applied.
    job = training(VIT, ONE_STEP, objective=Classify())
    before = {name: value.detach().clone() for name, value in job.learner.named_parameters()}

    def drop(progress):
        job.learner.head.weight.grad = None

    job.learner.before_step = drop
    row = train(job, World()).rows[0]
    moved = {name: (before[name] - value.detach()).norm() for name, value in job.learner.named_parameters()}
    assert moved["head.weight"] == 0
    assert row["gradient_norm"] == pytest.approx(
        math.sqrt(sum(float(value) ** 2 for value in moved.values())), rel=1e-3
    )
