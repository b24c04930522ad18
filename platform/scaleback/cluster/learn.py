"""Generators of a whole study, before its images are drawn: what can learn at the same time does."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial

from scaleback.cluster import runtime
from scaleback.cluster.asks import Ask
from scaleback.cluster.placement import Placement
from scaleback.cluster.progress import Progress
from scaleback.cluster.render import render
from scaleback.cluster.stages import once
from scaleback.core.store import Store
from scaleback.sources.learnt import before, waves
from scaleback.study.run import Run


def learn_all(runs: Iterable[Run], store: Store, placement: Placement, progress: Progress, *, retry: bool) -> None:
    """Do all that the generators of these runs have not learnt yet; failures are recorded and met by their runs."""
    stages = {stage.address: stage for run in runs for stage in run.learnt}
    missing = [stage for address, stage in stages.items() if store.manifest(address, stage) is None]
    done, threads = 0, runtime.places(placement)
    for ready in waves(missing):
        possible = [stage for stage in ready if all(store.manifest(one.address) for one in before(stage))]
        wanted = [(stage.population, stage.images) for stage in possible]
        render(store, wanted, ask=Ask.renderer(placement), progress=progress.rendered)
        with ThreadPoolExecutor(threads) as pool:
            learning = {
                pool.submit(once, stage, store, placement, partial(progress.learnt, stage), retry=retry): stage
                for stage in possible
            }
            for future in as_completed(learning):
                done += 1
                error = future.exception()
                said = "" if error is None else f" failed: {type(error).__name__}: {error}"
                progress.note(f"generators: {done} of {len(missing)}, {learning[future].address}{said}")
