"""One evaluation, from weights on storage to scores on storage."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from scaleback.backbones import Backbone
from scaleback.core.spec import Spec
from scaleback.core.store import Manifest, Store
from scaleback.evaluations import AnyEvaluation, Target
from scaleback.evaluations.base import Task, scores_as_rows
from scaleback.pretrain.spec import Pretrain
from scaleback.sources.population import joined, load_images

if TYPE_CHECKING:
    from scaleback.pretrain.world import World

SCORES = "scores.json"


class Evaluate(Spec):
    """The stage whose artifact is scores. Without ``pretrain``, the backbone has fresh weights."""

    evaluation: AnyEvaluation
    target: Target
    backbone: Backbone
    pretrain: Pretrain | None = None
    seed: int
    origin: str | None = None
    """Digest of the files behind the target and the evaluation."""

    @property
    def short(self) -> str:
        return self.evaluation.short

    @property
    def address(self) -> str:
        """``evaluate/<protocol>-<hash>``."""
        return f"evaluate/{self.slug}"


def run_evaluate(
    spec: Evaluate,
    store: Store,
    world: World,
    *,
    checkpoint_every_s: float = 60.0,
    report: Callable[[dict[str, float]], None] = lambda row: None,
) -> Manifest:
    """Score and publish ``evaluate/<slug>``."""
    from scaleback.pretrain.checkpoint import Checkpoints
    from scaleback.pretrain.run import load_backbone

    begun = time.perf_counter()
    classes = spec.target.data.class_count()
    assert classes is not None, "a run refuses an unlabelled target"
    real, *made, test = (load_images(store, *part) for part in spec.target.stored(spec.seed))
    others = [load_images(store, population, images) for population, images in spec.evaluation.stored()]
    checkpoints = Checkpoints(store, spec.address, spec, checkpoint_every_s)
    task = Task(
        backbone=load_backbone(store, spec.backbone, spec.seed, spec.pretrain),
        train=joined(*([real] if spec.target.real_images else []), *made),
        real=real,
        made=made[0] if made else None,
        test=test,
        others=others,
        classes=classes,
        image_px=spec.backbone.image_px,
        channels=spec.backbone.channels,
        seed=spec.seed,
        world=world,
        checkpoints=checkpoints,
        report=report,
    )
    scores = scores_as_rows(spec.evaluation.score(task))
    record: dict[str, Any] = {"evaluate_s": time.perf_counter() - begun, "test_images": len(task.test)}
    files = {SCORES: json.dumps(scores).encode(), **task.files}
    manifest = store.publish(spec.address, files, spec=spec, record=record)
    checkpoints.clear()
    return manifest
