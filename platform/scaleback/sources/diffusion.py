"""Images drawn by a generator that real images guide: Real-Fake's stages, each a field that can be left out."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from scaleback.core import seeds
from scaleback.core.errors import Refusal, RenderError
from scaleback.core.spec import Plain
from scaleback.sources.base import Reader, Source, origin_of, refuse_part
from scaleback.sources.generators import ADAPTATIONS, AnyAdaptation, AnyGenerator, Embedded
from scaleback.sources.mixture import Mixture
from scaleback.sources.steering import Steering

if TYPE_CHECKING:
    from scaleback.core.store import Store
    from scaleback.sources import AnySource  # a union over the registry, which lists this class too
    from scaleback.sources.learnt import Judged, Learnt


MOST_GENERATIONS = 100


class Given(NamedTuple):
    """What a generator learns from: the first so many images of a source."""

    source: Source
    images: int


class Diffusion(Source):
    """Copies of ``real_images`` real images by a generator: image i is copy i // real_images of image i % real_images.

    So the first k x ``real_images`` are k copies of each, and fewer copies are a prefix of more. A copy has the label
    of its real image. An image is a function of the spec, the seed and its index, up to a unit of a pixel, which
    batches of other sizes round otherwise.

    A later ``generation`` is adapted to, begins from, and has the labels of images that the ones before it drew: of the
    last one (``replace``), or of all of them and the real ones (``accumulate``), ``real_images`` of each. Its generator
    is the same one adapted anew, with noise of its own.

    With ``steering`` it draws what a classifier of what it learnt from is unsure of. That is a closed loop where one
    draws after another: the classifier of a later generation that accumulates, or of a mixture of real and drawn images
    as ``real``, has learnt from what was drawn before, and the next images are those that it is still unsure of.
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
    generation: int = Field(1, ge=1, le=MOST_GENERATIONS)
    """1 learns from the real images, g from what generations up to g - 1 drew."""
    succession: Literal["replace", "accumulate"] = "replace"
    """What a generation does to the images before it (Gerstgrasser et al., 2024); of no effect on the first."""
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
                self.steering.refuse(self.given.source, self.given.images)
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

    @property
    def rounds(self) -> int:
        return self.given.source.rounds + 1

    @cached_property
    def given(self) -> Given:
        """What this generation learns from, begins from, and takes labels of."""
        before = [self.model_copy(update={"generation": number}) for number in range(1, self.generation)]
        if not before:
            return Given(self.real, self.real_images)
        if self.succession == "replace":
            return Given(before[-1], self.real_images)
        source: Source = self.real
        for place, one in enumerate(before, start=2):
            source = Mixture(first=source, second=one, share=1 / place, labels="shared")
        return Given(source, self.generation * self.real_images)

    def canonical(self) -> dict[str, Plain]:
        """Revision 2 where drawn images are learnt from: such images were once drawn of the noise of those."""
        return super().canonical() | ({"revision": 2} if self.rounds > 1 else {})

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

    def drawing_seed(self, seed: int) -> int:
        """Of all that the generator draws in learning and drawing.

        Where it learns from drawn images it is none of theirs: the same noise at the same index, round after round,
        would give the same image again, and hide what a generator loses of what it was given.
        """
        return seed if self.rounds == 1 else seeds.key("diffusion of drawn images", seed, self.rounds) >> 1

    def learnt(self, seed: int) -> list[Learnt]:
        own = self.own_learnt(seed)
        before = self.given.source.learnt(self.given.source.population_seed(seed))
        if isinstance(self.generator, Embedded):
            before += self.generator.source.learnt(self.generator.source.population_seed(self.generator.seed))
        judge = self.judge(seed)
        judges = [judge] if judge is not None else []
        return list({stage.address: stage for stage in (*before, *own, *judges)}.values())

    def own_learnt(self, seed: int) -> list[Learnt]:
        """The stages whose weights the generator has, in order."""
        from scaleback.sources.learnt import Adapted, Trained
        from scaleback.sources.population import Population

        found: list[Learnt] = []
        population = Population.of(self.given.source, seed)
        if isinstance(self.generator, Embedded):
            found.append(Trained.of(self.generator))
        if (captioned := self.generator.captioned(population, self.given.images)) is not None:
            found.append(captioned)
        if self.adaptation is not None:
            adapted = Adapted(
                generator=self.generator,
                adaptation=self.adaptation,
                guidance=self.guidance,
                guidance_images=self.guidance_images,
                population=population,
                images=self.given.images,
                seed=self.drawing_seed(seed),
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
            population=Population.of(self.given.source, seed),
            images=self.given.images,
            seed=self.drawing_seed(seed),
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
