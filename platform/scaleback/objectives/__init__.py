"""Pre-training methods. A new one costs a file and a line of ``OBJECTIVES``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, TypeAlias

from scaleback.core.spec import presets, variants
from scaleback.objectives.base import Objective
from scaleback.objectives.classify import Classify
from scaleback.objectives.dino import DINO
from scaleback.objectives.moco import MoCoV3
from scaleback.objectives.sdmp_dino import SDMPDINO
from scaleback.objectives.sdmp_moco import SDMPMoCoV3

OBJECTIVES: Mapping[str, type[Objective]] = {
    "classify": Classify,
    "dino": DINO,
    "moco-v3": MoCoV3,
    "sdmp-dino": SDMPDINO,
    "sdmp-moco-v3": SDMPMoCoV3,
}

# Few steps ask for a sharp teacher that follows fast. On digits (two local crops, mean of patches, 16,000 images seen)
# the teacher then tells 1.3 nats of its image; with temperature 0.04 it tells 0.2, with a centre of momentum 0.9 0.1,
# with fresh weights of 0.02 0.8.
DINO_SMALL = DINO(
    local_crops=4,
    prototypes=256,
    hidden=256,
    bottleneck=64,
    head_std=0.1,
    teacher_temperature_start=0.02,
    teacher_temperature=0.02,
    centre_momentum=0.5,
    teacher_momentum=0.95,
    frozen_head_share=0.1,
)

OBJECTIVE_PRESETS: Mapping[str, Objective] = {
    # 1p-frac and OFDB train with timm's mixup 0.8, CutMix 1.0, smoothing 0.1 (released scripts).
    "1p-frac": Classify(mixup=0.8, cutmix=1.0),
    "classify": Classify(),
    # As the paper trains, 300 epochs; the released code's best ViT-S lets prototypes have lengths (norm_last_layer).
    "dino": DINO(),
    # The released code as it stands: 100 epochs and a constant temperature.
    "dino-code": DINO(teacher_temperature=0.04, frozen_head_share=0.01),
    # Thousands of images of 24 to 32 px, see the recipe of this name.
    "dino-small": DINO_SMALL,
    "sdmp-dino": SDMPDINO(),
    "sdmp-dino-small": SDMPDINO(**DINO_SMALL.model_dump(exclude={"kind"})),
    "moco-v3": MoCoV3(),
    "moco-v3-resnet": MoCoV3(temperature=1.0, projector_layers=2, predictor_norm=False),
    "moco-v3-small": MoCoV3(hidden=256, output=64),
    "sdmp-moco-v3": SDMPMoCoV3(),
    # The first release, whose second loss is still the paper's; lambda_c is taken from the partner's own share.
    "sdmp-moco-v3-code": SDMPMoCoV3(mixers=("resizemix",), pairing="global", mix_weight=0.5, symmetric=False),
    "sdmp-moco-v3-small": SDMPMoCoV3(hidden=256, output=64),
}

if TYPE_CHECKING:
    AnyObjective: TypeAlias = Objective
else:
    AnyObjective = Annotated[variants(OBJECTIVES), presets("objective", lambda: OBJECTIVE_PRESETS)]

__all__ = ["OBJECTIVES", "OBJECTIVE_PRESETS", "AnyObjective", "Objective"]
