"""Pre-training methods. A new one costs a file and a line of ``OBJECTIVES``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, TypeAlias

from scaleback.core.spec import presets, variants
from scaleback.objectives.base import Objective
from scaleback.objectives.classify import Classify
from scaleback.objectives.dino import DINO
from scaleback.objectives.sdmp_dino import SDMPDINO

OBJECTIVES: Mapping[str, type[Objective]] = {
    "classify": Classify,
    "dino": DINO,
    "sdmp-dino": SDMPDINO,
}

OBJECTIVE_PRESETS: Mapping[str, Objective] = {
    # 1p-frac and OFDB train with timm's mixup 0.8, CutMix 1.0, smoothing 0.1 (released scripts).
    "1p-frac": Classify(mixup=0.8, cutmix=1.0),
    "classify": Classify(),
}

if TYPE_CHECKING:
    AnyObjective: TypeAlias = Objective
else:
    AnyObjective = Annotated[variants(OBJECTIVES), presets("objective", lambda: OBJECTIVE_PRESETS)]

__all__ = ["OBJECTIVES", "OBJECTIVE_PRESETS", "AnyObjective", "Objective"]
