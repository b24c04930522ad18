"""Laws of every optimizer; a registry line is what adds the tests."""

import json

import numpy as np
import pytest
import torch

from scaleback.backbones import width_of
from scaleback.core.errors import SpecError
from scaleback.core.spec import Spec
from scaleback.objectives import OBJECTIVES
from scaleback.objectives.learners.base import Batch
from scaleback.pretrain.state import Average, TrainState
from scaleback.recipes.optimizers import OPTIMIZERS, SGD, AdamW, AnyOptimizer

LR, WEIGHT_DECAY, CLASSES = 0.02, 0.05, 4
SETTINGS = [
    (kind, field)
    for kind, cls in OPTIMIZERS.items()
    for field in ("beta1", "beta2", "momentum")
    if field in cls.model_fields
]


class Holder(Spec):
    optimizer: AnyOptimizer


@pytest.fixture(params=OPTIMIZERS)
def optimizer(request):
    return OPTIMIZERS[request.param](lr=LR, weight_decay=WEIGHT_DECAY)


def learner(tiny_vit, seed=0):
    backbone = tiny_vit.build(seed)
    generator = torch.Generator().manual_seed(seed)
    return OBJECTIVES["classify"]().build(backbone, width=width_of(backbone), classes=CLASSES, generator=generator)


def state(tiny_vit, optimizer, seed=0):
    module = learner(tiny_vit, seed)
    return TrainState(module, optimizer.build(module), Average(module, 0.9))


def batch(step=0):
    generator = torch.Generator().manual_seed(step)
    label = torch.arange(8) % CLASSES
    view = torch.randn(8, 1, 16, 16, generator=generator)
    return Batch(
        view_VBCHW=[view],
        label_B=label,
        index_B=torch.arange(8),
        counter_B=np.arange(8),
        seed=1,
        step=step,
        progress=0.0,
    )


def steps(running, count):
    """Train on batches that differ, from where the state stands."""
    for _ in range(count):
        loss = running.learner(batch(running.step)).total
        loss.backward()
        running.optimizer.step()
        running.optimizer.zero_grad()
        running.average.update(running.step)
        running.step += 1
    return loss.item()


def test_plain_data_parse_back_to_the_same_optimizer(optimizer):
    plain = json.loads(json.dumps(optimizer.plain()))
    parsed = Holder.parse({"optimizer": plain}).optimizer
    assert parsed == optimizer
    assert parsed.fingerprint == optimizer.fingerprint
    assert OPTIMIZERS[optimizer.short] is type(optimizer)


def test_a_rate_of_zero_and_a_negative_decay_are_refused(optimizer):
    plain = optimizer.plain()
    with pytest.raises(SpecError, match=r"lr: must be greater than 0; got 0"):
        type(optimizer).parse(plain | {"lr": 0.0})
    with pytest.raises(SpecError, match=r"weight_decay: must be greater than or equal to 0; got -1"):
        type(optimizer).parse(plain | {"weight_decay": -1.0})


def test_every_parameter_is_in_one_group_with_the_set_rate(optimizer, tiny_vit):
    module = learner(tiny_vit)
    groups = optimizer.build(module).param_groups
    held = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(held) == sorted(id(parameter) for parameter in module.parameters())
    assert {group["lr"] for group in groups} == {LR}


def test_a_frozen_parameter_is_left_out(optimizer, tiny_vit):
    module = learner(tiny_vit)
    frozen = module.backbone.patch_embed.proj.weight.requires_grad_(False)
    groups = optimizer.build(module).param_groups
    assert id(frozen) not in {id(parameter) for group in groups for parameter in group["params"]}


def test_only_matrices_decay(optimizer, tiny_vit):
    module = learner(tiny_vit)
    decay = {
        id(parameter): group["weight_decay"]
        for group in optimizer.build(module).param_groups
        for parameter in group["params"]
    }
    for name, parameter in module.named_parameters():
        spared = parameter.ndim < 2 or name in ("backbone.pos_embed", "backbone.cls_token")
        assert decay[id(parameter)] == (0 if spared else WEIGHT_DECAY), name


@pytest.mark.parametrize(("kind", "field"), SETTINGS)
def test_a_setting_of_the_spec_reaches_the_groups(kind, field, tiny_vit):
    spec = OPTIMIZERS[kind](lr=LR, weight_decay=WEIGHT_DECAY, **{field: 0.7})
    for group in spec.build(learner(tiny_vit)).param_groups:
        found = group["momentum"] if field == "momentum" else group["betas"][int(field[-1]) - 1]
        assert found == 0.7


def test_a_saved_state_is_loaded_bit_by_bit_and_goes_on_alike(optimizer, tiny_vit):
    whole = state(tiny_vit, optimizer)
    steps(whole, 3)
    files = whole.save()
    other = state(tiny_vit, optimizer, seed=1)  # other weights, so that what is not loaded shows
    other.load(files)
    assert other.save() == files
    assert steps(whole, 3) == steps(other, 3)
    assert other.save() == whole.save()


def test_a_step_moves_every_parameter_that_has_a_gradient(optimizer, tiny_vit):
    module = learner(tiny_vit)
    running = optimizer.build(module)
    before = {name: value.detach().clone() for name, value in module.named_parameters()}
    module(batch()).total.backward()
    running.step()
    assert all(value.isfinite().all() for value in module.parameters())
    moved = {name for name, value in module.named_parameters() if not torch.equal(before[name], value)}
    assert moved >= {name for name, value in module.named_parameters() if value.grad.abs().max() > 1e-6}


def test_thirty_steps_lower_the_loss(optimizer, tiny_vit):
    module = learner(tiny_vit)
    running, same = optimizer.build(module), batch()
    first = module(same).total.item()
    for _ in range(30):
        running.zero_grad()
        module(same).total.backward()
        running.step()
    # A rate fit for AdamW is a small one for SGD, LAMB and LARS: hundredths of a nat, and rounding is 1e-7.
    assert module(same).total.item() < first - 1e-3


def adamw_by_hand(weight, gradients, lr, decay, beta1=0.8, beta2=0.95, epsilon=1e-8):
    """Loshchilov and Hutter, 2019, algorithm 2."""
    first, second = torch.zeros_like(weight), torch.zeros_like(weight)
    for number, gradient in enumerate(gradients, 1):
        weight = weight - lr * decay * weight
        first, second = beta1 * first + (1 - beta1) * gradient, beta2 * second + (1 - beta2) * gradient**2
        weight = weight - lr * (first / (1 - beta1**number)) / ((second / (1 - beta2**number)).sqrt() + epsilon)
    return weight


def sgd_by_hand(weight, gradients, lr, decay, momentum=0.8):
    """Nesterov momentum as torch documents it, decay as a part of the gradient."""
    velocity = torch.zeros_like(weight)
    for gradient in gradients:
        gradient = gradient + decay * weight
        velocity = momentum * velocity + gradient
        weight = weight - lr * (gradient + momentum * velocity)
    return weight


@pytest.mark.parametrize(
    ("spec", "by_hand"),
    [
        (AdamW(lr=LR, weight_decay=WEIGHT_DECAY, beta1=0.8, beta2=0.95), adamw_by_hand),
        (SGD(lr=LR, weight_decay=WEIGHT_DECAY, momentum=0.8), sgd_by_hand),
    ],
)
def test_updates_are_those_of_the_formula(spec, by_hand):
    module = torch.nn.Linear(3, 5)
    start, gradients = module.weight.detach().clone(), torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(0))
    running = spec.build(module)
    for gradient in gradients:
        module.weight.grad = gradient.clone()
        running.step()
    torch.testing.assert_close(module.weight.detach(), by_hand(start, gradients, LR, WEIGHT_DECAY))


@pytest.mark.parametrize(("kind", "field"), SETTINGS)
def test_the_least_value_that_is_allowed_can_be_built(kind, field, tiny_vit):
    module = learner(tiny_vit)
    running = OPTIMIZERS[kind](lr=LR, weight_decay=WEIGHT_DECAY, **{field: 0.0}).build(module)
    module(batch()).total.backward()
    running.step()
    assert all(value.isfinite().all() for value in module.parameters())
