"""Laws of every objective; a registry line is what adds the tests. Then what is particular to classification."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from scaleback.backbones import Backbone, width_of
from scaleback.core import seeds
from scaleback.core.errors import Refusal, SpecError
from scaleback.core.spec import Spec
from scaleback.objectives import OBJECTIVE_PRESETS, OBJECTIVES, AnyObjective
from scaleback.objectives.learners.base import Batch
from scaleback.pretrain.spec import refuse_impossible
from scaleback.pretrain.state import TrainState
from scaleback.pretrain.watch import RANK_LEAST, effective_rank
from scaleback.recipes import PRETRAIN_RECIPES
from scaleback.recipes.optimizers import AdamW
from scaleback.sources.named import Digits
from scaleback.torchvision_operators import declare

declare()  # before timm, which imports torchvision

IMAGES, SOURCE_CLASSES, SIZE = 8, 4, 16
RECIPE = PRETRAIN_RECIPES["small"]
STEPS = range(6)  # both mixup and CutMix are among their draws


class Holder(Spec):
    objective: AnyObjective


@pytest.fixture(params=OBJECTIVES)
def objective(request):
    return OBJECTIVES[request.param].example()


def classes_of(objective):
    return objective.classes(source_classes=SOURCE_CLASSES, images=IMAGES)


def trivial_loss(objective):
    return objective.trivial_loss(classes=classes_of(objective), labels_an_image=1, batch_images=IMAGES)


def learner(objective, tiny_vit, seed=0):
    backbone = tiny_vit.build(seed)
    generator = torch.Generator().manual_seed(seed)
    module = objective.build(backbone, width=width_of(backbone), classes=classes_of(objective), generator=generator)
    noise = np.random.default_rng(3).integers(0, 256, (64, 1, SIZE, SIZE), dtype=np.uint8)
    module.prepare(torch.from_numpy(noise))
    return module


def batch(objective, step=0, images=slice(None)):
    """Eight pictures, always the same, or some of them; a picture's views differ by some noise."""
    generator = torch.Generator().manual_seed(7)
    image = torch.randn(IMAGES, 1, SIZE, SIZE, generator=generator)
    views = [image + 0.1 * torch.randn(image.shape, generator=generator) for _ in objective.view_augmentations]
    index = torch.arange(IMAGES)
    return Batch(
        view_VBCHW=[view[images] for view in views],
        label_B=(index % SOURCE_CLASSES)[images],
        index_B=index[images],
        counter_B=seeds.counter(step, index[images].numpy()),
        seed=1,
        step=step,
        progress=step / 100,
    )


def test_plain_data_parse_back_to_the_same_objective(objective):
    plain = json.loads(json.dumps(objective.plain()))
    parsed = Holder.parse({"objective": plain}).objective
    assert parsed == objective
    assert parsed.fingerprint == objective.fingerprint
    assert OBJECTIVES[objective.short] is type(objective)


@pytest.mark.parametrize("name", OBJECTIVE_PRESETS)
def test_a_preset_is_named_in_a_spec(name):
    assert Holder.parse({"objective": name}).objective == OBJECTIVE_PRESETS[name]


def test_an_unknown_field_is_refused(objective):
    with pytest.raises(SpecError, match="unknown field"):
        type(objective).parse({**objective.plain(), "colour_of_the_sky": 1})


def test_a_loss_is_a_finite_scalar_and_its_gradient_reaches_the_whole_backbone(objective, tiny_vit):
    module = learner(objective, tiny_vit)
    losses = module(batch(objective))
    losses.total.backward()
    assert losses.total.shape == ()
    assert losses.total.isfinite()
    assert all(part.shape == () and part.isfinite() and not part.requires_grad for part in losses.parts.values())
    for name, parameter in module.named_parameters():
        # What is frozen (a teacher, a patch projection) is never reached; the rest always is, or DDP would wait.
        assert (parameter.grad is not None) == parameter.requires_grad, name
    trained = {name: value.grad for name, value in module.backbone.named_parameters() if value.requires_grad}
    assert len(trained) > 10
    for name, gradient in trained.items():
        assert gradient.isfinite().all(), name
        assert gradient.any(), name


def test_features_are_the_backbone_s_and_detached(objective, tiny_vit):
    module = learner(objective, tiny_vit).eval()
    given = batch(objective)
    features_BD = module(given).features_BD
    assert not features_BD.requires_grad
    assert features_BD.shape == (IMAGES, width_of(module.backbone))
    if not objective.takes_tokens:  # which see part of an image
        torch.testing.assert_close(features_BD, module.backbone(given.view_VBCHW[0]).detach())


def test_a_method_without_classes_takes_no_notice_of_labels(objective, tiny_vit):
    if classes_of(objective):
        return
    objective.refuse(source_classes=None, images=IMAGES, batch_images=IMAGES)
    given = batch(objective)
    unlabelled = dataclasses.replace(given, label_B=torch.full_like(given.label_B, -1))
    torch.testing.assert_close(
        learner(objective, tiny_vit)(unlabelled).total, learner(objective, tiny_vit)(given).total, rtol=0, atol=0
    )


def test_a_resnet_is_trained_or_refused(objective):
    resnet = Backbone(model="test_resnet", image_px=SIZE, channels=1)
    assert not resnet.has_tokens
    if objective.takes_tokens:
        with pytest.raises(Refusal, match="hides patches of a plain ViT"):
            refuse_impossible(Digits(), IMAGES, objective, RECIPE, resnet)
        return
    module = learner(objective, resnet)
    losses = module(batch(objective))
    losses.total.backward()
    assert losses.total.isfinite()
    assert all(value.grad is not None for value in module.parameters() if value.requires_grad)


def test_where_all_images_are_one_the_loss_is_the_trivial_one(objective, tiny_vit):
    if trivial_loss(objective) is None:
        return  # the method has none
    module = learner(objective, tiny_vit)
    for step in STEPS:
        given = batch(objective, step)
        alike = [given.view_VBCHW[0][:1].expand(IMAGES, -1, -1, -1) for _ in given.view_VBCHW]
        loss = module(dataclasses.replace(given, view_VBCHW=alike)).total.item()
        assert loss == pytest.approx(trivial_loss(objective), rel=0.1)  # heads are near zero, not at it


def test_what_is_kept_has_the_names_and_shapes_of_the_backbone(objective, tiny_vit):
    module = learner(objective, tiny_vit)
    kept = {
        name.removeprefix(f"{module.kept}."): value.shape
        for name, value in module.state_dict().items()
        if name.startswith(f"{module.kept}.")
    }
    assert kept == {name: value.shape for name, value in tiny_vit.build(0).state_dict().items()}


def test_what_is_watched_is_watched_on_demand_and_changes_nothing(objective, tiny_vit):
    module = learner(objective, tiny_vit)
    given = batch(objective)
    watched = module(given)
    unwatched = module(dataclasses.replace(given, watched=False))
    torch.testing.assert_close(watched.total, unwatched.total, rtol=0, atol=0)
    assert unwatched.parts.keys() <= watched.parts.keys()


def test_a_row_of_a_healthy_run_is_no_collapse(objective, tiny_vit):
    module = fitted(objective, tiny_vit)
    losses = module(batch(objective, 50))
    row = {name: float(value.detach()) for name, value in losses.parts.items()}
    assert objective.collapse({"loss": losses.total.item(), **row}) is None


def test_passes_count_a_forward_and_a_backward_pass_of_something(objective):
    views = len(objective.view_augmentations)
    one, two = objective.passes([1.0] * views), objective.passes([2.0] * views)
    assert one > 0
    assert two == pytest.approx(2 * one)


def test_fresh_heads_depend_on_the_generator_only(objective, tiny_vit):
    torch.manual_seed(0)
    first = learner(objective, tiny_vit).state_dict()
    torch.manual_seed(1)
    second = learner(objective, tiny_vit).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def fitted(objective, tiny_vit):
    """After fifty steps on the same eight pictures."""
    module = learner(objective, tiny_vit)
    optimizer = AdamW(lr=1e-2, weight_decay=0.0).build(module)
    for step in range(50):
        module(batch(objective, step)).total.backward()
        module.before_step(step / 50)
        optimizer.step()
        optimizer.zero_grad()
        module.after_step((step + 1) / 50)
    return module


def test_fifty_steps_on_eight_images_lower_the_loss_without_collapse(objective, tiny_vit):
    before = np.mean([learner(objective, tiny_vit)(batch(objective, step)).total.item() for step in STEPS])
    module = fitted(objective, tiny_vit)
    losses = [module(batch(objective, 50 + step)) for step in STEPS]  # a loss may have a schedule
    assert np.mean([one.total.item() for one in losses]) < 0.9 * (trivial_loss(objective) or before)
    assert effective_rank(module.eval()(batch(objective)).features_BD) > RANK_LEAST


def loss_and_gradients(module, given):
    module.zero_grad()
    losses = module(given)
    losses.total.backward()
    gradients = {name: value.grad.clone() for name, value in module.named_parameters() if value.grad is not None}
    return {"loss": losses.total.detach(), **losses.parts, **gradients}


@pytest.mark.parametrize("parts", [2, 4])
def test_slices_of_a_batch_give_what_the_batch_gives(objective, tiny_vit, parts):
    if objective.compares_images:
        return  # its slices are parts of one computation: see tests/pretrain/test_group.py
    module, length = learner(objective, tiny_vit), IMAGES // parts
    for step in STEPS:
        whole = loss_and_gradients(module, batch(objective, step))
        slices = [slice(start, start + length) for start in range(0, IMAGES, length)]
        each = [loss_and_gradients(module, batch(objective, step, part)) for part in slices]
        for name, value in whole.items():
            mean = torch.stack([one[name] for one in each]).mean(0)
            torch.testing.assert_close(mean, value, atol=1e-6, rtol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


def test_save_load_continue_equals_continue(objective, tiny_vit):
    def state(seed):
        module = learner(objective, tiny_vit, seed)
        return TrainState(module, AdamW(lr=1e-2, weight_decay=0.1).build(module), None)

    def go_on(running, steps):
        for step in steps:
            running.learner(batch(objective, step)).total.backward()
            running.learner.before_step(step / 100)
            running.optimizer.step()
            running.optimizer.zero_grad()
            running.learner.after_step(step / 100)

    whole, other = state(0), state(1)
    go_on(whole, range(3))
    other.load(whole.save())
    go_on(whole, range(3, 6))
    go_on(other, range(3, 6))
    assert other.save() == whole.save()
