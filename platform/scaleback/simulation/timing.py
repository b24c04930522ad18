"""How long stages take, by what was measured of others: the records of the artifacts of a store."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from scaleback.core.errors import InputError
from scaleback.core.spec import Spec
from scaleback.core.store import Manifest, Store
from scaleback.evaluations.run import Evaluate
from scaleback.pretrain.spec import Pretrain
from scaleback.simulation.work import Job, Stage
from scaleback.sources.learnt import Adapted, Captioned, Judged, Trained
from scaleback.sources.population import Population
from scaleback.study.plan import BYTES_PER_PARAMETER, IMAGE_BYTES_SHARE

SAMPLE = 20
"""Artifacts of one kind that are read at most."""
VERBS: dict[str, type[Spec]] = {
    "render": Population,
    "pretrain": Pretrain,
    "evaluate": Evaluate,
    "generator": Trained,
    "captions": Captioned,
    "adapt": Adapted,
    "judge": Judged,
}
SECONDS = ("train_s", "ready_s", "evaluate_s", "caption_s")
CHECKPOINT_COPIES = 3
"""Weights and an optimizer's two moments."""
FILES_A_STAGE = 4
"""Requests of a stage beside its blocks: manifest and file of the weights that it reads, and of what it writes."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One artifact: what it is of, what it took."""

    spec: Any
    seconds: float
    """Of one worker."""
    images: int = 0
    written_bytes: int = 0


@dataclass(frozen=True)
class Timing:
    """Answers by the closest that was measured; what nothing tells is refused.

    The closest is the stage itself, then the same model and method, the same kind, any pre-training by its operations.
    """

    storage: str
    measured: dict[str, list[Measured]] = field(default_factory=dict)
    """By verb."""

    @classmethod
    def of(cls, store: Store) -> Timing:
        """What a store tells."""
        found: dict[str, list[Measured]] = {verb: [] for verb in VERBS}
        for verb, form in VERBS.items():
            for manifest in _some(store, verb):
                one = _measured(form, manifest)
                if one is not None:
                    found[verb].append(one)
        return cls(store.root, found)

    def job(self, stage: Stage) -> Job:
        """A stage as a job.

        Raises:
            InputError: nothing like it was measured.
        """
        parameters_bytes = float(BYTES_PER_PARAMETER * _parameters(stage))
        reads = reads_of(stage)
        read = sum(images * self.image_bytes(population) for population, images in reads)
        blocks = sum(self._blocks(population, images) for population, images in reads)
        weights = parameters_bytes if isinstance(stage, Evaluate) and stage.pretrain is not None else 0.0
        return Job(
            name=stage.address,
            seconds=self._seconds(stage),
            read_bytes=read + weights,
            written_bytes=0.0 if isinstance(stage, Evaluate) else parameters_bytes,
            requests=2 * int(blocks) + FILES_A_STAGE,
            checkpoint_bytes=CHECKPOINT_COPIES * parameters_bytes,
            grouped=not isinstance(stage, Evaluate),
        )

    def image_s(self, population: Population) -> float:
        """Seconds of one core, or one GPU, for an image of a population.

        Raises:
            InputError: no image of the kind was drawn yet.
        """
        source = population.source
        drawn = [one for one in self.measured.get("render", []) if one.spec.source.short == source.short]
        if not drawn:
            raise self._unknown("render", source.short)
        same = [one for one in drawn if one.spec.source == source] or drawn
        return _area(population) * statistics.median(one.seconds / one.images / _area(one.spec) for one in same)

    def image_bytes(self, population: Population) -> float:
        """Bytes of an image in its block: as measured, or by its raw size."""
        known, short = self._found, population.source.short
        if ("bytes", short) not in known:
            drawn = [one for one in self.measured.get("render", []) if one.spec.source.short == short]
            each = [one.written_bytes / one.images / _area(one.spec) for one in drawn]
            known["bytes", short] = statistics.median(each) if each else population.source.shape[2] * IMAGE_BYTES_SHARE
        return _area(population) * known["bytes", short]

    def _blocks(self, population: Population, images: int) -> float:
        """How many blocks hold so many images."""
        key = ("blocks", population.source.short, population.source.shape, images)
        if key not in self._found:
            self._found[key] = population.whole_blocks(images)[0]
        return self._found[key]

    def _seconds(self, stage: Stage) -> float:
        verb, size = stage.address.partition("/")[0], _size(stage)
        exact = self._exact.get(stage.address)
        return exact if exact is not None else size * self._rate(verb, stage)

    def _rate(self, verb: str, stage: Stage) -> float:
        """Seconds of one unit of a stage's size; the same for all stages of a model and a method."""
        key = (verb, stage.short, _backbone(stage))
        if key not in self._found:
            alike = [one for one in self.measured.get(verb, []) if one.spec.short == stage.short]
            same = [one for one in alike if _backbone(one.spec) == _backbone(stage)] or alike
            rates = [one.seconds / _size(one.spec) for one in same]
            self._found[key] = statistics.median(rates) if rates else self._by_operations(verb, stage)
        return self._found[key]

    def _by_operations(self, verb: str, stage: Stage) -> float:
        """Seconds of an operation of pre-training, for what counts its operations too."""
        rates = [one.seconds / _size(one.spec) for one in self.measured.get("pretrain", [])]
        trains = isinstance(stage, Pretrain) or (
            isinstance(stage, Evaluate) and stage.evaluation.training_images(stage.target) > 0
        )
        if not rates or not trains:
            raise self._unknown(verb, stage.short)
        return statistics.median(rates)

    @cached_property
    def _exact(self) -> dict[str, float]:
        """Seconds of the stages themselves, where they were measured."""
        staged = [one for verb, found in self.measured.items() if verb != "render" for one in found]
        return {one.spec.address: one.seconds for one in staged}

    @cached_property
    def _found(self) -> dict[Any, float]:
        """What was asked before."""
        return {}

    def _unknown(self, verb: str, short: str) -> InputError:
        return InputError(
            f"--storage: {self.storage} holds no measured {verb} of {short}; run a part of the study there first, "
            "such as one value of each axis and --seeds 0"
        )


def staged(manifest: Manifest) -> tuple[Stage, float] | None:
    """The stage behind an artifact that one worker made, and what it took; None where that was not counted."""
    form = VERBS[manifest.address.partition("/")[0]]
    one = _measured(form, manifest)
    return None if one is None else (one.spec, one.seconds)


def _some(store: Store, verb: str) -> Iterator[Manifest]:
    """A few artifacts of each kind, by the readable part of their names: of a population its later, larger blocks."""
    taken: dict[str, int] = {}
    for address in reversed(store.addresses(verb)):
        kind = address.split("/")[1].rpartition("-")[0]
        if taken.get(kind, 0) < SAMPLE:
            manifest = store.manifest(address)
            if manifest is not None:
                taken[kind] = taken.get(kind, 0) + 1
                yield manifest


def _measured(form: type[Spec], manifest: Manifest) -> Measured | None:
    record = manifest.record
    if form is Population:
        images = int(record["stop"]) - int(record["start"])
        return Measured(Population.parse(manifest.spec), float(record["seconds"]), images, manifest.bytes)
    seconds = sum(float(record.get(name, 0.0)) for name in SECONDS) * int(record.get("workers", 1))
    if not seconds or record.get("stopped_early"):
        return None  # weights that came with the package, or a run that ended before its budget did
    return Measured(form.parse(manifest.spec), seconds, 0, manifest.bytes)


def _size(stage: Any) -> float:
    """Operations of a stage that counts them; image passes of a generator's training."""
    match stage:
        case Pretrain():
            return float(stage.sized_recipe.budget_images * stage.flops_an_image)
        case Evaluate():
            cost, target = stage.backbone.cost(), stage.target
            looked_at = target.training_images + target.test_images
            trained = stage.evaluation.training_images(target)
            return float(trained * cost.training_flops + looked_at * cost.forward_flops)
        case _:
            return float(stage.budget_images)


def _backbone(stage: Any) -> str | None:
    backbone = getattr(stage, "backbone", None)
    return None if backbone is None else backbone.fingerprint


def _parameters(stage: Stage) -> int:
    return stage.backbone.cost().parameters if isinstance(stage, Pretrain | Evaluate | Judged) else 0


def reads_of(stage: Stage) -> list[tuple[Population, int]]:
    """Populations that a stage reads images of, and how many."""
    match stage:
        case Evaluate():
            return [*stage.target.stored(stage.seed), *stage.evaluation.stored()]
        case Pretrain():
            return [] if stage.population.source.fresh else [(stage.population, stage.images)]
        case _:
            return [(stage.population, stage.images)]


def _area(population: Population) -> int:
    return population.source.shape[0] * population.source.shape[1]
