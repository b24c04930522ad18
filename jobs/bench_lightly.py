"""Our loop beside loops written with lightly 1.6: MoCo v3, DINO and MAE of the same sizes on the same pictures.

    pip install -c constraints.txt lightly
    python jobs/bench_lightly.py [--quick] [--json]

A ViT-Tiny on pictures of 32 px in patches of 4 and, without ``--quick``, of 224 px in patches of 16, with the heads,
crops and batch of our presets. lightly's part is what its examples do: PIL images, its transforms in a DataLoader
(with none and with two worker processes; the faster counts; ``--quick`` has none), its heads, losses and averages,
AdamW. ``<method>_ratio`` is our images a second over lightly's; rounds of some steps take turns in one process, with
the same threads, and the best of each counts.
"""

import argparse
import copy
import itertools
import json
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "platform"), str(Path(__file__).resolve().parent)]

import numpy as np
import torch
import torch.nn.functional as F
from bench_objectives import BATCH_IMAGES, IMAGES, PATCH_PX, Measured, job, scaled
from PIL import Image
from torch import Tensor, nn

from scaleback.backbones import Backbone
from scaleback.objectives import OBJECTIVE_PRESETS
from scaleback.pretrain.loop import train
from scaleback.pretrain.spec import views_of
from scaleback.pretrain.state import TrainState
from scaleback.pretrain.world import World
from scaleback.recipes import PRETRAIN_RECIPES
from scaleback.torchvision_operators import declare

declare()  # before lightly, which imports torchvision
from lightly.loss import DINOLoss
from lightly.models import utils
from lightly.models.modules import DINOProjectionHead, MAEDecoderTIMM, MaskedVisionTransformerTIMM
from lightly.models.modules.heads import ProjectionHead
from lightly.transforms import BYOLTransform, DINOTransform, MAETransform
from lightly.transforms.byol_transform import BYOLView1Transform, BYOLView2Transform
from lightly.utils.scheduler import cosine_schedule

METHODS = ("moco_v3", "dino", "mae")
WARM_UP = 1
QUICK_BATCH, ROUNDS_S = 4, 30.0
"""Images; rounds go on for so many seconds."""


class Pictures(torch.utils.data.Dataset[list[Tensor]]):
    """PIL images and lightly's views of them."""

    def __init__(self, method: str, size: int) -> None:
        rng = np.random.default_rng(0)
        self._pictures = [Image.fromarray(rng.integers(0, 256, (size, size, 3), dtype=np.uint8)) for _ in range(IMAGES)]
        self._transform = transform(method, size)

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: int) -> list[Tensor]:
        views: list[Tensor] = self._transform(self._pictures[index])
        return views


def transform(method: str, size: int) -> Any:
    """Lightly's transform with the crops of our preset."""
    if method == "moco_v3":
        return BYOLTransform(BYOLView1Transform(input_size=size), BYOLView2Transform(input_size=size))
    if method == "mae":
        return MAETransform(input_size=size)
    views = views_of(OBJECTIVE_PRESETS["dino"], PRETRAIN_RECIPES["dino"])
    local = scaled(views[-1], size).size_px or size
    return DINOTransform(global_crop_size=size, local_crop_size=local, n_local_views=len(views) - 2)


def vit(size: int) -> nn.Module:
    """The same backbone, that takes crops of other sizes."""
    backbone = Backbone(model="vit_tiny_patch16_224", image_px=size, patch_px=PATCH_PX[size]).build(0)
    backbone.dynamic_img_size = True
    patch_embed: Any = backbone.patch_embed
    patch_embed.strict_img_size, patch_embed.flatten = False, False
    patch_embed.output_fmt = type(patch_embed.output_fmt)("NHWC")
    return backbone


class MoCo(nn.Module):
    """Symmetric loss of queries and keys of a momentum encoder."""

    def __init__(self, size: int) -> None:
        super().__init__()
        encoder, width, hidden, out = vit(size), 192, 4096, 256
        project = [
            (width, hidden, nn.BatchNorm1d(hidden), nn.ReLU(), False),
            (hidden, hidden, nn.BatchNorm1d(hidden), nn.ReLU(), False),
            (hidden, out, nn.BatchNorm1d(out, affine=False), None, False),
        ]
        predict = [
            (out, hidden, nn.BatchNorm1d(hidden), nn.ReLU(), False),
            (hidden, out, nn.BatchNorm1d(out, affine=False), None, False),
        ]
        self.encoder = nn.Sequential(encoder, ProjectionHead(project))
        self.predictor = ProjectionHead(predict)
        self.momentum_encoder = copy.deepcopy(self.encoder)
        utils.deactivate_requires_grad(self.momentum_encoder)

    def forward(self, views: list[Tensor], progress: float) -> Tensor:
        utils.update_momentum(self.encoder, self.momentum_encoder, cosine_schedule(int(progress * 1000), 1000, 0.99, 1))
        queries = [F.normalize(self.predictor(self.encoder(view))) for view in views[:2]]
        with torch.no_grad():
            keys = [F.normalize(self.momentum_encoder(view)) for view in views[:2]]
        target = torch.arange(len(keys[0]))
        pairs = zip(queries, reversed(keys), strict=True)
        return sum((0.4 * F.cross_entropy(query @ key.T / 0.2, target) for query, key in pairs), torch.zeros(()))


class Dino(nn.Module):
    """Student, teacher and lightly's loss."""

    def __init__(self, size: int) -> None:
        super().__init__()
        spec: Any = OBJECTIVE_PRESETS["dino"]
        self.student, self.teacher = (
            nn.Sequential(vit(size), DINOProjectionHead(192, spec.hidden, spec.bottleneck, spec.prototypes))
            for _ in range(2)
        )
        self.teacher.load_state_dict(self.student.state_dict())
        utils.deactivate_requires_grad(self.teacher)
        self.criterion = DINOLoss(output_dim=spec.prototypes, warmup_teacher_temp_epochs=5)

    def forward(self, views: list[Tensor], progress: float) -> Tensor:
        utils.update_momentum(self.student, self.teacher, cosine_schedule(int(progress * 1000), 1000, 0.996, 1))
        with torch.no_grad():
            teacher = [self.teacher(view) for view in views[:2]]
        loss: Tensor = self.criterion(teacher, [self.student(view) for view in views], epoch=0)
        return loss


class Mae(nn.Module):
    """lightly's masked ViT and decoder."""

    def __init__(self, size: int) -> None:
        super().__init__()
        spec: Any = OBJECTIVE_PRESETS["mae"]
        plain: Any = Backbone(model="vit_tiny_patch16_224", image_px=size, patch_px=PATCH_PX[size]).build(0)
        self.backbone = MaskedVisionTransformerTIMM(vit=plain)
        self.patch_px, self.tokens = PATCH_PX[size], self.backbone.sequence_length
        self.decoder = MAEDecoderTIMM(
            num_patches=self.tokens - 1,
            patch_size=self.patch_px,
            embed_dim=192,
            decoder_embed_dim=spec.decoder_width,
            decoder_depth=spec.decoder_depth,
            decoder_num_heads=spec.decoder_heads,
        )

    def forward(self, views: list[Tensor], progress: float) -> Tensor:
        image_BCHW = views[0]
        keep, mask = utils.random_token_mask(size=(len(image_BCHW), self.tokens), mask_ratio=0.75)
        encoded = self.decoder.embed(self.backbone.encode(images=image_BCHW, idx_keep=keep))
        tokens = utils.repeat_token(self.decoder.mask_token, (len(image_BCHW), self.tokens))
        tokens = utils.set_at_index(tokens, keep, encoded.type_as(tokens))
        predicted = self.decoder.predict(utils.get_at_index(self.decoder.decode(tokens), mask))
        patches = utils.get_at_index(utils.patchify(image_BCHW, self.patch_px), mask - 1)
        mean, variance = patches.mean(-1, keepdim=True), patches.var(-1, keepdim=True)
        return F.mse_loss(predicted, (patches - mean) / (variance + 1e-6).sqrt())


MODELS: dict[str, type[nn.Module]] = {"moco_v3": MoCo, "dino": Dino, "mae": Mae}


class Lightly:
    """lightly's loop, some steps at a time."""

    def __init__(self, method: str, size: int, batch: int) -> None:
        self._model = MODELS[method](size).train()
        self._optimizer = torch.optim.AdamW([value for value in self._model.parameters() if value.requires_grad], 1e-4)
        self._pictures, self._batch = Pictures(method, size), batch

    def images_per_s(self, steps: int, workers: int) -> float:
        """Rate after a first step, in which worker processes start."""
        loader = torch.utils.data.DataLoader(
            self._pictures, batch_size=self._batch, shuffle=True, drop_last=True, num_workers=workers
        )
        for step, views in enumerate(itertools.islice(loader, steps + WARM_UP)):
            self._model(views, step / 1000).backward()
            self._optimizer.step()
            self._optimizer.zero_grad()
            if step == WARM_UP - 1:
                since = time.perf_counter()
        return self._batch * steps / (time.perf_counter() - since)


class Rounds:
    """A hook of our loop: after each of its rounds lightly's loop has one, with each number of worker processes."""

    def __init__(self, method: str, size: int, quick: bool) -> None:
        self.batch = QUICK_BATCH if quick else BATCH_IMAGES[size]
        self._steps, self._seconds, self._workers = (2, 0.0, (0,)) if quick else (3, ROUNDS_S, (0, 2))
        self._lightly = Lightly(method, size, self.batch)
        self.ours: list[float] = []
        self.theirs: list[float] = []
        self._first, self._begun = 0, time.perf_counter()
        self._since = 0.0

    def __call__(self, state: TrainState) -> None:
        now = time.perf_counter()
        if state.step == self._first + WARM_UP:
            self._since = now
        elif state.step == self._first + WARM_UP + self._steps:
            self.ours.append(self.batch * self._steps / (now - self._since))
            self.theirs += [self._lightly.images_per_s(self._steps, workers) for workers in self._workers]
            self._first = state.step
            if time.perf_counter() - self._begun >= self._seconds:
                raise Measured


def measure(quick: bool) -> dict[str, float]:
    """All figures."""
    found: dict[str, float] = {}
    for size, method in itertools.product((32,) if quick else (32, 224), METHODS):
        rounds = Rounds(method, size, quick)
        with suppress(Measured):
            train(job(method, size, rounds.batch, steps=1_000), World(), hooks=[rounds])
        tail = "" if size == 32 else f"_{size}"
        found[f"{method}_images_per_s{tail}"] = max(rounds.ours)
        found[f"lightly_{method}_images_per_s{tail}"] = max(rounds.theirs)
        found[f"{method}_ratio{tail}"] = max(rounds.ours) / max(rounds.theirs)
        print(
            f"{method} at {size} px: {len(rounds.ours)} rounds, ratio {found[f'{method}_ratio{tail}']:.3f}", flush=True
        )
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few steps of small batches, 32 px only")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    options = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    found = measure(options.quick)
    for name, value in found.items():
        print(f"{name:<44} {value:,.4g}")
    if options.json:
        print(json.dumps({name: round(value, 4) for name, value in found.items()}))


if __name__ == "__main__":
    main()
