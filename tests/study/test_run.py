"""A run: what makes two of them the same, and which stages they share."""

import pytest

from scaleback.cluster.placement import Placement
from scaleback.core.errors import SpecError, unknown
from scaleback.recipes import PRETRAIN_RECIPES
from scaleback.study.files import load_study
from scaleback.study.run import Run

BASE = load_study("scaling_sweep").base.replace({"images": 16, "source.delta": 0.2, "seed": 0})
OF_PRETRAINING = {
    "source.delta": 0.3,
    "source": {"kind": "ofdb"},
    "objective.smoothing": 0.05,
    "recipe.budget_images": 512,
    "recipe.warmup_images": 64,
}
OF_ANY_RUN = {"backbone.depth": 1, "seed": 7, "target.images": 50, "evaluations.knn.neighbours": 3}


def names(plain):
    """Every name at any depth."""
    if isinstance(plain, dict):
        return set(plain).union(*(names(value) for value in plain.values()))
    return set().union(*(names(value) for value in plain)) if isinstance(plain, list) else set()


def adjusted(changes):
    """A small budget needs a small warm-up."""
    return {"recipe.warmup_images": 64, **changes} if "recipe.budget_images" in changes else changes


@pytest.mark.parametrize("field", [*OF_PRETRAINING, *OF_ANY_RUN])
def test_every_field_is_part_of_the_identity_of_a_run(field):
    changed = BASE.replace(adjusted({field: {**OF_PRETRAINING, **OF_ANY_RUN}[field]}))
    assert changed.fingerprint != BASE.fingerprint
    assert changed.evaluates[2].address != BASE.evaluates[2].address


@pytest.mark.parametrize("field", OF_PRETRAINING)
def test_without_images_the_settings_of_pretraining_are_no_part_of_identity(field):
    baseline = BASE.replace({"images": 0})
    changed = baseline.replace(adjusted({field: OF_PRETRAINING[field]}))
    assert changed != baseline
    assert changed.fingerprint == baseline.fingerprint
    assert [stage.address for stage in changed.evaluates] == [stage.address for stage in baseline.evaluates]


@pytest.mark.parametrize("field", OF_ANY_RUN)
def test_without_images_all_other_fields_still_are(field):
    baseline = BASE.replace({"images": 0})
    assert baseline.replace({field: OF_ANY_RUN[field]}).fingerprint != baseline.fingerprint


def test_without_images_nothing_is_pretrained_or_rendered_for_it():
    baseline = BASE.replace({"images": 0})
    assert baseline.pretrain is None
    assert all(stage.pretrain is None for stage in baseline.evaluates)
    assert [population.source.short for population, _ in baseline.stored(stream=False)] == ["digits", "digits"]


def test_how_many_images_are_used_is_no_part_of_the_population():
    few, many = BASE.replace({"images": 4}), BASE.replace({"images": 16})
    assert few.pretrain.population.address == many.pretrain.population.address
    assert few.pretrain.address != many.pretrain.address
    assert [count for _, count in few.stored(stream=False)] == [4, few.target.images, 1_000]


def test_seeds_draw_their_own_populations_and_share_the_test_images():
    first, second = (BASE.replace({"seed": seed}).stored(stream=False) for seed in (0, 1))
    same = [a.address == b.address for (a, _), (b, _) in zip(first, second, strict=True)]
    assert same == [False, False, True]


def test_runs_that_differ_in_their_evaluations_share_the_pretraining():
    other = BASE.replace({"evaluations.knn.neighbours": 3})
    assert other.pretrain.address == BASE.pretrain.address
    assert [a.address == b.address for a, b in zip(other.evaluates, BASE.evaluates, strict=True)] == [True, True, False]


def test_there_is_no_way_to_write_a_placement_into_a_run():
    assert not names(BASE.plain()) & set(Placement.model_fields)
    for field in ("workers", "storage", "address"):
        with pytest.raises(SpecError, match=f"{field}: unknown field"):
            Run.parse({**BASE.plain(), field: Placement.model_fields[field].default})


def test_dotted_fields_are_replaced_and_the_rest_is_left_alone():
    changed = BASE.replace({"evaluations.finetune.recipe.optimizer.lr": 0.25, "backbone.depth": 1})
    assert changed.evaluations[0].recipe.optimizer.lr == 0.25
    assert changed.backbone.depth == 1
    back = {"evaluations.finetune.recipe.optimizer.lr": BASE.evaluations[0].recipe.optimizer.lr}
    assert changed.replace({**back, "backbone.depth": BASE.backbone.depth}) == BASE


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"images": -1}, "images: must be greater than or equal to 0; got -1"),
        ({"images": 1}, "objective.labels: needs at least two classes to tell apart; got 1"),
        ({"images": 4.0}, "images: must be an integer; got 4.0"),
        ({"source": "ofdb", "images": 1_001}, "images: must be at most the 1,000 of source ofdb; got 1001"),
        ({"target.images": 798}, "target.images: must be at most the 797 of the train split; got 798"),
        ({"target.images": 9}, "target.images: must give each of the 10 classes an image; got 9"),
        (
            {"target.data.split": "test"},
            "target.data.split: must be train; the test split is taken for testing; got 'test'",
        ),
        (
            {"evaluations": ["knn", "linear", "knn"]},
            "evaluations: must be of different kinds; got ['knn', 'linear', 'knn']",
        ),
        (
            {"evaluations.finetune.marks_images": [50, 100]},
            "evaluations.finetune.marks_images: must end with the budget",
        ),
        (
            {"recipe": "smal"},
            f"recipe: {unknown('recipe', 'smal', PRETRAIN_RECIPES)}",
        ),
        ({"backbone.image_px": 25}, "backbone.image_px: must divide into patches of 8 px; got 25"),
        (
            {"objective.mixup": 0.8, "recipe.batch_images": 31},
            "recipe.batch_images: must be a multiple of 2 (2 images that stay together); got 31",
        ),
        (
            {"target.data": "ofdb"},
            "target.data: unknown kind, known are arrays, digits, fashion_mnist, folder, huggingface, members, "
            "parquet, torchvision; got 'ofdb'",
        ),
    ],
)
def test_an_impossible_run_is_refused_in_one_line(changes, line):
    with pytest.raises(SpecError) as caught:
        BASE.replace(changes)
    (said,) = str(caught.value).splitlines()
    assert said.startswith(line)
