"""What stages ask for, without a cluster, and what a cluster that cannot give it says."""

import pytest

from scaleback.cli import main
from scaleback.cluster import runtime
from scaleback.cluster.asks import GB, Ask
from scaleback.cluster.placement import Placement
from scaleback.core.errors import InputError, PlacementError

SMALL = {"CPU": 4.0, "memory": 16.0 * GB, "object_store_memory": 8.0 * GB, "node:10.0.0.1": 1.0}
LARGE = {"CPU": 8.0, "GPU": 1.0, "memory": 64.0 * GB, "trains": 2.0}


def refused(monkeypatch, nodes, **fields):
    monkeypatch.setattr(runtime, "nodes", lambda: nodes)
    with pytest.raises(PlacementError) as told:
        runtime.refuse_impossible(Placement(**fields))
    (line,) = str(told.value).splitlines()
    return line


def test_room_is_counted_node_by_node():
    assert Ask(cpus=3).room([SMALL, SMALL, LARGE]) == 4
    assert Ask(cpus=5).room([SMALL] * 9) == 0
    assert Ask(memory_gb=17).room([SMALL, LARGE]) == 3
    assert Ask(resources={"trains": 1}).room([SMALL, LARGE]) == 2
    assert Ask(gpus=0.25).room([LARGE]) == 4


def test_a_placement_says_what_each_stage_asks_for():
    placement = Placement(
        cpus_per_worker=4,
        gpus_per_worker=0.5,
        memory_gb_per_worker=8,
        resources_per_worker={"trains": 1},
        memory_gb_per_render=2,
        resources_per_render={"renders": 0.5},
    )
    assert Ask.worker(placement).bundle == {"CPU": 4, "GPU": 0.5, "memory": 8 * GB, "trains": 1}
    assert Ask.renderer(placement).bundle == {"CPU": 1, "memory": 2 * GB, "renders": 0.5}
    options = {"num_cpus": 1, "num_gpus": 0, "memory": 2 * GB, "resources": {"renders": 0.5}}
    assert Ask.renderer(placement).options == options


def test_an_impossible_ask_is_refused_with_what_the_cluster_has(monkeypatch):
    assert refused(monkeypatch, [SMALL] * 4, cpus_per_worker=5) == (
        "placement: one run asks for a node with 5 CPU; the cluster has 4 x (4 CPU, 16 GB memory)"
    )
    assert refused(monkeypatch, [SMALL, LARGE], workers=4, cpus_per_worker=4) == (
        "placement: one run asks for 4 workers on nodes with 4 CPU each; "
        "the cluster has 1 x (4 CPU, 16 GB memory), 1 x (8 CPU, 1 GPU, 64 GB memory, 2 trains), room for 3"
    )
    assert refused(monkeypatch, [SMALL], resources_per_render={"renders": 1}).startswith(
        "placement: rendering asks for a node with 1 CPU, 1 renders; "
    )
    assert refused(monkeypatch, [], workers=1).endswith("; the cluster has no node")


def test_what_fits_is_not_refused(monkeypatch):
    monkeypatch.setattr(runtime, "nodes", lambda: [SMALL, LARGE])
    runtime.refuse_impossible(Placement(workers=3, cpus_per_worker=4, memory_gb_per_worker=16))
    monkeypatch.setattr(runtime, "nodes", lambda: [])
    runtime.refuse_impossible(Placement(autoscaling=True))


def test_a_range_of_workers_asks_for_its_least(monkeypatch):
    placement = Placement(workers="2..8", cpus_per_worker=4)
    assert (placement.fewest_workers, placement.most_workers) == (2, 8)
    monkeypatch.setattr(runtime, "nodes", lambda: [SMALL, LARGE])
    runtime.refuse_impossible(placement)
    assert runtime.places(placement) == 1
    assert "one run asks for 2 workers" in refused(monkeypatch, [SMALL], workers="2..8", cpus_per_worker=4)


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        (
            {"resources_per_worker": {"GPU": 1.0}},
            "resources_per_worker.GPU: is not a cluster's own; use gpus",
        ),
        ({"resources_per_render": {"renders": 0.0}}, "resources_per_render.renders: must be greater than 0; got 0.0"),
        ({"memory_gb_per_worker": 0.0}, "memory_gb_per_worker: must be greater than 0"),
        *(
            ({"workers": wrong}, r"workers: must be a number from 1, or a range of them such as 2\.\.8; got")
            for wrong in (0, True, 1.5, "2", "8..2", "2..2", "0..2", "2..", None)
        ),
        ({"memory_gb": 4.0}, "memory_gb: unknown field"),
    ],
)
def test_a_wrong_ask_is_refused_when_it_is_read(fields, line):
    with pytest.raises(InputError, match=f"placement.{line}"):
        Placement.parse(fields, at="placement")


@pytest.mark.slow
def test_the_command_ends_at_once_with_one_line(tmp_path, capsys):
    file = tmp_path / "huge.yaml"
    file.write_text("cpus: 1\ncpus_per_worker: 2\n")
    given = ["run", "scaling_sweep", "--placement", str(file), "--storage", str(tmp_path / "store")]
    assert main(given) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "one run asks for a node with 2 CPU; the cluster has 1 x (1 CPU, " in last
