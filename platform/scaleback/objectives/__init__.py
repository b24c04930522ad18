"""Pre-training methods. A new one costs a file and a line of ``OBJECTIVES``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, TypeAlias

from scaleback.core.spec import presets, variants
from scaleback.objectives.base import Objective
from scaleback.objectives.classify import Classify
from scaleback.objectives.lejepa import LeJEPA
from scaleback.objectives.moco import MoCoV3
from scaleback.objectives.patchmix import PatchMix
from scaleback.objectives.sdmp_moco import SDMPMoCoV3
from scaleback.objectives.simclr import SimCLR

OBJECTIVES: Mapping[str, type[Objective]] = {
    "classify": Classify,
    "simclr": SimCLR,
    "lejepa": LeJEPA,
    "moco-v3": MoCoV3,
    "sdmp-moco-v3": SDMPMoCoV3,
    "patchmix": PatchMix,
}

OBJECTIVE_PRESETS: Mapping[str, Objective] = {
    # 1p-frac and OFDB train with timm's mixup 0.8, CutMix 1.0, smoothing 0.1 (released scripts).
    "1p-frac": Classify(mixup=0.8, cutmix=1.0),
    "classify": Classify(),
    "simclr": SimCLR(),
    "simclr-small": SimCLR(temperature=0.2),
    "patchmix": PatchMix(local_views=8),
    # The released CIFAR settings have two crops only.
    "patchmix-small": PatchMix(momentum=0.99, hidden=512, output=64),
    "lejepa": LeJEPA(),
    # The released code (rbalestr-lab/lejepa) integrates from -3 to 3, and so do its README's defaults.
    "lejepa-code": LeJEPA(points=33, reach=3.0),
    # Weight and width of the output are those of the released minimal example, too.
    "lejepa-small": LeJEPA(weight=0.02, local_views=0, hidden=256, output=16, directions=256),
}

if TYPE_CHECKING:
    AnyObjective: TypeAlias = Objective
else:
    AnyObjective = Annotated[variants(OBJECTIVES), presets("objective", lambda: OBJECTIVE_PRESETS)]

__all__ = ["OBJECTIVES", "OBJECTIVE_PRESETS", "AnyObjective", "Objective"]
