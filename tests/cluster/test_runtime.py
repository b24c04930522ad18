"""How Ray is started on this machine."""

import os
from unittest import mock

import pytest

from scaleback.cluster import runtime
from scaleback.cluster.placement import Placement

HAS_BATCH = pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="this system has no batch policy")


@pytest.mark.parametrize(("workers", "idle_s"), [(1, 600), (2, 30), ("1..2", 30)])
def test_idle_processes_leave_soon_where_a_group_waits_for_its_slowest(monkeypatch, workers, idle_s):
    monkeypatch.setattr(runtime.os, "environ", {})
    runtime.prepare_environment(Placement(workers=workers))
    assert runtime.os.environ["RAY_idle_worker_killing_time_threshold_ms"] == str(1_000 * idle_s)


@HAS_BATCH
def test_what_a_local_cluster_runs_is_batch_work_of_usual_niceness_and_the_driver_is_not(shared_ray):
    import ray

    @ray.remote
    def scheduled():
        return os.sched_getscheduler(0), os.nice(0)

    assert ray.get(scheduled.remote()) == (os.SCHED_BATCH, os.nice(0))
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


@HAS_BATCH
def test_a_system_that_refuses_the_batch_policy_is_no_error(monkeypatch):
    refuses = mock.Mock(side_effect=PermissionError("seccomp"))
    monkeypatch.setattr(runtime.os, "sched_setscheduler", refuses)
    with runtime.batch_policy():
        refuses.assert_called_once()


@HAS_BATCH
def test_a_policy_of_the_users_is_kept(monkeypatch):
    monkeypatch.setattr(runtime.os, "sched_getscheduler", lambda pid: os.SCHED_IDLE)
    monkeypatch.setattr(runtime.os, "sched_setscheduler", mock.Mock(side_effect=AssertionError("set")))
    with runtime.batch_policy():
        pass
