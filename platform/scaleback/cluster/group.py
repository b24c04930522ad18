"""Training by several workers: a Ray Train worker group with DDP."""

from __future__ import annotations

import uuid
from typing import Any

from scaleback.cluster.asks import Ask
from scaleback.cluster.leaving import save_first
from scaleback.cluster.placement import Placement
from scaleback.cluster.worker import TrainingStage, verb_of
from scaleback.core.errors import RunError, ScalebackError
from scaleback.core.store import Store

REPORTED_ROWS = 10
"""Every tenth row of the curve goes to Tune: a report of a group is a barrier that costs a tenth of a second."""


def train_in_group(spec: TrainingStage, store: Store, placement: Placement) -> None:
    """Run one training with ``placement.workers`` workers. They resume from our checkpoints; Train keeps none.

    Raises:
        RunError: the group failed more often than the placement allows.
    """
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    use_gpu = placement.gpus_per_worker > 0
    # A name of its own for every start: Train would resume by name, and what there is to resume is ours.
    name = f"{spec.slug}-{uuid.uuid4().hex[:8]}"
    trainer = TorchTrainer(
        _member,
        train_loop_config={"verb": verb_of(spec), "spec": spec.plain(), "store": store, "placement": placement},
        torch_config=TorchConfig(backend="nccl" if use_gpu else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=placement.workers,
            use_gpu=use_gpu,
            resources_per_worker=Ask.worker(placement).bundle,
            placement_strategy="PACK",  # gradients of neighbours stay off the network
        ),
        run_config=ray.train.RunConfig(  # type: ignore[call-arg]  # mypy sees the class of Train's first version
            name=name,
            storage_path=store.scratch("train"),
            failure_config=ray.train.FailureConfig(max_failures=placement.retries),
            callbacks=_callbacks(),
            logging_config=ray.train.LoggingConfig(log_level="ERROR"),
        ),
    )
    try:
        trainer.fit()
    except ray.train.TrainingFailedError as error:
        raise _cause(error, spec) from None
    finally:
        store.remove(f"scratch/train/{name}")


def _member(config: dict[str, Any]) -> None:
    """One worker of the group."""
    import ray.train

    # Train runs this in a thread, and only the main thread, which serves the actor's calls, may set a signal's handler.
    ray.get(ray.get_runtime_context().current_actor.__ray_call__.remote(_save_first))

    from scaleback.cluster.worker import run_stage

    rows = 0

    def report(row: dict[str, Any]) -> None:
        # By count, not by time: every worker must report at the same steps.
        nonlocal rows
        rows += 1
        if rows % REPORTED_ROWS == 0:
            ray.train.report({"stage": config["verb"], **row})

    run_stage(config["verb"], config["spec"], config["store"], config["placement"], report)


def _save_first(actor: Any) -> None:
    save_first()


def _callbacks() -> list[Any]:
    """Passes rows on to Tune where there is a trial to report to."""
    from ray.tune.integration.ray_train import TuneReportCallback

    try:
        return [TuneReportCallback()]
    except RuntimeError:
        return []


def _cause(error: Exception, spec: TrainingStage) -> Exception:
    """What a worker raised, if it was one of ours."""
    for failure in getattr(error, "worker_failures", {}).values():
        cause = getattr(failure, "cause", failure)
        if isinstance(cause, ScalebackError):
            return cause
    return RunError(f"{spec.address}: {' '.join(str(error).split())[:300]}")
