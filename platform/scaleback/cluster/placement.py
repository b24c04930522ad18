"""Where runs happen: workers, accelerators, storage, prices. Never part of identity."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field, field_validator

from scaleback.core.errors import PlacementError, Refusal, refusal, short, unknown
from scaleback.core.plain import is_file, parse_yaml, read_file
from scaleback.core.spec import Spec

FOLDER = Path(__file__).resolve().parents[3] / "clusters"
LAUNCH = FOLDER / "launch"
"""Files that start a cluster, for ``ray up`` and KubeRay; none of them is a placement."""
DEFAULT = "laptop"
DESCRIBED = ConfigDict(use_attribute_docstrings=True)
"""Fields are described in ``placement.schema.json``, by reading the source again: for all specs it would take 0.2 s."""
OWN_NAMES = {"CPU": "cpus", "GPU": "gpus", "memory": "memory_gb"}
"""Resources that Ray knows by itself, and the fields that ask for them."""
RANGE = re.compile(r"([1-9]\d{0,5})\.\.([1-9]\d{0,5})")


class Prices(Spec):
    """What an hour costs, in any one currency."""

    model_config = DESCRIBED
    cpu_hour: float = Field(0.0, ge=0)
    gpu_hour: float = Field(0.0, ge=0)
    currency: str = "USD"


class Placement(Spec):
    """A cluster and how much of it one stage asks for."""

    model_config = DESCRIBED
    address: str = "local"
    """``local`` starts Ray on this machine; ``auto`` joins the running cluster; else a cluster's address."""
    cpus: int | None = Field(None, ge=1)
    """Cores that a local Ray may use; None for all."""
    gpus: int | None = Field(None, ge=0)
    """Accelerators that a local Ray may use; None for all."""
    storage: str = "results"
    """Folder, ``s3://`` or ``gs://``; every node must reach it."""
    render: Literal["store", "stream"] = "store"
    """``stream`` draws images while training reads them and stores none; what a target reads is stored all the same."""
    workers: int | str = Field(1, json_schema_extra={"pattern": RANGE.pattern, "minimum": 1})
    """Workers of one pre-training run; two or more are a DDP group. ``2..8`` goes on with fewer when nodes are lost,
    and grows again; the batch of the whole group stays the same."""
    cpus_per_worker: int = Field(1, ge=1)
    """Cores, and torch's threads: numbers are equal to the bit only at an equal number of threads."""
    gpus_per_worker: float = Field(0.0, ge=0)
    memory_gb_per_worker: float | None = Field(None, gt=0)
    """Memory that a node must have free for a worker; None asks for none."""
    resources_per_worker: dict[str, float] = Field(default_factory=dict)
    """Resources of a cluster's own naming that a node must have, such as ``{trains: 1}``."""
    cpus_per_render: int = Field(1, ge=1)
    """Cores of a task that renders."""
    memory_gb_per_render: float | None = Field(None, gt=0)
    """Memory that a node must have free for a task that renders; None asks for none."""
    resources_per_render: dict[str, float] = Field(default_factory=dict)
    """As for a worker: keeps rendering on the nodes that name them."""
    runs_at_once: int | None = Field(None, ge=1)
    """Runs in progress at a time; None for as many as the cluster has places for, and one more that renders ahead."""
    autoscaling: bool = False
    """Whether the cluster grows on demand, so that what it has now says nothing about what it can hold."""
    checkpoint_every_s: float = Field(60.0, ge=0)
    retries: int = Field(2, ge=0)
    """How often a stage whose process or node died is started again, from its checkpoint."""
    dashboard: bool = True
    """Ray's dashboard on 127.0.0.1; runs of several workers need it."""
    prices: Prices | None = None

    @field_validator("workers", mode="before")
    @classmethod
    def _counted(cls, workers: object) -> object:
        if type(workers) is int and workers >= 1:
            return workers
        few, many = _ends(workers) if isinstance(workers, str) and RANGE.fullmatch(workers) else (1, 0)
        if few >= many:
            raise ValueError(refusal("must be a number from 1, or a range of them such as 2..8", workers))
        return workers

    @property
    def fewest_workers(self) -> int:
        """With fewer a run waits."""
        return self.workers if isinstance(self.workers, int) else _ends(self.workers)[0]

    @property
    def most_workers(self) -> int:
        """Of one run."""
        return self.workers if isinstance(self.workers, int) else _ends(self.workers)[1]

    @field_validator("resources_per_worker", "resources_per_render")
    @classmethod
    def _named(cls, resources: dict[str, float]) -> dict[str, float]:
        for name, amount in resources.items():
            if name in OWN_NAMES:
                raise Refusal(name, f"is not a cluster's own; use {OWN_NAMES[name]}_per_worker or _per_render")
            if amount <= 0:
                raise Refusal(name, refusal("must be greater than 0", amount))
        return resources

    @property
    def streams(self) -> bool:
        """Whether what a run is pre-trained on is drawn as it goes."""
        return self.render == "stream"

    def price(self, worker_hours: float) -> float | None:
        """Money for so many hours of one worker."""
        if self.prices is None:
            return None
        return worker_hours * (
            self.cpus_per_worker * self.prices.cpu_hour + self.gpus_per_worker * self.prices.gpu_hour
        )


def _ends(workers: str) -> tuple[int, int]:
    few, _, many = workers.partition("..")
    return int(few), int(many)


def load_placement(name: str, overrides: Mapping[str, Any]) -> Placement:
    """A placement by the name of a file in ``clusters/``, or by path.

    Raises:
        PlacementError: no such file, or not a placement; the message names the field.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if name == DEFAULT and not is_file(path):
        return Placement.parse(dict(overrides), at="placement")  # installed without the repository
    known = sorted(file.stem for file in FOLDER.glob("*.yaml"))
    found = is_file(path)
    launches = LAUNCH in path.resolve().parents or (not found and is_file(LAUNCH / f"{name}.yaml"))
    if launches:
        rule = f"must be one of {', '.join(known)} or a file like them; files in clusters/launch only start a cluster"
        raise PlacementError(f"--placement: {refusal(rule, name)}")
    if not found:
        raise PlacementError(f"--placement: {unknown('placement', name, known)}")
    plain = parse_yaml(read_file(path, "--placement"), f"--placement {name}")
    if not isinstance(plain, dict):
        raise PlacementError(f"--placement: {path} must hold fields of a placement; got {short(plain)}")
    return Placement.parse({**plain, **overrides}, at=f"placement {name}")
