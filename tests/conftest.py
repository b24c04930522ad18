"""Fixtures that several rooms share."""

import os

os.environ.setdefault("RAY_AUTH_MODE", "token")  # one mode for every process that a test starts
os.environ["SCALEBACK_CACHE_GB"] = "0"  # what is read is what lies in the store; tests of the cache have their own

import pytest
import torch

from scaleback.backbones import Backbone
from scaleback.core.store import Store
from tests.pair import Pair


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def pair():
    both = Pair()
    yield both
    both.close()


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture(scope="session")
def tiny_vit():
    return Backbone(
        model="vit_tiny_patch16_224", image_px=16, channels=1, patch_px=8, width=16, depth=1, heads=2, mlp_ratio=2.0
    )
