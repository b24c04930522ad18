"""What are drawn images worth beside 100 to 1,000 real ones? Fashion-MNIST, the embedded generator, three seeds.

The generator has seen 20,000 unlabelled images of one half of the training images; the other half is what studies
label. It is adapted to n labelled images (low-rank weights, min-SNR, the discrepancy of means), and draws 1, 3 and 10
times as many, each shown how one real image looks and begun from it, noised three quarters of the way. A small ResNet
is trained on real images alone, on both, and on drawn ones alone, with equal updates. The control arm retrieves images
of the generator's own training set by likeness to the labelled ones.

A second study asks whether the discrepancy term does what it says, on features of a ResNet trained on other images,
as images are drawn here, and where the generator is told nothing but the class; it is left out where axes are given.

    python jobs/synthetic_multiplier.py
    python jobs/synthetic_multiplier.py plan
    python jobs/synthetic_multiplier.py --axis real=100 --seeds 0

Fashion-MNIST comes with Debian's package dataset-fashion-mnist. What both studies share is made once.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

from scaleback.cli import main

LABELLED = {"kind": "fashion_mnist", "fold": [0, 2]}
SEEN = {"kind": "fashion_mnist", "fold": [1, 2]}
"""What the generator is trained on."""
SIZES = (100, 200, 400, 1_000)
DRAWN = {
    "kind": "diffusion",
    "real": LABELLED,
    "real_images": 400,
    "generator": "fashion",
    "adaptation": {"preset": "small", "schedule.budget_images": 6_400},
    # Fewer steps and no guidance by class cost a sixth of the default, and with the whole of the low-rank weights the
    # images are better to train on (400 real ones, seed 0).
    "guidance": "image",
    "steps": 8,
    "guidance_scale": 1.0,
    "lora_scale": 1.0,
}
FREE = {**DRAWN, "guidance": "none", "strength": 1.0, "guidance_scale": 2.0}
"""Told the class only, and begun from noise."""
RETRIEVED = {"kind": "retrieved", "real": LABELLED, "real_images": 400, "pool": SEEN, "pool_images": 20_000}
VIEW = {"crop_scale": [0.7, 1.0], "crop_ratio": [1.0, 1.0], "flip_horizontal": 0.5}
CLASSIFIER = {
    "kind": "classifier",
    # A noise, a blur and a change of light, for effective robustness.
    "corruptions": ["gaussian_noise", "defocus_blur", "contrast"],
    "corrupted_images": 2_000,
    "recipe": {
        "preset": "small",
        "budget_images": 15_000,
        "batch_images": 100,
        "optimizer.lr": 3e-3,
        "schedule": "cosine",
        "views": [VIEW],
    },
}
BASE = {
    # No pre-training, so these three are of no effect.
    "source": SEEN,
    "images": 0,
    "objective": "classify",
    "recipe": {"preset": "small", "budget_images": 30_000, "batch_images": 100, "views": [VIEW]},
    "backbone": {"model": "test_resnet", "image_px": 28, "channels": 1},
    "target": {"data": LABELLED, "images": 400, "synthetic": {"source": DRAWN, "multiplier": 3.0}},
    "evaluations": [CLASSIFIER],
    "seed": 0,
}

STUDY = {
    "name": "synthetic-multiplier",
    "purpose": "What are drawn images worth beside 100 to 1,000 real ones, and what are retrieved ones?",
    "base": BASE,
    "axes": [
        {
            "kind": "cases",
            "field": "kind",
            "cases": {"drawn": {}, "retrieved": {"target.synthetic.source": RETRIEVED}},
        },
        {
            "kind": "cases",
            "field": "real",
            "cases": {
                str(size): {"target.images": size, "target.synthetic.source.real_images": size} for size in SIZES
            },
        },
        {"kind": "grid", "field": "target.synthetic.role", "values": ["added", "alone"]},
        {"kind": "grid", "field": "target.synthetic.multiplier", "values": [1.0, 3.0, 10.0]},
    ],
    "seeds": [0, 1, 2],
    "measures": [
        {"evaluation": "classifier"},
        {"evaluation": "classifier", "metric": "accuracy_corrupted"},
        {"evaluation": "classifier", "metric": "log_loss"},
        {"evaluation": "classifier", "metric": "calibration_error"},
    ],
}

DISCREPANCY = {
    "name": "synthetic-discrepancy",
    "purpose": "Does the discrepancy of means in the adaptation's loss bring drawn images nearer to real ones?",
    "base": {
        **BASE,
        "images": 10_000,
        "evaluations": ["quality"],
        "target": {"data": LABELLED, "images": 400, "synthetic": {"source": DRAWN, "multiplier": 5.0}},
    },
    "axes": [
        {
            "kind": "cases",
            "field": "shown",
            # Beginning from a real image whose look it is shown, a generator has little left to be wrong about.
            "cases": {
                "a real image": {},
                "the class": {"target.synthetic.source": FREE},
            },
        },
        {
            "kind": "grid",
            "field": "target.synthetic.source.adaptation.mmd_weight",
            "values": [0.0, 0.192, 5.0],
        },
    ],
    "seeds": [0, 1, 2],
    "baseline": False,
    "measures": [
        {"evaluation": "quality", "metric": metric} for metric in ("mmd2", "mmd2_linear", "frechet", "recognised")
    ],
}

if __name__ == "__main__":
    failed = main(study=STUDY)
    if not any(argument.startswith("--axis") for argument in sys.argv):
        failed = failed or main(study=DISCREPANCY)
    sys.exit(failed)
