"""What a study has found so far: scores on storage, as a table."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from scaleback.core.store import Store
from scaleback.evaluations.run import SCORES
from scaleback.scaling.table import Row, Table
from scaleback.study.run import Run
from scaleback.study.study import Point, Study


@dataclass(frozen=True, slots=True)
class Found:
    """A finished run: its point, its spec, its numbers."""

    point: Point
    run: Run
    scores: dict[str, list[dict[str, Any]]]
    """Evaluation to its rows."""
    pretraining: dict[str, Any]
    """The record of its pre-training; empty without one."""


def found_runs(runs: Iterable[tuple[Point, Run]], store: Store) -> Iterator[Found]:
    """The runs whose every evaluation is there."""
    for point, run in runs:
        manifests = [store.manifest(spec.address, spec) for spec in run.evaluates]
        if any(manifest is None for manifest in manifests):
            continue
        scores = {
            spec.short: json.loads(store.read(manifest, SCORES))
            for spec, manifest in zip(run.evaluates, manifests, strict=True)
            if manifest is not None
        }
        pretrained = store.manifest(run.pretrain.address) if run.pretrain else None
        yield Found(point, run, scores, pretrained.record if pretrained else {})


def study_runs(study: Study, store: Store) -> list[tuple[Point, Run]]:
    """Every run of a study: the exhaustive points, and those that a search proposed so far."""
    points = [*study.points(), *proposed_points(study, store)]
    return [(point, study.run(point, seed)) for point in points for seed in study.seeds]


def table_of(found: Iterable[Found]) -> Table:
    """Rows of finished runs."""
    return Table(_rows(found))


def _rows(found: Iterable[Found]) -> Iterator[Row]:
    for one in found:
        for evaluation, scores in one.scores.items():
            for score in scores:
                yield Row(
                    point=one.point.label,
                    values=one.point.values,
                    baseline=bool(one.point.baseline),
                    real_images=one.run.target.real_images,
                    synthetic_images=one.run.target.synthetic_images,
                    searched=one.point.searched,
                    seed=one.run.seed,
                    run=one.run.fingerprint,
                    evaluation=evaluation,
                    collapsed=bool(one.pretraining.get("collapsed", False)),
                    **score,
                )


# Points that a search proposed are kept with the study, one small file each, so that a report finds them again.


def proposed_points(study: Study, store: Store) -> list[Point]:
    """Points that searches of this study have proposed so far."""
    if not study.searched:
        return []
    prefix = proposals_folder(study)
    loaded = [json.loads(store.get(name) or b"{}") for name in store.files(prefix)]
    return [Point(values=values, searched=True) for values in loaded]


def keep_proposal(study: Study, store: Store, point: Point) -> None:
    """Remember a proposed point; its file is named after it, so proposed twice it is kept once."""
    data = json.dumps(dict(point.values), sort_keys=True).encode()
    store.put(f"{proposals_folder(study)}/{hashlib.sha256(data).hexdigest()[:16]}.json", data)


def proposals_folder(study: Study) -> str:
    """Where the proposals of a study lie; asking for more trials goes on with the same ones."""
    return f"study/{study.name}-{study.search_fingerprint[:10]}/proposed"
