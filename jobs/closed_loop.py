"""Are images worth more that a classifier is unsure of? Fashion-MNIST, the embedded generator steered by entropy.

As in ``synthetic_multiplier``, a generator adapted to n labelled images draws three times as many, and a small ResNet
is trained on both. Here a judge, the same ResNet trained on what the generator draws after, steers what is drawn
towards images on which its answer has a high entropy (Deliberate Practice, arXiv 2502.15588). In one round all images
are drawn after the real ones. In two rounds half are; the other half is drawn after real and drawn ones by a generator
and a judge that have learnt from both. The second study is left out where axes are given. At the end the mean entropy
of the first judge's answers on all drawn images is printed.

    python jobs/closed_loop.py
    python jobs/closed_loop.py plan
    python jobs/closed_loop.py --axis real=100 --seeds 0

Fashion-MNIST comes with Debian's package dataset-fashion-mnist.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

import numpy as np

from scaleback.cli import main
from scaleback.core.store import Store
from scaleback.sources.diffusion import Diffusion
from scaleback.sources.population import Population, load_images
from scaleback.study.run import Run
from scaleback.study.study import Study

LABELLED = {"kind": "fashion_mnist", "fold": [0, 2]}
SIZES, SCALES, MULTIPLIER, TWICE_SCALE = (100, 400), (1.0, 3.0), 3.0, 3.0
TOGETHER = 64
"""Images that are judged at once, after they are drawn."""
VIEW = {"crop_scale": [0.7, 1.0], "crop_ratio": [1.0, 1.0], "flip_horizontal": 0.5}
RECIPE = {"preset": "small", "budget_images": 15_000, "batch_images": 100, "optimizer.lr": 3e-3, "schedule": "cosine"}


def drawn(images, scale=None, real=LABELLED):
    """Copies of the first real images, as in ``synthetic_multiplier``."""
    return {
        "kind": "diffusion",
        "real": real,
        "real_images": images,
        "generator": "fashion",
        "adaptation": {"preset": "small", "schedule.budget_images": 6_400},
        "guidance": "image",
        "steps": 8,
        "guidance_scale": 1.0,
        "lora_scale": 1.0,
        "steering": None if scale is None else {"scale": scale},
    }


def twice(images):
    """Half of the images as they are drawn in one round, half drawn after these and the real ones."""
    first, half = drawn(images, TWICE_SCALE), int(MULTIPLIER * images / 2)
    known = {"kind": "mixture", "first": LABELLED, "second": first, "share": half / (images + half), "labels": "shared"}
    second = drawn(images + half, TWICE_SCALE, known)
    return {"kind": "mixture", "first": first, "second": second, "share": 0.5, "labels": "shared"}


BASE = {
    # No pre-training, so these three are of no effect.
    "source": LABELLED,
    "images": 0,
    "objective": "classify",
    "recipe": {"preset": "small", "budget_images": 30_000, "batch_images": 100},
    "backbone": {"model": "test_resnet", "image_px": 28, "channels": 1},
    "target": {"data": LABELLED, "images": 100, "synthetic": {"source": drawn(100), "multiplier": MULTIPLIER}},
    "evaluations": [{"kind": "classifier", "recipe": {**RECIPE, "views": [VIEW]}}],
    "seed": 0,
}

STUDY = {
    "name": "closed-loop",
    "purpose": "Are drawn images worth more that a classifier of the real ones is unsure of?",
    "base": BASE,
    "axes": [
        {
            "kind": "cases",
            "field": "real",
            "cases": {
                str(size): {"target.images": size, "target.synthetic.source.real_images": size} for size in SIZES
            },
        },
        {
            "kind": "cases",
            "field": "steering",
            "cases": {
                "none": {},
                **{f"{scale:g}": {"target.synthetic.source.steering": {"scale": scale}} for scale in SCALES},
            },
        },
    ],
    "seeds": [0, 1, 2],
    "measures": [{"evaluation": "classifier"}],
}

TWICE = {
    **STUDY,
    "name": "closed-loop-twice",
    "purpose": "Are they worth more in two rounds, where the second learns from the first?",
    "axes": [
        {
            "kind": "cases",
            "field": "real",
            "cases": {str(size): {"target.images": size, "target.synthetic.source": twice(size)} for size in SIZES},
        }
    ],
}


def mean_entropy(run: Run, store: Store) -> float | None:
    """Of the answers on a run's drawn images, in nats, by the judge of its real ones; None if that has not learnt."""
    from scaleback.sources.diffusing.opened import load_judge
    from scaleback.sources.diffusing.pictures import scaled

    assert run.target.synthetic is not None, "a baseline draws nothing"
    stage = Diffusion.parse(drawn(run.target.images, SCALES[0])).judge(run.seed)
    if stage is None or store.manifest(stage.address, stage) is None:
        return None
    population, images = Population.of(run.target.synthetic.source, run.seed), int(MULTIPLIER * run.target.images)
    judge, image_NHWC = load_judge(store, stage), load_images(store, population, images).image_NHWC
    parts = [scaled(image_NHWC[start : start + TOGETHER]) for start in range(0, images, TOGETHER)]
    return float(np.mean(np.concatenate([judge.entropy(part).numpy() for part in parts])))


def show(store: Store) -> None:
    """Print the entropies of all runs that are done."""
    print("mean entropy of the judge's answers on drawn images, nats, by seed")
    for study in map(Study.parse, (STUDY, TWICE)):
        for point in study.points():
            runs = [study.run(point, seed) for seed in study.seeds]
            done = [run for run in runs if all(store.manifest(spec.address, spec) for spec in run.evaluates)]
            drew = [run for run in done if run.target.synthetic is not None]
            found = [entropy for run in drew if (entropy := mean_entropy(run, store)) is not None]
            if found:
                print(f"{study.name} {point.label:<24}" + "  ".join(f"{entropy:.3f}" for entropy in found))


if __name__ == "__main__":
    failed = main(study=STUDY)
    if not any(argument.startswith("--axis") for argument in sys.argv):
        failed = failed or main(study=TWICE)
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("verb", nargs="?", default="run")
    parser.add_argument("--storage", default="results")
    options, _ = parser.parse_known_args()
    if not failed and options.verb == "run":
        show(Store(options.storage))
    sys.exit(failed)
