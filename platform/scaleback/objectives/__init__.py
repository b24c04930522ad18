"""Pre-training methods. A new one costs a file and a line of ``OBJECTIVES``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, TypeAlias

from scaleback.core.spec import presets, variants
from scaleback.objectives.base import Objective
from scaleback.objectives.beit import BEiT
from scaleback.objectives.classify import Classify
from scaleback.objectives.dino import DINO
from scaleback.objectives.lejepa import LeJEPA
from scaleback.objectives.mae import MAE
from scaleback.objectives.moco import MoCoV3
from scaleback.objectives.patchmix import PatchMix
from scaleback.objectives.sdmp_dino import SDMPDINO
from scaleback.objectives.sdmp_moco import SDMPMoCoV3
from scaleback.objectives.simclr import SimCLR
from scaleback.objectives.splitmask import SplitMask
from scaleback.objectives.tokenizers import RandomPatches

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
    # IDMM with every ingredient; the released script of DeiT has no label smoothing.
    "idmm": Classify(labels="index", cutmix=0.5, mix_larger=True, global_crops=2, local_crops=4),
    "idmm-code": Classify(labels="index", smoothing=0.0, cutmix=0.5, mix_larger=True, global_crops=2, local_crops=4),
    "idmm-small": Classify(labels="index", cutmix=0.5, mix_larger=True, global_crops=2, local_crops=2),
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
    "beit": BEiT(),
    "beit-small": BEiT(tokenizer=RandomPatches(vocabulary=256)),
    "splitmask": SplitMask(),
    "splitmask-small": SplitMask(tokenizer=RandomPatches(vocabulary=256)),
    "mae": MAE(),
    "mae-small": MAE(decoder_width=64, decoder_depth=2, decoder_heads=4),
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
