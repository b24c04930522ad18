"""The loop: the same run twice, stopped anywhere and resumed, in micro-batches, to the same bytes."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from scaleback.backbones import Backbone, width_of
from scaleback.core.errors import DivergedError, PlacementError
from scaleback.core.spec import Spec
from scaleback.objectives import OBJECTIVES
from scaleback.objectives.classify import Classify
from scaleback.pretrain import checkpoint, watch
from scaleback.pretrain.checkpoint import KEPT, Checkpoints
from scaleback.pretrain.loop import Training, fit_channels, pixels_of, train
from scaleback.pretrain.spec import views_of
from scaleback.pretrain.world import World
from scaleback.recipes import Augmentation, Recipe
from scaleback.recipes.optimizers import OPTIMIZERS, SGD, AdamW
from scaleback.sources.population import Images

IMAGES, CLASSES, BATCH, STEPS = 20, 4, 8, 12
RECIPE = Recipe(
    budget_images=STEPS * BATCH,
    batch_images=BATCH,
    optimizer=AdamW(lr=1e-2, weight_decay=0.05),
    schedule="cosine",
    warmup_images=2 * BATCH,
    views=(Augmentation(crop_scale=(0.5, 1.0), flip_horizontal=0.5, erase_chance=0.5),),
    ema=0.9,
)
ALONE = World()
STOPPED_AT = 7  # 56 images of a set of 20: in the middle of the third epoch


class Named(Spec):
    """Stands for the spec whose run leaves the checkpoints."""


class Stop(Exception):
    """The process is gone."""


def pictures(count=IMAGES, size=16, channels=1):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (count, size, size, channels), dtype=np.uint8)
    return Images(image_NHWC=image, label_N=np.arange(count) % CLASSES, classes=CLASSES)


def training(backbone, recipe=RECIPE, *, objective=None, seed=5, images=None):
    objective, images = objective or OBJECTIVES["classify"].example(), images or pictures()
    module = backbone.build(seed)
    classes = objective.classes(source_classes=CLASSES, images=len(images))
    generator = torch.Generator().manual_seed(seed)
    learner = objective.build(module, width=width_of(module), classes=classes, generator=generator)
    learner.prepare(pixels_of(images, np.arange(len(images)), backbone.channels))
    return Training(
        learner=learner,
        views=views_of(objective, recipe),
        images=images,
        image_px=backbone.image_px,
        channels=backbone.channels,
        recipe=recipe,
        seed=seed,
    )


def checkpoints(store, every_s=0.0):
    return Checkpoints(store, "pretrain/named", Named(), every_s)


def stop_in(step):
    def hook(state):
        if state.step == step:
            raise Stop

    return hook


def stopped(job, store, *, step=STOPPED_AT, world=ALONE):
    """End a run by an exception in step ``step``, after a checkpoint of each step before."""
    with pytest.raises(Stop):
        train(job, world, checkpoints=checkpoints(store), hooks=[stop_in(step)])


def resumed(job, store, world=ALONE):
    return train(job, world, checkpoints=checkpoints(store, every_s=3_600.0))


def stopped_and_resumed(make, store, *, step=STOPPED_AT, world=ALONE):
    stopped(make(), store, step=step, world=world)
    return resumed(make(), store, world)


@pytest.fixture(scope="module")
def whole(tiny_vit):
    """The uninterrupted run, as bytes."""
    return train(training(tiny_vit), World()).save()


# The same bytes -----------------------------------------------------------------------------------------------------


def test_one_run_twice_is_bit_equal_and_another_seed_is_not(tiny_vit, whole):
    assert train(training(tiny_vit), World()).save() == whole
    assert train(training(tiny_vit, seed=6), World()).save() != whole


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_run_stopped_within_an_epoch_and_resumed_is_bit_equal(optimizer, tiny_vit, store):
    plain = OPTIMIZERS[optimizer](lr=1e-2, weight_decay=0.05).plain()
    recipe = RECIPE.replace({"optimizer": plain})
    expected = train(training(tiny_vit, recipe), World())
    found = stopped_and_resumed(lambda: training(tiny_vit, recipe), store)
    assert found.rows == expected.rows
    assert found.save() == expected.save()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_run_of_every_objective_resumes_bit_equal(objective, tiny_vit, store):
    spec = OBJECTIVES[objective].example()
    expected = train(training(tiny_vit, objective=spec), World())
    assert stopped_and_resumed(lambda: training(tiny_vit, objective=spec), store).save() == expected.save()


@pytest.mark.parametrize(
    "changes",
    [{"ema": None}, {"accumulate": 2}, {"precision": "bf16"}, {"clip_norm": 0.1}, {"schedule": "constant"}],
    ids=lambda changes: next(iter(changes)),
)
def test_a_run_of_every_setting_resumes_bit_equal(changes, tiny_vit, store):
    recipe = RECIPE.replace(changes)
    expected = train(training(tiny_vit, recipe), World())
    assert stopped_and_resumed(lambda: training(tiny_vit, recipe), store).save() == expected.save()


@pytest.mark.parametrize(
    "backbone",
    [
        Backbone(model="vit_tiny_patch16_224", image_px=16, patch_px=8, width=16, depth=3, heads=2, drop_path=0.5),
        Backbone(model="test_resnet", image_px=32),
    ],
    ids=["with stochastic depth", "with batch norm"],
)
def test_a_backbone_with_draws_or_buffers_of_its_own_resumes_bit_equal(backbone, store):
    recipe = RECIPE.replace({"budget_images": 6 * BATCH})
    expected = train(training(backbone, recipe), World())
    assert stopped_and_resumed(lambda: training(backbone, recipe), store, step=4).save() == expected.save()


def test_a_run_stopped_between_two_rows_of_the_curve_resumes_bit_equal(tiny_vit, store):
    # 200 steps, a row every second one; the plainest, since they are many.
    recipe = RECIPE.replace({"batch_images": 2, "budget_images": 400, "views": [{}], "ema": None})
    expected = train(training(tiny_vit, recipe), World())

    def hook(state):
        if state.step == 6:  # the newest checkpoint is of step 4, where a row ended, and not of step 5
            raise Stop

    with pytest.raises(Stop):
        train(training(tiny_vit, recipe), World(), checkpoints=checkpoints(store), hooks=[hook])
    assert len(expected.rows) == 100
    assert resumed(training(tiny_vit, recipe), store).save() == expected.save()


def test_a_run_stopped_twice_resumes_bit_equal(tiny_vit, store, whole):
    stopped(training(tiny_vit), store, step=3)
    stopped(training(tiny_vit), store, step=10)
    assert resumed(training(tiny_vit), store).save() == whole


def test_resuming_does_only_what_is_left(tiny_vit, store):
    stopped(training(tiny_vit), store)
    seen = []
    train(
        training(tiny_vit), World(), checkpoints=checkpoints(store), report=lambda row: seen.append(row["images_seen"])
    )
    assert seen == [step * BATCH for step in range(STOPPED_AT, STEPS + 1)]


def test_no_checkpoint_is_left_before_its_time(tiny_vit, store):
    train(training(tiny_vit), World(), checkpoints=checkpoints(store, every_s=3_600.0))
    assert store.files("pretrain") == []


def test_the_newest_checkpoints_are_kept_and_cleared_at_will(tiny_vit, store):
    train(training(tiny_vit), World(), checkpoints=checkpoints(store))
    kept = store.addresses("pretrain/named")
    assert kept == [f"pretrain/named/step-{step:09d}" for step in range(STEPS - KEPT, STEPS)]
    checkpoints(store).clear()
    assert store.addresses("pretrain/named") == []


def test_checkpoints_come_by_the_clock_however_long_a_row_is(tiny_vit, store, monkeypatch):
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(checkpoint, "time", clock)
    monkeypatch.setattr(watch, "CURVE_ROWS", 1)
    saved = []
    kept = checkpoints(store, every_s=10.0)
    save = kept.save
    monkeypatch.setattr(kept, "save", lambda state, watched: saved.append(state.step) or save(state, watched))

    def pass_time(state):
        clock.now += 30.0 if state.step == 1 else 3.0  # the first step is slow

    train(training(tiny_vit), World(), checkpoints=kept, hooks=[pass_time])
    assert saved == [1, 5, 9]


def damage(store, step, file):
    path = Path(store.path(f"pretrain/named/step-{step:09d}/{file}"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("file", ["state.safetensors", "state.json", "manifest.json"])
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(file, tiny_vit, store, whole):
    stopped(training(tiny_vit), store)
    damage(store, STOPPED_AT - 1, file)
    with pytest.warns(RuntimeWarning, match=r"^passing over a checkpoint: .*step-000000006/"):
        found = resumed(training(tiny_vit), store)
    assert found.save() == whole


def test_a_run_whose_checkpoints_are_all_damaged_begins_again(tiny_vit, store, whole):
    stopped(training(tiny_vit), store)
    for step in (STOPPED_AT - 2, STOPPED_AT - 1):
        damage(store, step, "state.safetensors")
    with pytest.warns(RuntimeWarning, match="passing over") as caught:
        found = resumed(training(tiny_vit), store)
    assert len(caught) == KEPT
    assert found.save() == whole


# What a step does ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulated_gradients_are_those_of_the_whole_batch(parts, tiny_vit):
    sgd = SGD(lr=0.1, weight_decay=0.0).plain()
    whole, cut = (
        train(training(tiny_vit, RECIPE.replace({"optimizer": sgd, "accumulate": count})), World())
        for count in (1, parts)
    )
    for name, value in whole.weights("").items():
        torch.testing.assert_close(cut.weights("")[name], value, atol=1e-6, rtol=1e-5)
    for one, other in zip(whole.rows, cut.rows, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
        assert one["accuracy"] == pytest.approx(other["accuracy"])
        assert one["gradient_norm"] == pytest.approx(other["gradient_norm"], rel=1e-4)


def moved(tiny_vit, **changes):
    """How far one step of plain SGD with rate 1 takes the weights, and the row of that step."""
    plain = SGD(lr=1.0, weight_decay=0.0, momentum=1e-12).plain()
    recipe = RECIPE.replace({"optimizer": plain, "budget_images": BATCH, "warmup_images": 0, "schedule": "constant"})
    job = training(tiny_vit, recipe.replace({"ema": None, **changes}))
    before = [value.detach().clone() for value in job.learner.parameters()]
    state = train(job, World())
    after = [value.detach() for value in state.learner.parameters()]
    return math.sqrt(sum(((new - old) ** 2).sum().item() for new, old in zip(after, before, strict=True))), state.rows[
        0
    ]


def test_the_recorded_gradient_norm_is_that_of_the_whole_gradient(tiny_vit):
    distance, row = moved(tiny_vit)
    assert row["gradient_norm"] == pytest.approx(distance, rel=1e-4)


def test_a_gradient_longer_than_the_clip_is_cut_to_it_and_a_shorter_one_is_left(tiny_vit):
    free, row = moved(tiny_vit)
    assert moved(tiny_vit, clip_norm=free / 2)[0] == pytest.approx(free / 2, rel=1e-4)
    assert moved(tiny_vit, clip_norm=free / 2)[1]["gradient_norm"] == pytest.approx(row["gradient_norm"])
    assert moved(tiny_vit, clip_norm=free * 2)[0] == pytest.approx(free, rel=1e-4)


def test_the_curve_has_the_rate_and_the_images_of_every_step(tiny_vit):
    rows = train(training(tiny_vit), World()).rows
    assert [row["images_seen"] for row in rows] == [step * BATCH for step in range(1, STEPS + 1)]
    assert [row["lr"] for row in rows] == [RECIPE.lr_at(row["images_seen"]) for row in rows]
    assert rows[-1]["lr"] == 0
    assert json.loads(json.dumps(rows)) == rows


def test_the_average_of_the_weights_is_as_the_recipe_says(tiny_vit):
    live = []
    job = training(tiny_vit)
    average = {name: value.detach().double().clone() for name, value in job.learner.state_dict().items()}
    state = train(
        job, World(), hooks=[lambda state: live.append({n: v.clone() for n, v in state.learner.state_dict().items()})]
    )
    for number, weights in enumerate(live):
        decay = min(0.9, (1 + number) / (10 + number))
        average = {name: decay * value + (1 - decay) * weights[name] for name, value in average.items()}
    seen = state.weights("backbone.")
    assert "pos_embed" in seen
    for name, value in seen.items():
        torch.testing.assert_close(value.double(), average[f"backbone.{name}"], atol=1e-5, rtol=1e-4)


def test_without_an_average_the_weights_are_the_live_ones(tiny_vit):
    state = train(training(tiny_vit, RECIPE.replace({"ema": None})), World())
    for name, value in state.weights("backbone.").items():
        assert torch.equal(value, state.learner.backbone.state_dict()[name])


def test_bf16_trains_weights_of_full_precision_close_to_fp32(tiny_vit):
    half, full = (train(training(tiny_vit, RECIPE.replace({"precision": name})), World()) for name in ("bf16", "fp32"))
    assert {value.dtype for value in half.weights("").values()} == {torch.float32}
    differences = [abs(one["loss"] - other["loss"]) for one, other in zip(half.rows, full.rows, strict=True)]
    assert 0 < max(differences) < 0.05


@pytest.mark.parametrize("optimizer", [AdamW(lr=1e30, weight_decay=0.0), SGD(lr=1e30, weight_decay=0.0)])
def test_a_loss_that_is_not_finite_ends_the_run_at_once(optimizer, tiny_vit):
    recipe = RECIPE.replace({"optimizer": optimizer.plain(), "warmup_images": 0})
    seen = []
    with pytest.raises(DivergedError, match=r"^loss (nan|inf) after \d+ images$"):
        train(training(tiny_vit, recipe), World(), report=seen.append)
    assert all(math.isfinite(row["loss"]) for row in seen)
    assert len(seen) < STEPS


def test_training_lowers_the_loss(tiny_vit):
    recipe = RECIPE.replace({"budget_images": 60 * BATCH, "views": [Augmentation().plain()]})
    rows = train(training(tiny_vit, recipe, objective=Classify()), World()).rows
    assert np.mean([row["loss"] for row in rows[-10:]]) < 0.8 * np.mean([row["loss"] for row in rows[:5]])


def test_hooks_see_every_step_and_what_they_add_to_the_curve_survives_a_restart(tiny_vit, store):
    seen = []

    def hook(state):
        seen.append(state.step)
        if state.step == 3:
            state.rows.append({"images_seen": 24, "note": 1.0})

    with pytest.raises(Stop):
        train(training(tiny_vit), World(), checkpoints=checkpoints(store), hooks=[stop_in(STOPPED_AT), hook])
    state = train(training(tiny_vit), World(), checkpoints=checkpoints(store), hooks=[hook])
    assert seen == [*range(1, STOPPED_AT), *range(STOPPED_AT, STEPS + 1)]
    assert [row for row in state.rows if "note" in row] == [{"images_seen": 24, "note": 1.0}]


def test_a_batch_that_does_not_divide_over_the_workers_is_refused(tiny_vit):
    recipe = RECIPE.replace({"accumulate": 2})
    line = (
        r"^recipe.batch_images: must be a multiple of 12 "
        r"\(3 workers x 2 micro-batches x 2 images that stay together\); got 8$"
    )
    with pytest.raises(PlacementError, match=line):
        train(training(tiny_vit, recipe), World(rank=0, size=3))


# Images -------------------------------------------------------------------------------------------------------------


def test_gray_images_feed_a_model_of_three_channels():
    backbone = Backbone(model="vit_tiny_patch16_224", image_px=16, patch_px=8, width=16, depth=1, heads=2)
    gray = pictures()
    colour = Images(image_NHWC=gray.image_NHWC.repeat(3, axis=3), label_N=gray.label_N, classes=CLASSES)
    first, second = (train(training(backbone, images=images), World()).save() for images in (gray, colour))
    assert first == second


def test_colour_becomes_luminance_for_a_model_of_one_channel():
    image = pictures(channels=3).image_NHWC
    made = fit_channels(torch.from_numpy(image).permute(0, 3, 1, 2), 1)
    assert made.shape == (IMAGES, 1, 16, 16)
    for one, other in zip(made, image, strict=True):
        theirs = np.asarray(Image.fromarray(other).convert("L"), int)
        assert abs(one[0].numpy().astype(int) - theirs).max() <= 1
