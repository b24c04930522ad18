"""Any timm model by name, with overrides; its parameters and floating-point operations."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from scaleback.core.errors import Refusal, refusal, unknown
from scaleback.core.spec import Spec

if TYPE_CHECKING:
    from torch import nn

# Plain ViTs of timm: width, depth, heads, patch. For these, parameters and operations are known without importing
# torch, so a plan is instant; any other model is built on torch's meta device and counted.
PLAIN_VITS = {
    "vit_tiny_patch16_224": (192, 12, 3, 16),
    "vit_tiny_patch16_384": (192, 12, 3, 16),
    "vit_small_patch32_224": (384, 12, 6, 32),
    "vit_small_patch16_224": (384, 12, 6, 16),
    "vit_small_patch16_384": (384, 12, 6, 16),
    "vit_small_patch8_224": (384, 12, 6, 8),
    "vit_base_patch32_224": (768, 12, 12, 32),
    "vit_base_patch16_224": (768, 12, 12, 16),
    "vit_base_patch16_384": (768, 12, 12, 16),
    "vit_base_patch8_224": (768, 12, 12, 8),
    "vit_large_patch32_224": (1024, 24, 16, 32),
    "vit_large_patch16_224": (1024, 24, 16, 16),
    "vit_large_patch14_224": (1024, 24, 16, 14),
}
VIT_FIELDS = ("patch_px", "width", "depth", "heads", "mlp_ratio")


class Cost(NamedTuple):
    """What a backbone takes, without a head."""

    parameters: int
    forward_flops: int
    """Operations (two a multiply-add) of matrix products and convolutions for one image, as torch's counter counts."""

    @property
    def training_flops(self) -> int:
        """Forward and backward of one image; the backward pass takes twice the forward."""
        return 3 * self.forward_flops


class Backbone(Spec):
    """A timm model without its head. Overrides left at None keep timm's value for that name."""

    model: str
    """Name in timm, such as ``vit_tiny_patch16_224`` or ``resnet50``."""
    image_px: int = Field(ge=4)
    channels: Literal[1, 3] = 3
    patch_px: int | None = Field(None, ge=1)
    width: int | None = Field(None, ge=1)
    depth: int | None = Field(None, ge=1)
    heads: int | None = Field(None, ge=1)
    mlp_ratio: float | None = Field(None, gt=0)
    pool: Literal["token", "avg"] | None = None
    """What a ViT's features are: its class token, or the mean of its patches."""
    drop_path: float = Field(0.0, ge=0, lt=1)
    """Chance of leaving out a residual branch; makes a run depend on the number of workers."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.model in PLAIN_VITS:
            shape = self._vit()
            if self.image_px % shape.patch_px:
                raise Refusal("image_px", refusal(f"must divide into patches of {shape.patch_px} px", self.image_px))
            if shape.width % shape.heads:
                raise Refusal("heads", refusal(f"must divide the width of {shape.width}", shape.heads))
            return self
        names = timm_names()
        if self.pool is not None and self.model in names and not self.has_tokens:
            raise Refusal("pool", refusal("is a choice of plain ViTs", self.pool))
        if self.model not in names:
            raise Refusal("model", unknown("timm model", self.model, names))
        try:
            self.cost()
        except (TypeError, ValueError, AssertionError, RuntimeError) as error:
            text = " ".join(str(error).split())[:120]
            raise Refusal("model", refusal(f"must accept the overrides and image_px ({text})", self.model)) from None
        return self

    @property
    def short(self) -> str:
        return self.model

    def cost(self) -> Cost:
        """Parameters and operations of one image."""
        return _vit_cost(self._vit()) if self.model in PLAIN_VITS else _counted_cost(self)

    @property
    def has_tokens(self) -> bool:
        """Whether this is a plain ViT with absolute positions, of which patches can be hidden."""
        return self.model in PLAIN_VITS or _is_plain_vit(self.model)

    @property
    def has_batch_norms(self) -> bool:
        """Whether an image's features depend, in training, on what else is in its batch."""
        return self.model not in PLAIN_VITS and _has_batch_norms(self.model)

    def refuse_size(self, size_px: int, field: str) -> None:
        """Raise Refusal if the model, built for images of its own size, cannot look at views of ``size_px`` too."""
        if self.has_tokens:
            patch_px = self.patch_px or _patch_px(self.model)
            if size_px % patch_px:
                raise Refusal(field, refusal(f"size_px must divide into patches of {patch_px} px", size_px))
        elif size_px != self.image_px and _takes_image_size(self.model):
            raise Refusal(field, refusal(f"{self.model} looks at images of its own size only", size_px))

    def timm_arguments(self) -> dict[str, Any]:
        """Keywords of ``timm.create_model(model, **arguments)`` that make this backbone."""
        names = {
            "patch_px": "patch_size",
            "width": "embed_dim",
            "depth": "depth",
            "heads": "num_heads",
            "mlp_ratio": "mlp_ratio",
        }
        chosen = {names[field]: getattr(self, field) for field in VIT_FIELDS if getattr(self, field) is not None}
        if self.model in PLAIN_VITS or _takes_image_size(self.model):
            chosen["img_size"] = self.image_px
        if self.pool is not None:
            chosen["global_pool"] = self.pool
        return {"num_classes": 0, "in_chans": self.channels, "drop_path_rate": self.drop_path, **chosen}

    def build(self, seed: int) -> nn.Module:
        """The model with fresh weights that depend on ``seed`` only; calling it gives pooled features (B, width)."""
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model: nn.Module = _timm().create_model(self.model, **self.timm_arguments())
        return model

    def _vit(self) -> _ViT:
        width, depth, heads, patch_px = PLAIN_VITS[self.model]
        return _ViT(
            self.image_px,
            self.channels,
            self.patch_px or patch_px,
            self.width or width,
            self.depth or depth,
            self.heads or heads,
            self.mlp_ratio or 4.0,
        )


class _ViT(NamedTuple):
    image_px: int
    channels: int
    patch_px: int
    width: int
    depth: int
    heads: int
    mlp_ratio: float


def _vit_cost(vit: _ViT) -> Cost:
    """Closed form for a plain ViT with a class token, learned positions, qkv biases and a final norm."""
    patches = (vit.image_px // vit.patch_px) ** 2
    tokens, width, hidden = patches + 1, vit.width, int(vit.width * vit.mlp_ratio)
    stem = vit.channels * vit.patch_px**2 * width
    attention, mlp = 4 * width * width, 2 * width * hidden
    biases = 4 * width + hidden + width
    norms = 4 * width
    return Cost(
        parameters=stem + width + width + tokens * width + vit.depth * (attention + mlp + biases + norms) + 2 * width,
        forward_flops=2 * (patches * stem + vit.depth * (tokens * (attention + mlp) + 2 * tokens * tokens * width)),
    )


def _timm() -> Any:
    from scaleback.torchvision_operators import declare

    declare()
    import timm

    return timm


def width_of(backbone: nn.Module) -> int:
    """Length of the features a timm model returns."""
    width = backbone.num_features
    assert isinstance(width, int)
    return width


@lru_cache(maxsize=1)
def timm_names() -> frozenset[str]:
    """Every architecture that timm knows."""
    return frozenset(_timm().list_models())


@lru_cache(maxsize=64)
def _takes_image_size(model: str) -> bool:
    """Whether timm builds this model for a given image size; convolutional ones take any."""
    import torch

    with torch.device("meta"):
        try:
            _timm().create_model(model, img_size=_timm().get_pretrained_cfg_value(model, "input_size")[1])
        except TypeError:
            return False
    return True


@lru_cache(maxsize=64)
def _is_plain_vit(model: str) -> bool:
    import torch

    with torch.device("meta"):
        vit = _timm().create_model(model)
    plain = type(vit).__name__ == "VisionTransformer" and type(vit.patch_embed).__name__ == "PatchEmbed"
    return plain and vit.pos_embed is not None and vit.attn_pool is None


@lru_cache(maxsize=64)
def _has_batch_norms(model: str) -> bool:
    import torch
    from torch.nn.modules.batchnorm import _BatchNorm

    with torch.device("meta"):
        return any(isinstance(part, _BatchNorm) for part in _timm().create_model(model).modules())


@lru_cache(maxsize=64)
def _patch_px(model: str) -> int:
    import torch

    if model in PLAIN_VITS:
        return PLAIN_VITS[model][3]
    with torch.device("meta"):
        return int(_timm().create_model(model).patch_embed.patch_size[0])


@lru_cache(maxsize=64)
def _counted_cost(backbone: Backbone) -> Cost:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"), torch.no_grad():
        model = _timm().create_model(backbone.model, **backbone.timm_arguments()).eval()
        model.requires_grad_(False)  # the counter hooks into gradients, and a pooling token is a parameter it is given
        with FlopCounterMode(display=False) as counter:
            model(torch.empty(1, backbone.channels, backbone.image_px, backbone.image_px))
    return Cost(sum(p.numel() for p in model.parameters()), int(counter.get_total_flops()))
