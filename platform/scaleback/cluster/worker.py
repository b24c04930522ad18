"""What runs on a worker: device, threads, the stage."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from scaleback.cluster.placement import Placement
from scaleback.core.store import Store
from scaleback.evaluations.run import Evaluate, run_evaluate
from scaleback.pretrain.spec import Pretrain

Report = Callable[[dict[str, Any]], None]


def run_stage(verb: str, plain: dict[str, Any], store: Store, placement: Placement, report: Report) -> None:
    """Run ``pretrain`` or ``evaluate`` in this process, alone or as a member of its process group."""
    import torch

    from scaleback.pretrain.run import run_pretrain
    from scaleback.pretrain.world import World

    torch.set_num_threads(placement.cpus_per_worker)
    world = World.joined(_device())
    if verb == "pretrain":
        run_pretrain(
            Pretrain.parse(plain),
            store,
            world,
            stream=placement.streams,
            checkpoint_every_s=placement.checkpoint_every_s,
            report=report,
        )
    else:
        run_evaluate(
            Evaluate.parse(plain), store, world, checkpoint_every_s=placement.checkpoint_every_s, report=report
        )


def _device() -> Any:
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
