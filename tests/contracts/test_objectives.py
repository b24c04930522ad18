"""Laws of every objective; a registry line is what adds the tests. Then what is particular to classification."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from scipy import stats

from scaleback.backbones import width_of
from scaleback.core import seeds
from scaleback.core.errors import Refusal, SpecError
from scaleback.core.spec import Spec
from scaleback.objectives import OBJECTIVE_PRESETS, OBJECTIVES, AnyObjective
from scaleback.objectives.classify import Classify
from scaleback.objectives.learners.base import Batch
from scaleback.objectives.learners.classify import draw_mix, mixed, partner, several_classes_loss
from scaleback.pretrain.state import TrainState
from scaleback.pretrain.watch import RANK_LEAST, effective_rank
from scaleback.recipes.optimizers import AdamW
from scaleback.torchvision_operators import declare

declare()  # before timm, which imports torchvision
from timm.data.mixup import mixup_target  # noqa: E402
from timm.loss import SoftTargetCrossEntropy  # noqa: E402

IMAGES, SOURCE_CLASSES, SIZE = 8, 4, 16
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


def test_an_untrained_learner_is_at_the_trivial_loss(objective, tiny_vit):
    if trivial_loss(objective) is None:
        return  # the method has none
    module = learner(objective, tiny_vit)
    loss = np.mean([module(batch(objective, step)).total.item() for step in STEPS])
    if objective.compares_images:  # batch norms tell images apart from the start
        assert loss < 1.1 * trivial_loss(objective)
    else:
        assert loss == pytest.approx(trivial_loss(objective), rel=0.1)


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
    losses = module(batch(objective))
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
    losses = [module(batch(objective, step)) for step in STEPS]
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


# Classification -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields", [{}, {"mixup": 0.8}, {"cutmix": 1.0}, {"smoothing": 0.3, "mixup": 0.8, "cutmix": 1.0}]
)
def test_the_loss_is_timm_s_with_soft_targets(fields, tiny_vit):
    objective = Classify(**fields)
    module = learner(objective, tiny_vit)
    for step in STEPS:
        given = batch(objective, step)
        mix = draw_mix(objective.mixup, objective.cutmix, given.seed, step, (SIZE, SIZE))
        share, image = (1.0, given.view_VBCHW[0]) if mix is None else (mix.share, mixed(given.view_VBCHW[0], mix))
        # timm pairs an image with the one as far from the other end: pairs (0, 1), (2, 3) one at a time.
        labels = given.label_B.view(-1, 2)
        target = torch.cat([mixup_target(pair, SOURCE_CLASSES, share, objective.smoothing) for pair in labels])
        expected = SoftTargetCrossEntropy()(module.head(module.backbone(image)), target)
        torch.testing.assert_close(module(given).total, expected)


def test_with_labels_index_every_image_is_its_own_class(tiny_vit):
    objective = Classify(labels="index", smoothing=0.0)
    assert classes_of(objective) == IMAGES
    module, given = learner(objective, tiny_vit), batch(objective)
    log_chance = torch.log_softmax(module.head(module.backbone(given.view_VBCHW[0])), dim=1)
    torch.testing.assert_close(module(given).total, -log_chance.diagonal().mean())


def test_accuracy_is_the_share_of_right_answers(tiny_vit):
    module, given = fitted(Classify(), tiny_vit), batch(Classify())
    assert module(given).parts["accuracy"] == 1
    given.label_B[:3] = (given.label_B[:3] + 1) % SOURCE_CLASSES
    assert module(given).parts["accuracy"] == 1 - 3 / 8


def test_nothing_is_mixed_in_evaluation(tiny_vit):
    module = learner(Classify(mixup=0.8, cutmix=1.0), tiny_vit).eval()
    assert len({module(batch(Classify(), step)).total.item() for step in STEPS}) == 1


def test_partners_are_neighbours_and_change_places():
    assert partner(torch.arange(6)).tolist() == [1, 0, 3, 2, 5, 4]
    image = torch.randn(4, 2, 3, 3)
    assert torch.equal(partner(partner(image)), image)


def test_cutmix_pastes_a_box_of_the_partner_whose_share_is_the_weight():
    for step in range(30):
        mix = draw_mix(0.0, 1.0, 3, step, (12, 20))
        image = torch.stack([torch.zeros(1, 12, 20), torch.ones(1, 12, 20)])
        own = mixed(image, mix)[0] == 0
        assert own.double().mean().item() == pytest.approx(mix.share)
        pasted = ~own[0]
        assert torch.equal(pasted, pasted.any(1)[:, None] & pasted.any(0))
        assert torch.equal(mixed(image, mix)[1] == 1, own)


def test_mixup_blends_with_the_partner():
    mix = draw_mix(0.8, 0.0, 3, 0, (4, 4))
    image = torch.stack([torch.zeros(1, 4, 4), torch.ones(1, 4, 4)])
    assert mixed(image, mix).mean((1, 2, 3)).tolist() == pytest.approx([1 - mix.share, mix.share])


def test_weights_are_drawn_from_beta_and_the_two_kinds_half_and_half():
    share = [draw_mix(0.8, 0.0, 5, step, (32, 32)).share for step in range(2_000)]
    assert stats.kstest(share, stats.beta(0.8, 0.8).cdf).pvalue > 1e-3
    boxes = [draw_mix(0.8, 1.0, 5, step, (32, 32)).box is not None for step in range(1_000)]
    assert np.mean(boxes) == pytest.approx(0.5, abs=0.064)  # four standard deviations
    # Of a large picture, and before it is cut at the border, a box takes 1 - share, which is uniform: at the most that.
    cut = np.array([1 - draw_mix(0.0, 1.0, 5, step, (1_000, 1_000)).share for step in range(2_000)])
    for share in (0.25, 0.5, 0.75):
        assert (cut <= share).mean() >= share - 0.03
    assert cut.mean() > 0.25


@pytest.mark.parametrize(
    ("fields", "given", "line"),
    [
        ({}, {"source_classes": None}, r"labels: must be index for a source without labels; got 'source'"),
        ({}, {"source_classes": 1}, r"labels: needs at least two classes to tell apart; got 1"),
        ({"labels": "index"}, {"images": 1}, r"labels: needs at least two classes to tell apart; got 1"),
    ],
)
def test_data_that_cannot_be_classified_are_refused(fields, given, line):
    possible = {"source_classes": 4, "images": 8, "batch_images": 8}
    Classify(**fields).refuse(**possible)
    with pytest.raises(Refusal) as caught:
        Classify(**fields).refuse(**possible | given)
    assert f"{caught.value.field}: {caught.value}" == line


def test_pairs_that_are_mixed_stay_together():
    together = [Classify(**fields).slice_multiple for fields in ({}, {"mixup": 0.8}, {"cutmix": 1.0})]
    assert together == [1, 2, 2]


def test_one_image_a_class_needs_no_labels_and_its_trivial_loss_is_the_logarithm():
    objective = Classify(labels="index")
    objective.refuse(source_classes=None, images=1_000, batch_images=8)
    classes = objective.classes(source_classes=None, images=1_000)
    assert objective.trivial_loss(classes=classes, labels_an_image=1, batch_images=8) == math.log(1_000)


def test_images_of_several_classes_have_the_loss_of_each_class_against_the_rest():
    rng = np.random.default_rng(0)
    logits, label = rng.normal(size=(5, 6)), np.array([[0, -1, -1], [1, 3, -1], [0, 2, 5], [5, -1, -1], [2, 4, -1]])
    losses = []
    for row, shown in zip(logits, label, strict=True):
        shown = set(shown) - {-1}
        for k, z in enumerate(row):
            chance = 1 / (1 + math.exp(-z))
            losses.append(-6 / len(shown) * math.log(chance) if k in shown else -math.log(1 - chance))
    mine = several_classes_loss(torch.from_numpy(logits), torch.from_numpy(label))
    assert float(mine) == pytest.approx(np.mean(losses), rel=1e-9)


@pytest.mark.parametrize(("classes", "most"), [(1_000, 1), (10, 3), (4, 5), (3, 5)])
def test_the_trivial_loss_of_several_classes_is_that_of_the_best_constant(classes, most):
    shown = (1 + most) / 2
    chance = np.linspace(1e-6, 1 - 1e-6, 200_001)
    losses = -(np.log(chance) + (1 - shown / classes) * np.log(1 - chance))
    found = Classify().trivial_loss(classes=classes, labels_an_image=most, batch_images=8)
    expected = math.log(classes) if most == 1 else losses.min()
    assert found == pytest.approx(expected, abs=1e-5)


def test_a_learner_takes_one_class_or_several(tiny_vit):
    objective = Classify(mixup=0.8, cutmix=1.0)
    module = learner(objective, tiny_vit).eval()
    one = batch(objective)
    label = torch.stack([one.label_B, torch.full_like(one.label_B, -1)], dim=1)
    several = dataclasses.replace(one, label_B=label)
    assert module(several).parts["accuracy"] == module(one).parts["accuracy"]
    expected = several_classes_loss(module.head(module.backbone(one.view_VBCHW[0])), label)
    assert torch.isclose(module(several).total, expected)
    assert torch.isfinite(module.train()(several).total)


def test_smoothing_of_one_is_refused():
    with pytest.raises(SpecError, match=r"^smoothing: must be less than 1; got 1.0$"):
        Classify.parse({"smoothing": 1.0})
