"""What a simulation replays: the stages of a plan, each once, with seconds and bytes, and what each run needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from scaleback.cluster.render import Size, sizes_of
from scaleback.core.store import Store
from scaleback.evaluations.run import Evaluate
from scaleback.pretrain.spec import Pretrain
from scaleback.sources.learnt import Learnt, waves
from scaleback.sources.population import Population, missing_blocks
from scaleback.study.plan import Plan

if TYPE_CHECKING:
    from scaleback.simulation.timing import Timing

Stage: TypeAlias = Learnt | Pretrain | Evaluate


@dataclass(frozen=True, slots=True)
class Job:
    """A stage that is one task, or one group of workers."""

    name: str
    seconds: float
    """Of one worker that does it alone."""
    read_bytes: float = 0.0
    written_bytes: float = 0.0
    requests: int = 0
    checkpoint_bytes: float = 0.0
    """Of one checkpoint; worker 0 writes it."""
    grouped: bool = False
    """Whether the workers of a placement share it; evaluations are never shared."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A block to be drawn."""

    size: Size
    seconds: float
    """Of one core, or of one GPU."""
    written_bytes: float = 0.0
    needs: tuple[int, ...] = ()
    """Which sets of images it belongs to."""
    on_gpu: bool = False


@dataclass(frozen=True, slots=True)
class Trial:
    """A run: sets of images that it reads, and stages in order; both by number."""

    sets: tuple[int, ...]
    jobs: tuple[int, ...]


@dataclass(slots=True)
class Work:
    """All there is to do."""

    jobs: list[Job] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)
    """In the order in which they are started."""
    blocks: list[Drawn] = field(default_factory=list)
    sets: int = 0
    """How many sets of images there are."""
    waves: list[tuple[list[Drawn], list[int]]] = field(default_factory=list)
    """What generators learn first: blocks that are drawn for it, then stages side by side; wave after wave."""

    @property
    def seconds(self) -> float:
        """Of one worker that does it all."""
        blocks = [*self.blocks, *(block for wave, _ in self.waves for block in wave)]
        return sum(job.seconds for job in self.jobs) + sum(block.seconds for block in blocks)


def work_of(plan: Plan, timing: Timing, store: Store, *, stream: bool = False) -> Work:
    """The work of a plan.

    Args:
        plan: of a study.
        timing: how long stages take.
        store: what is there already.
        stream: whether what runs are pre-trained on is drawn while they train.

    Raises:
        InputError: a stage is of a kind that was never measured.
    """
    work, numbers = Work(), dict[str, int]()
    drawn: set[tuple[str, int]] = set()
    for learning in waves(plan.learnt.values()):
        blocks = _blocks([(stage.population, stage.images) for stage in learning], {}, timing, store, drawn)
        work.waves.append((blocks, [_numbered(stage, work, numbers, timing) for stage in learning]))
    sets: dict[tuple[str, int], int] = {}
    wanted: dict[str, tuple[Population, int]] = {}
    for planned in sorted(plan.to_do, key=lambda planned: planned.run.seed):  # seed by seed, as the search does
        run, used = planned.run, []
        for population, images in run.stored(stream=stream):
            address = population.address
            used.append(sets.setdefault((address, images), len(sets)))
            wanted[address] = (population, max(images, wanted.get(address, (population, 0))[1]))
        stages: list[Stage] = [*run.learnt, *([run.pretrain] if run.pretrain else []), *run.evaluates]
        jobs = [_numbered(stage, work, numbers, timing) for stage in stages if _open(stage.address, plan)]
        work.trials.append(Trial(tuple(used), tuple(jobs)))
    work.sets = len(sets)
    work.blocks = _blocks(list(wanted.values()), sets, timing, store, drawn)
    return work


def _open(address: str, plan: Plan) -> bool:
    return address in plan.pretrains or address in plan.evaluates or address in plan.learnt


def _numbered(stage: Stage, work: Work, numbers: dict[str, int], timing: Timing) -> int:
    """The number of a stage among the jobs; it gets one when it is first met."""
    address = stage.address
    if address not in numbers:
        numbers[address] = len(work.jobs)
        work.jobs.append(timing.job(stage))
    return numbers[address]


def _blocks(
    wanted: Sequence[tuple[Population, int]],
    sets: Mapping[tuple[str, int], int],
    timing: Timing,
    store: Store,
    drawn: set[tuple[str, int]],
) -> list[Drawn]:
    """Missing blocks of these populations, with the sets of images that each belongs to."""
    by_address: dict[str, list[tuple[int, int]]] = {}
    for (address, images), number in sets.items():
        by_address.setdefault(address, []).append((images, number))
    missing = [
        (population, block) for population, images in wanted for block in missing_blocks(store, population, images)
    ]
    counts = {address: sorted(found, reverse=True) for address, found in by_address.items()}
    each: dict[str, tuple[float, float]] = {}  # what an image takes is asked only where one is missing
    found: list[Drawn] = []
    for (population, block), size in zip(missing, sizes_of(missing), strict=True):
        address = population.address
        if (address, block.number) in drawn:
            continue
        drawn.add((address, block.number))
        if address not in each:
            each[address] = timing.image_s(population), timing.image_bytes(population)
        image_s, image_bytes = each[address]
        needs = tuple(number for count, number in counts.get(address, ()) if count > block.start)
        on_gpu = population.source.wants_gpu
        found.append(Drawn(size, size.images * image_s, size.images * image_bytes, needs, on_gpu))
    return found
