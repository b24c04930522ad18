"""Which augmentation makes which view, at which size, and what views cost."""

import pytest
import torch

from scaleback.backbones import Backbone
from scaleback.core.errors import SpecError
from scaleback.objectives.classify import Classify
from scaleback.objectives.lejepa import LeJEPA
from scaleback.objectives.patchmix import PatchMix
from scaleback.objectives.simclr import SimCLR
from scaleback.pretrain.loop import train
from scaleback.pretrain.spec import flops_an_image, views_of
from scaleback.pretrain.world import World
from scaleback.recipes import Augmentation
from tests.pretrain.test_loop import BATCH, RECIPE, training
from tests.pretrain.test_run import pretrain

FIRST, SECOND, THIRD = Augmentation(flip_horizontal=0.5), Augmentation(size_px=8), Augmentation(size_px=24, std=0.25)
LOCAL = LeJEPA.example().replace({"global_views": 2, "local_views": 2})


def recipe(*views, **changes):
    return RECIPE.replace({"views": [view.plain() for view in views], **changes})


def seen(backbone, objective, recipe):
    """The views of a run's first batch."""
    job = training(backbone, recipe.replace({"budget_images": BATCH, "warmup_images": 0}), objective=objective)
    found = []
    job.learner.register_forward_pre_hook(lambda _, given: found.extend(given[0].view_VBCHW))
    train(job, World())
    return found


def test_each_kind_of_view_has_its_augmentation_and_a_single_one_serves_all():
    assert views_of(LOCAL, recipe(FIRST, SECOND)) == (FIRST, FIRST, SECOND, SECOND)
    assert views_of(LOCAL, recipe(SECOND)) == (SECOND,) * 4
    assert views_of(SimCLR(), recipe(FIRST)) == (FIRST, FIRST)
    assert views_of(PatchMix(local_views=1), recipe(FIRST, SECOND, THIRD)) == (FIRST, SECOND, THIRD)


def test_views_are_of_their_own_size_and_differ_from_each_other(tiny_vit):
    views = seen(tiny_vit, LOCAL, recipe(FIRST, SECOND))
    assert [tuple(view.shape) for view in views] == [(BATCH, 1, 16, 16)] * 2 + [(BATCH, 1, 8, 8)] * 2
    assert not torch.equal(views[0], views[1])


def test_a_view_without_cropping_is_the_image_at_its_size(tiny_vit):
    small, large = seen(tiny_vit, SimCLR.example(), recipe(SECOND)), seen(tiny_vit, SimCLR.example(), recipe(FIRST))
    whole = seen(tiny_vit, SimCLR.example(), recipe(Augmentation()))
    torch.testing.assert_close(small[0], torch.nn.functional.avg_pool2d(whole[0], 2))
    assert small[0].shape[-1] == 8
    assert large[0].shape[-1] == 16


@pytest.mark.parametrize(
    "objective", [SimCLR.example(), LOCAL, PatchMix.example().replace({"cells": 2})], ids=lambda spec: spec.short
)
def test_views_larger_and_smaller_than_the_model_train(objective, tiny_vit):
    kinds = max(objective.view_augmentations) + 1
    rows = train(training(tiny_vit, recipe(*[THIRD, SECOND, SECOND][:kinds]), objective=objective), World()).rows
    assert len(rows) == 12


def test_an_image_costs_the_area_of_its_views(tiny_vit):
    forward = tiny_vit.cost().forward_flops
    for objective, views, expected in (
        (Classify(), (FIRST,), 3),
        (SimCLR(), (FIRST,), 6),
        (SimCLR(), (SECOND,), 6 / 4),
        (LOCAL, (FIRST, SECOND), 6 + 6 / 4),
        (PatchMix(local_views=2), (FIRST, THIRD, SECOND), 5 + 4 * 9 / 4 + 6 * 2 / 4),
    ):
        assert flops_an_image(objective, recipe(*views), tiny_vit) == pytest.approx(expected * forward)


def test_a_budget_in_operations_is_the_same_for_every_method(tiny_vit):
    budget = 3 * tiny_vit.cost().forward_flops * 1_000  # classification of a thousand images
    runs = [
        pretrain(tiny_vit, objective=objective, recipe=recipe(FIRST, budget_flops=budget))
        for objective in (Classify(), SimCLR(), LOCAL, PatchMix())
    ]
    assert [run.sized_recipe.budget_images for run in runs] == [1_000, 500, 250, 333]
    for run in runs:
        spent = run.sized_recipe.budget_images * run.flops_an_image
        assert budget - run.flops_an_image < spent <= budget
        share = run.sized_recipe.warmup_images / run.sized_recipe.budget_images
        assert share == pytest.approx(RECIPE.warmup_images / RECIPE.budget_images, abs=0.002)


@pytest.mark.parametrize(
    ("objective", "views", "line"),
    [
        (
            SimCLR(),
            (FIRST, SECOND),
            "recipe.views: must be one augmentation, or one for each of the 1 kinds of view of simclr; got 2",
        ),
        (
            LOCAL,
            (FIRST, SECOND, THIRD),
            "recipe.views: must be one augmentation, or one for each of the 2 kinds of view of lejepa; got 3",
        ),
        (
            LOCAL,
            (FIRST, Augmentation(size_px=12)),
            "recipe.views: size_px must divide into patches of 8 px; got 12",
        ),
        (
            PatchMix(ring=16),
            (FIRST,),
            "recipe.batch_images: must be a multiple of 16 (16 images that stay together); got 8",
        ),
    ],
)
def test_views_and_batches_that_do_not_fit_are_refused(objective, views, line, tiny_vit):
    plain = pretrain(tiny_vit).plain()
    with pytest.raises(SpecError) as caught:
        type(pretrain(tiny_vit)).parse(plain | {"objective": objective.plain(), "recipe": recipe(*views).plain()})
    assert str(caught.value) == line


def test_a_resnet_takes_views_of_any_size():
    backbone = Backbone(model="test_resnet", image_px=32, channels=1)
    pretrain(backbone, objective=LOCAL, recipe=recipe(FIRST, Augmentation(size_px=21)))
    views = seen(backbone, LOCAL, recipe(FIRST, Augmentation(size_px=24)))
    assert [view.shape[-1] for view in views] == [32, 32, 24, 24]
