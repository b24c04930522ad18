"""How far down can pre-training data go? One fractal, ever fewer images of it, ever smaller perturbations.

The embedded default: 1p-frac against no pre-training on scikit-learn's digits with 100 labels, five base fractals,
65 runs, six to seven minutes on two cores. Any field of a run can be set or made an axis:

    python jobs/scaling_sweep.py
    python jobs/scaling_sweep.py plan --axis source.delta=0.01,0.1,0.5 --axis images=2,8,32,128 --seeds 0..9
    python jobs/scaling_sweep.py --target fashion_mnist --set target.images=1000
    python jobs/scaling_sweep.py --search tpe --trials 8 --axis source.delta=log:0.005..0.5
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

from scaleback.cli import main

STUDY = {
    "name": "scaling-sweep",
    "purpose": "How far down can pre-training data go? One fractal (1p-frac), perturbed by delta into n images "
    "that are n classes, against no pre-training; judged by fine-tuning on 100 labelled digits.",
    "base": {
        # Images of 48 px for a model of 24 px. At this size random masks drown the shape, so masks are filled;
        # and a base fractal must cover a fifth of its image, or crops of it are empty.
        "source": {
            "kind": "1p-frac",
            "delta": 0.5,
            "size_px": 48,
            "points": 30_000,
            "mask": "fill",
            "min_fill": 0.1,
            "base_min_fill": 0.2,
        },
        "images": 16,
        "objective": "classify",
        "backbone": {
            "model": "vit_tiny_patch16_224",
            "image_px": 24,
            "channels": 1,
            "patch_px": 8,
            "width": 64,
            "depth": 2,
            "heads": 2,
            "mlp_ratio": 2.0,
        },
        "recipe": {"preset": "small", "budget_images": 6_144},
        "target": {"data": "digits", "images": 100},
        "evaluations": [
            {
                "kind": "finetune",
                "recipe": {"preset": "small", "optimizer.lr": 3e-3, "budget_images": 20_000},
                "marks_images": [1_000, 2_000, 3_000, 4_000, 8_000, 16_000, 20_000],
            },
            "linear",
            {"kind": "knn", "neighbours": 5},
        ],
        "seed": 0,
    },
    "axes": [
        {"kind": "grid", "field": "source.delta", "values": [0.01, 0.1, 0.5]},
        {"kind": "grid", "field": "images", "values": [2, 4, 8, 16]},
    ],
    "seeds": [0, 1, 2, 3, 4],
    "measures": [
        {"evaluation": "finetune", "images_seen": 2_000},
        {"evaluation": "finetune", "images_seen": 20_000},
        {"evaluation": "linear"},
        {"evaluation": "knn"},
    ],
    "reach": 0.7,
    "fit": {"field": "images"},
}

if __name__ == "__main__":
    sys.exit(main(study=STUDY))
