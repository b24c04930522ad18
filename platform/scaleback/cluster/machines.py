"""The cluster of a simulation, never part of identity: nodes, what they lose, storage, the driver, and overheads."""

from __future__ import annotations

from pydantic import Field

from scaleback.core.spec import Spec


class Overheads(Spec):
    """Seconds that are spent on no stage's own work.

    The defaults are of Ray 2.60 on two cores, as measured for this project: one run each, good to about 30 %.
    ``jobs/simulate_cluster.py --check`` measures them anew.
    """

    ray_start_s: float = Field(5.0, ge=0)
    """Ray's own start, with its dashboard."""
    ray_stop_s: float = Field(1.5, ge=0)
    render_start_s: float = Field(3.0, ge=0)
    """The first execution of Ray Data, and what a source compiles."""
    task_s: float = Field(0.1, ge=0)
    """A core is idle for so long between two render tasks."""
    first_trial_s: float = Field(1.0, ge=0)
    """A trial's process starts; each of the runs in progress has one, and keeps it."""
    trial_s: float = Field(0.1, ge=0)
    """From the end of a trial to the first stage of the next in its process."""
    import_s: float = Field(4.0, ge=0)
    """A process imports torch; it is kept, so each place pays once."""
    stage_s: float = Field(0.1, ge=0)
    """A stage's task beside what its record counts: its start, its lease, publishing."""
    group_s: float = Field(9.0, ge=0)
    """The start of a worker group."""


class Machines(Spec):
    """Equal nodes, and what they share."""

    nodes: int = Field(ge=1, le=100_000)
    cores: int = Field(ge=1)
    """Of a node."""
    gpus: int = Field(0, ge=0)
    """Of a node."""
    price_hour: float = Field(0.0, ge=0)
    """Of a node, from its start to the end of the study; one that is lost is not paid for until it is replaced."""
    speed: float = Field(1.0, gt=0)
    """How many times as fast stages are as when they were measured."""
    start_s: float = Field(0.0, ge=0)
    """Until nodes are there."""
    failure_hours: float | None = Field(None, gt=0)
    """Mean time between the failures of a node; None for never."""
    spot_losses_per_hour: float = Field(0.0, ge=0)
    """How often the cloud takes a node back."""
    replace_s: float = Field(120.0, ge=0)
    """Until a lost node is replaced."""
    storage_bytes_per_s: float | None = Field(None, gt=0)
    """Of all readers and writers together; None for more than they need."""
    stream_bytes_per_s: float | None = Field(None, gt=0)
    """Of one reader or writer."""
    storage_requests_per_s: float | None = Field(None, gt=0)
    """Of the whole storage; None for more than is asked for."""
    latency_s: float = Field(0.0, ge=0)
    """Of one request; the requests of a stage follow one another."""
    trials_per_s: float = Field(28.0, gt=0)
    """What Tune can start: 1,691 a minute were measured, with trials that do nothing."""
    tasks_per_s: float = Field(600.0, gt=0)
    """Render tasks that the driver can submit and hear the end of: a thousand that do nothing took 0.8 to 1.9 s.

    Stages of runs are submitted by the processes of their trials.
    """
    seed: int = 0
    """Of the failures."""
    overheads: Overheads = Overheads()

    @property
    def losses_per_s(self) -> float:
        """Rate at which one node is lost, for either reason."""
        failing = 0.0 if self.failure_hours is None else 1 / self.failure_hours
        return (failing + self.spot_losses_per_hour) / 3_600
