"""Stable Diffusion: latents of a VAE, prompts, and what a CLIP encoder sees in the place of the last token."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from scaleback.core.errors import DataError, refusal
from scaleback.sources.diffusing.checkpoints import dtype_of, loaded
from scaleback.sources.diffusing.model import Diffuser
from scaleback.sources.diffusing.pictures import for_clip, in_colour, resized
from scaleback.sources.stable_diffusion import refuse_prediction, refuse_width
from scaleback.torchvision_operators import declare

if TYPE_CHECKING:
    from scaleback.sources.generator import Subject
    from scaleback.sources.stable_diffusion import StableDiffusion

# Shapes: B images, P prompts, C channels, H rows, W columns, T tokens, D width of a token, F features of an image.

Given = TypeVar("Given")

KEPT_PROMPTS = 4_096
"""Prompts whose tokens are kept: 1 GB of Stable Diffusion 1.5's in single precision."""
TOGETHER = 8
"""Images that the VAE encodes or decodes at once: at 512 px it takes more memory than the UNet."""
LUMA = (0.299, 0.587, 0.114)
"""Of ITU-R 601, where real images are gray."""


def _as_loaded(method: Callable[[StableDiffuser, Given], Tensor]) -> Callable[[StableDiffuser, Given], Tensor]:
    """Computes in the precision of the weights, also where training multiplies in another."""

    @wraps(method)
    def computed(self: StableDiffuser, given: Given) -> Tensor:
        with torch.autocast(self.vae.device.type, enabled=False):
            return method(self, given)

    return computed


class StableDiffuser(Diffuser):
    """A pipeline's parts, all frozen. Latents are the mean of what the VAE says, so that they need no draw."""

    together = {"cpu": 8, "cuda": 24}  # noqa: RUF012 (a constant; 24 is the released script's)
    together_steered = {"cpu": 1, "cuda": 3}  # noqa: RUF012 (an eighth: activations of UNet and VAE are kept)

    def __init__(self, spec: StableDiffusion, subject: Subject) -> None:
        super().__init__()
        pipeline = _pipeline(spec)
        refuse_prediction(spec.checkpoint, pipeline.scheduler.config)
        self.noise_schedule: Mapping[str, Any] = pipeline.scheduler.config
        self.unet, self.vae, self.text_encoder = pipeline.unet, pipeline.vae, pipeline.text_encoder
        self._tokenizer = pipeline.tokenizer
        if not subject.drawn:
            self.unet.float()
        self.image_encoder = None if spec.image_encoder is None else _image_encoder(spec, self.text_encoder.config)
        self.requires_grad_(False)
        self._factor: float = self.vae.config.scaling_factor
        side = spec.size_px // 2 ** (len(self.vae.config.block_out_channels) - 1)
        self.latent_shape = (self.vae.config.latent_channels, side, side)
        self._size, self._shape, self._negative = spec.size_px, subject.shape, spec.negative_prompt
        self._names, self._captions = _names(spec, subject), subject.captions
        self._quality = ", best quality" if subject.drawn else ""
        self._kept: OrderedDict[str, Tensor] = OrderedDict()
        if spec.compile:
            self.unet.compile()

    @_as_loaded
    def encode(self, image_BCHW: Tensor) -> Tensor:
        image_BCHW = in_colour(image_BCHW, (self._size, self._size)).to(self.vae.dtype)
        parts = [self.vae.encode(part).latent_dist.mean.float() for part in image_BCHW.split(TOGETHER)]
        return self._factor * torch.cat(parts)

    @_as_loaded
    def decode(self, latent_BCHW: Tensor) -> Tensor:
        height, width, channels = self._shape
        latent_BCHW = (latent_BCHW / self._factor).to(self.vae.dtype)
        parts = [self.vae.decode(part).sample.float() for part in latent_BCHW.split(TOGETHER)]
        image_BCHW = torch.cat(parts).clamp(-1, 1)
        if channels == 1:
            image_BCHW = (image_BCHW * image_BCHW.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
        return resized(image_BCHW, (height, width))

    @_as_loaded
    def looks(self, image_BCHW: Tensor) -> Tensor:
        assert self.image_encoder is not None, "guidance without an image encoder is refused"
        seen_BCHW = for_clip(image_BCHW, self.image_encoder.config.image_size)
        look_BF: Tensor = self.image_encoder(seen_BCHW.to(self.image_encoder.dtype)).image_embeds
        return look_BF.float()

    def told(self, label_B: Tensor, real_B: Tensor, look_BF: Tensor | None, hidden_B2: Tensor | None = None) -> Tensor:
        assert hidden_B2 is None, "only a generator that is trained from nothing is told less"
        pairs = zip(label_B.tolist(), real_B.tolist(), strict=True)
        told_BTD = self._tokens([self.prompt(label, real) for label, real in pairs])
        if look_BF is None:
            return told_BTD
        return torch.cat([told_BTD[:, :-1], look_BF[:, None].to(told_BTD)], dim=1)

    def untold(self, images: int) -> Tensor:
        return self._tokens([self._negative]).expand(images, -1, -1)

    def prompt(self, label: int, real: int) -> str:
        """What is said of an image; -1 where its class, or the image, is not known."""
        known = [self._names[label]] if label >= 0 and self._names else []
        known += [self._captions[real]] if real >= 0 and self._captions else []
        said = ", ".join(part for part in known if part)
        return f"photo of {said}{self._quality}" if said else f"photo{self._quality}"

    def forward(self, latent_BCHW: Tensor, step_B: Tensor, told_BTD: Tensor) -> Tensor:
        dtype = self.unet.dtype
        return super().forward(latent_BCHW.to(dtype), step_B, told_BTD.to(dtype)).float()

    @torch.no_grad()
    @_as_loaded
    def _tokens(self, prompts: Sequence[str]) -> Tensor:
        """(P, T, D) of prompts, each read once as long as it is kept."""
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._kept]
        if new:
            read = self._tokenizer(
                new,
                padding="max_length",
                max_length=self._tokenizer.model_max_length,
                truncation=True,
                return_tensors="pt",
            ).to(self.text_encoder.device)
            masked = getattr(self.text_encoder.config, "use_attention_mask", False)
            found_PTD = self.text_encoder(read.input_ids, read.attention_mask if masked else None)[0]
            self._kept.update(zip(new, found_PTD, strict=True))
        found = torch.stack([self._kept[prompt] for prompt in prompts])
        for prompt in prompts:
            self._kept.move_to_end(prompt)
        while len(self._kept) > KEPT_PROMPTS:
            self._kept.popitem(last=False)
        return found

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> StableDiffuser:
        self._kept.clear()  # tokens on another device
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call, no-any-return]


def _pipeline(spec: StableDiffusion) -> Any:
    declare()  # before diffusers, which imports torchvision
    from diffusers import StableDiffusionPipeline

    return loaded(
        StableDiffusionPipeline,
        "checkpoint",
        spec.checkpoint,
        download=spec.download,
        dtype=dtype_of(spec.precision),
        safety_checker=None,
        feature_extractor=None,
        image_encoder=None,
        requires_safety_checker=False,
    )


def _image_encoder(spec: StableDiffusion, text: Any) -> Any:
    from transformers import CLIPVisionModelWithProjection

    assert spec.image_encoder is not None
    encoder = loaded(
        CLIPVisionModelWithProjection,
        "image_encoder",
        spec.image_encoder,
        download=spec.download,
        dtype=dtype_of(spec.precision),
    )
    refuse_width(spec.image_encoder, encoder.config.projection_dim, text.hidden_size)
    return encoder


def _names(spec: StableDiffusion, subject: Subject) -> Sequence[str]:
    names = subject.class_names if spec.class_names is None else spec.class_names
    if subject.classes and len(names) != subject.classes:
        raise DataError(
            refusal(f"generator.class_names: must name the {subject.classes} classes; the data do not", list(names))
        )
    return names if subject.classes else ()
