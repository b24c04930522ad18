"""Which method helps with few real images? Each pre-trains on the unlabelled images of the task itself.

Digits (797 images, 100 of them labelled for the evaluations) and Fashion-MNIST (2,000 and 500), a ViT of 0.1 M
parameters, every method in its ``small`` preset with the same number of operations of the backbone, three seeds,
against no pre-training and three controls: ``moco-v3-start``, the weights and positions that MoCo v3 begins with, not
trained; and cross-entropy of all labels, on whole images (``supervised``) and on crops. Fashion-MNIST comes with
Debian's package dataset-fashion-mnist; without it, leave it out:

    python jobs/compare_methods.py
    python jobs/compare_methods.py plan
    python jobs/compare_methods.py --axis data=digits --axis method=mae,moco-v3
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

from scaleback.cli import main

BUDGET_FLOPS = 6e11
METHODS = (
    "idmm",
    "moco-v3",
    "sdmp-moco-v3",
    "patchmix",
    "simclr",
    "dino",
    "sdmp-dino",
    "lejepa",
    "beit",
    "splitmask",
    "mae",
)


def case(preset: str, **changes: object) -> dict[str, object]:
    """A method by the small preset of its objective and recipe, on the budget of all."""
    return {"objective": preset, "recipe": {"preset": preset, "budget_flops": BUDGET_FLOPS}, **changes}


def supervised(**view: object) -> dict[str, object]:
    """Cross-entropy of all labels, on whole images or on crops."""
    return {"preset": "idmm-small", "budget_flops": BUDGET_FLOPS, "views": [view]}


STUDY = {
    "name": "compare-methods",
    "purpose": "Which pre-training method helps most with few real images, at equal operations of the backbone, "
    "when it sees the unlabelled images of the task itself?",
    "base": {
        "source": "digits",
        "images": 797,
        "objective": "idmm-small",
        "recipe": {"preset": "idmm-small", "budget_flops": BUDGET_FLOPS},
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
            "linear",
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
            "field": "data",
            "cases": {
                "digits": {},
                "fashion": {
                    "source": "fashion_mnist",
                    "images": 2_000,
                    "target": {"data": "fashion_mnist", "images": 500},
                },
            },
        },
        {
            "kind": "cases",
            "field": "method",
            "cases": {
                **{name: case(f"{name}-small") for name in METHODS},
                # One step, at the end of a cosine to 0: nothing moves.
                "moco-v3-start": {
                    "objective": "moco-v3-small",
                    "recipe": {"preset": "moco-v3-small", "budget_images": 64, "warmup_images": 0},
                },
                "supervised": case("idmm-small", objective="classify", recipe=supervised()),
                "supervised-crops": case("idmm-small", objective="classify", recipe=supervised(crop_scale=[0.35, 1.0])),
            },
        },
    ],
    "seeds": [0, 1, 2],
    "measures": [
        {"evaluation": "knn"},
        {"evaluation": "linear"},
        {"evaluation": "finetune", "images_seen": 2_000},
        {"evaluation": "finetune", "images_seen": 10_000},
    ],
}

if __name__ == "__main__":
    sys.exit(main(study=STUDY))
