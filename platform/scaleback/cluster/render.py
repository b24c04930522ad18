"""Rendering with Ray Data: missing blocks of any number of populations, spread over the cluster."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from scaleback.cluster import failures, runtime
from scaleback.core.errors import InputError, RunError
from scaleback.core.store import Store
from scaleback.sources.population import Block, Population, missing_blocks, render_block

MOST_BLOCKS_A_TASK, TASKS_A_CORE = 4, 4
"""A core idles for a tenth of a second and more between two tasks of Ray Data, so a task makes several blocks where
there are many; with four tasks a core, the last ones leave few cores idle."""

Progress = Callable[[int, int], None]
"""Called with (images done, images to do)."""


def render(
    store: Store, wanted: Sequence[tuple[Population, int]], *, progress: Progress = lambda done, total: None
) -> dict[str, Exception]:
    """Make the missing blocks of these populations; returns what failed, by address, and records it there.

    Blocks are made by tasks, not actors: they hold no state worth keeping, and one whose process dies is run again,
    for the blocks it had not finished. A block that another process is making is waited for, not made twice. One
    population that cannot be drawn stops no other.
    """
    blocks = [
        (population, block) for population, images in wanted for block in missing_blocks(store, population, images)
    ]
    if not blocks:
        return {}
    import ray
    import ray.data

    runtime.quiet()
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    # Text, since rows that share an Arrow block share a schema, and populations have fields of their own.
    items = [{"population": json.dumps(population.plain()), "block": list(block)} for population, block in blocks]
    cores = int(ray.cluster_resources().get("CPU", 1))
    tasks = max(-(-len(items) // MOST_BLOCKS_A_TASK), min(len(items), TASKS_A_CORE * cores))
    data = ray.data.from_items(items, override_num_blocks=tasks).map(_RenderBlock(store), num_cpus=1)
    total, done = sum(block.stop - block.start for _, block in blocks), 0
    failed: dict[str, Exception] = {}
    progress(0, total)
    for row in data.iter_rows():
        if row["failed"]:
            failed[row["address"]] = RunError(row["failed"])
        done += int(row["images"])
        progress(done, total)
    return failed


class _RenderBlock:
    """The function that a Ray Data task runs on a row."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        population, block = Population.parse(json.loads(row["population"])), Block(*row["block"])
        address, failed = population.block_address(block.number), ""
        try:
            with self._store.lease(address):
                if self._store.manifest(address, population) is None:
                    render_block(self._store, population, block)
        except (RunError, InputError) as error:
            failures.record(self._store, population.address, error)
            failed = f"{population.address} failed: {type(error).__name__}: {error}"
        return {"address": population.address, "images": block.stop - block.start, "failed": failed}
