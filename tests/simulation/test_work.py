"""From a study and a store with measured records to the work of a simulation, and the job that prints it."""

import json
import runpy
from pathlib import Path

import pytest

from scaleback.cluster.placement import Placement
from scaleback.core.errors import InputError
from scaleback.core.store import Store
from scaleback.simulation.timing import Timing
from scaleback.simulation.work import work_of
from scaleback.sources.population import FILE
from scaleback.study.files import changed, load_study
from scaleback.study.plan import plan_study
from scaleback.study.study import Point

STUDY = changed(
    load_study("scaling_sweep"),
    axes=["source.delta=0.1,0.2", "images=80,4"],
    fields={"seeds": [0, 1], "fit": None},
)
RUN = STUDY.run(Point(values={"source.delta": 0.2, "images": 80}), 1)
MAIN = runpy.run_path(str(Path(__file__).resolve().parents[2] / "jobs" / "simulate_cluster.py"))["main"]


@pytest.fixture
def measured(tmp_path):
    """A store with one run of the study, whose records say what it took."""
    store = Store(tmp_path / "measured")
    record = {"train_s": 4.0, "ready_s": 1.0, "workers": 1, "images_seen": 6_144}
    store.publish(RUN.pretrain.address, {"x": b""}, spec=RUN.pretrain, record=record)
    for spec, seconds in zip(RUN.evaluates, (9.0, 2.0, 1.0), strict=True):
        store.publish(spec.address, {"scores.json": b"[]"}, spec=spec, record={"evaluate_s": seconds})
    for population, images in RUN.stored(stream=False):
        for block in population.blocks(images):
            record = {"start": block.start, "stop": block.stop, "seconds": 0.01 * (block.stop - block.start)}
            address = population.block_address(block.number)
            store.publish(address, {FILE: b"0" * 64}, spec=population, record=record)
    return store


def test_stages_that_runs_share_are_one_job(measured, store):
    tuned = changed(STUDY, axes=["evaluations.knn.neighbours=3,5"])
    plan = plan_study(tuned, store)
    work = work_of(plan, Timing.of(measured), store)
    assert len(work.trials) == 2 * 5 * 2
    assert len(work.jobs) == len(plan.pretrains) + len(plan.evaluates)
    assert sum(len(trial.jobs) for trial in work.trials) > len(work.jobs)
    assert sum(block.size.images for block in work.blocks) == plan.images_missing
    assert {job.name for job in work.jobs} == plan.pretrains.keys() | plan.evaluates.keys()


def test_seconds_are_the_measured_ones(measured, store):
    work = work_of(plan_study(STUDY, store), Timing.of(measured), store)
    by_verb = {"pretrain": [], "evaluate": []}
    for job in work.jobs:
        by_verb[job.name.partition("/")[0]].append(job.seconds)
    assert by_verb["pretrain"] == pytest.approx([5.0] * 8)  # of one budget, on any number of images
    assert sum(by_verb["evaluate"]) == pytest.approx(10 * 12.0)
    assert all(block.seconds == pytest.approx(0.01 * block.size.images) for block in work.blocks)


def test_a_set_is_there_once_its_own_blocks_are(measured, store):
    work = work_of(plan_study(STUDY, store), Timing.of(measured), store)
    blocks = [sum(number in block.needs for block in work.blocks) for number in range(work.sets)]
    small = next(trial for trial in work.trials if len(trial.sets) == 3 and blocks[trial.sets[0]] == 1)
    large = next(trial for trial in work.trials if len(trial.sets) == 3 and blocks[trial.sets[0]] == 2)
    assert small.sets[0] != large.sets[0]


def test_what_the_storage_holds_is_not_done_again(measured):
    plan = plan_study(STUDY, measured)
    work = work_of(plan, Timing.of(measured), measured)
    assert len(work.trials) == 9
    assert RUN.pretrain.address not in {job.name for job in work.jobs}
    assert sum(block.size.images for block in work.blocks) == plan.images_missing


def test_a_larger_model_takes_longer_by_its_operations(measured, store):
    wide = changed(STUDY, settings=["backbone.width=128"])
    work = work_of(plan_study(wide, store), Timing.of(measured), store)
    ratio = wide.base.backbone.cost().forward_flops / STUDY.base.backbone.cost().forward_flops
    trained = [job for job in work.jobs if job.name.startswith("pretrain/")]
    assert [job.seconds for job in trained] == pytest.approx([5.0 * ratio] * 8)


def test_another_method_takes_as_long_as_its_operations(measured, store):
    other = changed(STUDY, settings=["objective=simclr"])
    work = work_of(plan_study(other, store), Timing.of(measured), store)
    assert all(job.seconds > 5.0 for job in work.jobs if job.name.startswith("pretrain/simclr"))  # two views


@pytest.mark.parametrize(
    ("settings", "what"),
    [(["source=perlin", "objective.labels=index"], "render of perlin"), ([], "evaluate of linear")],
)
def test_what_was_never_measured_is_refused_with_what_to_run(measured, store, settings, what):
    if not settings:
        measured.remove(RUN.evaluates[1].address)
    study = changed(STUDY, settings=settings, fields={"axes": []})
    with pytest.raises(InputError, match=rf"holds no measured {what}; run a part of the study there first"):
        work_of(plan_study(study, store), Timing.of(measured), store)


def test_the_job_prints_a_table_over_nodes(measured, capsys):
    asked = [
        "scaling_sweep",
        "--seeds",
        "0..4",
        "--nodes",
        "1,10",
        "--cores",
        "2",
        "--storage",
        measured.root,
        "--json",
    ]
    assert MAIN([*asked, "--machine", "price_hour=0.2", "--machine", "storage_bytes_per_s=1e9"]) == 0
    *table, plain = capsys.readouterr().out.splitlines()
    assert table[0].startswith("scaling-sweep: 65 runs")
    assert len(table) == 4
    one, ten = json.loads(plain)["clusters"]
    assert one["makespan_s"] > ten["makespan_s"]
    assert one["cost"] == pytest.approx(0.2 * one["makespan_s"] / 3_600)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--nodes", "0"], "--nodes: must be numbers of nodes"),
        (["--nodes", "many"], "--nodes: must be numbers of nodes"),
        (["--machine", "latency=1"], "machine.latency: unknown field"),
        (["--machine", "latency_s"], "--machine: must be FIELD=VALUE"),
        (["--cores", "none"], "argument --cores: invalid int value"),
        (["--nods", "1"], "unrecognized arguments: --nods"),
        (["no-such-study"], "study: unknown study"),
        (["--seeds", "some"], "--seeds: must be numbers"),
        ([], "holds no measured"),
    ],
)
def test_a_mistake_gets_one_line_and_exit_code_two(words, says, tmp_path, capsys):
    assert MAIN([*words, "--storage", str(tmp_path / "nothing")]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert says in line
    assert not (tmp_path / "nothing").exists()


def test_places_are_those_of_the_placement(measured, store):
    from scaleback.cluster.machines import Machines
    from scaleback.simulation.replay import forecast

    work = work_of(plan_study(STUDY, store), Timing.of(measured), store)
    halves = forecast(work, Machines(nodes=2, cores=4), Placement(cpus_per_worker=2))
    assert halves.makespan_s > forecast(work, Machines(nodes=2, cores=4), Placement()).makespan_s
