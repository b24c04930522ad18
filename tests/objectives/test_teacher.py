"""Teachers follow by the formula, hold no gradients and drop nothing."""

import math

import pytest
import torch
from torch import nn

from scaleback.backbones import Backbone
from scaleback.objectives.learners.teacher import follow, momentum_at, teacher_of


def student():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def test_a_teacher_is_a_copy_of_its_own_without_gradients():
    original = student()
    copied = teacher_of(original)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(*parameters(copied, original), strict=True))
    assert not any(value.requires_grad for value in copied.parameters())
    assert all(value.requires_grad for value in original.parameters())
    with torch.no_grad():
        original[0].weight.zero_()
    assert copied[0].weight.any()
    assert not copied(torch.ones(2, 3)).requires_grad


def parameters(*modules):
    return [[value.detach().clone() for value in module.parameters()] for module in modules]


@pytest.mark.parametrize("momentum", [0.0, 0.7, 0.996, 1.0])
def test_a_teacher_follows_by_the_formula_and_keeps_its_buffers(momentum):
    original, copied = student(), teacher_of(student())
    original(torch.randn(8, 3, generator=torch.Generator().manual_seed(0)))  # its batch statistics move
    before, buffers = parameters(copied)[0], {name: value.clone() for name, value in copied.named_buffers()}
    follow(copied, original, momentum)
    for old, new, target in zip(before, *parameters(copied, original), strict=True):
        torch.testing.assert_close(new, momentum * old + (1 - momentum) * target)
    assert original[1].running_mean.any()
    assert all(torch.equal(value, buffers[name]) for name, value in copied.named_buffers())
    assert not any(value.requires_grad for value in copied.parameters())


def test_a_student_is_not_moved():
    original, copied = student(), teacher_of(student())
    before = parameters(original)[0]
    follow(copied, original, 0.5)
    assert all(torch.equal(*pair) for pair in zip(before, *parameters(original), strict=True))


def test_a_teacher_drops_no_branches_and_its_student_does():
    backbone = Backbone(
        model="vit_tiny_patch16_224", image_px=16, channels=1, patch_px=8, width=16, depth=3, heads=2, drop_path=0.5
    ).build(0)
    image = torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    copied = teacher_of(backbone)

    def draws_differ(module):
        module.train()
        results = []
        for seed in range(5):
            torch.manual_seed(seed)
            results.append(module(image))
        return any(not torch.equal(results[0], other) for other in results)

    assert draws_differ(backbone)
    assert not draws_differ(copied)


def test_momentum_goes_to_one_along_a_half_cosine():
    assert momentum_at(0.0, 0.99) == pytest.approx(0.99)
    assert momentum_at(0.5, 0.99) == pytest.approx(0.995)
    assert momentum_at(0.25, 0.9) == pytest.approx(1 - 0.1 * (1 + math.sqrt(0.5)) / 2)
    assert momentum_at(1.0, 0.9) == 1
