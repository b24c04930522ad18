"""The stages of a run on Ray. Each asks the cluster for what it needs, and does nothing that is done already.

The trial that calls them holds no core and no GPU itself: it waits, and stages that several runs share are computed
by the first and waited for by the others.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, cast

from scaleback.cluster import failures
from scaleback.cluster.asks import Ask
from scaleback.cluster.drawing import Promise
from scaleback.cluster.group import train_in_group
from scaleback.cluster.leaving import saving_first
from scaleback.cluster.placement import Placement
from scaleback.cluster.render import render
from scaleback.cluster.worker import REPORT_EVERY_S, Stage, at_most_every, run_stage, verb_of
from scaleback.core.errors import RunError
from scaleback.core.store import Store
from scaleback.evaluations.run import Evaluate
from scaleback.sources.population import Population
from scaleback.study.run import Run

NONE_PROMISED = Promise("", frozenset())
Report = Callable[[dict[str, Any]], None]


def complete(
    run: Run,
    store: Store,
    placement: Placement,
    report: Report = lambda row: None,
    *,
    retry: bool = False,
    promise: Promise = NONE_PROMISED,
) -> None:
    """Do what is missing of a run: adapt generators, render, pre-train, evaluate.

    Args:
        run: the run.
        store: where its artifacts go.
        placement: what the stages may use.
        report: called with rows of progress.
        retry: do again what failed before for a reason of its own.
        promise: images that are being drawn for it.

    Raises:
        RunError: a stage failed; the failure is recorded at its address.
    """
    missing = [spec for spec in run.evaluates if store.manifest(spec.address, spec) is None]
    if not missing:
        return
    for stage in run.learnt:
        if store.manifest(stage.address, stage) is None:
            _draw(store, placement, [(stage.population, stage.images)], retry, promise)
            once(stage, store, placement, report, retry=retry)
    _draw(store, placement, run.stored(stream=placement.streams), retry, promise)
    if run.pretrain is not None:
        once(run.pretrain, store, placement, report, retry=retry)
    for spec in missing:
        once(spec, store, placement, report, retry=retry)


def _draw(
    store: Store, placement: Placement, wanted: list[tuple[Population, int]], retry: bool, promise: Promise
) -> None:
    for population, images in wanted:
        failures.refuse_failed(store, population.address, retry)
        promise.wait(store, population, images, retry)
    for error in render(store, wanted, ask=Ask.renderer(placement)).values():
        raise error


def once(
    spec: Stage, store: Store, placement: Placement, report: Report = lambda row: None, *, retry: bool = False
) -> None:
    """Compute an artifact unless it is there, or is being made elsewhere.

    Args:
        spec: the stage; what it reads must be there.
        store: where its artifact goes.
        placement: what it may use.
        report: called with rows of progress.
        retry: do it again if it failed before for a reason of its own.

    Raises:
        RunError: it failed; the failure is recorded at its address.
    """
    if store.manifest(spec.address, spec) is not None:
        return
    with store.lease(spec.address), failures.recorded(store, spec.address, retry):
        if store.manifest(spec.address, spec) is not None:
            return
        if not isinstance(spec, Evaluate) and placement.most_workers > 1:
            train_in_group(spec, store, placement)
        else:
            _as_task(spec, store, placement, report)


def _as_task(spec: Stage, store: Store, placement: Placement, report: Report) -> None:
    """Run a stage as one Ray task that streams its progress; if its process dies, start it again where it was."""
    import ray
    from ray.exceptions import NodeDiedError, OutOfMemoryError, RayTaskError, WorkerCrashedError

    verb = verb_of(spec)
    task = ray.remote(_stage).options(
        **Ask.worker(placement).options,
        num_returns="streaming",
        max_retries=0,  # resuming is ours: a retry of Ray's would replay the stream
        scheduling_strategy="DEFAULT",  # not inside the trial's own placement group, which holds no core
        name=f"{verb} {spec.slug}",
    )
    for attempt in range(placement.retries + 1):
        stream = task.remote(verb, spec.plain(), store, placement)
        try:
            for reference in cast(Iterator[Any], stream):
                report({"stage": verb, **ray.get(reference)})
            return
        except (WorkerCrashedError, NodeDiedError, OutOfMemoryError) as error:
            if attempt == placement.retries:
                raise RunError(
                    f"{spec.address}: its process died {attempt + 1} times ({type(error).__name__})"
                ) from error
        except RayTaskError as error:
            raise (error.cause if isinstance(error.cause, Exception) else error) from None
        except BaseException:
            ray.cancel(stream)  # Tune stopped the trial
            raise


def _stage(verb: str, plain: dict[str, Any], store: Store, placement: Placement) -> Iterator[dict[str, Any]]:
    """The body of a stage's task: runs the stage in a thread and yields rows as they come."""
    rows: queue.Queue[dict[str, Any] | None] = queue.Queue()
    failure: list[BaseException] = []

    def work() -> None:
        try:
            run_stage(verb, plain, store, placement, at_most_every(REPORT_EVERY_S, rows.put))
        except BaseException as error:
            failure.append(error)
        finally:
            rows.put(None)

    thread = threading.Thread(target=work, daemon=True, name=f"{verb} stage")
    with saving_first():  # Ray runs this in the main thread
        thread.start()
        while (row := rows.get()) is not None:
            yield row
        thread.join()
    if failure:
        raise failure[0]
