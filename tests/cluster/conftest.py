"""One Ray for all tests of this folder, and a study that takes seconds."""

import pytest

from scaleback.cluster import runtime
from scaleback.cluster.placement import Placement
from scaleback.study.study import Study

# The GPU is declared, not there: sources that want one are drawn by actors, which find none and draw on a processor.
PLACEMENT = Placement(cpus=2, gpus=1, checkpoint_every_s=0.0)

RECIPE = {"preset": "small", "budget_images": 640, "warmup_images": 64}
STUDY = {
    "name": "tiny",
    "base": {
        "source": {
            "kind": "1p-frac",
            "delta": 0.3,
            "size_px": 24,
            "points": 2_000,
            "mask": "fill",
            "min_fill": 0.05,
            "base_min_fill": 0.1,
        },
        "images": 4,
        "objective": "classify",
        "backbone": {
            "model": "vit_tiny_patch16_224",
            "image_px": 16,
            "channels": 1,
            "patch_px": 8,
            "width": 16,
            "depth": 1,
            "heads": 2,
            "mlp_ratio": 2.0,
        },
        "recipe": RECIPE,
        "target": {"data": "digits", "images": 50},
        "evaluations": [
            {
                "kind": "finetune",
                "recipe": {"preset": "small", "budget_images": 500, "warmup_images": 50},
                "marks_images": [200, 500],
            },
            {"kind": "knn", "neighbours": 5},
        ],
        "seed": 0,
    },
    "axes": [{"kind": "grid", "field": "images", "values": [2, 4]}],
    "seeds": [0, 1],
    "measures": [{"evaluation": "finetune", "images_seen": 500}, {"evaluation": "knn"}],
}


@pytest.fixture(scope="session")
def tiny():
    return Study.parse(STUDY)


@pytest.fixture(scope="session")
def placement():
    return PLACEMENT


@pytest.fixture(scope="session")
def shared_ray():
    with runtime.cluster(PLACEMENT):
        yield


def pytest_collection_modifyitems(items):
    for item in items:
        if "tests/cluster/" in str(item.path):
            item.add_marker(pytest.mark.cluster)
