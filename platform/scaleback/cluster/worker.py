"""What runs on a worker: device, threads, the stage."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from scaleback.cluster.placement import Placement
from scaleback.core import memory
from scaleback.core.store import Store
from scaleback.evaluations.run import Evaluate, run_evaluate
from scaleback.pretrain.spec import Pretrain
from scaleback.sources.learnt import Adapted, Captioned, Judged, Learnt, Trained

TrainingStage: TypeAlias = Learnt | Pretrain
Stage: TypeAlias = TrainingStage | Evaluate
VERBS: Mapping[str, type[Stage]] = {
    "generator": Trained,
    "captions": Captioned,
    "adapt": Adapted,
    "judge": Judged,
    "pretrain": Pretrain,
    "evaluate": Evaluate,
}
Report = Callable[[dict[str, Any]], None]
REPORT_EVERY_S = 1.0
"""Rows of a curve reach Tune at most this often; all of them are in the artifact."""


def verb_of(stage: Stage) -> str:
    """The first part of its address."""
    return stage.address.partition("/")[0]


@memory.kept()
def run_stage(verb: str, plain: dict[str, Any], store: Store, placement: Placement, report: Report) -> None:
    """Run a stage in this process, alone or as a member of its process group."""
    import torch

    from scaleback.adapt.run import run_learning
    from scaleback.pretrain.run import run_pretrain
    from scaleback.pretrain.world import World

    torch.set_num_threads(placement.cpus_per_worker)
    world = World.joined(device_here())
    spec, every_s = VERBS[verb].parse(plain), placement.checkpoint_every_s
    match spec:
        case Pretrain():
            run_pretrain(spec, store, world, stream=placement.streams, checkpoint_every_s=every_s, report=report)
        case Evaluate():
            run_evaluate(spec, store, world, checkpoint_every_s=every_s, report=report)
        case _:
            run_learning(spec, store, world, checkpoint_every_s=every_s, report=report)


def device_here() -> Any:
    """The GPU that Ray gave this process, or the CPU."""
    import ray
    import torch

    if ray.get_gpu_ids() and torch.cuda.is_available():
        return torch.device("cuda", 0)  # Ray hides the others
    return torch.device("cpu")


def at_most_every(seconds: float, report: Report) -> Report:
    """Pass on a row only if the last one passed is at least so old."""
    last_s = -math.inf

    def pass_on(row: dict[str, Any]) -> None:
        nonlocal last_s
        now = time.monotonic()
        if now - last_s >= seconds:
            last_s = now
            report(row)

    return pass_on
