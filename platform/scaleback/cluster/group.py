"""Training by several workers: a Ray Train worker group with DDP."""

from __future__ import annotations

import math
import os
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

from scaleback.cluster.asks import Ask
from scaleback.cluster.leaving import save_first
from scaleback.cluster.placement import Placement
from scaleback.cluster.worker import REPORT_EVERY_S, TrainingStage, verb_of
from scaleback.core import memory
from scaleback.core.errors import RunError, ScalebackError
from scaleback.core.store import Store

if TYPE_CHECKING:
    from scaleback.pretrain.world import World

TRAIN_ENVIRONMENT = {
    # How often the controller looks at two workers, which costs 0.5 % of a core times looks a second. A group's end
    # waits for two or three looks; the default is 2 s.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # one more process that polls; ours are warned by SIGTERM
    # How long a group may take to start before its size is chosen anew; the default is 60 s. Ray goes on counting a
    # lost node for half a minute, so a group that shrinks waits for this twice or more.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "15",
}


def train_in_group(spec: TrainingStage, store: Store, placement: Placement) -> None:
    """Run one training with ``placement.workers`` workers. They resume from our checkpoints; Train keeps none.

    A range of them is Train's to choose from: it starts the group anew when a node is lost or joins. Only what fails
    counts against the placement's retries.

    Raises:
        RunError: the group failed more often than the placement allows.
    """
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    for name, value in TRAIN_ENVIRONMENT.items():
        os.environ.setdefault(name, value)  # here, since a driver's environment does not reach a cluster's workers
    use_gpu = placement.gpus_per_worker > 0
    fewest, most = placement.fewest_workers, placement.most_workers
    # A name of its own for every start: Train would resume by name, and what there is to resume is ours.
    name = f"{spec.slug}-{uuid.uuid4().hex[:8]}"
    trainer = TorchTrainer(
        _member,
        train_loop_config={"verb": verb_of(spec), "spec": spec.plain(), "store": store, "placement": placement},
        torch_config=TorchConfig(backend="nccl" if use_gpu else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=most if fewest == most else (fewest, most),  # type: ignore[arg-type]  # as below
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
            worker_runtime_env={"env_vars": memory.ONE_ARENA},  # Train runs a member in a thread
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

    from scaleback.cluster.worker import device_here, run_stage
    from scaleback.pretrain.world import World

    rows, members = _Rows(), ray.train.get_context().get_world_size()

    def report(row: dict[str, Any]) -> None:
        world = World.joined(device_here())
        if world.size == members:  # else some idle, and never report
            rows.pass_on({"stage": config["verb"], **row}, world)

    run_stage(config["verb"], config["spec"], config["store"], config["placement"], report)
    rows.wait()


class _Rows:
    """On their way to Tune. A report is a barrier that waits for the controller to look, so it has its own thread."""

    def __init__(self) -> None:
        self._last_s = -math.inf
        self._thread = threading.Thread()

    def pass_on(self, row: dict[str, Any], world: World) -> None:
        """Report a row, if the last one is old enough and has arrived: worker 0 says so, as all must report alike."""
        import ray.train

        now = time.monotonic()
        if world.told_by_first(now - self._last_s >= REPORT_EVERY_S and not self._thread.is_alive()):
            self.wait()
            self._last_s = now
            self._thread = threading.Thread(target=ray.train.report, args=(row,), daemon=True, name="report")
            self._thread.start()

    def wait(self) -> None:
        """For the row that is on its way."""
        if self._thread.is_alive():
            self._thread.join()


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
