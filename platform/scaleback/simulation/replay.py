"""A study on paper: its work on machines, event by event, in the order that the cluster room has.

Ray starts; generators learn in waves; then what is missing is drawn, and beside it go the runs, seed by seed, one more
than there are places, each through its stages in order. They begin at once, and wait for the images that they read and
for what another run is making. A group of a range of workers has the most of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial
from itertools import accumulate
from typing import Any

from scaleback.cluster.machines import Machines
from scaleback.cluster.placement import Placement
from scaleback.cluster.render import guided_tasks
from scaleback.core.errors import PlacementError
from scaleback.simulation.pool import Demand
from scaleback.simulation.shared import Server
from scaleback.simulation.tasks import Runner, Task
from scaleback.simulation.work import Drawn, Work

RENDER_RETRIES = 1_000
"""Ray Data runs a task again as often as it takes."""
MUCH = 0.5
"""A resource that is used up for this share of the time is what limits the study."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """What comes of it."""

    nodes: int
    makespan_s: float
    cost: float
    runs: int
    runs_failed: int
    idle_core_share: float
    idle_gpu_share: float | None
    busy_core_s: float
    idle_core_s: float
    lost_work_s: float
    """Of one worker, repeated after nodes were lost."""
    nodes_lost: int
    nodes_full_share: float
    """Share of the time in which there was no room for one more stage."""
    driver_busy_share: float
    bandwidth_full_share: float
    requests_busy_share: float

    @property
    def limit(self) -> str:
        """What is used up for most of the time; ``chain`` if nothing is: the stages that must follow one another."""
        shared = {
            "driver": self.driver_busy_share,
            "bandwidth": self.bandwidth_full_share,
            "requests": self.requests_busy_share,
        }
        most = max(shared, key=lambda name: shared[name])
        if shared[most] >= MUCH:
            return most  # nodes then wait for it
        return "nodes" if self.nodes_full_share >= MUCH else "chain"

    def plain(self) -> dict[str, Any]:
        """As printed and stored."""
        return {**asdict(self), "limit": self.limit}


def forecast(work: Work, machines: Machines, placement: Placement) -> Forecast:
    """Replay the work.

    Raises:
        PlacementError: the nodes cannot hold what one run asks for.
    """
    return _Replay(work, machines, placement).run()


class _Replay:
    """One replay."""

    def __init__(self, work: Work, machines: Machines, placement: Placement) -> None:
        self._work, self._machines, self._placement = work, machines, placement
        self._stage = Demand(float(placement.cpus_per_worker), float(placement.gpus_per_worker))
        self._render, self._render_gpu = (Demand(float(placement.cpus_per_render), gpus) for gpus in (0.0, 1.0))
        demands = list(dict.fromkeys([self._stage, self._render, self._render_gpu]))
        self._driver, requests = Server(1.0), Server(machines.storage_requests_per_s)  # the driver, in seconds
        self._runner = Runner(machines, demands, requests)
        self._requests, self._events = requests, self._runner.events
        if self._runner.pool.room(self._stage) < placement.fewest_workers:
            asked = f"{placement.fewest_workers} workers of {placement.cpus_per_worker} cores"
            gpus = f" and {placement.gpus_per_worker:g} GPUs" if placement.gpus_per_worker else ""
            raise PlacementError(
                f"placement: one run asks for {asked}{gpus}; "
                f"{machines.nodes} nodes of {machines.cores} cores and {machines.gpus} GPUs cannot hold it"
            )
        self._done, self._begun, self._broken = set[int](), set[int](), set[int]()
        self._waiting: dict[int, list[Callable[[], None]]] = {}
        self._left_in_set = [0] * work.sets
        self._set_waiting: dict[int, list[Callable[[], None]]] = {}
        self._next, self._ended, self._failed = 0, 0, 0
        self._over_s: float | None = None

    def run(self) -> Forecast:
        for block in self._work.blocks:
            for number in block.needs:
                self._left_in_set[number] += 1
        over = self._machines.overheads
        self._events.after(over.ray_start_s + self._machines.start_s, self._up)
        while self._over_s is None:
            assert self._events.step(), "a study ends"
        end_s = self._over_s + over.ray_stop_s
        self._runner.count(end_s)
        return self._forecast(end_s)

    def _forecast(self, end_s: float) -> Forecast:
        pool, runner = self._runner.pool, self._runner
        gpus = pool.busy.gpus + pool.idle.gpus
        return Forecast(
            nodes=self._machines.nodes,
            makespan_s=end_s,
            cost=pool.up_s / 3_600 * self._machines.price_hour,
            runs=len(self._work.trials),
            runs_failed=self._failed,
            idle_core_share=pool.idle.cores / (pool.busy.cores + pool.idle.cores),
            idle_gpu_share=pool.idle.gpus / gpus if gpus else None,
            busy_core_s=pool.busy.cores,
            idle_core_s=pool.idle.cores,
            lost_work_s=runner.lost_s,
            nodes_lost=runner.losses,
            nodes_full_share=runner.full_s / end_s,
            driver_busy_share=self._driver.busy_s / end_s,
            bandwidth_full_share=runner.channel.full_s / end_s,
            requests_busy_share=self._requests.busy_s / end_s,
        )

    # Phases ---------------------------------------------------------------------------------------------------------

    def _up(self) -> None:
        self._runner.watch_nodes()
        self._learn(0)

    def _learn(self, wave: int) -> None:
        if wave == len(self._work.waves):
            self._draw(self._work.blocks, lambda: None)
            self._grid()
            return
        blocks, jobs = self._work.waves[wave]
        then = partial(self._all_ended, jobs, partial(self._learn, wave + 1))
        self._draw(blocks, then)

    def _all_ended(self, jobs: Iterable[int], then: Callable[[], None]) -> None:
        left = _Countdown(len(list(jobs)), then)
        for job in jobs:
            self._once(job, left)

    def _draw(self, blocks: list[Drawn], then: Callable[[], None]) -> None:
        """Draw blocks; on GPUs after those on cores, as the cluster does."""
        if not blocks:
            then()
            return
        on_gpu = [block for block in blocks if block.on_gpu and self._machines.gpus]
        on_core = [block for block in blocks if not (block.on_gpu and self._machines.gpus)]
        gpu_part = partial(self._tasks, on_gpu, self._render_gpu, then)
        core_part = partial(self._tasks, on_core, self._render, gpu_part)
        self._events.after(self._machines.overheads.render_start_s, core_part)

    def _tasks(self, blocks: list[Drawn], demand: Demand, then: Callable[[], None]) -> None:
        tasks = guided_tasks(blocks, [block.size for block in blocks], self._runner.pool.places(demand, 1))
        left = _Countdown(len(tasks), then)
        for blocks_of_task in tasks:
            ends = list(accumulate(block.seconds for block in blocks_of_task))
            task = Task(
                demand=demand,
                seconds=ends[-1],
                done=partial(self._drawn, blocks_of_task, left),
                failed=partial(self._drawn, blocks_of_task, left),
                keeps=ends,
                setup_s=self._machines.overheads.task_s,
                torch=False,
                requests=2 * len(ends),
                along_bytes=sum(block.written_bytes for block in blocks_of_task),
                losses_left=RENDER_RETRIES,
            )
            self._driven(1 / self._machines.tasks_per_s, self._runner.submit, task)

    def _drawn(self, blocks: list[Drawn], left: _Countdown) -> None:
        for block in blocks:
            for number in block.needs:
                self._left_in_set[number] -= 1
                if self._left_in_set[number] == 0:
                    for go_on in self._set_waiting.pop(number, []):
                        go_on()
        left()

    # Runs -----------------------------------------------------------------------------------------------------------

    def _grid(self) -> None:
        if not self._work.trials:
            self._over_s = self._events.now_s
            return
        placement = self._placement
        places = self._runner.pool.places(self._stage, placement.most_workers)
        for _ in range(min(placement.runs_at_once or places + 1, len(self._work.trials))):
            self._start_next(self._machines.overheads.first_trial_s)

    def _start_next(self, wait_s: float) -> None:
        if self._next < len(self._work.trials):
            self._next += 1
            begin = partial(self._events.after, wait_s, self._go_on, self._next - 1, 0)
            self._driven(1 / self._machines.trials_per_s, begin)

    def _go_on(self, trial: int, step: int) -> None:
        """The run's next set of images, or its next stage."""
        spec = self._work.trials[trial]
        here = partial(self._go_on, trial, step)
        if step < len(spec.sets):
            number = spec.sets[step]
            if self._left_in_set[number]:
                self._set_waiting.setdefault(number, []).append(here)
            else:
                self._go_on(trial, step + 1)
            return
        place = step - len(spec.sets)
        if place == len(spec.jobs):
            self._end(failed=False)
        elif spec.jobs[place] in self._broken:
            self._end(failed=True)
        elif spec.jobs[place] in self._done:
            self._go_on(trial, step + 1)
        else:
            self._once(spec.jobs[place], here)

    def _end(self, *, failed: bool) -> None:
        self._ended += 1
        self._failed += failed
        if self._ended == len(self._work.trials):
            self._over_s = self._events.now_s
        self._start_next(self._machines.overheads.trial_s)

    def _once(self, number: int, then: Callable[[], None]) -> None:
        """Do a stage unless it is being done; call when it has ended, one way or the other."""
        if number in self._done or number in self._broken:
            then()
            return
        self._waiting.setdefault(number, []).append(then)
        if number in self._begun:
            return
        self._begun.add(number)
        job, placement, over = self._work.jobs[number], self._placement, self._machines.overheads
        workers = placement.most_workers if job.grouped else 1
        every_s = placement.checkpoint_every_s * self._machines.speed  # in seconds of work as it was measured
        task = Task(
            demand=self._stage,
            seconds=job.seconds / workers,
            done=partial(self._told, number, self._done),
            failed=partial(self._told, number, self._broken),
            workers=workers,
            keeps=every_s,
            setup_s=over.stage_s + (over.group_s if workers > 1 else 0.0),
            requests=job.requests * workers,
            read_bytes=job.read_bytes * workers,
            along_bytes=job.checkpoint_bytes * (job.seconds / workers // every_s if every_s else 0),
            written_bytes=job.written_bytes,
            losses_left=placement.retries,
        )
        self._events.after(0.0, self._runner.submit, task)  # by the run's own process, not by the driver

    def _told(self, number: int, group: set[int]) -> None:
        group.add(number)
        for then in self._waiting.pop(number, []):
            then()

    def _driven(self, cost_s: float, call: Callable[..., Any], *given: Any) -> None:
        """Something that the driver does, after what it has to do before."""
        self._events.at(self._driver.served(self._events.now_s, cost_s), call, *given)


class _Countdown:
    """Calls when it was called so often; at once if that is not at all."""

    def __init__(self, left: int, then: Callable[[], None]) -> None:
        self._left, self._then = left, then
        if left == 0:
            then()

    def __call__(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._then()
