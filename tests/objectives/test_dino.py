"""DINO: the loss by loops over pairs, lightly's head and loss, the centre, schedules, both kinds of collapse."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from scaleback.backbones import Backbone, width_of
from scaleback.core import seeds
from scaleback.core.errors import SpecError
from scaleback.objectives import OBJECTIVE_PRESETS
from scaleback.objectives.dino import DINO
from scaleback.objectives.learners.base import Batch
from scaleback.objectives.learners.dino import DINOHead, features_of_views, pair_cross_entropy
from scaleback.objectives.learners.teacher import momentum_at
from scaleback.pretrain.spec import flops_an_image, refuse_impossible
from scaleback.recipes import PRETRAIN_RECIPES
from scaleback.sources.named import Digits
from scaleback.torchvision_operators import declare

declare()  # before lightly, which imports torchvision
from lightly.loss import DINOLoss  # noqa: E402
from lightly.models.modules.heads import DINOProjectionHead  # noqa: E402

IMAGES, VIEWS, PROTOTYPES = 6, 4, 12
VIT = Backbone(model="vit_tiny_patch16_224", image_px=16, channels=1, patch_px=4, width=16, depth=2, heads=2)
SPEC = DINO(local_crops=2, prototypes=PROTOTYPES, hidden=24, bottleneck=8)
HEALTHY = {"teacher_entropy": 5.0, "teacher_kl": 0.4, "told_apart": 3.0}


def learner(spec=SPEC, backbone=VIT, seed=0):
    module = backbone.build(seed)
    return spec.build(module, width=width_of(module), classes=0, generator=torch.Generator().manual_seed(seed))


def batch(images=IMAGES, step=0, progress=0.0, local_px=8):
    generator = torch.Generator().manual_seed(step)
    sizes = [16, 16, *[local_px] * (VIEWS - 2)]
    return Batch(
        view_VBCHW=[torch.randn(images, 1, size, size, generator=generator) for size in sizes],
        label_B=torch.zeros(images, dtype=torch.int64),
        index_B=torch.arange(images),
        counter_B=seeds.counter(step, np.arange(images)),
        seed=1,
        step=step,
        progress=progress,
    )


def softmax(values):
    largest = max(values)
    parts = [math.exp(value - largest) for value in values]
    return [part / sum(parts) for part in parts]


def loss_by_hand(teacher_UBK, student_VBK, centre_K, teacher_temperature, student_temperature):
    """Equations of the paper, number by number."""
    terms = []
    for u, teacher_BK in enumerate(teacher_UBK):
        for v, student_BK in enumerate(student_VBK):
            if u == v:
                continue
            for teacher_K, student_K in zip(teacher_BK, student_BK, strict=True):
                target = softmax([(g - c) / teacher_temperature for g, c in zip(teacher_K, centre_K, strict=True)])
                chance = softmax([g / student_temperature for g in student_K])
                terms.append(-sum(p * math.log(q) for p, q in zip(target, chance, strict=True)))
    return sum(terms) / len(terms)


def logits(seed=0, views=VIEWS):
    return torch.from_numpy(np.random.default_rng(seed).uniform(-1, 1, (views, IMAGES, PROTOTYPES)))


def test_the_loss_is_that_of_a_loop_over_pairs_and_of_lightly():
    teacher, student, centre = logits(0, 2), logits(1), logits(2)[0, 0]
    found = pair_cross_entropy(((teacher - centre) / 0.05).softmax(-1), (student / 0.1).log_softmax(-1))
    by_hand = loss_by_hand(teacher.tolist(), student.tolist(), centre.tolist(), 0.05, 0.1)
    assert found.item() == pytest.approx(by_hand, rel=1e-12)
    # lightly moves its centre at once, and not after the step: of one forward pass a step, that is the same.
    theirs = DINOLoss(output_dim=PROTOTYPES).double()
    theirs.center.copy_(centre)
    assert found.item() == pytest.approx(theirs(list(teacher), list(student), teacher_temp=0.05).item(), rel=1e-6)


@pytest.mark.parametrize("norm_last_layer", [True, False])
def test_the_head_is_lightly_s(norm_last_layer):
    spec = SPEC.replace({"norm_last_layer": norm_last_layer})
    mine = DINOHead(spec, 16, torch.Generator().manual_seed(0)).double()
    # theirs normalises weights by torch's hook, whose length is (K, 1) too, and is decayed like ours.
    with pytest.warns(FutureWarning, match="weight_norm"):
        theirs = DINOProjectionHead(16, 24, 8, PROTOTYPES, norm_last_layer=norm_last_layer).double()
    linear = [layer for layer in theirs.layers if isinstance(layer, nn.Linear)]
    for layer, other in zip([part for part in mine.layers if isinstance(part, nn.Linear)], linear, strict=True):
        other.load_state_dict(layer.state_dict())
    theirs.last_layer.weight_v.data.copy_(mine.prototype_KN.data)
    if mine.scale_K1 is not None:
        mine.scale_K1.data.uniform_(0.5, 2.0, generator=torch.Generator().manual_seed(1))
        theirs.last_layer.weight_g.data.copy_(mine.scale_K1.data)
    value = torch.randn(5, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(mine(value), theirs(value), rtol=1e-12, atol=1e-12)
    mine(value).square().sum().backward()
    theirs(value).square().sum().backward()
    torch.testing.assert_close(mine.prototype_KN.grad, theirs.last_layer.weight_v.grad, rtol=1e-9, atol=1e-12)


def test_a_learner_s_loss_is_that_of_its_networks_view_by_view():
    module, given = learner(), batch(progress=0.05)
    module.centre_K.uniform_(-0.1, 0.1, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        student = [module.head(features_of_views(module.backbone, [view])[0]) for view in given.view_VBCHW]
        teacher = [
            module.teacher["head"](module.teacher["backbone"](view)) for view in given.view_VBCHW[:2]
        ]  # local crops are the student's alone
    as_lists = [[value.double().tolist() for value in values] for values in (teacher, student)]
    # half-way between 0.04 and 0.07
    expected = loss_by_hand(*as_lists, module.centre_K.double().tolist(), 0.055, 0.1)
    losses = module(given)
    assert losses.total.item() == pytest.approx(expected, rel=1e-5)
    entropy = losses.parts["teacher_entropy"] + losses.parts["teacher_kl"]
    assert entropy.item() == pytest.approx(expected, rel=1e-5)


def test_views_of_one_size_go_through_the_backbone_together():
    class Counting(nn.Module):
        def forward(self, image_BCHW):
            seen.append(tuple(image_BCHW.shape))
            return image_BCHW.mean((2, 3))

    seen, views = [], [torch.full((3, 2, size, size), float(k)) for k, size in enumerate((8, 8, 4, 4, 4))]
    features = features_of_views(Counting(), views)
    assert seen == [(6, 2, 8, 8), (9, 2, 4, 4)]
    assert features[:, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert features.shape == (5, 3, 2)


def test_the_head_s_logits_are_of_full_precision_under_autocast():
    head = DINOHead(SPEC, 16, torch.Generator().manual_seed(0))
    value = torch.randn(5, 16, generator=torch.Generator().manual_seed(2))
    with torch.autocast("cpu", torch.bfloat16):
        found = head(value)
        hidden = head.layers(value)
    assert hidden.dtype == torch.bfloat16
    assert found.dtype == torch.float32
    unit = nn.functional.normalize(hidden.float(), dim=1) @ nn.functional.normalize(head.prototype_KN, dim=1).T
    torch.testing.assert_close(found, unit)


# The centre and the teacher -----------------------------------------------------------------------------------------


def step(module, given, *parts):
    """One step on micro-batches."""
    for part in parts or (slice(None),):
        fields = {"view_VBCHW": [view[part] for view in given.view_VBCHW], "counter_B": given.counter_B[part]}
        module(Batch(**{name: fields.get(name, getattr(given, name)) for name in Batch.__dataclass_fields__}))
    module.after_step(0.5)


def test_the_centre_moves_once_a_step_towards_the_mean_of_both_global_views_raw_logits():
    module, given = learner(), batch()
    raw = []
    module.teacher["head"].register_forward_hook(lambda head, args, result: raw.append(result.clone()))
    module(given)
    assert not module.centre_K.any()  # the loss has no effect on the centre before the step is done
    module.after_step(0.1)
    assert raw[0].shape == (2 * IMAGES, PROTOTYPES)
    torch.testing.assert_close(module.centre_K, 0.1 * raw[0].mean(0))
    before = module.centre_K.clone()
    module(given)
    module.after_step(0.1)
    torch.testing.assert_close(module.centre_K, 0.9 * before + 0.1 * raw[1].mean(0))


def test_the_centre_of_micro_batches_is_that_of_the_batch():
    whole, cut = learner(), learner()
    for number in range(3):
        step(whole, batch(step=number))
        step(cut, batch(step=number), slice(0, 2), slice(2, 4), slice(4, 6))
    torch.testing.assert_close(cut.centre_K, whole.centre_K)
    torch.testing.assert_close(cut.told_apart, whole.told_apart)


def test_an_evaluation_leaves_no_trace_in_the_centre():
    module, other = learner(), learner()
    module.eval()
    module(batch(step=9))
    module.train()
    for each in (module, other):
        step(each, batch())
    assert torch.equal(module.centre_K, other.centre_K)


def test_the_teacher_follows_the_student_and_no_gradient_reaches_it():
    module, spec = learner(), SPEC
    module(batch()).total.backward()
    assert all(value.grad is None for value in module.teacher.parameters())
    before = {name: value.clone() for name, value in module.teacher.named_parameters()}
    with torch.no_grad():
        for value in (*module.backbone.parameters(), *module.head.parameters()):
            value.add_(1.0)
    module.after_step(0.25)
    momentum = momentum_at(0.25, spec.teacher_momentum)
    assert momentum == pytest.approx(1 - 0.004 * (1 + math.cos(math.pi / 4)) / 2)
    for name, value in module.teacher.named_parameters():
        torch.testing.assert_close(value, before[name] + (1 - momentum), atol=1e-6, rtol=1e-5)


def test_the_teacher_drops_no_branches():
    module = learner(backbone=VIT.replace({"drop_path": 0.5}))
    chances = {
        name: [part.drop_prob for part in getattr(module, name).modules() if hasattr(part, "drop_prob")]
        for name in ("backbone", "teacher")
    }
    assert max(chances["backbone"]) == 0.5
    assert set(chances["teacher"]) == {0.0}


@pytest.mark.parametrize("keep", ["teacher", "student"])
def test_the_kept_backbone_is_the_teacher_s_or_the_student_s(keep):
    module = learner(SPEC.replace({"keep": keep}))
    expected = module.teacher["backbone"] if keep == "teacher" else module.backbone
    assert module.get_submodule(module.kept) is expected


def test_a_checkpoint_holds_teacher_and_centre():
    module, other = learner(), learner(seed=1)
    step(module, batch())
    other.load_state_dict(module.state_dict())
    given = batch(step=1)
    assert torch.equal(module(given).total, other(given).total)
    assert {"centre_K", "told_apart", "teacher.head.prototype_KN"} <= set(module.state_dict())


def test_a_resnet_has_batch_statistics_of_its_own_in_the_teacher():
    resnet = Backbone(model="test_resnet", image_px=32, channels=1)
    module = learner(backbone=resnet)
    given = batch()
    views = [torch.randn(IMAGES, 1, size, size) for size in (32, 32, 32, 32)]
    object.__setattr__(given, "view_VBCHW", views)
    step(module, given)
    means = [
        {name: value for name, value in part.named_buffers() if name.endswith("running_mean")}
        for part in (module.backbone, module.teacher["backbone"])
    ]
    assert len(means[0]) > 3
    for name, value in means[0].items():
        assert value.any()
        assert means[1][name].any()  # the teacher trains its own, on the two global views
        assert not torch.equal(value, means[1][name])


# Schedules ----------------------------------------------------------------------------------------------------------


def test_the_teacher_s_temperature_rises_in_a_line_and_stays():
    spec = SPEC.replace({"teacher_warmup_share": 0.2})
    found = [spec.teacher_temperature_at(progress) for progress in (0.0, 0.1, 0.2, 0.9)]
    assert found == pytest.approx([0.04, 0.055, 0.07, 0.07])
    assert SPEC.replace({"teacher_warmup_share": 0.0}).teacher_temperature_at(0.0) == 0.07


@pytest.mark.parametrize("norm_last_layer", [True, False])
def test_prototypes_stay_as_they_are_at_first_not_even_decayed(norm_last_layer):
    module = learner(SPEC.replace({"norm_last_layer": norm_last_layer, "frozen_head_share": 0.5}))
    optimizer = PRETRAIN_RECIPES["dino"].optimizer.replace({"lr": 0.1}).build(module)
    last = {f"head.{name}" for name in ("prototype_KN", "scale_K1")}
    for progress, moves in ((0.0, False), (0.49, False), (0.5, True)):
        before = {name: value.detach().clone() for name, value in module.named_parameters() if value.requires_grad}
        module(batch()).total.backward()
        module.before_step(progress)
        optimizer.step()
        optimizer.zero_grad()
        for name, value in before.items():
            changed = not torch.equal(value, module.get_parameter(name))
            assert changed == (moves or name not in last), name


def test_a_prototype_s_length_is_learnt_and_decayed_only_where_it_is_free():
    assert not any("scale" in name for name, _ in learner().named_parameters())
    module = learner(SPEC.replace({"norm_last_layer": False}))
    optimizer = PRETRAIN_RECIPES["dino"].optimizer.build(module)
    scale = module.head.scale_K1
    assert scale.eq(1).all()
    groups = [group for group in optimizer.param_groups if any(value is scale for value in group["params"])]
    assert [group["weight_decay"] for group in groups] == [0.04]


# What is refused, what it costs, what a collapse is -----------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"local_crops": -1},
        {"prototypes": 1},
        {"student_temperature": 0},
        {"teacher_temperature": 0},
        {"teacher_momentum": 1.1},
        {"centre_momentum": -0.1},
        {"frozen_head_share": 2},
        {"keep": "both"},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_impossible_fields_are_refused(fields):
    with pytest.raises(SpecError, match=next(iter(fields))):
        DINO.parse({"kind": "dino", **fields})


def test_views_are_two_kinds_of_global_crops_and_local_ones():
    assert SPEC.view_augmentations == (0, 1, 2, 2)
    assert SPEC.replace({"local_crops": 0}).view_augmentations == (0, 1)


def test_two_global_and_eight_local_crops_cost_what_they_cover():
    # Student: forward and backward of all; teacher: forward of the global ones. A local crop has 36 of 196 patches.
    local = (96 / 224) ** 2
    assert DINO().passes([1, 1, *[local] * 8]) == pytest.approx(3 * (2 + 8 * local) + 2)
    vit = Backbone(model="vit_small_patch16_224", image_px=224)
    recipe = PRETRAIN_RECIPES["dino"]
    assert flops_an_image(DINO(), recipe, vit) == pytest.approx((8 + 24 * local) * vit.cost().forward_flops)


@pytest.mark.parametrize("name", [name for name in OBJECTIVE_PRESETS if "dino" in name])
def test_a_preset_goes_with_the_recipe_of_its_name(name):
    vit = VIT if name.endswith("small") else Backbone(model="vit_small_patch16_224", image_px=224)
    refuse_impossible(Digits(), 500, OBJECTIVE_PRESETS[name], PRETRAIN_RECIPES[name], vit)


def test_a_uniform_teacher_and_student_are_a_collapse():
    uniform = math.log(DINO().prototypes)
    row = {"teacher_entropy": uniform - 1e-4, "teacher_kl": 2e-4, "told_apart": 1e-4}
    assert DINO().collapse(row) == "teacher and student are uniform: entropy 11.0903 of 11.0904 nats"
    # An untrained student is not centred, so it is far off where the teacher is uniform already.
    assert DINO().collapse(row | {"teacher_kl": 0.2}) is None
    assert DINO().collapse(row | {"teacher_entropy": 0.99 * uniform}) is None
    assert DINO().collapse(HEALTHY) is None
    assert DINO().collapse({"loss": 11.0}) is None  # a row of what is not watched


def test_one_answer_for_all_images_is_a_collapse():
    row = {"teacher_entropy": 0.01, "teacher_kl": 0.01, "told_apart": 0.002}
    line = "all images get one answer: it tells 0.002 nats of its image, entropy 0.010"
    assert DINO().collapse(row) == line
    # A few images that each have a prototype of their own are as sure, and are told apart.
    assert DINO().collapse(row | {"told_apart": math.log(8)}) is None


def collapsed_row(spec, prototype):
    """The row of a learner whose student and teacher say the same of every image."""
    module = learner(spec)
    for head in (module.head, module.teacher["head"]):
        last = head.layers[-1]
        nn.init.zeros_(last.weight)
        last.bias.data.copy_(prototype)
    for number in range(60):
        step(module, batch(step=number))
    losses = module(batch())
    return {"loss": losses.total.item(), **{name: float(value) for name, value in losses.parts.items()}}


def test_a_learner_with_one_output_shows_either_collapse():
    # Without a centre the constant is one prototype; with one, the teacher becomes uniform, and the student is if all
    # prototypes are as near.
    direction = torch.eye(8)[0]
    spec = SPEC.replace({"teacher_temperature_start": 0.01, "teacher_temperature": 0.01, "student_temperature": 0.01})
    row = collapsed_row(spec.replace({"centre_momentum": 1.0}), learner(spec).head.prototype_KN[3].detach())
    assert row["teacher_entropy"] < 1.0
    assert spec.collapse(row).startswith("all images get one answer")
    row = collapsed_row(spec.replace({"student_temperature": 50.0}), direction)
    assert row["teacher_entropy"] == pytest.approx(math.log(PROTOTYPES), rel=1e-3)
    assert spec.collapse(row).startswith("teacher and student are uniform")


def test_images_told_apart_are_counted_over_the_batch():
    module, given = learner(), batch()
    step(module, given)
    found = []
    hook = module.teacher["head"].register_forward_hook(lambda head, args, result: found.append(result.double()))
    before = module.centre_K.double().clone()
    step(module, given)
    hook.remove()
    chance = ((found[0] - before) / 0.04).softmax(-1)
    entropy = -(chance * chance.log()).sum(1).mean()
    mean = chance.mean(0)
    assert module.told_apart.item() == pytest.approx((-(mean * mean.log()).sum() - entropy).item(), abs=1e-5)
