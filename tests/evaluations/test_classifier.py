"""Classifiers on real and synthetic images: what they are trained on, and what they are tested on."""

import io
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from scaleback.core.errors import Refusal, SpecError
from scaleback.evaluations import EVALUATIONS, Target
from scaleback.evaluations.base import Synthetic
from scaleback.evaluations.classifier import Classifier, Shift
from scaleback.evaluations.confidences import FILE, Confidences
from scaleback.evaluations.corruptions import SEVERITIES, corrupt
from scaleback.evaluations.quality import Quality
from scaleback.evaluations.trained import Network
from scaleback.sources.named import Digits
from scaleback.sources.population import Images, joined
from tests.contracts.test_evaluations import CLASSES, TEST, TRAIN, noise, task, textures

SPEC = Classifier.example()


def at(severity, image, index):
    return corrupt(image, "brightness", severity, index)


def by_name(scores):
    return {score.metric: score.value for score in scores}


def test_scores_are_those_of_the_network_that_was_trained(tiny_vit):
    found = by_name(SPEC.score(task(tiny_vit, of=noise)))
    given = task(tiny_vit, of=noise)
    network = Network(given, SPEC.train(given), SPEC.recipe)
    answer, label = torch.from_numpy(network.logits(given.test)), torch.from_numpy(given.test.label_N)
    assert found["accuracy"] == (answer.argmax(1) == label).double().mean().item()
    assert found["log_loss"] == pytest.approx(
        torch.nn.functional.cross_entropy(answer.double(), label).item(), rel=1e-6
    )
    chance = answer.double().softmax(1)
    truth = F.one_hot(label, CLASSES)
    assert found["brier"] == pytest.approx((chance - truth).square().sum(1).mean().item(), rel=1e-6)
    sure, right = chance.max(1).values.numpy(), (answer.argmax(1) == label).numpy()
    error = 0.0
    for low in np.arange(15) / 15:
        here = (sure > low) & (sure <= low + 1 / 15)
        if here.any():
            error += here.mean() * abs(sure[here].mean() - right[here].mean())
    assert found["calibration_error"] == pytest.approx(error, abs=1e-9)
    bright = []
    for severity in SEVERITIES:
        answer = network.logits(given.test, partial(at, severity))
        bright.append((answer.argmax(1) == given.test.label_N).mean())
    assert found["accuracy_brightness"] == found["accuracy_corrupted"] == pytest.approx(np.mean(bright))


def test_as_many_images_are_corrupted_as_are_asked_for(tiny_vit):
    found = by_name(SPEC.replace({"corrupted_images": 100}).score(task(tiny_vit, of=noise)))
    given = task(tiny_vit, of=noise)
    network = Network(given, SPEC.train(given), SPEC.recipe)
    first = slice(0, 100)
    few = Images(image_NHWC=given.test.image_NHWC[first], label_N=given.test.label_N[first], classes=CLASSES)
    bright = [(network.logits(few, partial(at, one)).argmax(1) == few.label_N).mean() for one in SEVERITIES]
    assert found["accuracy_brightness"] == pytest.approx(np.mean(bright))
    assert found["accuracy"] == (network.logits(given.test).argmax(1) == given.test.label_N).mean()


def test_all_corruptions_that_fit_are_tested(tiny_vit):
    found = by_name(SPEC.replace({"corruptions": ["all"]}).score(task(tiny_vit)))
    own = {name for name in found if name.startswith("accuracy_")} - {"accuracy_corrupted"}
    assert len(own) >= 12
    assert "accuracy_saturate" not in own  # gray images have none
    assert found["accuracy_corrupted"] == pytest.approx(np.mean([found[name] for name in own]))


def test_a_shift_is_judged_by_the_target_s_classes(tiny_vit):
    images = textures(TEST, 5)
    two = images.label_N < 2
    other = Images(image_NHWC=images.image_NHWC[two], label_N=1 - images.label_N[two], classes=2)
    for among in ("all", "shown"):
        shift = Shift(name="turned", data=Digits(class_limit=2), classes=(1, 0), among=among)
        given = task(tiny_vit)
        given.others.append(other)
        found = by_name(SPEC.replace({"shifts": [shift.plain()]}).score(given))
        assert found["accuracy_turned"] >= 0.95
        assert {(name, None) for name in found} == SPEC.replace({"shifts": [shift.plain()]}).metrics().keys()


def test_synthetic_images_are_trained_on(tiny_vit):
    real, made = noise(TRAIN, 1), textures(TRAIN, 4)
    spec = SPEC.replace({"corruptions": []})
    together = spec.score(task(tiny_vit, train=joined(real, made)))
    alone = spec.score(task(tiny_vit, train=real))
    assert by_name(together)["accuracy"] > by_name(alone)["accuracy"] + 0.2


def test_a_budget_by_epochs_grows_with_the_set():
    by_epochs = SPEC.replace({"recipe.budget_epochs": 20.0})
    target = Target(data=Digits(), images=100)
    more = target.model_copy(update={"synthetic": Synthetic(source=Digits(), images=300)})
    assert [by_epochs.training_images(one) for one in (target, more)] == [2_000, 8_000]
    assert [SPEC.training_images(one) for one in (target, more)] == [2_000, 2_000]


def test_scores_of_other_sizes_and_budgets_compare(tiny_vit):
    spec = SPEC.replace({"corruptions": [], "recipe.budget_epochs": 10.0})
    for count in (TRAIN, 2 * TRAIN):
        assert {score.images_seen for score in spec.score(task(tiny_vit, train=textures(count, 1)))} == {None}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"corruptions": ["brightnes"]}, "corruptions: unknown corruption"),
        ({"recipe.views": [{}, {}]}, "recipe.views: must be one augmentation; got 2"),
    ],
)
def test_impossible_fields_are_refused(changes, line):
    with pytest.raises(SpecError) as caught:
        SPEC.replace(changes)
    assert str(caught.value).startswith(line)


@pytest.mark.parametrize(
    ("shift", "line"),
    [
        (Shift(name="other", data=Digits(class_limit=3)), "other must say which of 10 classes its 3 are"),
        (Shift(name="other", data=Digits(class_limit=2), classes=(0, 11)), "other must name classes 0 to 9"),
    ],
)
def test_shifts_of_other_classes_are_refused(shift, line):
    with pytest.raises(Refusal, match=line):
        SPEC.model_copy(update={"shifts": (shift,)}).refuse(Target(data=Digits(), images=100))


# Quality ------------------------------------------------------------------------------------------------------------


def test_the_quality_of_copies_and_of_new_images(tiny_vit):
    found = {}
    for name, made in (("copies", textures(TRAIN, 1)), ("new", textures(TRAIN, 4)), ("noise", noise(TRAIN, 4))):
        found[name] = by_name(Quality().score(task(tiny_vit, made=made)))
    assert {(name, None) for name in found["new"]} == Quality().metrics().keys()
    assert found["copies"]["copy_rate_pixels"] == found["copies"]["copy_rate"] == 1
    assert found["new"]["copy_rate_pixels"] <= 0.1
    assert found["new"]["recognised"] >= 0.95 > found["noise"]["recognised"]
    assert found["new"]["frechet"] < found["noise"]["frechet"]
    assert found["noise"]["recall"] <= found["new"]["recall"]


def test_quality_needs_synthetic_images():
    assert EVALUATIONS["quality"] is Quality
    with pytest.raises(Refusal, match=r"^needs target.synthetic; got 'quality'$"):
        Quality().refuse(Target(data=Digits(), images=100))


# Confidences --------------------------------------------------------------------------------------------------------


def test_confidences_are_log_odds_of_both_sides_kept_in_a_file(tiny_vit):
    spec = Confidences.example()
    given = task(tiny_vit, of=noise)
    given.others.append(noise(60, 7))
    (score,) = spec.score(given)
    kept = np.load(io.BytesIO(given.files[FILE]), allow_pickle=False)

    again = task(tiny_vit, of=noise)
    network = Network(again, spec.train(again), spec.recipe)
    pool = given.others[0]
    mirrored = Images(image_NHWC=pool.image_NHWC[:, :, ::-1].copy(), label_N=pool.label_N, classes=CLASSES)
    chance = np.mean([torch.from_numpy(network.logits(one)).double().softmax(1).numpy() for one in (pool, mirrored)], 0)
    odds = [np.log(p[label] / (1 - p[label])) for p, label in zip(chance, pool.label_N, strict=True)]
    np.testing.assert_allclose(kept, odds, rtol=1e-4, atol=1e-4)
    assert score.value == (network.logits(again.test).argmax(1) == again.test.label_N).mean()


def test_what_was_learnt_by_heart_is_told(tiny_vit):
    recipe = {"budget_images": 8_000, "optimizer.lr": 3e-3, "views": [{}], "ema": None}
    spec = Confidences.example().replace({**{f"recipe.{k}": v for k, v in recipe.items()}, "smoothing": 0.0})
    inside, outside = noise(TRAIN, 1), noise(TRAIN, 9)
    given = task(tiny_vit, train=inside, of=noise)
    given.others.append(joined(inside, outside))
    spec.score(given)
    kept = np.load(io.BytesIO(given.files[FILE]), allow_pickle=False)
    assert (kept[:TRAIN, None] > kept[None, TRAIN:]).mean() > 0.75


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"pool": {"kind": "digits", "class_limit": 3}}, "must have the 10 classes of the target; got 3"),
        ({"recipe.budget_flops": 1e9}, "must be left out; say budget_images"),
    ],
)
def test_a_pool_that_cannot_be_looked_at_is_refused(changes, line):
    with pytest.raises(Refusal, match=line):
        Confidences.example().replace(changes).refuse(Target(data=Digits(), images=100))
