"""Checkpoint in, named numbers out. A new evaluation costs a file and a line of ``EVALUATIONS``.

This room stands above ``pretrain``: fine-tuning is training, and there is one training loop.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

from scaleback.core.spec import variants
from scaleback.evaluations.base import Evaluation, Score, Target
from scaleback.evaluations.classifier import Classifier
from scaleback.evaluations.confidences import Confidences
from scaleback.evaluations.finetune import FineTune
from scaleback.evaluations.frozen import KNN, Linear
from scaleback.evaluations.quality import Quality

EVALUATIONS: Mapping[str, type[Evaluation]] = {
    "finetune": FineTune,
    "linear": Linear,
    "knn": KNN,
    "classifier": Classifier,
    "quality": Quality,
    "confidences": Confidences,
}

if TYPE_CHECKING:
    AnyEvaluation: TypeAlias = Evaluation
else:
    AnyEvaluation = variants(EVALUATIONS)

__all__ = ["EVALUATIONS", "AnyEvaluation", "Evaluation", "Score", "Target"]
