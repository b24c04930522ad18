"""A simulated cluster against what is known in closed form: sums, ceilings, chains, renewals, conservation."""

import math
import time
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaleback.cluster.machines import Machines, Overheads
from scaleback.cluster.placement import Placement
from scaleback.cluster.render import Size
from scaleback.core.errors import PlacementError, SpecError
from scaleback.simulation.replay import forecast
from scaleback.simulation.work import Drawn, Job, Trial, Work

FREE = Overheads(**dict.fromkeys(Overheads.model_fields, 0.0))
QUICK = {"cores": 1, "overheads": FREE, "trials_per_s": 1e9, "tasks_per_s": 1e9}
"""Nothing costs anything but the work."""
FEW = settings(deadline=None, max_examples=40)


def machines(nodes=1, **fields):
    return Machines(nodes=nodes, **{**QUICK, **fields})


def independent(seconds, **fields):
    jobs = [Job(str(place), one, **fields) for place, one in enumerate(seconds)]
    return Work(jobs=jobs, trials=[Trial((), (place,)) for place in range(len(jobs))])


def run(work, nodes=1, placement=Placement(), **fields):  # noqa: B008  # a spec is frozen
    return forecast(work, machines(nodes, **fields), placement)


def test_one_node_takes_the_sum_of_all_stages():
    assert run(independent([3.0, 5.0, 7.5])).makespan_s == pytest.approx(15.5)


@pytest.mark.parametrize("nodes", [1, 2, 3, 7, 100])
def test_equal_tasks_take_a_whole_number_of_turns(nodes):
    found = run(independent([10.0] * 23), nodes)
    assert found.makespan_s == pytest.approx(10 * math.ceil(23 / nodes))
    assert found.idle_core_share == pytest.approx(1 - 23 / (nodes * math.ceil(23 / nodes)), abs=1e-6)


def test_a_chain_is_no_faster_on_many_nodes():
    jobs = [Job(str(place), 10.0) for place in range(5)]
    chain = Work(jobs=jobs, trials=[Trial((), tuple(range(5)))])
    assert run(chain, 50).makespan_s == pytest.approx(50)
    assert run(chain, 50).limit == "chain"


@pytest.mark.parametrize("nodes", [1, 2, 4, 8])
def test_what_runs_share_is_amdahl_s_serial_part(nodes):
    """All runs wait for one stage of 100 s, then do 8 stages of 50 s side by side."""
    jobs = [Job("shared", 100.0), *(Job(str(place), 50.0) for place in range(8))]
    work = Work(jobs=jobs, trials=[Trial((), (0, place)) for place in range(1, 9)])
    found = run(work, nodes, Placement(runs_at_once=8))
    assert found.makespan_s == pytest.approx(100 + 8 * 50 / nodes)
    assert found.busy_core_s == pytest.approx(500)  # the shared one once


def test_runs_in_progress_are_one_more_than_places():
    """A third run on two places waits only where both are taken, and a fourth is not begun."""
    jobs = [Job("slow", 10.0), Job("fast", 1.0)]
    work = Work(jobs=jobs, trials=[Trial((), (0,)), Trial((), (0,)), Trial((), (0,)), Trial((), (1,))])
    assert run(work, 2).makespan_s == pytest.approx(11)
    assert run(work, 2, Placement(runs_at_once=4)).makespan_s == pytest.approx(10)


def block(seconds, number, images=64):
    return Drawn(Size(number, images, by_itself=False), seconds, needs=(number,))


def test_runs_begin_while_images_are_drawn():
    work = independent([10.0] * 2)
    work.blocks, work.sets = [block(6.0, 0), block(6.0, 1)], 2
    work.trials = [Trial((0,), (0,)), Trial((1,), (1,))]
    # Three cores: both blocks at once, then both stages; no run waits for the other's images.
    assert run(work, 3).makespan_s == pytest.approx(16)
    # One core: a run that may begin goes before the next block.
    assert run(work, 1).makespan_s == pytest.approx(32)
    work.blocks = [block(6.0, 0), block(30.0, 1)]
    work.jobs[0] = Job("long", 34.0)
    assert run(work, 2).makespan_s == pytest.approx(6 + 34)


def test_a_process_is_on_one_node():
    """Two nodes of three cores hold two workers of two cores, not three."""
    work, placement = independent([10.0] * 3), Placement(cpus_per_worker=2)
    assert run(work, 2, placement, cores=3).makespan_s == pytest.approx(20)
    with pytest.raises(PlacementError, match="3 workers of 2 cores; 2 nodes of 3 cores"):
        run(work, 2, Placement(cpus_per_worker=2, workers=3), cores=3)


def test_what_draws_takes_the_cores_of_the_placement():
    work = Work(blocks=[block(6.0, 0), block(6.0, 1)], sets=2, trials=[Trial((0,), ()), Trial((1,), ())])
    assert run(work, 1, cores=2).makespan_s == pytest.approx(6)
    assert run(work, 1, Placement(cpus_per_render=2), cores=2).makespan_s == pytest.approx(12)


@pytest.mark.parametrize(("interval_s", "replace_s"), [(20.0, 0.0), (50.0, 30.0)])
def test_failures_cost_what_renewal_theory_says(interval_s, replace_s):
    """(e^(λc) - 1) / λ for an interval of c seconds, and a replacement for each loss: Young's and Daly's model."""
    rate, seconds = 1 / 60, 200.0
    work, placement = independent([seconds]), Placement(checkpoint_every_s=interval_s, retries=10_000)
    fields = {"failure_hours": 1 / (rate * 3_600), "replace_s": replace_s}
    found = [run(work, 1, placement, seed=seed, **fields) for seed in range(400)]
    growth = math.expm1(rate * interval_s)
    expected = seconds / interval_s * (growth / rate + growth * replace_s)
    assert np.mean([one.makespan_s for one in found]) == pytest.approx(expected, rel=0.06)
    assert all(one.makespan_s >= seconds + one.lost_work_s for one in found)


def test_a_loss_costs_at_most_one_checkpoint_interval():
    work = independent([500.0] * 8)
    found = run(work, 4, Placement(checkpoint_every_s=25.0, retries=1_000), spot_losses_per_hour=10.0)
    assert found.nodes_lost > 5
    assert 0 < found.lost_work_s <= 25 * found.nodes_lost
    assert found.busy_core_s == pytest.approx(8 * 500 + found.lost_work_s)


def test_a_run_that_loses_its_node_too_often_fails_and_so_do_those_that_share_the_stage():
    work = Work(jobs=[Job("a", 1e5), Job("b", 1.0)], trials=[Trial((), (0,)), Trial((), (0,)), Trial((), (1,))])
    found = run(work, 2, Placement(retries=0, checkpoint_every_s=1e6), failure_hours=1.0)
    assert (found.runs, found.runs_failed) == (3, 2)


def test_a_simulation_repeats_itself():
    fields = {"spot_losses_per_hour": 20.0, "storage_bytes_per_s": 1e8, "latency_s": 0.01}
    work = independent(np.linspace(5, 50, 60).tolist(), read_bytes=1e8, written_bytes=3e7, requests=5)
    assert run(work, 7, **fields) == run(work, 7, **fields)
    assert run(work, 7, **fields) != run(work, 7, seed=1, **fields)


work_of_any_shape = st.lists(
    st.tuples(st.floats(0.1, 50), st.integers(0, 10**9), st.integers(0, 10**8)), min_size=1, max_size=30
)


def of_shape(shape):
    jobs = [Job(str(place), *one) for place, one in enumerate(shape)]
    return Work(jobs=jobs, trials=[Trial((), (place,)) for place in range(len(jobs))])


@given(shape=work_of_any_shape, nodes=st.integers(1, 12), losses=st.sampled_from([0.0, 30.0]))
@FEW
def test_busy_and_idle_are_all_there_is(shape, nodes, losses):
    found = run(of_shape(shape), nodes, cores=3, spot_losses_per_hour=losses, replace_s=0.0, storage_bytes_per_s=1e8)
    assert found.busy_core_s + found.idle_core_s == pytest.approx(3 * nodes * found.makespan_s)


@given(shape=work_of_any_shape, nodes=st.integers(1, 5))
@FEW
def test_faster_storage_is_never_slower_where_runs_are_alone_on_their_places(shape, nodes):
    """With a place for each there is no order to be changed, so none of Graham's anomalies."""
    work = of_shape(shape)
    speeds = [1e7, 1e8, 1e9, None]
    found = [run(work, len(shape), storage_bytes_per_s=speed).makespan_s for speed in speeds]
    assert all(slow >= fast - 1e-6 for slow, fast in pairwise(found))
    # On any number of nodes: no less than the work and the longest run ask for, no more than Graham's bound.
    total, longest = sum(job.seconds for job in work.jobs), max(job.seconds for job in work.jobs)
    makespan_s = run(work, nodes).makespan_s
    assert max(total / nodes, longest) - 1e-6 <= makespan_s <= total / nodes + (1 - 1 / nodes) * longest + 1e-4


def test_bandwidth_is_shared_by_all_who_read():
    work = independent([1.0] * 10, read_bytes=1e9)
    found = run(work, 10, storage_bytes_per_s=1e9)
    assert found.makespan_s == pytest.approx(11)
    assert found.limit == "bandwidth"
    assert run(work, 10, storage_bytes_per_s=1e9, stream_bytes_per_s=5e7).makespan_s == pytest.approx(21)
    assert run(work, 10, storage_bytes_per_s=1e11, stream_bytes_per_s=1e9).limit != "bandwidth"


def test_checkpoints_are_written_along_and_take_bandwidth_too():
    placement = Placement(checkpoint_every_s=10.0)
    work = independent([100.0] * 4, checkpoint_bytes=1e9)
    assert run(work, 4, placement, storage_bytes_per_s=1e9).makespan_s == pytest.approx(100)
    slow = run(work, 4, placement, storage_bytes_per_s=1e8)  # 4 times 10 checkpoints
    assert slow.makespan_s == pytest.approx(400)
    assert slow.limit == "bandwidth"


def test_requests_and_the_driver_serve_one_after_another():
    work = independent([1.0] * 100, requests=10)
    asked = run(work, 100, storage_requests_per_s=100.0)
    assert asked.makespan_s == pytest.approx(11)
    assert asked.limit == "requests"
    driven = run(work, 100, trials_per_s=10.0)
    assert driven.makespan_s == pytest.approx(11)
    assert driven.limit == "driver"


def test_a_place_imports_torch_once_and_a_lost_node_anew():
    over = FREE.model_copy(update={"import_s": 4.0, "ray_start_s": 5.0, "ray_stop_s": 1.0})
    assert run(independent([10.0] * 6), 2, overheads=over).makespan_s == pytest.approx(5 + 4 + 30 + 1)


def test_workers_of_a_group_share_their_stage_and_hold_gpus():
    work = independent([80.0] * 4, grouped=True)
    placement = Placement(workers=2, cpus_per_worker=2, gpus_per_worker=1)
    over = FREE.model_copy(update={"group_s": 9.0})
    found = run(work, 2, placement, cores=8, gpus=2, overheads=over, price_hour=3.6)
    assert found.makespan_s == pytest.approx(2 * (9 + 40))
    assert found.idle_gpu_share == pytest.approx(0, abs=1e-6)
    assert found.idle_core_share == pytest.approx(0.5, abs=1e-6)
    assert found.cost == pytest.approx(2 * 98 * 3.6 / 3_600)


def test_what_no_node_can_hold_is_refused():
    with pytest.raises(PlacementError, match=r"one run asks for 1 workers of 8 cores; 5 nodes of 4 cores and 0 GPUs"):
        run(independent([1.0]), 5, Placement(cpus_per_worker=8), cores=4)
    with pytest.raises(SpecError, match=r"^machine\.nodes: must be greater than or equal to 1; got 0"):
        Machines.parse({"nodes": 0, "cores": 1}, at="machine")


@pytest.mark.parametrize("nodes", [1, 1_000])
def test_ten_thousand_runs_are_simulated_in_seconds(nodes):
    jobs = [Job(f"{verb}{place}", seconds) for place in range(10_000) for verb, seconds in (("p", 90.0), ("e", 20.0))]
    blocks = [block(1.0, place % 1_000) for place in range(10_000)]
    trials = [Trial((place % 1_000,), (2 * place, 2 * place + 1)) for place in range(10_000)]
    work = Work(jobs=jobs, trials=trials, blocks=blocks, sets=1_000)
    begun = time.process_time()
    found = run(work, nodes, cores=4, spot_losses_per_hour=0.1, storage_bytes_per_s=1e9)
    assert found.runs == 10_000
    assert found.runs_failed == 0
    assert time.process_time() - begun < 15  # measured 0.6 and 1.5 s


def test_memory_of_a_simulation_is_a_few_kilobytes_a_run():
    work = independent([90.0] * 2_000, read_bytes=1e6, written_bytes=1e6)
    tracemalloc.start()
    run(work, 500, cores=4, spot_losses_per_hour=0.1, storage_bytes_per_s=1e9)
    most_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most_bytes < 4_000 * 2_000
