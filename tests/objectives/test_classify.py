"""Classification: the losses and mixes of timm, of several classes, and of IDMM's stacks of crops."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy import stats

from scaleback.core.errors import Refusal, SpecError
from scaleback.objectives import OBJECTIVE_PRESETS
from scaleback.objectives.classify import Classify
from scaleback.objectives.learners.classify import draw_mix, mixed, partner, several_classes_loss
from scaleback.torchvision_operators import declare
from tests.contracts.test_objectives import IMAGES, SIZE, SOURCE_CLASSES, STEPS, batch, classes_of, fitted, learner

declare()  # before timm, which imports torchvision
from timm.data.mixup import mixup_target  # noqa: E402
from timm.loss import SoftTargetCrossEntropy  # noqa: E402


def mix_of(step, size, *, seed=5, views=1, stack=0, **fields):
    """The mix of one step."""
    objective = Classify(**fields)
    given = dataclasses.replace(batch(objective), seed=seed, step=step)
    return draw_mix(objective, given, size, views=views, stack=stack)


@pytest.mark.parametrize(
    "fields", [{}, {"mixup": 0.8}, {"cutmix": 1.0}, {"smoothing": 0.3, "mixup": 0.8, "cutmix": 1.0}]
)
def test_the_loss_is_timm_s_with_soft_targets(fields, tiny_vit):
    objective = Classify(**fields)
    module = learner(objective, tiny_vit)
    for step in STEPS:
        given = batch(objective, step)
        mix = draw_mix(objective, given, (SIZE, SIZE))
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
        mix = mix_of(step, (12, 20), cutmix=1.0)
        image = torch.stack([torch.zeros(1, 12, 20), torch.ones(1, 12, 20)])
        own = mixed(image, mix)[0] == 0
        assert own.double().mean().item() == pytest.approx(mix.share)
        pasted = ~own[0]
        assert torch.equal(pasted, pasted.any(1)[:, None] & pasted.any(0))
        assert torch.equal(mixed(image, mix)[1] == 1, own)


def test_mixup_blends_with_the_partner():
    mix = mix_of(0, (4, 4), mixup=0.8)
    image = torch.stack([torch.zeros(1, 4, 4), torch.ones(1, 4, 4)])
    assert mixed(image, mix).mean((1, 2, 3)).tolist() == pytest.approx([1 - mix.share, mix.share])


def test_weights_are_drawn_from_beta_and_the_two_kinds_half_and_half():
    share = [mix_of(step, (32, 32), mixup=0.8).share for step in range(2_000)]
    assert stats.kstest(share, stats.beta(0.8, 0.8).cdf).pvalue > 1e-3
    boxes = [mix_of(step, (32, 32), mixup=0.8, cutmix=1.0).box is not None for step in range(1_000)]
    assert np.mean(boxes) == pytest.approx(0.5, abs=0.064)  # four standard deviations
    # Of a large picture, and before it is cut at the border, a box takes 1 - share, which is uniform: at the most that.
    cut = np.array([1 - mix_of(step, (1_000, 1_000), cutmix=1.0).share for step in range(2_000)])
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


# IDMM ---------------------------------------------------------------------------------------------------------------

IDMM = OBJECTIVE_PRESETS["idmm"]


def soft_loss_by_definition(logits_NK, target_NK):
    """Mean of -sum q log softmax(o), in plain Python."""
    losses = []
    for row, target in zip(logits_NK, target_NK, strict=True):
        norm = math.log(sum(math.exp(value - max(row)) for value in row)) + max(row)
        losses.append(-sum(q * (o - norm) for o, q in zip(row, target, strict=True)))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_idmm_s_loss_is_the_sum_of_two_stacks_each_mixed_by_its_own_draw(tiny_vit, smoothing):
    objective = IDMM.replace({"smoothing": smoothing})
    module = learner(objective, tiny_vit).double()
    for step in STEPS:
        given = batch(objective, step)
        given = dataclasses.replace(given, view_VBCHW=[view.double() for view in given.view_VBCHW])
        expected, boxes = 0.0, []
        for stack, views in enumerate([given.view_VBCHW[:2], given.view_VBCHW[2:]]):
            mix = draw_mix(objective, given, (SIZE, SIZE), stack=stack, views=len(views))
            top, bottom, left, right = mix.box
            boxes.append(mix.box)
            logits, targets = [], []
            for number, view in enumerate(views):
                for image in range(IMAGES):
                    neighbour = image + 1 if image % 2 == 0 else image - 1
                    picture = view[image].clone()
                    pasted = views[(number + mix.turn) % len(views)][neighbour]
                    picture[:, top:bottom, left:right] = pasted[:, top:bottom, left:right]
                    logits.append(module.head(module.backbone(picture[None]))[0].tolist())
                    target = [smoothing / IMAGES] * IMAGES
                    target[image] += (1 - smoothing) * mix.share
                    target[neighbour] += (1 - smoothing) * (1 - mix.share)
                    targets.append(target)
            expected += soft_loss_by_definition(logits, targets)
        assert boxes[0] != boxes[1]
        assert module(given).total.item() == pytest.approx(expected, rel=1e-6)


def test_idmm_keeps_the_larger_share_and_the_weight_is_what_is_left_of_the_box():
    shares = []
    for step in range(300):
        mix = mix_of(step, (100, 100), cutmix=0.5, mix_larger=True, views=2)
        top, bottom, left, right = mix.box
        assert mix.share == 1 - (bottom - top) * (right - left) / 10_000
        shares.append(mix.share)
    assert min(shares) >= 0.5
    assert np.mean([mix_of(step, (100, 100), cutmix=0.5).share < 0.5 for step in range(300)]) > 0.15


def test_a_crop_is_mixed_with_every_crop_of_its_neighbour_and_never_with_its_own_image():
    turns = {mix_of(step, (8, 8), cutmix=1.0, views=4).turn for step in range(60)}
    assert turns == {0, 1, 2, 3}
    index = torch.arange(6).repeat(4)[:, None, None, None].expand(-1, 1, 8, 8).float()
    for step in range(20):
        mix = mix_of(step, (8, 8), cutmix=1.0, views=4)
        pasted = mixed(index, mix)
        assert set(pasted.unique().tolist()) <= set(range(6))
        other = pasted[pasted != index]
        assert torch.equal(other, partner(index)[pasted != index])  # the label that the loss gives them


def test_ingredients_of_idmm_are_fields():
    """Paper, table 8: plain instance discrimination, then smoothing, small crops (the backbone's), crops, CutMix."""
    plain = Classify(labels="index", smoothing=0.0)
    ladder = [{"smoothing": 0.1}, {"global_crops": 2, "local_crops": 4}, {"cutmix": 0.5, "mix_larger": True}]
    for step in ladder:
        plain = plain.replace(step)
    assert plain == IDMM
    assert IDMM.view_augmentations == (0, 0, 1, 1, 1, 1)
    assert OBJECTIVE_PRESETS["idmm-code"] == IDMM.replace({"smoothing": 0.0})


def test_idmm_needs_no_labels_and_its_trivial_loss_counts_both_stacks():
    IDMM.refuse(source_classes=None, images=2_040, batch_images=256)
    classes = IDMM.classes(source_classes=None, images=2_040)
    found = IDMM.trivial_loss(classes=classes, labels_an_image=1, batch_images=256)
    assert found == pytest.approx(2 * math.log(2_040))
