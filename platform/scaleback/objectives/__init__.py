"""Pre-training methods. A new one costs a file and a line of ``OBJECTIVES``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, TypeAlias

from scaleback.core.spec import presets, variants
from scaleback.objectives.base import Objective
from scaleback.objectives.beit import BEiT
from scaleback.objectives.classify import Classify
from scaleback.objectives.mae import MAE
from scaleback.objectives.splitmask import SplitMask
from scaleback.objectives.tokenizers import RandomPatches

OBJECTIVES: Mapping[str, type[Objective]] = {
    "classify": Classify,
    "beit": BEiT,
    "splitmask": SplitMask,
    "mae": MAE,
}

OBJECTIVE_PRESETS: Mapping[str, Objective] = {
    # 1p-frac and OFDB train with timm's mixup 0.8, CutMix 1.0, smoothing 0.1 (released scripts).
    "1p-frac": Classify(mixup=0.8, cutmix=1.0),
    "classify": Classify(),
    "beit": BEiT(),
    "beit-small": BEiT(tokenizer=RandomPatches(vocabulary=256)),
    "splitmask": SplitMask(),
    "splitmask-small": SplitMask(tokenizer=RandomPatches(vocabulary=256)),
    "mae": MAE(),
    "mae-small": MAE(decoder_width=64, decoder_depth=2, decoder_heads=4),
}

if TYPE_CHECKING:
    AnyObjective: TypeAlias = Objective
else:
    AnyObjective = Annotated[variants(OBJECTIVES), presets("objective", lambda: OBJECTIVE_PRESETS)]

__all__ = ["OBJECTIVES", "OBJECTIVE_PRESETS", "AnyObjective", "Objective"]
