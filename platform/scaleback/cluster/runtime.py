"""Starting Ray, quietly, and refusing at once what the cluster cannot hold."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from scaleback.cluster.asks import Ask, Node, described
from scaleback.cluster.placement import Placement
from scaleback.core.errors import PlacementError

PACKAGE = Path(__file__).resolve().parents[1]
IDLE_WORKER_S, BESIDE_GROUP_S = 600, 30
"""A worker that has imported torch is kept this long. Ray's own limit is one second once there are more processes than
cores, and then every stage pays the import again (2 to 5 s). It wakes a hundred times a second, which is 1 % of a core,
and each wait of a group's worker is one of all: so it leaves before long where groups train."""
REACH_S = 10.0
"""How long a cluster may take to answer at all."""
ENVIRONMENT = {
    # Read by Ray when it is imported, so they are set before.
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DEDUP_LOGS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # rows of progress carry no measure; the last report of a trial does
}
QUIET_LOGGERS = ("ray", "ray.data", "ray.tune", "ray.train", "ray._private")


def in_job() -> bool:
    """Whether this process is the driver of a submitted Ray job."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


@contextlib.contextmanager
def cluster(placement: Placement) -> Iterator[None]:
    """Ray for the length of a study; a cluster that was there before is left as it was.

    Raises:
        PlacementError: it cannot be reached, or cannot hold what one stage asks for.
    """
    prepare_environment(placement)
    import ray

    if ray.is_initialized():
        refuse_impossible(placement)
        yield
        return
    try:
        _refuse_silence(placement.address)
        _start(placement)
    except (OSError, ValueError, RuntimeError) as error:
        text = " ".join(str(error).split())[:200]
        raise PlacementError(
            f"placement.address: cannot reach a Ray cluster at {placement.address!r} ({text})"
        ) from error
    try:
        refuse_impossible(placement)
        yield
    finally:
        ray.shutdown()


def prepare_environment(placement: Placement) -> None:
    """Variables that Ray reads at import; what the user has set is kept."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if placement.autoscaling:
        # Ray says on stdout that what asks for nodes to come cannot be scheduled.
        os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "infeasible resource requests")
    if placement.address == "local" and not in_job():
        idle_s = BESIDE_GROUP_S if placement.most_workers > 1 else IDLE_WORKER_S
        os.environ.setdefault("RAY_idle_worker_killing_time_threshold_ms", str(1_000 * idle_s))
        # Ray gives its workers 15 and its daemons 0, so that what a daemon polls for comes before a step of training.
        os.environ.setdefault("RAY_worker_niceness", "0")
    warnings.filterwarnings("ignore", category=DeprecationWarning, module="ray")


def _refuse_silence(address: str) -> None:
    """Raise OSError if nothing listens at HOST:PORT: Ray itself waits for a minute, and then ends the process."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit():
        with socket.create_connection((host.rpartition("/")[2].strip("[]"), int(port)), REACH_S):
            pass


def _start(placement: Placement) -> None:
    import ray

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if in_job():
        # The job's own cluster; its workers get this package from the driver, not from their image.
        options["runtime_env"] = {"py_modules": [str(PACKAGE)]}
    elif placement.address == "local":
        options |= {
            "address": "local",
            "num_cpus": placement.cpus,
            "num_gpus": placement.gpus,
            "include_dashboard": placement.dashboard,
        }
    else:
        options |= {"address": placement.address, "runtime_env": {"py_modules": [str(PACKAGE)]}}
    with batch_policy():
        ray.init(**options)
    quiet()


@contextlib.contextmanager
def batch_policy() -> Iterator[None]:
    """Processes and threads started within are batch work (sched(7)), where the system knows it and lets us.

    A dozen processes of Ray wake a hundred times a second each to look whether there is something to do. As batch work
    they wait for the end of a computing process' slice, some milliseconds, and do not interrupt it. Whoever has chosen
    another policy for this process keeps it.
    """
    if not hasattr(os, "SCHED_BATCH") or os.sched_getscheduler(0) != os.SCHED_OTHER:
        yield
        return
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def quiet() -> None:
    """Silence Ray's loggers; to be called again after an import that sets their levels."""
    for name in QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)


def refuse_impossible(placement: Placement) -> None:
    """Ray waits in silence for resources that will never come; so ask before.

    Raises:
        PlacementError: the cluster is too small, or none of its nodes is large enough; the message says what it has.
    """
    if placement.autoscaling:
        return
    found = nodes()
    for ask, count, what in (
        (Ask.worker(placement), placement.fewest_workers, "one run"),
        (Ask.renderer(placement), 1, "rendering"),
    ):
        room = ask.room(found)
        if room < count:
            each = f"{count} workers on nodes with {ask} each" if count > 1 else f"a node with {ask}"
            raise PlacementError(f"placement: {what} asks for {each}; the cluster has {inventory(found)}{_rest(room)}")


def _rest(room: int) -> str:
    return f", room for {room}" if room else ""


def nodes() -> list[Node]:
    """Resources of each node that is alive."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def inventory(found: Iterable[Node]) -> str:
    """What each kind of node has: ``2 x (4 CPU, 16 GB memory), 1 x (8 CPU, 1 GPU)``."""
    kinds = Counter(described(node) for node in found)
    return ", ".join(f"{count} x ({kind})" for kind, count in kinds.items()) or "no node"


def places(placement: Placement) -> int:
    """How many runs can train at the same time."""
    return max(1, Ask.worker(placement).room(nodes()) // placement.most_workers)


def no_core() -> Any:
    """What a trial asks for: nothing, for it only waits for stages.

    A thousandth of the head node's own mark is the way to say so to Tune, which refuses an empty request.
    """
    return {"cpu": 0, "node:__internal_head__": 0.001}


def where() -> str:
    """One line about the cluster."""
    import ray

    has = ray.cluster_resources()
    parts = [f"{has[name]:g} {name}" for name in ("CPU", "GPU") if has.get(name)] or ["no core yet"]
    url = ray._private.worker.get_dashboard_url()
    dashboard = f", dashboard http://{url}" if url else ""
    return f"Ray is up: {', '.join(parts)} on {len(ray.nodes())} node{'s' if len(ray.nodes()) > 1 else ''}{dashboard}"
