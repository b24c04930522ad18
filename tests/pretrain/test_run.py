"""A pre-training run from images on storage to weights that timm loads."""

import json

import numpy as np
import pytest
import torch

from scaleback.backbones import Backbone
from scaleback.core import seeds
from scaleback.core.errors import IntegrityError, SpecError, unknown
from scaleback.objectives import OBJECTIVE_PRESETS
from scaleback.objectives.classify import Classify
from scaleback.pretrain.run import CURVE, WEIGHTS, load_backbone, run_pretrain
from scaleback.pretrain.spec import Pretrain
from scaleback.pretrain.world import World
from scaleback.recipes import PRETRAIN_RECIPES
from scaleback.sources import SOURCES
from scaleback.sources.population import Population, missing_blocks, render_block
from scaleback.torchvision_operators import declare

declare()  # before timm, which imports torchvision
import timm  # noqa: E402

IMAGES, SEED = 40, 4
RECIPE = PRETRAIN_RECIPES["small"].replace({"budget_images": 320, "warmup_images": 64, "ema": 0.9})


def pretrain(backbone, **changes):
    fields = {
        "population": Population.of(SOURCES["digits"](), SEED),
        "images": IMAGES,
        "objective": Classify(),
        "backbone": backbone,
        "recipe": RECIPE,
        "seed": SEED,
    }
    return Pretrain(**{**fields, **changes})


def render(store):
    population = Population.of(SOURCES["digits"](), SEED)
    for block in missing_blocks(store, population, IMAGES):
        render_block(store, population, block)


@pytest.fixture
def rendered(store):
    """A store that holds the images."""
    render(store)
    return store


def test_a_run_publishes_weights_a_curve_and_a_record_and_nothing_else(rendered, tiny_vit):
    spec, reported = pretrain(tiny_vit), []
    manifest = run_pretrain(spec, rendered, World(), checkpoint_every_s=0.0, report=reported.append)
    assert rendered.addresses("pretrain") == [spec.address]
    assert rendered.manifest(spec.address, spec) == manifest
    assert set(manifest.files) == {WEIGHTS, CURVE}
    assert json.loads(rendered.read(manifest, CURVE)) == reported
    record = manifest.record
    assert record["images_seen"] == reported[-1]["images_seen"] == 320
    assert (record["workers"], record["watched"]["accuracy"]) == (1, reported[-1]["accuracy"])
    assert record["trivial_loss"] == pytest.approx(np.log(10))
    assert json.loads(json.dumps(record)) == record


@pytest.mark.parametrize(
    "backbone",
    [
        Backbone(
            model="vit_tiny_patch16_224", image_px=16, channels=1, patch_px=8, width=16, depth=2, heads=2, mlp_ratio=2.0
        ),
        Backbone(model="vit_tiny_patch16_224", image_px=16, patch_px=4, width=24, depth=1, heads=3, drop_path=0.1),
        Backbone(model="test_resnet", image_px=32, channels=1),
    ],
    ids=["gray vit", "colour vit", "convolutions"],
)
def test_timm_loads_the_weights_with_what_the_record_says_and_gives_the_same_features(backbone, rendered):
    spec = pretrain(backbone)
    manifest = run_pretrain(spec, rendered, World())
    file = rendered.path(f"{manifest.address}/{WEIGHTS}")
    arguments = json.loads(json.dumps(manifest.record["timm"]))
    theirs = timm.create_model(**arguments, checkpoint_path=file).eval()
    ours = load_backbone(rendered, backbone, SEED, spec).eval()
    image = torch.randn(3, backbone.channels, backbone.image_px, backbone.image_px)
    with torch.inference_mode():
        features, untrained = ours(image), load_backbone(rendered, backbone, SEED, None).eval()(image)
        assert torch.equal(theirs(image), features)
    assert not torch.allclose(features, untrained, atol=1e-3)


def test_the_average_of_the_weights_is_published_where_the_recipe_averages(rendered, tiny_vit):
    average, live = (
        run_pretrain(pretrain(tiny_vit, recipe=RECIPE.replace({"ema": ema})), rendered, World()) for ema in (0.9, None)
    )
    assert average.files[CURVE] == live.files[CURVE]
    assert average.files[WEIGHTS] != live.files[WEIGHTS]


def test_a_run_stopped_and_started_again_publishes_the_same_bytes(rendered, tiny_vit):
    spec = pretrain(tiny_vit)

    def report(row):
        if row["images_seen"] == 6 * 32:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_pretrain(spec, rendered, World(), checkpoint_every_s=0.0, report=report)
    assert rendered.manifest(spec.address) is None
    resumed = run_pretrain(spec, rendered, World())
    assert rendered.addresses("pretrain") == [spec.address]
    rendered.remove(spec.address)
    assert run_pretrain(spec, rendered, World()).files == resumed.files


def test_a_run_that_hardly_moves_is_recorded_as_collapsed(rendered, tiny_vit):
    still = pretrain(tiny_vit, recipe=RECIPE.replace({"optimizer.lr": 1e-9}))
    record = run_pretrain(still, rendered, World()).record
    assert record["collapsed"] is True
    assert record["learnt_share"] == pytest.approx(0, abs=0.02)


def test_a_run_that_learns_is_not(rendered, tiny_vit):
    plain = RECIPE.replace({"budget_images": 1_920, "optimizer.lr": 1e-2, "views": [{}]})
    record = run_pretrain(pretrain(tiny_vit, recipe=plain), rendered, World()).record
    assert record["collapsed"] is False
    assert record["learnt_share"] > 0.1


def test_missing_images_end_the_run_before_it_starts(store, tiny_vit):
    with pytest.raises(IntegrityError, match=r"render/digits-.*/block-000000: is missing \(images 0 to 63\)"):
        run_pretrain(pretrain(tiny_vit), store, World())


def test_without_pre_training_the_weights_are_the_fresh_ones_that_a_run_starts_from(store, tiny_vit):
    fresh = load_backbone(store, tiny_vit, SEED, None).state_dict()
    expected = tiny_vit.build(seeds.key("backbone", SEED) >> 1).state_dict()
    assert all(torch.equal(fresh[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"images": 798}, "images: must be at most the 797 of source digits; got 798"),
        ({"images": 0}, "images: must be greater than or equal to 1; got 0"),
        (
            {"recipe": RECIPE.plain() | {"views": [{}, {}]}},
            "recipe.views: must be one augmentation, or one for each of the 1 kinds of view of classify; got 2",
        ),
        (
            {"recipe": RECIPE.plain() | {"batch_images": 40, "accumulate": 8}, "objective": "1p-frac"},
            "recipe.batch_images: must be a multiple of 16 (8 micro-batches x 2 images that stay together); got 40",
        ),
        (
            {"objective": "clasify"},
            f"objective: {unknown('objective', 'clasify', OBJECTIVE_PRESETS)}",
        ),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(changes, line, tiny_vit):
    with pytest.raises(SpecError) as caught:
        Pretrain.parse(pretrain(tiny_vit).plain() | changes)
    assert str(caught.value).startswith(line)
