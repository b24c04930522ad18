"""What a study has to do and what is there already: known without a cluster, and without touching anything."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from scaleback.core.store import FAILURE, Store
from scaleback.evaluations.run import Evaluate
from scaleback.pretrain.spec import Pretrain
from scaleback.sources.learnt import Learnt
from scaleback.sources.population import Population
from scaleback.study.run import Run
from scaleback.study.study import Point, Study

RATE_SAMPLE = 20
"""Finished runs whose speed is averaged."""
BYTES_PER_PARAMETER = 4
IMAGE_BYTES_SHARE = 0.5
"""Stored size of an image over its raw size; zstd makes masks smaller and photos about this."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One run of a study, and how far it is."""

    point: Point
    run: Run
    missing: tuple[str, ...]
    """Addresses of its evaluations that are not there yet."""
    failed: str | None
    """Address of the stage that failed, if one did."""

    @property
    def done(self) -> bool:
        return not self.missing


@dataclass(slots=True)
class Plan:
    """The runs of a study and the stages that are still to be done, each once however many runs share it."""

    runs: list[Planned] = field(default_factory=list)
    learnt: dict[str, Learnt] = field(default_factory=dict)
    """Generators to be trained and adapted."""
    pretrains: dict[str, Pretrain] = field(default_factory=dict)
    evaluates: dict[str, Evaluate] = field(default_factory=dict)
    images: dict[str, tuple[Population, int]] = field(default_factory=dict)
    """Population to the number of images that runs still to be done need of it."""
    images_missing: int = 0
    images_stored: int = 0
    bytes_missing: float = 0.0
    flops_per_s: float | None = None
    """Measured on finished runs of this store; None before the first."""

    @property
    def to_do(self) -> list[Planned]:
        """Runs that are not done."""
        return [planned for planned in self.runs if not planned.done]

    @property
    def failed(self) -> list[Planned]:
        """Runs that a recorded failure stands in the way of."""
        return [planned for planned in self.runs if planned.failed and not planned.done]

    @property
    def pretrain_flops(self) -> float:
        """Operations of pre-training still to be done."""
        return float(sum(spec.sized_recipe.budget_images * spec.flops_an_image for spec in self.pretrains.values()))

    @property
    def evaluate_flops(self) -> float:
        """Operations of training inside the evaluations still to be done."""
        specs = self.evaluates.values()
        return float(
            sum(spec.evaluation.training_images(spec.target) * spec.backbone.cost().training_flops for spec in specs)
        )

    @property
    def worker_hours(self) -> float | None:
        """Hours of one worker at the measured rate."""
        if self.flops_per_s is None:
            return None
        return (self.pretrain_flops + self.evaluate_flops) / self.flops_per_s / 3600


class Inventory:
    """One listing of a store; asking it costs nothing."""

    def __init__(self, store: Store) -> None:
        self.store = store
        verbs = ("captions", "generator", "adapt", "judge", "render", "pretrain", "evaluate")
        names = [name for verb in verbs for name in store.files(verb)]
        self._held = {name.rpartition("/")[0] for name in names if name.endswith("/manifest.json")}
        self._begun = {address.rpartition("/")[0] for address in self._held}
        self._failed = {name.rpartition("/")[0] for name in names if name.endswith(f"/{FAILURE}")}

    def holds(self, address: str) -> bool:
        """Whether a whole artifact lies there."""
        return address in self._held

    def holds_below(self, address: str) -> bool:
        """Whether any artifact lies below, such as a block of a population."""
        return address in self._begun

    def failed(self, address: str) -> bool:
        """Whether a failure record lies there."""
        return address in self._failed

    @property
    def any_failed(self) -> bool:
        """Whether a failure record lies anywhere."""
        return bool(self._failed)

    def flops_per_s(self) -> float | None:
        """Median speed of pre-training among some finished runs."""
        rates: list[float] = []
        for address in sorted(self._held):
            if not address.startswith("pretrain/") or address.count("/") != 1 or len(rates) == RATE_SAMPLE:
                continue
            manifest = self.store.manifest(address)
            if manifest is not None and manifest.record.get("train_s"):
                spec = Pretrain.parse(manifest.spec)
                flops = manifest.record["images_seen"] * spec.flops_an_image
                rates.append(flops / manifest.record["train_s"] / manifest.record["workers"])
        return statistics.median(rates) if rates else None


def plan_study(study: Study, store: Store, *, stream: bool = False) -> Plan:
    """The plan of a study's exhaustive points (searched ones are proposed while it runs).

    With ``stream``, what runs are pre-trained on is not stored.

    Raises:
        DataError: a file that a run would read cannot be read.
    """
    points = ((point, study.run(point, seed)) for point in study.points() for seed in study.seeds)
    plan = plan_runs(points, store, stream=stream)
    # Runs of one study differ in few fields; each source they name is looked at once.
    runs = [study.base, *(planned.run for planned in plan.to_do)]
    by_sources = {(run.source, run.images > 0, run.target): run for run in runs}
    for run in by_sources.values():
        run.verify()
    return plan


def plan_runs(runs: Iterable[tuple[Point, Run]], store: Store, *, stream: bool = False) -> Plan:
    """What these runs need, compared with what the store holds."""
    inventory = Inventory(store)
    plan = Plan(flops_per_s=inventory.flops_per_s())
    for point, run in runs:
        evaluates = {spec.address: spec for spec in run.evaluates}
        missing = tuple(address for address in evaluates if not inventory.holds(address))
        plan.runs.append(Planned(point, run, missing, _failure(run, inventory)))
        if missing:
            plan.evaluates |= {address: evaluates[address] for address in missing}
            _add_stages(plan, run, inventory, stream)
    _count_images(plan, inventory)
    return plan


def _add_stages(plan: Plan, run: Run, inventory: Inventory, stream: bool) -> None:
    if run.pretrain is not None and not inventory.holds(address := run.pretrain.address):
        plan.pretrains[address] = run.pretrain
    learnt = [stage for stage in run.learnt if not inventory.holds(stage.address)]
    plan.learnt |= {stage.address: stage for stage in learnt}
    for population, images in [*((stage.population, stage.images) for stage in learnt), *run.stored(stream=stream)]:
        address = population.address
        known = plan.images.get(address, (population, 0))[1]
        plan.images[address] = (population, max(images, known))


def _count_images(plan: Plan, inventory: Inventory) -> None:
    for population, images in plan.images.values():
        height, width, channels = population.source.shape
        # A hundred million images are 24,000 blocks: they are gone through only where some are there.
        begun = inventory.holds_below(population.address)
        blocks = population.blocks(images) if begun else []
        held = [block for block in blocks if inventory.holds(population.block_address(block.number))]
        stored = sum(block.stop - block.start for block in held)
        missing = population.whole_blocks(images)[1] - stored
        plan.images_stored += stored
        plan.images_missing += missing
        plan.bytes_missing += missing * height * width * channels * IMAGE_BYTES_SHARE
    for pretrain in plan.pretrains.values():
        # Weights, and while it runs a learner, two moments and perhaps an average, in two checkpoints.
        plan.bytes_missing += BYTES_PER_PARAMETER * pretrain.backbone.cost().parameters


def _failure(run: Run, inventory: Inventory) -> str | None:
    if not inventory.any_failed:
        return None
    stages: Sequence[Learnt | Pretrain | Evaluate] = [
        *run.learnt,
        *([run.pretrain] if run.pretrain else []),
        *run.evaluates,
    ]
    addresses = [population.address for population, _ in run.stored(stream=False)] + [stage.address for stage in stages]
    return next((address for address in addresses if inventory.failed(address)), None)
