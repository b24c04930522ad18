"""Pre-training methods. A new one costs a file and a line of ``OBJECTIVES``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, TypeAlias

from scaleback.core.spec import presets, variants
from scaleback.objectives.base import Objective
from scaleback.objectives.classify import Classify
from scaleback.objectives.moco import MoCoV3
from scaleback.objectives.sdmp_moco import SDMPMoCoV3

OBJECTIVES: Mapping[str, type[Objective]] = {
    "classify": Classify,
    "moco-v3": MoCoV3,
    "sdmp-moco-v3": SDMPMoCoV3,
}

OBJECTIVE_PRESETS: Mapping[str, Objective] = {
    # 1p-frac and OFDB train with timm's mixup 0.8, CutMix 1.0, smoothing 0.1 (released scripts).
    "1p-frac": Classify(mixup=0.8, cutmix=1.0),
    "classify": Classify(),
    "moco-v3": MoCoV3(),
    "moco-v3-resnet": MoCoV3(temperature=1.0, projector_layers=2, predictor_norm=False),
    # Small runs have some hundred steps, in which a momentum encoder of 0.99 hardly moves.
    "moco-v3-small": MoCoV3(hidden=256, output=64, momentum=0.95),
    "sdmp-moco-v3": SDMPMoCoV3(),
    # The first release, whose second loss is still the paper's; lambda_c is taken from the partner's own share.
    "sdmp-moco-v3-code": SDMPMoCoV3(mixers=("resizemix",), pairing="global", mix_weight=0.5, symmetric=False),
    "sdmp-moco-v3-small": SDMPMoCoV3(hidden=256, output=64, momentum=0.95),
}

if TYPE_CHECKING:
    AnyObjective: TypeAlias = Objective
else:
    AnyObjective = Annotated[variants(OBJECTIVES), presets("objective", lambda: OBJECTIVE_PRESETS)]

__all__ = ["OBJECTIVES", "OBJECTIVE_PRESETS", "AnyObjective", "Objective"]
