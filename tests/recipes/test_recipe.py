"""Budgets, schedules and presets; nothing that lasts is counted in steps."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scaleback.core.errors import SpecError
from scaleback.core.spec import Spec
from scaleback.recipes import (
    FINETUNE_RECIPES,
    PRETRAIN_RECIPES,
    FinetuneRecipe,
    PretrainRecipe,
    RandAugment,
    Recipe,
)
from scaleback.recipes.optimizers import SGD, AdamW
from scaleback.torchvision_operators import declare

declare()  # before timm, which imports torchvision
from timm.scheduler import CosineLRScheduler  # noqa: E402


class Holder(Spec):
    pretrain: PretrainRecipe = PRETRAIN_RECIPES["small"]
    finetune: FinetuneRecipe = FINETUNE_RECIPES["small"]


def recipe(**changes):
    fields = {
        "budget_images": 1_000,
        "batch_images": 10,
        "optimizer": AdamW(lr=0.5, weight_decay=0.0),
        "schedule": "cosine",
        "warmup_images": 200,
        "start_lr": 0.1,
        "end_lr": 0.02,
    }
    return Recipe(**{**fields, **changes})


@settings(deadline=None, max_examples=50)
@given(batch=st.integers(1, 10**5), more=st.integers(0, 10**9))
def test_steps_cover_the_budget_but_for_an_incomplete_batch(batch, more):
    steps = recipe(budget_images=batch + more, batch_images=batch, warmup_images=0).steps
    assert steps * batch <= batch + more < (steps + 1) * batch


@pytest.mark.parametrize(
    ("images", "lr"), [(0, 0.1), (100, 0.3), (200, 0.5), (600, (0.5 + 0.02) / 2), (1_000, 0.02), (1_010, 0.02)]
)
def test_the_rate_warms_up_in_a_line_and_falls_along_a_cosine(images, lr):
    assert recipe().lr_at(images) == pytest.approx(lr)


@pytest.mark.parametrize("images", [200, 201, 600, 1_000])
def test_a_constant_schedule_stays_at_the_peak(images):
    assert recipe(schedule="constant").lr_at(images) == 0.5


def test_without_warm_up_the_run_begins_at_the_peak():
    assert recipe(warmup_images=0).lr_at(0) == 0.5


def test_a_budget_that_is_all_warm_up_ends_at_the_peak():
    assert recipe(warmup_images=1_000).lr_at(1_000) == 0.5


def test_the_schedule_is_timm_s_with_the_warm_up_before_the_cosine():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    theirs = CosineLRScheduler(
        optimizer, t_initial=800, lr_min=0.02, warmup_t=200, warmup_lr_init=0.1, warmup_prefix=True, t_in_epochs=False
    )
    for images in range(0, 1_000, 7):
        theirs.step_update(images)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(recipe().lr_at(images)), images


@settings(deadline=None, max_examples=50)
@given(
    schedule=st.sampled_from(["cosine", "constant"]),
    warmup=st.integers(0, 1_000),
    start=st.floats(0, 0.5),
    end=st.floats(0, 0.5),
    images=st.integers(0, 2_000),
)
def test_the_rate_stays_between_its_ends_and_its_peak(schedule, warmup, start, end, images):
    spec = recipe(schedule=schedule, warmup_images=warmup, start_lr=start, end_lr=end)
    assert min(start, end) - 1e-12 <= spec.lr_at(images) <= 0.5 + 1e-12
    assert math.isfinite(spec.lr_at(images))


def test_1p_frac_s_pre_training_is_the_released_one():
    spec, view = PRETRAIN_RECIPES["1p-frac"], PRETRAIN_RECIPES["1p-frac"].views[0]
    assert spec.steps == 80_000 * (1_000 // 256)
    assert spec.optimizer == AdamW(lr=1e-3 * 256 / 512, weight_decay=0.05, beta1=0.9, beta2=0.999)
    assert (spec.start_lr, spec.end_lr) == (5e-7 * 256 / 512, 5e-6 * 256 / 512)
    assert spec.warmup_images == 5 * 3 * 256
    assert (spec.schedule, spec.precision, spec.ema, spec.clip_norm) == ("cosine", "bf16", None, None)
    assert (view.crop_scale, view.crop_ratio) == ((0.08, 1.0), (3 / 4, 4 / 3))
    assert (view.flip_horizontal, view.flip_vertical, view.erase_chance) == (0.5, 0.5, 0.5)
    assert view.randaugment == RandAugment(operations=2, magnitude=9, magnitude_std=0.5)


def test_1p_frac_s_fine_tuning_is_the_released_one():
    spec = FINETUNE_RECIPES["1p-frac"]
    assert spec.optimizer == SGD(lr=0.015, weight_decay=1e-4, momentum=0.9)
    assert spec.optimizer.lr == pytest.approx(0.01 * 768 / 512)
    assert (spec.budget_images, spec.batch_images, spec.warmup_images) == (1_000 * 50_000, 768, 10 * 50_000)
    assert spec.start_lr == pytest.approx(1e-6 * 768 / 512)
    assert spec.end_lr == pytest.approx(1e-5 * 768 / 512)
    # One number for ImageNet's three: the means of its means and of its deviations.
    assert spec.views[0].mean == pytest.approx((0.485 + 0.456 + 0.406) / 3, abs=5e-4)
    assert spec.views[0].std == pytest.approx((0.229 + 0.224 + 0.225) / 3, abs=5e-4)


@pytest.mark.parametrize("field", ["pretrain", "finetune"])
def test_every_preset_is_named_in_a_spec_and_can_be_changed(field):
    presets = {"pretrain": PRETRAIN_RECIPES, "finetune": FINETUNE_RECIPES}[field]
    for name, preset in presets.items():
        assert getattr(Holder.parse({field: name}), field) == preset
        assert Recipe.parse(preset.plain()).fingerprint == preset.fingerprint
        changed = getattr(Holder.parse({field: {"preset": name, "optimizer.lr": 0.125}}), field)
        assert changed == preset.replace({"optimizer.lr": 0.125})


def test_a_preset_of_the_other_kind_of_run_is_not_taken():
    assert PRETRAIN_RECIPES["small"] != FINETUNE_RECIPES["small"]
    with pytest.raises(SpecError, match=r"^pretrain: unknown recipe, .*; got 'smal'; .* 'small'$"):
        Holder.parse({"pretrain": "smal"})


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"budget_images": 9, "warmup_images": 0}, "budget_images: must cover a batch of 10; got 9"),
        ({"accumulate": 3}, "accumulate: must divide the batch of 10; got 3"),
        ({"warmup_images": 1_001}, "warmup_images: must fit the budget of 1000; got 1001"),
        ({"views": []}, "views: must hold at least one augmentation"),
        ({"batch_images": 0}, "batch_images: must be greater than or equal to 1; got 0"),
        ({"ema": 1.0}, "ema: must be less than 1; got 1.0"),
        ({"clip_norm": 0.0}, "clip_norm: must be greater than 0; got 0.0"),
        ({"precision": "fp16"}, "precision: unknown value, known are bf16, fp32; got 'fp16'"),
        (
            {"schedule": "cosin"},
            "schedule: unknown value, known are constant, cosine; got 'cosin'; the nearest known name is 'cosine'",
        ),
        ({"optimizer": {"kind": "adam", "lr": 1.0, "weight_decay": 0.0}}, "optimizer: unknown kind, known are adamw"),
        (
            {"optimizer": {"kind": "sgd", "lr": 0.0, "weight_decay": 0.0}},
            "optimizer.lr: must be greater than 0; got 0.0",
        ),
        ({"budget_steps": 9}, "budget_steps: unknown field"),
        (
            {"views": [{"crop_scale": [0.5, 0.2]}]},
            "views.0.crop_scale: must be two positive numbers, the smaller first; got (0.5, 0.2)",
        ),
        (
            {"views": [{"crop_scale": [0.5, 1.2]}]},
            "views.0.crop_scale: a crop is at most the whole image, 1.0; got 1.2",
        ),
        ({"views": [{"crop_ratio": [0.0, 1.0]}]}, "views.0.crop_ratio: must be two positive numbers"),
        ({"views": [{"jitter": [0.1, 0.1, 0.1, 0.6]}]}, "views.0.jitter: must not be negative, and hue at most 0.5"),
        ({"views": [{"flip_horizontal": 1.5}]}, "views.0.flip_horizontal: must be less than or equal to 1; got 1.5"),
        (
            {"views": [{"randaugment": {"magnitude": 11.0}}]},
            "views.0.randaugment.magnitude: must be less than or equal to 10",
        ),
    ],
)
def test_a_recipe_that_cannot_be_run_is_refused(changes, line):
    with pytest.raises(SpecError) as caught:
        Recipe.parse(recipe().plain() | changes)
    assert str(caught.value).startswith(line)
