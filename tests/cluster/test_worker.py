"""A stage in this process, without a cluster."""

from types import SimpleNamespace

import pytest
import torch

from scaleback.cluster import worker
from scaleback.cluster.placement import Placement
from scaleback.core import memory


def test_a_stage_keeps_its_memory_and_gives_it_back_when_it_fails(store, monkeypatch):
    called = []

    class Noted:
        def mallopt(self, number, value):
            called.append("mallopt")
            return 1

        def malloc_trim(self, pad):
            called.append("malloc_trim")

    monkeypatch.setattr(memory, "ctypes", SimpleNamespace(CDLL=lambda name: Noted()))
    monkeypatch.setattr(worker, "device_here", lambda: torch.device("cpu"))  # it would ask Ray
    with pytest.raises(KeyError, match="no such verb"):
        worker.run_stage("no such verb", {}, store, Placement(cpus_per_worker=torch.get_num_threads()), print)
    assert called == ["mallopt", "mallopt", "malloc_trim"]
