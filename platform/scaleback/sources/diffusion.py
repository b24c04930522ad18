"""Images drawn by a generator that real images guide: Real-Fake's stages, each a field that can be left out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from scaleback.core.errors import Refusal, RenderError
from scaleback.sources.base import Reader, Source, origin_of, refuse_part
from scaleback.sources.generators import ADAPTATIONS, AnyAdaptation, AnyGenerator, Embedded
from scaleback.sources.steering import Steering

if TYPE_CHECKING:
    from scaleback.core.store import Store
    from scaleback.sources import AnySource  # a union over the registry, which lists this class too
    from scaleback.sources.learnt import Judged, Learnt


class Diffusion(Source):
    """Copies of ``real_images`` real images by a generator: image i is copy i // real_images of image i % real_images.

    So the first k x ``real_images`` are k copies of each, and fewer copies are a prefix of more. A copy has the label
    of its real image. An image is a function of the spec, the seed and its index, up to a unit of a pixel, which
    batches of other sizes round otherwise.

    With ``steering`` it draws what a classifier of its real images is unsure of. That is a closed loop where sources
    nest: if ``real`` is a mixture of real images and of those that another such source drew, with shared labels, the
    classifier has learnt from both, and the next images are those that it is still unsure of.
    """

    kind: Literal["diffusion"] = "diffusion"
    tolerance = 1
    real: AnySource
    """What the generator is adapted to, begins from, and takes labels of."""
    real_images: int = Field(ge=1)
    """The first so many of them."""
    generator: AnyGenerator
    adaptation: AnyAdaptation | None = None
    """How it is adapted to the real images; None to take it as it is."""
    guidance: Literal["none", "image", "class-mean"] = "class-mean"
    """What it is shown, in training and drawing, of how an image looks: nothing; the real image itself (released
    code); or the mean of ``guidance_images`` real images of its class, which the paper describes."""
    guidance_images: int = Field(8, ge=1)
    strength: float = Field(0.75, ge=0, le=1)
    """Latent prior: the share of the way to noise that the real image is sent before it is drawn anew. 1 draws from
    noise alone."""
    steps: int = Field(30, ge=1)
    """Of UniPC for the whole way; a prior shortens it."""
    guidance_scale: float = Field(2.0, ge=1)
    """Of classifier-free guidance; 1 is without, in half of the time."""
    lora_scale: float = Field(0.5, ge=0)
    """Strength of the adaptation when drawing."""
    steering: Steering | None = None
    """Towards images that a classifier of the real ones is unsure of; None to leave them as they come."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        refuse_part(self.real, self.real_images, field="real", count="real_images")
        try:
            self.generator.refuse(self.real, self.real_images, guided=self.guidance != "none")
        except Refusal as error:
            raise Refusal(f"generator.{error.field}", str(error)) from None
        if self.steering is not None:
            try:
                self.steering.refuse(self.real, self.real_images)
            except Refusal as error:
                raise Refusal(".".join(part for part in ("steering", error.field) if part), str(error)) from None
        return self

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.real.shape

    @property
    def wants_gpu(self) -> bool:
        return True

    @property
    def discloses(self) -> bool:
        return self.strength < 1 or self.guidance == "image"

    def classes(self, images: int) -> int | None:
        return self.real.classes(self.real_images)

    def available(self) -> None:
        return None

    def origin(self) -> str | None:
        return origin_of(self.real.origin(), self.generator.origin())

    def verify(self) -> None:
        self.real.verify()
        self.generator.verify()

    def population_seed(self, seed: int) -> int:
        return seed

    def learnt(self, seed: int) -> list[Learnt]:
        own = self.own_learnt(seed)
        before = [stage for one in own for stage in one.population.source.learnt(one.population.seed)]
        judge = self.judge(seed)
        judges = [judge] if judge is not None else []
        found = [*self.real.learnt(self.real.population_seed(seed)), *before, *own, *judges]
        return list({stage.address: stage for stage in found}.values())

    def own_learnt(self, seed: int) -> list[Learnt]:
        """The stages whose weights the generator has, in order."""
        from scaleback.sources.learnt import Adapted, Trained
        from scaleback.sources.population import Population

        found: list[Learnt] = []
        population = Population.of(self.real, seed)
        if isinstance(self.generator, Embedded):
            found.append(Trained.of(self.generator))
        if (captioned := self.generator.captioned(population, self.real_images)) is not None:
            found.append(captioned)
        if self.adaptation is not None:
            adapted = Adapted(
                generator=self.generator,
                adaptation=self.adaptation,
                guidance=self.guidance,
                guidance_images=self.guidance_images,
                population=population,
                images=self.real_images,
                seed=seed,
                origin=self.generator.origin(),
            )
            found.append(adapted)
        return found

    def judge(self, seed: int) -> Judged | None:
        """The stage of the classifier that steers; None if none does."""
        from scaleback.sources.learnt import Judged
        from scaleback.sources.population import Population

        if self.steering is None:
            return None
        return Judged(
            backbone=self.steering.backbone(self.real),
            recipe=self.steering.recipe,
            population=Population.of(self.real, seed),
            images=self.real_images,
            seed=seed,
        )

    def open(self, seed: int) -> Reader:
        raise RenderError("diffusion: needs the weights that its generator learnt; open it with a store")

    def open_with(self, seed: int, store: Store) -> Reader:
        from scaleback.sources.diffusing.reader import DiffusionReader

        return DiffusionReader(self, seed, store)

    @classmethod
    def example(cls, scratch: Path) -> Self:
        from scaleback.sources.named import Digits

        adaptation = ADAPTATIONS["small"].replace({"schedule.warmup_images": 0, "schedule.budget_images": 64})
        return cls(real=Digits(), real_images=20, generator=Embedded.example(scratch), adaptation=adaptation, steps=4)
