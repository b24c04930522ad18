"""Pre-training methods. A new one costs a file and a line of ``OBJECTIVES``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, TypeAlias

from scaleback.core import spec
from scaleback.objectives.base import Objective
from scaleback.objectives.beit import BEiT
from scaleback.objectives.classify import Classify
from scaleback.objectives.dino import DINO
from scaleback.objectives.lejepa import LeJEPA
from scaleback.objectives.mae import MAE
from scaleback.objectives.moco import MoCoV3
from scaleback.objectives.patchmix import PatchMix
from scaleback.objectives.presets import OBJECTIVE_PRESETS
from scaleback.objectives.sdmp_dino import SDMPDINO
from scaleback.objectives.sdmp_moco import SDMPMoCoV3
from scaleback.objectives.simclr import SimCLR
from scaleback.objectives.splitmask import SplitMask

OBJECTIVES: Mapping[str, type[Objective]] = {
    "classify": Classify,
    "simclr": SimCLR,
    "moco-v3": MoCoV3,
    "sdmp-moco-v3": SDMPMoCoV3,
    "patchmix": PatchMix,
    "dino": DINO,
    "sdmp-dino": SDMPDINO,
    "lejepa": LeJEPA,
    "beit": BEiT,
    "splitmask": SplitMask,
    "mae": MAE,
}

if TYPE_CHECKING:
    AnyObjective: TypeAlias = Objective
else:
    AnyObjective = Annotated[spec.variants(OBJECTIVES), spec.presets("objective", lambda: OBJECTIVE_PRESETS)]

__all__ = ["OBJECTIVES", "OBJECTIVE_PRESETS", "AnyObjective", "Objective"]
