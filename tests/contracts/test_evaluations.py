"""Laws of every evaluation; a registry line is what adds the tests. Then each against a slow second implementation."""

import json
from collections import defaultdict

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax

from scaleback.core.errors import SpecError
from scaleback.core.spec import Spec
from scaleback.evaluations import EVALUATIONS, AnyEvaluation
from scaleback.evaluations.base import Target, Task, scores_as_rows
from scaleback.evaluations.features import features
from scaleback.evaluations.finetune import FineTune
from scaleback.evaluations.frozen import KNN, Linear
from scaleback.pretrain.checkpoint import Checkpoints
from scaleback.pretrain.world import World
from scaleback.recipes import FINETUNE_RECIPES
from scaleback.sources.named import Digits
from scaleback.sources.population import Images

CLASSES, SIZE, TRAIN, TEST = 4, 16, 40, 300
TARGET = Target(data=Digits(), images=TRAIN)


class Holder(Spec):
    evaluation: AnyEvaluation


@pytest.fixture(scope="module", params=EVALUATIONS)
def any_evaluation(request):
    return EVALUATIONS[request.param].example()


@pytest.fixture(scope="module", params=[kind for kind in EVALUATIONS if kind not in ("quality", "confidences")])
def evaluation(request):
    """Of those that classify."""
    return EVALUATIONS[request.param].example()


def shares(scores):
    return [score for score in scores if score.metric.startswith("accuracy")]


@pytest.fixture(scope="module")
def scores(evaluation, tiny_vit):
    """On labels that have nothing to do with the images, so that every score is as good as any other."""
    return evaluation.score(task(tiny_vit, of=noise))


def textures(count, seed):
    """One pattern for each class all over the image, under noise: a line tells classes apart, so does a backbone."""
    pattern = np.random.default_rng(9).integers(0, 2, (CLASSES, SIZE // 2, SIZE // 2, 1))
    rng, label = np.random.default_rng(seed), np.arange(count) % CLASSES
    image = rng.integers(0, 90, (count, SIZE, SIZE, 1)) + 160 * np.tile(pattern[label], (1, 2, 2, 1))
    return Images(image_NHWC=image.astype(np.uint8), label_N=label, classes=CLASSES)


def noise(count, seed):
    """Labels that have nothing to do with the images."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (count, SIZE, SIZE, 1), dtype=np.uint8)
    return Images(image_NHWC=image, label_N=np.arange(count) % CLASSES, classes=CLASSES)


def reordered(images, order):
    return Images(image_NHWC=images.image_NHWC[order], label_N=images.label_N[order], classes=images.classes)


def task(tiny_vit, *, of=textures, seed=3, train=None, made=None, test=None, checkpoints=None, report=lambda row: None):
    real = of(TRAIN, 1)
    return Task(
        backbone=tiny_vit.build(seed),
        train=real if train is None else train,
        real=real,
        made=made,
        test=of(TEST, 2) if test is None else test,
        classes=CLASSES,
        image_px=tiny_vit.image_px,
        channels=tiny_vit.channels,
        seed=seed,
        world=World(),
        checkpoints=checkpoints,
        report=report,
    )


def named(scores):
    return {(score.metric, score.images_seen): score.value for score in scores}


def test_plain_data_parse_back_to_the_same_evaluation(any_evaluation):
    evaluation = any_evaluation
    plain = json.loads(json.dumps(evaluation.plain()))
    parsed = Holder.parse({"evaluation": plain}).evaluation
    assert parsed == evaluation
    assert parsed.fingerprint == evaluation.fingerprint
    assert EVALUATIONS[evaluation.short] is type(evaluation)


def test_an_unknown_field_is_refused(any_evaluation):
    with pytest.raises(SpecError, match="unknown field"):
        type(any_evaluation).parse({**any_evaluation.plain(), "colour_of_the_sky": 1})


def test_scores_are_named_shares_of_all_test_images_and_can_be_stored(evaluation, scores):
    assert scores
    assert len(named(scores)) == len(scores)
    assert named(scores).keys() == evaluation.metrics().keys()
    assert any(score.count for score in shares(scores))
    for score in shares(scores):
        assert 0 <= score.value <= 1
        if score.count:  # no mean over several tests
            assert score.count == TEST
            assert score.value * TEST == pytest.approx(round(score.value * TEST))
    rows = scores_as_rows(scores)
    assert json.loads(json.dumps(rows)) == rows
    assert [row["value"] for row in rows] == [score.value for score in scores]


def test_classes_that_a_line_tells_apart_are_learnt_in_the_passes_a_plan_counts(evaluation, tiny_vit):
    seen = [0]
    found = evaluation.score(task(tiny_vit, report=lambda row: seen.append(row["images_seen"])))
    assert [score for score in found if score.count][-1].value >= 0.97
    assert max(seen) == evaluation.training_images(TARGET)


def test_labels_without_a_reason_are_met_by_chance_only(scores):
    for score in shares(scores):
        assert score.value == pytest.approx(1 / CLASSES, abs=4 * np.sqrt(3 / 16 / TEST))


def test_the_same_seed_gives_the_same_scores_whatever_the_order_of_the_test_images(evaluation, scores, tiny_vit):
    backwards = reordered(noise(TEST, 2), np.arange(TEST)[::-1])
    again = evaluation.score(task(tiny_vit, of=noise, test=backwards))
    assert named(again) == pytest.approx(named(scores), rel=1e-9)
    assert shares(again) == shares(scores)


# Frozen features ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["linear", "knn"])
def test_a_frozen_backbone_stays_as_it_is_and_the_order_of_labelled_images_does_not_matter(kind, tiny_vit):
    spec = EVALUATIONS[kind].example()
    given = task(tiny_vit, of=noise)
    before = {name: value.clone() for name, value in given.backbone.state_dict().items()}
    expected = spec.score(given)
    assert all(torch.equal(value, before[name]) for name, value in given.backbone.state_dict().items())
    backwards = reordered(noise(TRAIN, 1), np.arange(TRAIN)[::-1])
    assert spec.score(task(tiny_vit, of=noise, train=backwards)) == expected


def test_features_are_the_backbone_s_of_whole_normalised_images(tiny_vit):
    given = task(tiny_vit)  # 300 images: more than one batch of evaluation
    pixels = torch.from_numpy(given.test.image_NHWC).permute(0, 3, 1, 2) / 255
    with torch.inference_mode():
        expected = given.backbone.eval()((pixels - 0.3) / 0.4)
    torch.testing.assert_close(features(given, given.test, 0.3, 0.4), expected, atol=1e-5, rtol=1e-4)


def blobs(count, seed, width=6):
    """Overlapping clouds of features, so that methods that differ would guess apart."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, CLASSES, count)
    middle = np.random.default_rng(9).standard_normal((CLASSES, width))
    value = middle[label] + rng.standard_normal((count, width))
    return torch.from_numpy(value * np.linspace(0.2, 5, width) + 3).float(), label


def neighbours_by_hand(train, label, test, neighbours, temperature):
    """Wu et al., 2018, section 3.4: the sum of exp(cosine / temperature) over the nearest, for each class."""
    guesses = []
    for one in test:
        cosine = [float(one @ other / np.sqrt(one @ one) / np.sqrt(other @ other)) for other in train]
        votes = defaultdict(float)
        for place in sorted(range(len(train)), key=lambda place: -cosine[place])[:neighbours]:
            votes[label[place]] += np.exp((cosine[place] - 1) / temperature)
        guesses.append(max(votes, key=votes.get))
    return guesses


@pytest.mark.parametrize("neighbours", [1, 5, 200])
def test_nearest_neighbours_vote_as_by_hand(neighbours):
    (train, label), (test, _) = blobs(60, 1), blobs(80, 2)
    guess = KNN(neighbours=neighbours, temperature=0.07).classify(train, label, test, CLASSES)
    expected = neighbours_by_hand(train.double().numpy(), label, test.double().numpy(), neighbours, 0.07)
    assert guess.tolist() == expected
    assert len(set(expected)) == CLASSES


def test_a_low_temperature_is_a_vote_of_the_nearest():
    (train, label), (test, _) = blobs(60, 1), blobs(80, 2)
    sharp = KNN(neighbours=20, temperature=0.005).classify(train, label, test, CLASSES)
    expected = neighbours_by_hand(train.double().numpy(), label, test.double().numpy(), 20, 0.005)
    assert sharp.tolist() == expected


def logistic_by_hand(train, label, test, inverse_penalty):
    """The penalised likelihood that scikit-learn documents, minimised by scipy, on features standardised by hand."""
    mean, spread = train.mean(0), train.std(0)
    train, test = (train - mean) / spread, (test - mean) / spread
    answer = np.eye(CLASSES)[label]

    def cost(flat):
        weight, bias = flat.reshape(CLASSES, -1)[:, :-1], flat.reshape(CLASSES, -1)[:, -1]
        log_chance = log_softmax(train @ weight.T + bias, axis=1)
        error = np.exp(log_chance) - answer
        slope = np.c_[error.T @ train + weight / inverse_penalty, error.sum(0)]
        return -(answer * log_chance).sum() + (weight**2).sum() / (2 * inverse_penalty), slope.ravel()

    found = minimize(
        cost, np.zeros(CLASSES * (train.shape[1] + 1)), jac=True, method="L-BFGS-B", options={"gtol": 1e-9}
    )
    best = found.x.reshape(CLASSES, -1)
    return (test @ best[:, :-1].T + best[:, -1]).argmax(1)


@pytest.mark.parametrize("inverse_penalty", [0.001, 0.1, 10.0])
def test_the_linear_classifier_is_penalised_logistic_regression_on_standardised_features(inverse_penalty):
    (train, label), (test, _) = blobs(60, 1), blobs(400, 2)
    guess = Linear(inverse_penalty=inverse_penalty).classify(train, label, test, CLASSES)
    expected = logistic_by_hand(train.double().numpy(), label, test.double().numpy(), inverse_penalty)
    assert (guess != expected).sum() <= 1  # a point on the border may fall either way


# Fine-tuning --------------------------------------------------------------------------------------------------------


def finetune(*marks, **changes):
    recipe = {"budget_images": marks[-1], "batch_images": 25, "warmup_images": 50}
    return FineTune(recipe=FINETUNE_RECIPES["small"].replace(recipe), marks_images=marks, **changes)


def test_fine_tuning_scores_every_mark_and_names_the_last_and_the_best(tiny_vit):
    marks = tuple(range(50, 351, 50))
    found = named(finetune(*marks).score(task(tiny_vit, of=noise)))
    along = {images: value for (metric, images), value in found.items() if metric == "accuracy"}
    assert tuple(along) == marks
    best = max(along.values())
    assert best > along[350], "these labels were to have their best mark before the last"
    assert found["accuracy_last", 350] == along[350]
    assert found["accuracy_best", min(images for images in marks if along[images] == best)] == best
    assert len(found) == len(marks) + 2


def test_with_a_constant_rate_a_mark_is_the_score_of_the_smaller_budget(tiny_vit):
    longer = named(finetune(150, 300).score(task(tiny_vit, of=noise)))
    shorter = named(finetune(150).score(task(tiny_vit, of=noise)))
    assert longer["accuracy", 150] == shorter["accuracy_last", 150]


def test_fine_tuning_stopped_and_resumed_gives_the_same_scores(tiny_vit, store):
    spec = finetune(100, 200, 300)

    def report(row):
        if row["images_seen"] == 225:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        spec.score(task(tiny_vit, of=noise, checkpoints=Checkpoints(store, "evaluate/it", spec, 0.0), report=report))
    resumed = spec.score(task(tiny_vit, of=noise, checkpoints=Checkpoints(store, "evaluate/it", spec, 3_600.0)))
    assert resumed == spec.score(task(tiny_vit, of=noise))


def test_the_average_of_the_weights_is_tested_and_not_trained_on(tiny_vit):
    curves, accuracies = [], []
    for ema in (None, 0.999):
        recipe = finetune(50, 100, 150).recipe.replace({"ema": ema})
        rows = []
        found = FineTune(recipe=recipe, marks_images=(50, 100, 150)).score(task(tiny_vit, report=rows.append))
        curves.append([row["loss"] for row in rows if "loss" in row])
        accuracies.append([score.value for score in found])
    assert curves[0] == curves[1]
    assert accuracies[0] != accuracies[1]


def test_no_branch_is_dropped_while_testing(tiny_vit):
    dropping = tiny_vit.replace({"depth": 2, "drop_path": 0.5})
    backwards = reordered(noise(TEST, 2), np.arange(TEST)[::-1])
    first, second = (finetune(100).score(task(dropping, of=noise, test=test)) for test in (None, backwards))
    assert first == second


def test_fine_tuning_trains_the_backbone(tiny_vit):
    given = task(tiny_vit)
    before = given.backbone.patch_embed.proj.weight.detach().clone()
    finetune(50).score(given)
    assert not torch.equal(given.backbone.patch_embed.proj.weight, before)


def test_two_marks_within_one_batch_both_have_a_score(tiny_vit):
    found = named(finetune(30, 40, 100).score(task(tiny_vit, of=noise)))
    assert {images for metric, images in found if metric == "accuracy"} == {30, 40, 100}


SMALL = FineTune.example().plain()


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"marks_images": []}, "marks_images: must increase, from one batch of 50 on; got ()"),
        (
            {"marks_images": [500, 100, 2_000]},
            "marks_images: must increase, from one batch of 50 on; got (500, 100, 2000)",
        ),
        (
            {"marks_images": [100, 100, 2_000]},
            "marks_images: must increase, from one batch of 50 on; got (100, 100, 2000)",
        ),
        ({"marks_images": [49, 2_000]}, "marks_images: must increase, from one batch of 50 on; got (49, 2000)"),
        ({"marks_images": [100, 1_000]}, "marks_images: must end with the budget, 2000; got 1000"),
        ({"recipe": SMALL["recipe"] | {"views": [{}, {}]}}, "recipe.views: must be one augmentation; got 2"),
        ({"recipe": {"preset": "smal"}}, "recipe: unknown recipe, known are 1p-frac, small; got 'smal'; the nearest"),
    ],
)
def test_fine_tuning_that_cannot_be_is_refused(changes, line):
    with pytest.raises(SpecError) as caught:
        FineTune.parse(SMALL | changes)
    assert str(caught.value).startswith(line)


def test_mixing_pairs_of_an_odd_batch_is_refused():
    recipe = SMALL["recipe"] | {"batch_images": 25}
    with pytest.raises(SpecError, match=r"^recipe\.batch_images: must be a multiple of 2 "):
        FineTune.parse(SMALL | {"recipe": recipe, "mixup": 0.8})
