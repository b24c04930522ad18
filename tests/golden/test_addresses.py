"""Addresses of fixed specs and defaults of all specs, written out.

Every stored artifact lies at one of these addresses, or at one computed alike. An address leaves out what equals its
default, so a changed default would give an old address another meaning: no address changes, and old results are taken
for new ones. After a change that is meant, write both files anew:

    .venv/bin/python -m tests.golden.test_addresses
"""

import json
from pathlib import Path

import pytest

from scaleback.backbones import Backbone
from scaleback.core.spec import Spec
from scaleback.evaluations import KNN, FineTune, Linear, Target
from scaleback.objectives import OBJECTIVE_PRESETS
from scaleback.objectives.classify import Classify
from scaleback.recipes import FINETUNE_RECIPES, PRETRAIN_RECIPES, Augmentation, Recipe
from scaleback.recipes.optimizers import OPTIMIZERS, AdamW
from scaleback.sources.diffusion import Diffusion
from scaleback.sources.fractal_scenes import MultiClassFractals, MultiInstanceFractals
from scaleback.sources.fractaldb import OFDB, FractalDB
from scaleback.sources.generators import ADAPTATIONS, Embedded
from scaleback.sources.mixture import Mixture
from scaleback.sources.named import Digits, FashionMNIST, Torchvision
from scaleback.sources.one_fractal import OnePFrac
from scaleback.sources.population import Population
from scaleback.study.axes import Grid
from scaleback.study.run import Run
from scaleback.study.study import Fit, Measure, Study

ADDRESSES, DEFAULTS = (Path(__file__).with_name(f"{name}.json") for name in ("addresses", "defaults"))
ANEW = "python -m tests.golden.test_addresses"

SMALL = OnePFrac(delta=0.2, size_px=48, points=30_000, mask="fill", min_fill=0.1, base_min_fill=0.2)
DRAWN = Diffusion(
    real=Digits(),
    real_images=20,
    generator=Embedded(source=Digits(), images=32, square_px=1, widths=(8, 16)),
    adaptation=ADAPTATIONS["small"],
)

SOURCES = {
    "1p-frac": OnePFrac(),
    "1p-frac, small": SMALL,
    "1p-frac, additive": OnePFrac(perturb="additive", sigma=4.0, maps=3, pad_px=8),
    "fractaldb": FractalDB(),
    "fractaldb, coloured": FractalDB(categories=60, draw="patch_colour", weight=0.2, renderer="exact"),
    "ofdb": OFDB(),
    "ofdb, own fractal": OFDB(weight_row=2, search_min_fill=0.1),
    "multi-class-fractals": MultiClassFractals(),
    "multi-class-fractals, three systems": MultiClassFractals(systems_per_class=3, jitter="sval", draw="point"),
    "multi-instance-fractals": MultiInstanceFractals(),
    "multi-instance-fractals, gray": MultiInstanceFractals(instances=(2, 3), colour="gray", background="none"),
    "digits": Digits(),
    "digits, test": Digits(split="test"),
    "digits, pinned": Digits(order=3),
    "fashion_mnist": FashionMNIST(),
    "torchvision": Torchvision(name="CIFAR10", size_px=32),
    "mixture": Mixture(first=OFDB(size_px=48), second=SMALL, share=0.25),
    "diffusion": DRAWN,
    "diffusion, third generation": DRAWN.model_copy(update={"generation": 3, "succession": "accumulate"}),
    "diffusion, by hand after a diffusion": DRAWN.model_copy(update={"real": DRAWN}),
}

TRAINING = Recipe(
    budget_images=8_192,
    batch_images=32,
    optimizer=AdamW(lr=1e-3, weight_decay=0.05),
    schedule="cosine",
    warmup_images=1_024,
    views=(Augmentation(crop_scale=(0.5, 1.0), flip_horizontal=0.5, flip_vertical=0.5),),
)
TUNING = Recipe(
    budget_images=2_000,
    batch_images=50,
    optimizer=AdamW(lr=3e-3, weight_decay=0.05),
    schedule="constant",
    warmup_images=1_000,
    views=(Augmentation(crop_scale=(0.7, 1.0), crop_ratio=(1.0, 1.0), rotate_deg=12.0),),
    ema=0.99,
)
STUDY = Study(
    name="golden",
    base=Run(
        source=SMALL,
        images=16,
        objective=Classify(),
        backbone=Backbone(
            model="vit_tiny_patch16_224",
            image_px=24,
            channels=1,
            patch_px=8,
            width=64,
            depth=2,
            heads=2,
            mlp_ratio=2.0,
        ),
        recipe=TRAINING,
        target=Target(data=Digits(), images=100),
        evaluations=(FineTune(recipe=TUNING, marks_images=(1_000, 2_000)), Linear(), KNN(neighbours=5)),
        seed=0,
    ),
    axes=(Grid(field="source.delta", values=(0.01, 0.2)), Grid(field="images", values=(2, 16))),
    seeds=(0, 1),
    measures=(Measure(evaluation="finetune", images_seen=2_000), Measure(evaluation="knn")),
    reach=0.7,
    fit=Fit(field="images"),
)


def addresses():
    yield from ((f"source / {name}", source.slug) for name, source in SOURCES.items())
    yield from ((f"population / {name}", Population.of(source, 7).address) for name, source in SOURCES.items())
    yield from ((f"objective / {name}", objective.slug) for name, objective in OBJECTIVE_PRESETS.items())
    yield from ((f"pre-training recipe / {name}", recipe.slug) for name, recipe in PRETRAIN_RECIPES.items())
    yield from ((f"fine-tuning recipe / {name}", recipe.slug) for name, recipe in FINETUNE_RECIPES.items())
    yield from ((f"optimizer / {name}", cls(lr=0.01, weight_decay=0.1).slug) for name, cls in OPTIMIZERS.items())
    yield "backbone / plain", Backbone(model="vit_small_patch16_224", image_px=224).slug
    yield "study", STUDY.slug
    points = list(STUDY.points())
    for name, point in {"no pre-training": points[0], "first": points[1], "last": points[-1]}.items():
        run = STUDY.run(point, 1)
        yield f"run, {name}", run.slug
        if run.pretrain is not None:
            yield f"run, {name} / pretrain", run.pretrain.address
        yield from ((f"run, {name} / evaluate {spec.short}", spec.address) for spec in run.evaluates)
        for population, images in run.stored(stream=False):
            last = population.blocks(images)[-1]
            yield f"run, {name} / render {images} of {population.short}", population.block_address(last.number)


def defaults():
    """``Class.field`` to its default, of every spec that has identity."""
    for cls in sorted(every_spec(Spec), key=lambda cls: cls.__name__):
        yield f"{cls.__name__}.revision", cls.revision
        for name, info in cls.model_fields.items():
            if not info.is_required():
                yield f"{cls.__name__}.{name}", plain(info.get_default(call_default_factory=True))


def every_spec(cls):
    for child in cls.__subclasses__():
        if child.__module__.startswith("scaleback.") and not child.__module__.startswith("scaleback.cluster."):
            yield child
        yield from every_spec(child)


def plain(value):
    if isinstance(value, Spec):
        return value.plain()
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return value.replace(str(Path.home()), "~") if isinstance(value, str) else value


def changes(expected, found):
    lines = [(name, expected.get(name, "nothing"), found.get(name, "nothing")) for name in {**expected, **found}]
    return [f"{name}: {before} -> {after}" for name, before, after in lines if before != after]


def test_addresses_are_what_they_were():
    changed = changes(json.loads(ADDRESSES.read_text()), dict(addresses()))
    if changed:
        pytest.fail(
            f"{len(changed)} addresses changed. Whatever is stored at an old address is orphaned: every study computes "
            f"it again. If that is meant, bump the revision of what changed, run  {ANEW}  and say so in the commit.\n"
            + "\n".join(changed),
            pytrace=False,
        )


def test_defaults_are_what_they_were():
    changed = changes(json.loads(DEFAULTS.read_text()), dict(defaults()))
    if changed:
        pytest.fail(
            f"{len(changed)} defaults changed. Addresses leave defaults out, so results stored under an old default "
            "would be taken for results under the new one. Put it back and let callers write the new value, or bump "
            f"the revision of that spec. A new field is harmless: run  {ANEW}\n" + "\n".join(changed),
            pytrace=False,
        )


def test_specs_that_differ_have_different_addresses():
    names = {name: slug for name, slug in addresses() if name.startswith(("source", "population"))}
    assert len(set(names.values())) == len(names)


if __name__ == "__main__":
    for file, found in ((ADDRESSES, addresses), (DEFAULTS, defaults)):
        file.write_text(json.dumps(dict(found()), indent=1) + "\n")
