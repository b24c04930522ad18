"""What does each ingredient of IDMM add? Instance discrimination on few real images, one ingredient more at each rung.

The order is that of the paper's ablation (Cao et al., ECCV 2022, Table 8): every image its own class; label smoothing;
small images (half the side in pre-training, the whole in evaluations); two global and two local crops; CutMix of each
stack of crops. 797 unlabelled images of digits, 100 labelled ones for the evaluations, a ViT of 0.1 M parameters, the
same number of operations of the backbone on every rung, three seeds, against no pre-training:

    python jobs/idmm_ladder.py
    python jobs/idmm_ladder.py plan
    python jobs/idmm_ladder.py --axis up_to=crops,cutmix --set recipe.budget_flops=2.4e12 --name longer
"""

import itertools
import operator
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

from scaleback.cli import main

GLOBAL = {"crop_scale": [0.35, 1.0], "jitter": [0.4, 0.4, 0.0, 0.0], "jitter_chance": 0.8}
LOCAL = {**GLOBAL, "crop_scale": [0.15, 0.5]}
SMALL = {"size_px": 12}

ADDED = {
    "instance": {},
    "smoothing": {"objective.smoothing": 0.1},
    "small": {"recipe.views": [{**GLOBAL, **SMALL}]},
    "crops": {
        "objective.global_crops": 2,
        "objective.local_crops": 2,
        "recipe.views": [{**GLOBAL, **SMALL}, {**LOCAL, **SMALL}],
    },
    "cutmix": {"objective.cutmix": 0.5, "objective.mix_larger": True},
}
"""What each rung sets beside all that the rungs before it do."""

STUDY = {
    "name": "idmm-ladder",
    "purpose": "What does each ingredient of IDMM add to instance discrimination on 797 real images, at equal "
    "operations of the backbone?",
    "base": {
        "source": "digits",
        "images": 797,
        "objective": {"kind": "classify", "labels": "index", "smoothing": 0.0},
        "recipe": {"preset": "idmm-small", "budget_flops": 6e11, "views": [GLOBAL]},
        "backbone": {
            "model": "vit_tiny_patch16_224",
            "image_px": 24,
            "channels": 1,
            "patch_px": 4,
            "width": 64,
            "depth": 3,
            "heads": 4,
            "mlp_ratio": 2.0,
            "pool": "avg",
        },
        "target": {"data": "digits", "images": 100},
        "evaluations": [
            {"kind": "knn", "neighbours": 5},
            {
                "kind": "finetune",
                "recipe": {"preset": "small", "budget_images": 10_000},
                "marks_images": [2_000, 10_000],
            },
        ],
        "seed": 0,
    },
    "axes": [
        {
            "kind": "cases",
            "field": "up_to",
            "cases": dict(zip(ADDED, itertools.accumulate(ADDED.values(), operator.or_), strict=True)),
        }
    ],
    "seeds": [0, 1, 2],
    "measures": [
        {"evaluation": "knn"},
        {"evaluation": "finetune", "images_seen": 2_000},
        {"evaluation": "finetune", "images_seen": 10_000},
    ],
}

if __name__ == "__main__":
    sys.exit(main(study=STUDY))
