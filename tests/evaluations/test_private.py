"""DP-SGD: each part against a slow second implementation, what it promises, and what it refuses."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.stats import norm

from scaleback.backbones import Backbone
from scaleback.core import seeds
from scaleback.core.errors import PlacementError, Refusal, SpecError
from scaleback.evaluations import EVALUATIONS, Target
from scaleback.evaluations.base import Synthetic
from scaleback.evaluations.classifier import Classifier
from scaleback.evaluations.private import ORDERS, Private
from scaleback.objectives.classify import Classify
from scaleback.objectives.learners import private as private_learner
from scaleback.objectives.learners.base import Batch
from scaleback.pretrain.checkpoint import Checkpoints
from scaleback.pretrain.order import PoissonOrder
from scaleback.pretrain.world import World
from scaleback.sources.named import Digits
from scaleback.study.run import Run
from tests.contracts.test_evaluations import CLASSES, TRAIN, named, noise, task

PRIVATE = {"noise": 1.0, "clip": 0.5, "delta": 1e-3}
RECIPE = {"recipe.batch_images": 32, "recipe.budget_images": 320, "recipe.warmup_images": 64}
SPEC = Classifier.example().replace({**RECIPE, "corruptions": [], "private": PRIVATE})
TARGET = Target(data=Digits(), images=TRAIN)


def private(kind):
    marks = {"marks_images": [320]} if kind == "finetune" else {}
    example = EVALUATIONS[kind].example()
    return type(example).parse(example.plain() | marks | {"recipe": SPEC.recipe.plain(), "private": PRIVATE})


# Gradients ----------------------------------------------------------------------------------------------------------


def classifier(tiny_vit):
    return Classify(smoothing=0.1).build(
        tiny_vit.build(1), width=16, classes=CLASSES, generator=torch.Generator().manual_seed(2)
    )


def batch_of(count, step=4):
    image_BCHW = torch.randn(count, 1, 16, 16, generator=torch.Generator().manual_seed(3))
    index_B = torch.arange(count)
    counter_B = seeds.counter(step, np.arange(count))
    return Batch(
        view_VBCHW=[image_BCHW],
        label_B=index_B % CLASSES,
        index_B=index_B,
        counter_B=counter_B,
        seed=8,
        step=step,
        progress=0.0,
    )


def gradient_of(learner, batch):
    learner.zero_grad()
    losses = learner(batch)
    losses.total.backward()
    return losses, {name: value.grad.clone() for name, value in learner.named_parameters()}


def by_hand(learner, batch, noise, clip, batch_images):
    """Algorithm 1 of Abadi et al., an image at a time by plain autograd; also the norms before clipping."""
    rng = seeds.generator("noise of private training", batch.seed, batch.step)
    total, norms = {name: torch.zeros_like(value) for name, value in learner.named_parameters()}, []
    for image, label in zip(batch.view_VBCHW[0], batch.label_B, strict=True):
        learner.zero_grad()
        answer = learner.head(learner.backbone(image[None]))
        F.cross_entropy(answer, label[None], label_smoothing=0.1).backward()
        norms.append(sum(float(value.grad.square().sum()) for value in learner.parameters()) ** 0.5)
        for name, value in learner.named_parameters():
            total[name] += value.grad * min(1.0, clip / norms[-1])
    for name, value in total.items():
        value += noise * clip * torch.from_numpy(rng.standard_normal(tuple(value.shape), dtype=np.float32))
        total[name] = value / batch_images
    return total, norms


def test_gradients_are_clipped_one_by_one_and_noise_comes_to_their_sum(tiny_vit):
    learner, batch = classifier(tiny_vit), batch_of(6)
    _, norms = by_hand(learner, batch, 0.0, 1.0, 8)
    clip = float(np.median(norms))
    assert min(norms) < clip < max(norms), "some were to be clipped, some not"
    expected, _ = by_hand(learner, batch, 0.3, clip, 8)
    hidden = Private(noise=0.3, clip=clip, delta=1e-3).build(learner, batch_images=8)
    losses, found = gradient_of(hidden, batch)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)
    whole = learner(batch)
    torch.testing.assert_close(losses.total, whole.total)
    torch.testing.assert_close(losses.features_BD, whole.features_BD, atol=1e-5, rtol=1e-4)
    assert losses.parts["accuracy"] == pytest.approx(float(whole.parts["accuracy"]))


def test_one_image_moves_the_sum_by_no_more_than_the_clip(tiny_vit):
    hidden = Private(noise=0.5, clip=0.1, delta=1e-3).build(classifier(tiny_vit), batch_images=1)
    (_, with_it), (_, without) = (gradient_of(hidden, batch_of(count)) for count in (6, 5))
    moved = sum(float((with_it[name] - without[name]).square().sum()) for name in with_it) ** 0.5
    assert moved == pytest.approx(0.1, rel=1e-3)


def test_noise_has_the_spread_that_the_accountant_is_told_and_is_new_at_each_step(tiny_vit):
    learner = classifier(tiny_vit)
    hidden = Private(noise=3.0, clip=0.2, delta=1e-3).build(learner, batch_images=8)
    first, again, other = (gradient_of(hidden, batch_of(6, step))[1] for step in (4, 4, 5))
    assert all(torch.equal(first[name], again[name]) for name in first)
    difference = torch.cat([(first[name] - other[name]).flatten() for name in first])
    assert float(difference.std()) == pytest.approx(2**0.5 * 3.0 * 0.2 / 8, rel=0.05)


def test_gradients_do_not_depend_on_how_many_are_in_memory_together(tiny_vit, monkeypatch):
    hidden = Private(noise=0.5, clip=0.1, delta=1e-3).build(classifier(tiny_vit), batch_images=8)
    _, together = gradient_of(hidden, batch_of(6))
    monkeypatch.setattr(private_learner, "TOGETHER_NUMBERS", 4 * sum(p.numel() for p in hidden.parameters()))
    _, apart = gradient_of(hidden, batch_of(6))
    torch.testing.assert_close(apart, together, atol=1e-6, rtol=1e-4)


def test_parameters_keep_their_names_and_settings(tiny_vit):
    learner = classifier(tiny_vit)
    hidden = Private(noise=0.5, clip=0.1, delta=1e-3).build(learner, batch_images=8)
    assert hidden.state_dict().keys() == learner.state_dict().keys()
    assert hidden.no_weight_decay() == learner.no_weight_decay()


# Batches ------------------------------------------------------------------------------------------------------------


def test_each_image_is_drawn_by_itself_at_the_rate_of_the_batch():
    order = PoissonOrder(images=200, batch_images=40, seed=5)
    drawn = np.zeros((500, 200))
    for step in range(500):
        index_B, epoch_B = order.batch(step)
        drawn[step, index_B] += 1
        assert set(epoch_B) == {step}
    assert drawn.max() == 1
    assert drawn.mean() == pytest.approx(0.2, abs=4 * (0.16 / drawn.size) ** 0.5)
    assert drawn.mean(0) == pytest.approx(np.full(200, 0.2), abs=5 * (0.16 / 500) ** 0.5)
    assert drawn.sum(1).var() == pytest.approx(200 * 0.16, rel=0.3)  # of independent draws
    for step in (0, 499):
        again, _ = PoissonOrder(images=200, batch_images=40, seed=5).batch(step)
        np.testing.assert_array_equal(again, np.flatnonzero(drawn[step]))
    assert not np.array_equal(PoissonOrder(images=200, batch_images=40, seed=6).batch(0)[0], order.batch(0)[0])


def test_without_noise_and_clipping_it_is_plain_descent_on_the_same_batches(tiny_vit):
    plain = {"kind": "sgd", "lr": 0.1, "momentum": 0.0, "weight_decay": 0.0}
    recipe = {"recipe.optimizer": plain, "recipe.schedule": "constant", "recipe.warmup_images": 0, "recipe.views": [{}]}
    spec = SPEC.replace({**recipe, "private": {"noise": 1e-12, "clip": 1e4, "delta": 1e-3}})
    given, untouched = task(tiny_vit, of=noise), task(tiny_vit, of=noise)
    trained = spec.train(given).learner

    generator = torch.Generator().manual_seed(seeds.key("fine-tuned head", 3) >> 1)
    learner = Classify(smoothing=0.1).build(untouched.backbone, width=16, classes=CLASSES, generator=generator)
    order = PoissonOrder(images=TRAIN, batch_images=32, seed=seeds.key("fine-tune", 3) >> 1)
    descent = torch.optim.SGD(learner.parameters(), lr=0.1)
    image_NCHW = (torch.from_numpy(given.train.image_NHWC).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
    for step in range(10):
        index_B = torch.from_numpy(order.batch(step)[0])
        answer = learner.head(learner.backbone(image_NCHW[index_B]))
        label_B = torch.from_numpy(given.train.label_N)[index_B]
        descent.zero_grad()
        (F.cross_entropy(answer, label_B, label_smoothing=0.1, reduction="sum") / 32).backward()
        descent.step()
    expected = learner.state_dict()
    assert not torch.equal(trained.head.weight, classifier(tiny_vit).head.weight)
    torch.testing.assert_close(dict(trained.state_dict()), dict(expected), atol=2e-5, rtol=1e-4)


# What is promised ---------------------------------------------------------------------------------------------------


def epsilon_by_hand(noise, rate, steps, delta):
    """Mironov et al., 2019, equation 6, by quadrature at each order; then Canonne et al., 2020, proposition 12."""

    def moment(order):
        def integrand(at):
            log_ratio = np.logaddexp(np.log1p(-rate), np.log(rate) + (2 * at - 1) / (2 * noise**2))
            return np.exp(order * log_ratio - at**2 / (2 * noise**2)) / (noise * np.sqrt(2 * np.pi))

        peaks = (0, 1, order)
        return quad(integrand, -20 * noise, order + 20 * noise, points=peaks, limit=500)[0]

    found = []
    for order in (one for one in ORDERS if one <= 40):
        spent = steps * np.log(moment(order)) / (order - 1)
        found.append(spent + np.log1p(-1 / order) - (np.log(delta) + np.log(order)) / (order - 1))
    return min(found)


@pytest.mark.parametrize(("noise", "rate", "steps"), [(1.0, 0.05, 200), (2.9, 0.5, 100), (4.0, 0.2, 30)])
def test_epsilon_is_that_of_numeric_integration(noise, rate, steps):
    found = Private(noise=noise, clip=1.0, delta=1e-3).epsilon(rate=rate, steps=steps)
    assert found == pytest.approx(epsilon_by_hand(noise, rate, steps, 1e-3), rel=1e-5)


def test_epsilon_of_one_step_on_all_images_is_a_bound_of_the_gaussian_mechanism_s():
    def delta(epsilon, noise=2.0):  # Balle and Wang, 2018, theorem 8: the exact one
        half = 1 / (2 * noise)
        return norm.cdf(half - epsilon * noise) - np.exp(epsilon) * norm.cdf(-half - epsilon * noise)

    exact = brentq(lambda epsilon: delta(epsilon) - 1e-3, 0.01, 10)
    found = Private(noise=2.0, clip=1.0, delta=1e-3).epsilon(rate=1.0, steps=1)
    assert exact < found < 1.25 * exact


@pytest.mark.parametrize("kind", ["finetune", "classifier", "confidences"])
def test_scores_tell_epsilon_of_what_was_done(kind, tiny_vit):
    spec, given = private(kind), task(tiny_vit, of=noise)
    if kind == "confidences":
        given.others.append(noise(20, 7))
    found = named(spec.score(given))
    assert found.keys() == spec.metrics().keys()
    assert found["epsilon", None] == Private(**PRIVATE).epsilon(rate=32 / TRAIN, steps=10)
    metric = spec.metrics()["epsilon", None]
    assert (metric.better, metric.share) == ("low", False)
    example = type(spec).example()
    assert ("epsilon", None) not in example.metrics()
    assert "private" not in example.canonical()
    assert example.fingerprint != spec.fingerprint


@pytest.mark.parametrize("changes", [{}, {"depth": 2, "drop_path": 0.5}], ids=["plain", "drops branches"])
def test_private_training_stopped_and_resumed_gives_the_same_weights(changes, tiny_vit, store):
    backbone = tiny_vit.replace(changes)

    def report(row):
        if row["images_seen"] == 192:
            raise KeyboardInterrupt

    kept = Checkpoints(store, "evaluate/it", SPEC, 0.0)
    with pytest.raises(KeyboardInterrupt):
        SPEC.train(task(backbone, of=noise, checkpoints=kept, report=report))
    assert kept.newest() is not None
    rows = []
    resumed = SPEC.train(task(backbone, of=noise, checkpoints=kept, report=rows.append)).learner.state_dict()
    assert rows[0]["images_seen"] == 192
    whole = SPEC.train(task(backbone, of=noise)).learner.state_dict()
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


# What is refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"private.noise": 0.0}, "private.noise: must be greater than 0; got 0.0"),
        ({"private.clip": -1.0}, "private.clip: must be greater than 0; got -1.0"),
        ({"private.delta": 0.0}, "private.delta: must be greater than 0; got 0.0"),
        ({"private.delta": 1.0}, "private.delta: must be less than 1; got 1.0"),
        ({"mixup": 0.8}, "mixup: must be 0 where training is private; got 0.8"),
        ({"cutmix": 1.0}, "cutmix: must be 0 where training is private; got 1.0"),
        ({"recipe.accumulate": 2}, "recipe.accumulate: must be 1 where training is private; got 2"),
        ({"recipe.precision": "bf16"}, "recipe.precision: must be fp32 where training is private; got 'bf16'"),
        ({"recipe.compile": True}, "recipe.compile: must be off where training is private; got True"),
        (
            {"recipe.batch_images": 31},
            "recipe.batch_images: must be at least 32 where training is private, so that no batch comes out empty; "
            "got 31",
        ),
    ],
)
def test_what_cannot_be_private_is_refused(changes, line):
    with pytest.raises(SpecError) as caught:
        SPEC.replace(changes)
    assert str(caught.value) == line


@pytest.mark.parametrize(
    ("target", "line"),
    [
        (
            TARGET.model_copy(update={"synthetic": Synthetic(source=Digits(), images=40, role="alone")}),
            "private: needs real images alone: its guarantee would be of drawn images, not of those they were drawn "
            "after; got 'digits'",
        ),
        (
            TARGET.model_copy(update={"images": 1_000}),
            "private.delta: must be below 1 / 1000: publishing an image chosen by lot would be as private; got 0.001",
        ),
        (
            TARGET.model_copy(update={"images": 31}),
            "recipe.batch_images: must be at most the 31 images of the target where training is private; got 32",
        ),
    ],
)
def test_a_target_of_which_nothing_is_guaranteed_is_refused(target, line):
    with pytest.raises(Refusal) as caught:
        SPEC.refuse(target)
    assert f"{caught.value.field}: {caught.value}" == line


def test_batch_norms_are_refused():
    images = {"image_px": 28, "channels": 1}
    run = {
        "source": "digits",
        "images": 0,
        "objective": "classify",
        "recipe": "small",
        "backbone": {"model": "test_resnet", **images},
        "target": TARGET.plain(),
        "evaluations": [SPEC.plain()],
        "seed": 0,
    }
    with pytest.raises(SpecError) as caught:
        Run.parse(run)
    assert str(caught.value) == (
        "evaluations.classifier.private: needs a backbone without batch norms, such as a ViT, a ConvNeXt or "
        "resnet50_gn; got 'test_resnet'"
    )
    for model in ("vit_tiny_patch16_224", "convnext_atto", "resnet50_gn", "test_vit"):
        SPEC.refuse_backbone(Backbone(model=model, image_px=32, channels=1))
    Classifier.example().refuse_backbone(Backbone(model="test_resnet", **images))


def test_two_workers_are_refused(tiny_vit):
    given = replace(task(tiny_vit, of=noise), world=World(0, 2))
    with pytest.raises(PlacementError, match=r"^private training is the work of one worker; got 2$"):
        SPEC.train(given)
