"""Generators of a whole study, before its images are drawn: what can learn at the same time does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial

from scaleback.cluster import runtime
from scaleback.cluster.placement import Placement
from scaleback.cluster.progress import Progress
from scaleback.cluster.render import render
from scaleback.cluster.stages import once
from scaleback.core.store import Store
from scaleback.sources.learnt import Learnt
from scaleback.study.run import Run


def learn_all(runs: Iterable[Run], store: Store, placement: Placement, progress: Progress, *, retry: bool) -> None:
    """Do all that the generators of these runs have not learnt yet; failures are recorded and met by their runs."""
    waiting = _waiting([run.learnt for run in runs], store)
    done, total, threads = 0, len(waiting), runtime.places(placement)
    while ready := [stage for stage, before in waiting.values() if not before & waiting.keys()]:
        possible = [stage for stage in ready if all(store.manifest(one) for one in waiting[stage.address][1])]
        render(store, [(stage.population, stage.images) for stage in possible], progress=progress.rendered)
        with ThreadPoolExecutor(threads) as pool:
            learning = {
                pool.submit(once, stage, store, placement, partial(progress.learnt, stage), retry=retry): stage
                for stage in possible
            }
            for future in as_completed(learning):
                done += 1
                error = future.exception()
                said = "" if error is None else f" failed: {type(error).__name__}: {error}"
                progress.note(f"generators: {done} of {total}, {learning[future].address}{said}")
        for stage in ready:
            del waiting[stage.address]


def _waiting(lists: Iterable[Sequence[Learnt]], store: Store) -> dict[str, tuple[Learnt, set[str]]]:
    """Stages to be done, by address, with the addresses that come before them."""
    found: dict[str, tuple[Learnt, set[str]]] = {}
    for stages in lists:
        for place, stage in enumerate(stages):
            if stage.address not in found and store.manifest(stage.address, stage) is None:
                found[stage.address] = (stage, set())
            if stage.address in found:
                found[stage.address][1].update(one.address for one in stages[:place])
    return found
