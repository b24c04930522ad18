"""Do generators that learn from drawn images collapse? Fashion-MNIST, five generations, replace against accumulate.

The first generation is the embedded generator, adapted to 100 labelled images, and draws 100. The next is the same
generator adapted anew, to those (``replace``), or to those and all images before them, the real ones first
(``accumulate``), with equal updates; and so on, with noise of its own in each. Nothing is begun from real images
(strength 1), and the look that an image is shown is the mean of eight of its class among the images learnt from: so
what a generation knows of the classes has come down through the images before it. What it knows beside, of garments
without classes, are the 20,000 images that the generator was trained on, which every generation goes back to: they hold
collapse back.

The drawn images are compared with test images, on features of a ResNet trained on other images; a second study trains a
classifier on each generation's images alone. The laws of collapse, linear and bounded, are fitted along generations.

    python jobs/generations.py
    python jobs/generations.py plan
    python jobs/generations.py --axis target.synthetic.source.generation=1,2 --seeds 0

Fashion-MNIST comes with Debian's package dataset-fashion-mnist. What both studies share is made once.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

from scaleback.cli import main

LABELLED = {"kind": "fashion_mnist", "fold": [0, 2]}
SEEN = {"kind": "fashion_mnist", "fold": [1, 2]}
"""What the generator is trained on."""
IMAGES = 100
"""Of each generation."""
DRAWN = {
    "kind": "diffusion",
    "real": LABELLED,
    "real_images": IMAGES,
    "generator": "fashion",
    "adaptation": {"preset": "small", "schedule.budget_images": 1_600, "schedule.warmup_images": 160},
    "guidance": "class-mean",
    "strength": 1.0,
    "steps": 8,
    "guidance_scale": 1.0,
    "lora_scale": 1.0,
}
VIEW = {"crop_scale": [0.7, 1.0], "crop_ratio": [1.0, 1.0], "flip_horizontal": 0.5}
SMALL = {"preset": "small", "views": [VIEW]}
CLASSIFIER = {
    "kind": "classifier",
    "recipe": {**SMALL, "budget_images": 6_000, "batch_images": 50, "optimizer.lr": 3e-3, "schedule": "cosine"},
}
BASE = {
    "source": SEEN,
    "images": 10_000,
    "objective": "classify",
    "recipe": {**SMALL, "budget_images": 20_000, "batch_images": 100},
    "backbone": {"model": "test_resnet", "image_px": 28, "channels": 1},
    "target": {
        "data": LABELLED,
        "images": IMAGES,
        "synthetic": {"source": DRAWN, "images": IMAGES, "role": "alone"},
    },
    "evaluations": ["quality"],
    "seed": 0,
}
GENERATION = "target.synthetic.source.generation"
ALONG = {
    "axes": [
        {"kind": "grid", "field": "target.synthetic.source.succession", "values": ["replace", "accumulate"]},
        {"kind": "grid", "field": GENERATION, "values": [1, 2, 3, 4, 5]},
    ],
    "seeds": [0, 1, 2],
    "fit": {"field": GENERATION, "form": "generations"},
}

STUDY = {
    "name": "generations",
    "purpose": "Do drawn images get worse with each generation that learns from them, if they replace the images "
    "before them, and if they are added to them?",
    "base": BASE,
    **ALONG,
    "baseline": False,
    "measures": [{"evaluation": "quality", "metric": metric} for metric in ("mmd2", "frechet", "recall", "recognised")],
}

CLASSIFIERS = {
    "name": "generations-classifier",
    "purpose": "What is a classifier worth that is trained on the images of one generation alone?",
    "base": {**BASE, "images": 0, "evaluations": [CLASSIFIER]},
    **ALONG,
    "measures": [{"evaluation": "classifier"}],
}

if __name__ == "__main__":
    sys.exit(main(study=STUDY) or main(study=CLASSIFIERS))
