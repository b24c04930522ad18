"""Stable Diffusion as a generator: any checkpoint of its first two generations."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from scaleback.core.errors import DataError, Refusal, refusal
from scaleback.sources.base import origin_of
from scaleback.sources.generator import Generator, Subject
from scaleback.sources.tables import digest_of

if TYPE_CHECKING:
    from scaleback.sources.base import Source
    from scaleback.sources.diffusing.model import Diffuser
    from scaleback.sources.learnt import Captioned
    from scaleback.sources.population import Population

PIPELINES = ("StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline")
CLIP_WIDTH = 512
"""Of features where a config does not say: CLIP's own default."""
NEGATIVE = "distorted, unrealistic, blurry, out of frame, cropped, deformed"
"""What an image should not be (Real-Fake's released script)."""


class StableDiffusion(Generator):
    """Latent diffusion told in words (Rombach et al., 2022), and shown real images through the last word's place.

    In training an image is told as ``photo of {class}, {caption}``, in drawing with ``, best quality`` after it; what
    is not known is left out. The features that a CLIP encoder has of an image take the place of the last of the text's
    tokens (Real-Fake: Yuan et al., ICLR 2024). Weights are looked for on this machine only, unless ``download``.
    """

    kind: Literal["stable-diffusion"] = "stable-diffusion"
    beside: ClassVar[frozenset[str]] = frozenset({"download", "compile"})
    checkpoint: str
    """A text-to-image pipeline of diffusers, a folder or a name of the hub: Stable Diffusion 1.x or 2.x that predicts
    noise."""
    size_px: int = Field(512, ge=8, multiple_of=8)
    """Side of what it draws. Real images are resized to it, whatever their aspect, and what is drawn is resized to
    their shape."""
    class_names: tuple[str, ...] | None = None
    """In the order of labels; None for the names that the real images come with."""
    captions: str | None = None
    """What each real image shows: a JSON file ``{"image": "caption"}``, where an image is called by its place in the
    data, or ``class/file`` in a folder; or a folder of one ``<class>.json`` a class, ``{"file": "caption"}``."""
    captioner: str | None = None
    """A BLIP-2 checkpoint of transformers, a folder or a name of the hub, that says it instead."""
    image_encoder: str | None = None
    """A CLIP checkpoint of transformers, a folder or a name of the hub, whose features of images are as wide as a token
    of the text; needed for guidance."""
    negative_prompt: str = NEGATIVE
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    """Of all that is frozen, and in drawing of the UNet too. While it learns, its weights are single precision, and the
    adaptation's schedule says what they are multiplied in."""
    compile: bool = False
    """Whether the UNet is compiled, by torch.compile."""
    download: bool = False

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.captions is not None and self.captioner is not None:
            raise Refusal("captioner", refusal("must be left out where captions are given", self.captioner))
        return self

    def refuse(self, real: Source, images: int, *, guided: bool) -> None:
        if guided and self.image_encoder is None:
            raise Refusal("image_encoder", refusal("must name a CLIP checkpoint, or guidance be none", None))
        classes, named = real.classes(images), self.class_names
        if named is None and classes is not None and not real.names_classes:
            raise Refusal("class_names", refusal(f"must name the {classes} classes, which have numbers only", None))
        if named is not None and len(named) != (classes or 0):
            raise Refusal("class_names", refusal(f"must be as many as classes, {classes or 0}", list(named)))

    def build(self, subject: Subject) -> Diffuser:
        from scaleback.sources.diffusing.stable import StableDiffuser

        return StableDiffuser(self, subject)

    def verify(self) -> None:
        pipeline = self._config("checkpoint", "model_index.json")
        if pipeline.get("_class_name") not in PIPELINES:
            rule = f"generator.checkpoint: {self.checkpoint}: must be a pipeline of {' or '.join(PIPELINES)}"
            raise DataError(refusal(rule, pipeline.get("_class_name")))
        refuse_prediction(self.checkpoint, self._config("checkpoint", "scheduler/scheduler_config.json"))
        if self.image_encoder is not None:
            encoder = self._config("image_encoder", "config.json")
            own = encoder.get("vision_config") or encoder
            width = own.get("projection_dim", encoder.get("projection_dim", CLIP_WIDTH))
            text = self._config("checkpoint", "text_encoder/config.json")
            refuse_width(self.image_encoder, width, text.get("hidden_size"))
        if self.captioner is not None:
            self._config("captioner", "config.json")
        if self.captions is not None:
            _read_captions(self.captions)

    def _config(self, field: str, file: str) -> dict[str, Any]:
        """A small file of a checkpoint."""
        name: str = getattr(self, field)
        path = local_file(name, file)
        if path is None and self.download and not Path(name).is_dir():
            path = _downloaded(field, name, file)
        if path is None:
            raise DataError(missing(field, name))
        config: dict[str, Any] = _json(f"generator.{field}", path)
        return config

    def origin(self) -> str | None:
        named = (self.checkpoint, self.image_encoder, self.captioner, self.captions)
        return origin_of(*(_digest(name) for name in named if name))

    def written_captions(self, population: Population, images: int) -> Sequence[str]:
        if self.captions is None:
            return ()
        read = _read_captions(self.captions)
        called = population.source.image_names(population.seed, images)
        found = [next((read[name] for name in names if name in read), None) for names in called]
        lacking = [names[0] for names, caption in zip(called, found, strict=True) if caption is None]
        if lacking:
            which = f"lacks {len(lacking):,} of {images:,} images, the first is {lacking[0]!r}"
            raise DataError(f"generator.captions: {self.captions}: {which}")
        return [caption for caption in found if caption is not None]

    def captioned(self, population: Population, images: int) -> Captioned | None:
        from scaleback.sources.learnt import Captioned

        if self.captioner is None:
            return None
        return Captioned(
            captioner=self.captioner,
            precision=self.precision,
            download=self.download,
            population=population,
            images=images,
            origin=_digest(self.captioner),
        )

    @classmethod
    def example(cls, scratch: Path) -> Self:
        from scaleback.sources.diffusing.tiny import save_tiny

        folder = scratch / "tiny-stable-diffusion"
        if not folder.exists():
            save_tiny(folder)
        return cls(
            checkpoint=str(folder),
            size_px=16,
            class_names=tuple(f"class {number}" for number in range(10)),
            image_encoder=str(folder / "seen_by"),
        )


def missing(field: str, name: str) -> str:
    """One line about a checkpoint that is not on this machine."""
    return f"generator.{field}: {name}: is not on this machine; pass a folder that holds it, or download: true"


def refuse_prediction(checkpoint: str, schedule: Any) -> None:
    """A pipeline whose UNet predicts something other than noise.

    Raises:
        DataError: it does.
    """
    predicted = schedule.get("prediction_type", "epsilon")
    if predicted != "epsilon":
        rule = f"generator.checkpoint: {checkpoint}: must predict noise (prediction_type epsilon)"
        raise DataError(refusal(rule, predicted))


def refuse_width(encoder: str, width: int, text_width: int | None) -> None:
    """An image encoder whose features cannot stand where a token stands.

    Raises:
        DataError: they are not as wide.
    """
    if width != text_width:
        rule = f"generator.image_encoder: {encoder}: must have features as wide as the text's tokens, {text_width}"
        raise DataError(refusal(rule, width))


def local_file(name: str, file: str) -> Path | None:
    """A file of a checkpoint on this machine: in its folder, or in the cache of the hub; None if it is not there."""
    if Path(name).is_dir():
        return Path(name) / file if (Path(name) / file).is_file() else None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(name, file)
    except HFValidationError:  # the path of a folder that is not there
        return None
    return Path(found) if isinstance(found, str) else None


def _downloaded(field: str, name: str, file: str) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(name, file))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:100]
        raise DataError(f"generator.{field}: {name}: cannot be downloaded; pass a folder ({reason})") from None


def _json(field: str, file: Path) -> Any:
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{field}: {file}: cannot be read ({' '.join(str(error).split())[:80]})") from None


@lru_cache(maxsize=16)
def _digest(name: str) -> str | None:
    """Of a file, or of the files in a folder; None for a name of the hub."""
    path = Path(name)
    if path.is_dir():
        files = [file for file in path.rglob("*") if file.is_file() and file.suffix in (".json", ".safetensors")]
        return digest_of(sorted(files))
    return digest_of([path]) if path.is_file() else None


@lru_cache(maxsize=4)
def _read_captions(path: str) -> dict[str, str]:
    """Captions by what images are called."""
    file = Path(path)
    if not file.exists():
        raise DataError(f"generator.captions: {path}: is not there; pass a JSON file, or a folder of one a class")
    found: dict[str, str] = {}
    files = sorted(file.glob("*.json")) if file.is_dir() else [file]
    for one in files:
        read = _json("generator.captions", one)
        if not isinstance(read, dict) or not all(isinstance(caption, str) for caption in read.values()):
            raise DataError(f'generator.captions: {one}: must hold {{"image": "caption"}}')
        before = f"{one.stem}/" if file.is_dir() else ""
        found |= {f"{before}{name}": caption for name, caption in read.items()}
    return found
