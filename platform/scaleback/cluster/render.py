"""Rendering with Ray Data: missing blocks of any number of populations, spread over the cluster."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple, TypeAlias, TypeVar

from scaleback.cluster import failures, runtime
from scaleback.cluster.asks import Ask
from scaleback.core.ahead import ahead
from scaleback.core.errors import InputError, RunError
from scaleback.core.lease import POLL_S, Lease, alive
from scaleback.core.store import Store
from scaleback.sources.population import Block, Population, drawn_block, missing_blocks

MOST_BLOCKS_A_TASK, SHARE = 16, 2
"""A task costs Ray some hundredths of a second, so it makes many blocks while there are many: one ``SHARE``-th of what
is left for each core. Short tasks come last, so that all cores end together (guided self-scheduling, Polychronopoulos
and Kuck, 1987)."""

ONE_CORE = Ask()
T = TypeVar("T")
Work: TypeAlias = tuple[Population, Block]
Progress = Callable[[int, int], None]
"""Called with (images done, images to do)."""


def render(
    store: Store,
    wanted: Sequence[tuple[Population, int]],
    *,
    ask: Ask = ONE_CORE,
    progress: Progress = lambda done, total: None,
    stopped: Callable[[], bool] = lambda: False,
) -> dict[str, Exception]:
    """Make the missing blocks of these populations; returns what failed, by address, and records it there.

    Blocks are made by tasks, first those of the populations named first; one whose process dies is run again, for the
    blocks it had not finished. Populations that want a GPU get one if the cluster has, and are made by actors there:
    Ray ends the process of a task with a GPU after each, which would load the generator anew for every block. A block
    that another process is making is waited for, here and not in a task, and made if that process dies. One population
    that cannot be drawn stops no other.
    """
    left = {work[0].block_address(work[1].number): work for work in _missing(store, wanted)}
    if not left:
        return {}
    import ray.data  # noqa: F401  # before it is told to be quiet, since it sets its loggers' levels

    runtime.quiet()
    total = sum(block.stop - block.start for _, block in left.values())
    failed: dict[str, Exception] = {}
    progress(0, total)
    while left:
        elsewhere: dict[str, Work] = {}
        for row in _placed_rows(store, list(left.values()), ask):
            if stopped():
                return failed
            if row["elsewhere"]:
                elsewhere[row["block"]] = left[row["block"]]
                continue
            if row["failed"]:
                failed[row["address"]] = RunError(row["failed"])
            del left[row["block"]]
            progress(total - _images(left), total)
        left = _left_undone(store, elsewhere, stopped)
        progress(total - _images(left), total)
    return failed


def _missing(store: Store, wanted: Sequence[tuple[Population, int]]) -> Iterator[Work]:
    most: dict[str, tuple[Population, int]] = {}
    for population, images in wanted:  # several may want the same one
        most[population.address] = (population, max(images, most.get(population.address, (population, 0))[1]))
    for population, images in most.values():
        yield from ((population, block) for block in missing_blocks(store, population, images))


def _images(left: Mapping[str, Work]) -> int:
    return sum(block.stop - block.start for _, block in left.values())


def _left_undone(store: Store, elsewhere: Mapping[str, Work], stopped: Callable[[], bool]) -> dict[str, Work]:
    """Wait for blocks that other processes are making; returns those that they did not make."""
    undone = {}
    for address, (population, block) in elsewhere.items():
        while not stopped() and alive(store, address):
            time.sleep(POLL_S)
        if not stopped() and store.manifest(address, population) is None:
            undone[address] = (population, block)
    return undone


def _placed_rows(store: Store, blocks: Sequence[Work], ask: Ask) -> Iterator[dict[str, Any]]:
    """A row for each block, made where its population is made best."""
    nodes = runtime.nodes()
    on_gpu = Ask(cpus=ask.cpus, gpus=1, memory_gb=ask.memory_gb)  # wherever one is
    has_gpu = on_gpu.room(nodes) > 0
    by_gpu: dict[bool, list[Work]] = {}
    for population, block in blocks:
        by_gpu.setdefault(population.source.wants_gpu and has_gpu, []).append((population, block))
    for wants_gpu, share in by_gpu.items():
        one = on_gpu if wants_gpu else ask
        places = max(1, one.room(nodes))
        yield from _rows(store, guided_tasks(share, sizes_of(share), places), one, places)


class Size(NamedTuple):
    """What decides where a block comes in the tasks."""

    turn: int
    """Which population it is of, in the order in which they are asked for."""
    images: int
    by_itself: bool
    """What a generator draws takes minutes a block, and is told of block by block."""


def guided_tasks(blocks: Sequence[T], sizes: Sequence[Size], places: int) -> list[list[T]]:
    """Blocks in tasks that hold ever fewer images: population by population, the largest of each first."""
    waiting = deque(sorted(zip(sizes, blocks, strict=True), key=lambda one: (one[0].turn, -one[0].images)))
    left = sum(size.images for size in sizes)
    tasks: list[list[T]] = []
    while waiting:
        task: list[T] = []
        images, fair = 0, left / (SHARE * places)
        most = 1 if waiting[0][0].by_itself else MOST_BLOCKS_A_TASK
        while waiting and len(task) < most and (not task or images < fair):
            size, block = waiting.popleft()
            task.append(block)
            images += size.images
        tasks.append(task)
        left -= images
    return tasks


def sizes_of(blocks: Sequence[Work]) -> list[Size]:
    """Of blocks as they are asked for."""
    turns: dict[str, int] = {}
    return [
        Size(turns.setdefault(population.address, len(turns)), block.stop - block.start, population.source.wants_gpu)
        for population, block in blocks
    ]


def _rows(store: Store, tasks: Sequence[Sequence[Work]], ask: Ask, places: int) -> Iterator[dict[str, Any]]:
    """One row for each block that is done; made by actors in so many places if they ask for a GPU, by tasks if not."""
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    # Ray Data hands out no more tasks than there are cores, and looks ten times a second for one that ended: a core
    # waits 0.1 to 0.3 s between two tasks. Without its budgets tasks wait in Ray's own queue, and a core 0.01 s.
    context.op_resource_reservation_enabled = bool(ask.gpus)
    # Text, since rows that share an Arrow block share a schema, and populations have fields of their own.
    items = [
        json.dumps([{"population": population.plain(), "block": list(block)} for population, block in task])
        for task in tasks
    ]
    data = ray.data.from_items(items, override_num_blocks=len(items))
    if ask.gpus:
        pool = ray.data.ActorPoolStrategy(
            min_size=1, initial_size=min(places, len(tasks)), max_size=len(tasks), max_tasks_in_flight_per_actor=2
        )
        made = data.flat_map(_RenderBlocks, fn_constructor_args=(store,), compute=pool, **ask.options)
    else:
        made = data.flat_map(_RenderBlocks(store), **ask.options)
    yield from made.iter_rows()


class _RenderBlocks:
    """What a task or an actor of Ray Data runs."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __call__(self, row: dict[str, Any]) -> Iterator[dict[str, Any]]:
        work = [(Population.parse(one["population"]), Block(*one["block"])) for one in json.loads(row["item"])]
        return ahead(_published, self._drawn(work))  # a block is published while the next is drawn

    def _drawn(self, work: Sequence[Work]) -> Iterator[_Drawn]:
        for population, block in work:
            with ExitStack() as stack:
                address, failed = population.block_address(block.number), ""
                lease = Lease(self._store, address)
                taken = lease.take()  # without waiting: whoever waits here holds a core
                if taken:
                    stack.callback(lease.release)
                    try:
                        if self._store.manifest(address, population) is None:
                            stack.enter_context(drawn_block(self._store, population, block))
                    except (RunError, InputError) as error:
                        failures.record(self._store, population.address, error)
                        failed = f"{population.address} failed: {type(error).__name__}: {error}"
                row = {"address": population.address, "block": address, "elsewhere": not taken, "failed": failed}
                yield _Drawn(row, stack.pop_all())


class _Drawn(NamedTuple):
    """A block, and what is to be done to publish it and then to give its lease back."""

    row: dict[str, Any]
    publish: ExitStack


def _published(drawn: _Drawn) -> dict[str, Any]:
    drawn.publish.close()
    return drawn.row
