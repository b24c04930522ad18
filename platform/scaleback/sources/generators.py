"""Generators of images that learn: a small diffusion model of our own, and Stable Diffusion."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from scaleback.core.errors import Refusal, refusal
from scaleback.core.spec import Spec, presets, variants
from scaleback.sources.base import refuse_part
from scaleback.sources.generator import Generator, Subject
from scaleback.sources.stable_diffusion import StableDiffusion

if TYPE_CHECKING:
    from scaleback.sources import AnySource  # a union over the registry, which names generators too
    from scaleback.sources.base import Source
    from scaleback.sources.diffusing.model import Diffuser

GROUPS = 8
"""Of the embedded UNet's group norms."""


class Schedule(Spec):
    """How a generator is trained: AdamW (betas 0.9 and 0.999), a constant rate after a linear warm-up."""

    budget_images: int = Field(ge=1)
    """Image passes."""
    batch_images: int = Field(ge=1)
    """Global batch, whatever the number of workers."""
    lr: float = Field(gt=0)
    weight_decay: float = Field(0.01, ge=0)
    warmup_images: int = Field(0, ge=0)
    clip_norm: float = Field(1.0, gt=0)
    ema: float | None = Field(None, gt=0, lt=1)
    """Decay of an average of the weights, which is then what generates."""
    flip: float = Field(0.0, ge=0, le=1)
    """Chance of a mirrored image."""
    precision: Literal["fp32", "bf16"] = "fp32"
    snr_gamma: float | None = Field(5.0, gt=0)
    """Steps of less noise than this ratio of signal to noise count less, by min(ratio, gamma) / ratio (Hang et al.,
    2023); None for equal weights."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.budget_images < self.batch_images:
            raise Refusal("budget_images", refusal(f"must cover a batch of {self.batch_images}", self.budget_images))
        if self.warmup_images > self.budget_images:
            raise Refusal("warmup_images", refusal(f"must fit the budget of {self.budget_images}", self.warmup_images))
        return self


class Adaptation(Spec):
    """Low-rank changes to the attention of a generator, fitted to some real images (Real-Fake: Yuan et al., ICLR 2024).

    The loss is that of denoising plus ``mmd_weight`` x the mean square, over pixels, of the batch's mean weighted error
    of the predicted noise: a maximum mean discrepancy with a linear kernel between predicted and true noise. The mean
    is over the whole batch, over all workers. The released code has 0.003 x the square of the *sum* over one device's
    batch, so its strength grows with the batch squared; ``mmd_form: sum`` is that, and with batches of 8 a mean of
    0.192 is as strong.
    """

    schedule: Schedule
    rank: int = Field(4, ge=1)
    mmd_weight: float = Field(0.192, ge=0)
    mmd_form: Literal["mean", "sum"] = "mean"


class Embedded(Generator):
    """A UNet of diffusers on squares of pixels, trained here: minutes on a GPU, an hour on two cores.

    It is told an image's class by one token, and how the image looks by another, made of the image in 7 x 7 cells. Both
    are left out of some images, so that it draws without them too.
    """

    kind: Literal["embedded"] = "embedded"
    trains: ClassVar[bool] = True
    source: AnySource
    """What it is trained on."""
    images: int = Field(ge=1)
    """The first so many of it."""
    labels: bool = False
    """Whether it is told their classes; if not, it first hears of classes when it is adapted."""
    square_px: int = Field(2, ge=1)
    """Side of the squares of pixels that are one place to the UNet: fewer places, more channels."""
    widths: tuple[int, int] = (48, 88)
    """Channels at a square a place, and at half that resolution, where attention is."""
    token_width: int = Field(64, ge=8)
    schedule: Schedule = Schedule(budget_images=128_000, batch_images=64, lr=1e-3, warmup_images=6_400, ema=0.998)
    seed: int = Field(0, ge=0)
    """Draws the images, the first weights, the order of training."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        refuse_part(self.source, self.images, field="source", count="images")
        if self.labels and self.source.classes(self.images) is None:
            raise Refusal("labels", refusal("must be false where the source has none", self.labels))
        if any(width % GROUPS for width in self.widths):
            raise Refusal("widths", refusal(f"must be multiples of {GROUPS}", self.widths))
        if any(side % (2 * self.square_px) for side in self.source.shape[:2]):
            rule = f"must divide half of the sides of {self.source.shape[:2]} px"
            raise Refusal("square_px", refusal(rule, self.square_px))
        return self

    def refuse(self, real: Source, images: int, *, guided: bool) -> None:
        if real.shape != self.source.shape:
            rule = f"must give images of shape {real.shape}, as those to be drawn"
            raise Refusal("source", refusal(rule, self.source.shape))
        known, classes = self.source.classes(self.images) if self.labels else None, real.classes(images)
        if known is not None and known != classes:
            raise Refusal("labels", refusal(f"must be false: the source has {known} classes, not {classes}", True))

    def build(self, subject: Subject) -> Diffuser:
        from scaleback.sources.diffusing.embedded import EmbeddedDiffuser

        return EmbeddedDiffuser(self, classes=subject.classes)

    @classmethod
    def example(cls, scratch: Path) -> Self:
        from scaleback.sources.named import Digits

        schedule = Schedule(budget_images=64, batch_images=16, lr=1e-3)
        return cls(source=Digits(), images=32, square_px=1, widths=(8, 16), token_width=16, schedule=schedule)


GENERATORS: Mapping[str, type[Generator]] = {"embedded": Embedded, "stable-diffusion": StableDiffusion}

ADAPTATIONS: Mapping[str, Adaptation] = {
    # Released script: constant lr 1e-4, batch 8, 100 epochs; here that of ImageNette's 9,469 images.
    "real-fake": Adaptation(
        schedule=Schedule(budget_images=946_900, batch_images=8, lr=1e-4, flip=0.5, precision="bf16")
    ),
    "real-fake-code": Adaptation(
        schedule=Schedule(budget_images=946_900, batch_images=8, lr=1e-4, flip=0.5, precision="bf16"),
        mmd_weight=0.003,
        mmd_form="sum",
    ),
    "small": Adaptation(schedule=Schedule(budget_images=20_000, batch_images=32, lr=1e-3, warmup_images=640)),
}


def generator_presets() -> Mapping[str, Generator]:
    """Generators by name. Called late, since they name sources whose files may not be there."""
    from scaleback.sources.named import FashionMNIST

    # Half of the training images, unlabelled: what a generator has seen of the world. Studies label the other half.
    return {"fashion": Embedded(source=FashionMNIST(fold=(1, 2)), images=20_000)}


if TYPE_CHECKING:
    AnyGenerator: TypeAlias = Generator
    AnyAdaptation: TypeAlias = Adaptation
else:
    AnyGenerator = Annotated[variants(GENERATORS), presets("generator", generator_presets)]
    AnyAdaptation = Annotated[Adaptation, presets("adaptation", lambda: ADAPTATIONS)]
