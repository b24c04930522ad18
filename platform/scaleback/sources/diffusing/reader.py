"""Draws the images of the source ``diffusion``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scaleback.core import seeds
from scaleback.core.store import Store
from scaleback.sources.base import Samples
from scaleback.sources.diffusing.guide import Guide
from scaleback.sources.diffusing.model import Diffuser, normal
from scaleback.sources.diffusing.opened import load_adapted, load_judge, load_trained, subject_of
from scaleback.sources.diffusing.pictures import pixels, scaled
from scaleback.sources.diffusing.sampling import sample
from scaleback.sources.learnt import Adapted, Trained
from scaleback.sources.population import Population, class_names, load_images, missing_blocks

if TYPE_CHECKING:
    from scaleback.sources.diffusion import Diffusion

# Shapes: B images of a batch, N real images, H rows, W columns, C channels, F numbers of a look.

LOOKED_AT = 256
"""Images whose looks are taken at once."""


class DiffusionReader:
    """The generator with all it learnt, and the real images it begins from."""

    def __init__(self, spec: Diffusion, seed: int, store: Store) -> None:
        self._spec, self._seed, judge = spec, spec.drawing_seed(seed), spec.judge(seed)
        names, self._image_NHWC, self._label_N = _given(spec, seed, store)
        self.record: Mapping[str, Any] = {"class_names": names, "real_images": len(self._label_N)}
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._diffuser = opened(spec, seed, store, names).to(self._device)
        self._judge = None if judge is None else load_judge(store, judge).to(self._device)
        self._guide = guide_of(
            self._diffuser,
            self._image_NHWC,
            self._label_N,
            kind=spec.guidance,
            images=spec.guidance_images,
            seed=self._seed,
        )

    def __call__(self, indices_B: NDArray[np.int64]) -> Samples:
        drawn = self._drawn if self._judge is None else self._steered
        most = (self._diffuser.together if self._judge is None else self._diffuser.together_steered)[self._device.type]
        parts = [drawn(indices_B[start : start + most]) for start in range(0, len(indices_B), most)]
        real_B = indices_B % len(self._label_N)
        return Samples(
            image_BHWC=np.concatenate(parts),
            label_B=self._label_N[real_B],
            facts={"real": real_B, "copy": indices_B // len(self._label_N)},
        )

    def _steered(self, index_B: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The same in batches of one size: steering makes much of how others round, 13 of 255 at a scale of 10."""
        most = self._diffuser.together_steered[self._device.type]
        return self._drawn(np.resize(index_B, most))[: len(index_B)]

    def _drawn(self, index_B: NDArray[np.int64]) -> NDArray[np.uint8]:
        spec, diffuser, device = self._spec, self._diffuser, self._device
        real_B = index_B % len(self._label_N)
        noise_BX = normal(uniform(("diffusion", self._seed), index_B, int(np.prod(diffuser.latent_shape))))
        look_BF = self._guide(real_B, index_B)
        with torch.no_grad():
            told_BTD = diffuser.told(
                torch.from_numpy(self._label_N[real_B]).to(device),
                torch.from_numpy(real_B).to(device),
                None if look_BF is None else look_BF.to(device),
            )
            prior_BCHW = None
            if spec.strength < 1:
                prior_BCHW = diffuser.encode(scaled(self._image_NHWC[real_B]).to(device))
            image_BCHW = sample(
                diffuser,
                noise_BX.view(-1, *diffuser.latent_shape).to(device),
                told_BTD,
                steps=spec.steps,
                guidance_scale=spec.guidance_scale,
                prior_BCHW=prior_BCHW,
                strength=spec.strength,
                judge=self._judge,
                steering_scale=0.0 if spec.steering is None else spec.steering.scale,
            )
        return pixels(image_BCHW)


def _given(spec: Diffusion, seed: int, store: Store) -> tuple[Sequence[str], NDArray[np.uint8], NDArray[np.int64]]:
    """Names of classes, images and labels of what was learnt from; read where it lies, which spares to draw it."""
    population = Population.of(spec.given.source, seed)
    if not missing_blocks(store, population, spec.given.images):
        images = load_images(store, population, spec.given.images)
        return class_names(store, population), images.image_NHWC, images.label_N
    real = population.source.open_with(population.seed, store)
    samples = real(np.arange(spec.given.images))
    return real.record.get("class_names", []), samples.image_BHWC, samples.label_B


def opened(spec: Diffusion, seed: int, store: Store, names: Sequence[str]) -> Diffuser:
    """The generator with the weights of all its stages, to draw with."""
    population = Population.of(spec.given.source, seed)
    subject = subject_of(spec.generator, population, spec.given.images, names, store, drawn=True)
    diffuser = spec.generator.build(subject)
    for stage in spec.own_learnt(seed):
        if isinstance(stage, Trained):
            load_trained(diffuser, store, stage)
        elif isinstance(stage, Adapted):
            load_adapted(diffuser, store, stage, spec.lora_scale)
    diffuser.unet.to(memory_format=torch.channels_last)  # a third faster on a processor
    return diffuser.eval().requires_grad_(False)


def guide_of(
    diffuser: Diffuser, image_NHWC: NDArray[np.uint8], label_N: NDArray[np.int64], *, kind: str, images: int, seed: int
) -> Guide:
    """Looks of real images; none are taken without guidance."""
    device = next(diffuser.parameters()).device
    if kind == "none":
        return Guide(torch.empty(len(image_NHWC), 0), label_N, kind=kind, images=images, seed=seed)
    with torch.no_grad():
        parts = np.array_split(image_NHWC, -(-len(image_NHWC) // LOOKED_AT))
        look_NF = torch.cat([diffuser.looks(scaled(part).to(device)).cpu() for part in parts])
    return Guide(look_NF, label_N, kind=kind, images=images, seed=seed)


def uniform(stream: tuple[int | str, ...], counter_B: NDArray[np.int64], slots: int) -> Tensor:
    """(B, slots) float32 in [0, 1), each image's own."""
    draw = torch.from_numpy(seeds.uniform(seeds.key(*stream), counter_B, slots)).float()
    return draw.clamp(max=1 - 2**-24)
