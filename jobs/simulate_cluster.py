"""How long would a study take on 1 to 1,000 nodes, what would it cost, and what would be in the way?

Replays the stages of a study on machines that are not there, with times as they were measured: records of runs in
``--storage`` say how long stages took, and the study, or a part of it, has to have run there before. Nodes fail and are
taken back as often as is said; what was not in a checkpoint is done again.

    python jobs/simulate_cluster.py scaling_sweep --cores 4
    python jobs/simulate_cluster.py scaling_sweep --seeds 0..99 --nodes 1,10,100,1000 --machine price_hour=0.2
        --machine spot_losses_per_hour=0.05 --machine storage_bytes_per_s=1e9 --machine latency_s=0.02 --json
    python jobs/simulate_cluster.py --check

The study is taken from its beginning; with ``--remaining``, what the storage lacks of it. ``limit`` names what was used
up for most of the time: nodes, the driver, bandwidth of the storage, its requests; or the chain of stages that follow
one another. What Ray's object store carries are rows of progress: it is no limit.

``--check`` runs a small study on one core and on two, and compares. ``foretold`` is from half as large a run before,
of another seed: how long stages take on so many cores, and what Ray takes to start and to import torch. For
``replayed`` each stage's own seconds are known, from the run itself, and the rest from the run before. For
``accounted`` all of it is from the run itself, so what is left is what the order of events gets wrong: no forecast.
``busy_before`` is what other programs took of the machine: where it is not near 0, the first two ratios are not near 1.
"""

import argparse
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

from scaleback.cluster.machines import Machines, Overheads
from scaleback.cluster.placement import Placement, load_placement
from scaleback.cluster.progress import Progress
from scaleback.core import units
from scaleback.core.errors import InputError, SpecError, refusal
from scaleback.core.spec import assign
from scaleback.core.store import Manifest, Store
from scaleback.simulation.replay import Forecast, forecast
from scaleback.simulation.timing import Timing, reads_of, staged
from scaleback.simulation.work import Stage, Work, work_of
from scaleback.sources.population import Population
from scaleback.study.axes import parse_value
from scaleback.study.files import DEFAULT, changed, load_study
from scaleback.study.plan import plan_study
from scaleback.study.study import Study

NODES = "1,2,5,10,20,50,100,200,500,1000"
WRONG_INPUT = 2
SHOWN = ("ray_start_s", "ray_stop_s", "render_start_s", "import_s", "stage_s")
"""Of what a run spends beside its stages: what ``--check`` measures."""


def simulated(study: Study, timing: Timing, machines: Sequence[Machines], placement: Placement) -> list[Forecast]:
    """A study from its beginning, on one cluster after another."""
    with tempfile.TemporaryDirectory() as empty:
        work = _work(study, timing, placement, Store(empty))
    return [forecast(work, one, placement) for one in machines]


def _work(study: Study, timing: Timing, placement: Placement, store: Store) -> Work:
    plan = plan_study(study, store, stream=placement.streams)
    return work_of(plan, timing, store, stream=placement.streams)


# The table ----------------------------------------------------------------------------------------------------------


def table(options: argparse.Namespace) -> dict[str, Any]:
    """What the options ask for."""
    seeds = {"seeds": _seeds(options.seeds)} if options.seeds is not None else {}
    # A law along an axis that was replaced or set may not be possible any more, and is not asked for.
    study = changed(
        load_study(options.study), settings=options.settings, axes=options.axis, fields={**seeds, "fit": None}
    )
    if study.searched:
        raise SpecError(
            f"axes: {refusal('must be exhaustive; what a search proposes is not known', study.searched[0].field)}"
        )
    placement = load_placement(options.placement, {"storage": options.storage} if options.storage else {})
    store = Store(placement.storage)
    clusters = [_machines(nodes, options) for nodes in _numbers(options.nodes)]
    begun, timing = time.perf_counter(), Timing.of(store)
    if options.remaining:
        work = _work(study, timing, placement, store)
        found = [forecast(work, one, placement) for one in clusters]
    else:
        found = simulated(study, timing, clusters, placement)
    return {
        "study": study.name,
        "storage": store.root,
        "cores_per_node": clusters[0].cores,
        "gpus_per_node": clusters[0].gpus,
        "simulated_in_s": round(time.perf_counter() - begun, 2),
        "clusters": [one.plain() for one in found],
    }


def _machines(nodes: int, options: argparse.Namespace) -> Machines:
    plain: dict[str, Any] = {"nodes": nodes, "cores": options.cores, "gpus": options.gpus}
    for text in options.machine:
        name, equals, value = text.partition("=")
        if not equals:
            raise SpecError(f"--machine: {refusal('must be FIELD=VALUE', text)}")
        assign(plain, name.strip(), parse_value(value, f"--machine {name.strip()}"))
    return Machines.parse(plain, at="machine")


def _numbers(text: str) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise SpecError(f"--nodes: {refusal('must be numbers of nodes such as 1,10,100', text)}")
    return numbers


def _seeds(text: str) -> list[int]:
    first, dots, last = text.partition("..")
    try:
        return list(range(int(first), int(last) + 1)) if dots else [int(part) for part in text.split(",")]
    except ValueError:
        raise SpecError(f"--seeds: {refusal('must be numbers such as 0,1,2 or 0..4', text)}") from None


COLUMNS = ("nodes", "time", "cost", "idle cores", "idle GPUs", "lost work", "driver", "bandwidth", "requests", "limit")


def lines(found: dict[str, Any]) -> list[str]:
    """The table as it is printed."""
    rows = [COLUMNS]
    for one in found["clusters"]:
        gpus = one["idle_gpu_share"]
        rows.append(
            (
                f"{one['nodes']:,}",
                units.duration(one["makespan_s"]),
                f"{one['cost']:.2f}",
                units.percent(one["idle_core_share"]),
                "-" if gpus is None else units.percent(gpus),
                units.duration(one["lost_work_s"]),
                units.percent(one["driver_busy_share"]),
                units.percent(one["bandwidth_full_share"]),
                units.percent(one["requests_busy_share"]),
                one["limit"],
            )
        )
    widths = [max(len(row[place]) for row in rows) for place in range(len(COLUMNS))]
    runs = found["clusters"][0]["runs"]
    head = f"{found['study']}: {runs:,} runs, nodes of {found['cores_per_node']} cores; in {found['simulated_in_s']} s"
    return [head, *("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)]


# The check ----------------------------------------------------------------------------------------------------------


def check_study(seeds: Sequence[int]) -> Study:
    """Small runs of the default study: five a seed, about six seconds each."""
    changes = {
        "recipe.budget_images": 3_072,
        "recipe.warmup_images": 256,
        "evaluations.finetune.recipe.budget_images": 8_000,
        "evaluations.finetune.marks_images": [2_000, 8_000],
    }
    return Study.parse(
        {
            "name": "check",
            "base": load_study(DEFAULT).base.replace(changes).plain(),
            "axes": [
                {"kind": "grid", "field": "source.delta", "values": [0.1, 0.5]},
                {"kind": "grid", "field": "images", "values": [4, 16]},
            ],
            "seeds": list(seeds),
            "measures": [{"evaluation": "knn"}],
        }
    )


class Clock(Progress):
    """Notes when Ray was up and when each run ended; in seconds since 1970."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.begun_s = self.up_s = self.ended_s = time.time()
        self.ran_s: list[float] = []

    def note(self, text: str) -> None:
        if text.startswith("Ray is up"):
            self.up_s = time.time()

    def ran(self, done: int, total: int, note: str) -> None:
        self.ran_s.append(time.time())


def measured_run(study: Study, store: Store, cpus: int) -> Clock:
    """Run a study on so many cores of this machine."""
    from scaleback.cluster.search import run_study

    placement, clock = load_placement("laptop", {"cpus": cpus, "storage": store.root}), Clock()
    outcome = run_study(study, store, placement, clock)
    assert not outcome.failed, outcome.failed
    clock.ended_s = time.time()
    return clock


def overheads(clock: Clock, store: Store, stage_s: float | None) -> Overheads:
    """What a run spent beside its stages; on one core, where stages follow one another, also what each costs."""
    stages = [one for verb in ("pretrain", "evaluate") for one in _stages(store, verb)]
    ends = sorted((end_s, seconds) for end_s, seconds, _ in stages)
    if stage_s is None:
        beside = [end - before - seconds for (before, _), (end, seconds) in itertools.pairwise(ends)]
        stage_s = max(0.0, statistics.median(beside))  # between some two of them images were drawn
    first_s, first = min(((end_s - seconds, stage) for end_s, seconds, stage in stages), key=lambda one: one[0])
    read_s = [_block_s(store, *one) for one in reads_of(first)]
    drawn = [(_published_s(store, address), _manifest(store, address)) for address in store.addresses("render")]
    return Overheads(
        ray_start_s=clock.up_s - clock.begun_s,
        ray_stop_s=clock.ended_s - clock.ran_s[-1],
        render_start_s=max(0.0, min(end_s - manifest.record["seconds"] for end_s, manifest in drawn) - clock.up_s),
        task_s=0.0,
        first_trial_s=0.0,
        trial_s=Overheads().trial_s,
        # Tune's start and the import of torch, as far as the images of the first run did not take longer.
        import_s=max(0.0, first_s - max(read_s) - stage_s),
        stage_s=stage_s,
    )


def _stages(store: Store, verb: str) -> list[tuple[float, float, Stage]]:
    """When each ended, what it took, which it is."""
    found = []
    for address in store.addresses(verb):
        one = staged(_manifest(store, address))
        assert one is not None, f"{address} was timed"
        found.append((_published_s(store, address), one[1], one[0]))
    return found


def _block_s(store: Store, population: Population, images: int) -> float:
    """When the last of so many images were there."""
    return max(_published_s(store, population.block_address(block.number)) for block in population.blocks(images))


def _published_s(store: Store, address: str) -> float:
    stamp = store.modified(f"{address}/manifest.json")
    assert stamp is not None, "a local disk tells"
    return stamp


def _manifest(store: Store, address: str) -> Manifest:
    manifest = store.manifest(address)
    assert manifest is not None, f"{address} was listed"
    return manifest


def check() -> dict[str, Any]:
    """Foretell and run, on one core and on two."""
    import psutil

    found: dict[str, Any] = {}
    stage_s: float | None = None
    for cpus in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            small, whole = Store(f"{folder}/small"), Store(f"{folder}/whole")
            others = psutil.cpu_percent(1.0) / 100
            before = overheads(measured_run(check_study([100]), small, cpus), small, stage_s)
            stage_s, study = before.stage_s, check_study([0, 1])
            foretold_s = on_cores(cpus, study, Timing.of(small), before)  # the run that it foretells is not there yet
            clock = measured_run(study, whole, cpus)
            own = overheads(clock, whole, stage_s)
            ways = {
                "foretold": foretold_s,
                "replayed": on_cores(cpus, study, Timing.of(whole), before),
                "accounted": on_cores(cpus, study, Timing.of(whole), own),
            }
        measured_s = clock.ended_s - clock.begun_s
        figures = {"measured_s": measured_s, "busy_before_share": others}
        for name, seconds in ways.items():
            figures |= {f"{name}_s": seconds, f"{name}_over_measured": seconds / measured_s}
        figures |= {name: getattr(before, name) for name in SHOWN}
        figures |= {f"measured_{name}": getattr(own, name) for name in SHOWN if name != "stage_s"}
        found |= {f"cores_{cpus}_{name}": round(value, 3) for name, value in figures.items()}
    return found


def on_cores(cpus: int, study: Study, timing: Timing, beside: Overheads) -> float:
    """Seconds of a study on so many cores of one machine, on paper."""
    machines = [Machines(nodes=1, cores=cpus, overheads=beside)]
    return simulated(study, timing, machines, load_placement("laptop", {"cpus": cpus}))[0].makespan_s


class Parser(argparse.ArgumentParser):
    """argparse, with a wrong option refused in one line."""

    def error(self, message: str) -> NoReturn:
        raise InputError(message)


def parser() -> Parser:
    """The options."""
    made = Parser(description=__doc__.splitlines()[0])
    made.add_argument("study", nargs="?", default=DEFAULT, help="name of a file in jobs/, or a path (.py, .yaml)")
    made.add_argument("--axis", action="append", default=[], metavar="FIELD=VALUES")
    made.add_argument("--set", action="append", default=[], dest="settings", metavar="FIELD=VALUE")
    made.add_argument("--seeds", metavar="0,1,2 | 0..4")
    made.add_argument("--nodes", default=NODES, help="numbers of nodes")
    made.add_argument("--cores", type=int, default=os.cpu_count() or 1, help="of a node")
    made.add_argument("--gpus", type=int, default=0, help="of a node")
    made.add_argument("--machine", action="append", default=[], metavar="FIELD=VALUE", help="as in cluster/machines.py")
    made.add_argument("--remaining", action="store_true", help="only what the storage lacks")
    made.add_argument("--placement", default="laptop", help="workers, cores and GPUs of a run")
    made.add_argument("--storage", help="where the study, or a part of it, has run; overrides the placement's")
    made.add_argument("--check", action="store_true", help="foretell small studies, and run them; four minutes")
    made.add_argument("--json", action="store_true", help="the last line is one JSON object")
    return made


def main(words: Sequence[str] | None = None) -> int:
    """Foretell and print."""
    try:
        options = parser().parse_args(words)
        found = check() if options.check else table(options)
    except InputError as error:
        print(f"simulate_cluster: {str(error).splitlines()[0]}", file=sys.stderr)
        return WRONG_INPUT
    for line in [f"{name:36}{value:g}" for name, value in found.items()] if options.check else lines(found):
        print(line)
    if options.json:
        print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
