"""What a generator is told of its subject, and the weights that it learnt."""

from __future__ import annotations

import json
from collections.abc import Sequence

import torch
from safetensors.torch import load as load_tensors
from torch import Tensor

from scaleback.core.store import Store
from scaleback.sources.diffusing.judge import Judge
from scaleback.sources.diffusing.lora import load_lora
from scaleback.sources.diffusing.model import Diffuser
from scaleback.sources.generator import Generator, Subject
from scaleback.sources.learnt import Adapted, Judged, Learnt, Trained
from scaleback.sources.population import Population

WEIGHTS = "generator.safetensors"
CAPTIONS = "captions.json"
JUDGE = "judge.safetensors"
LORA, PARTS = "pytorch_lora_weights.safetensors", "parts.safetensors"
"""Names of the files; that of the low-rank weights is diffusers' own."""


def subject_of(
    generator: Generator,
    population: Population,
    images: int,
    class_names: Sequence[str],
    store: Store,
    *,
    drawn: bool = False,
) -> Subject:
    """What a generator is told of the first real images of a population.

    Raises:
        DataError: a file of captions lacks one.
        IntegrityError: captions that were made are damaged.
    """
    captions = generator.written_captions(population, images)
    if (stage := generator.captioned(population, images)) is not None:
        captions = json.loads(_read(store, stage, CAPTIONS))
    return Subject(
        shape=population.source.shape,
        classes=population.source.classes(images) or 0,
        class_names=class_names,
        captions=captions,
        drawn=drawn,
    )


def load_trained(diffuser: Diffuser, store: Store, stage: Trained) -> None:
    """Give it the weights of a generator that was trained here; classes that were not among them begin alike.

    Raises:
        IntegrityError: they are damaged.
    """
    weights = load_tensors(_read(store, stage, WEIGHTS))
    with torch.no_grad():
        for name, value in diffuser.state_dict().items():
            value.copy_(weights[name] if name in weights else weights["no_class"].expand_as(value))


def load_adapted(diffuser: Diffuser, store: Store, stage: Adapted, scale: float) -> None:
    """Add what adapting it to real images has changed.

    Raises:
        IntegrityError: it is damaged.
    """
    load_lora(diffuser.unet, load_tensors(_read(store, stage, LORA)), scale)
    parts: dict[str, Tensor] = load_tensors(_read(store, stage, PARTS))
    with torch.no_grad():
        for name, parameter in diffuser.named_parameters():
            if name in parts:
                parameter.copy_(parts[name])


def load_judge(store: Store, stage: Judged) -> Judge:
    """The classifier that steers, as it is asked.

    Raises:
        IntegrityError: its weights are damaged.
    """
    judge = Judge(stage)
    judge.load_state_dict(load_tensors(_read(store, stage, JUDGE)))
    return judge.eval().requires_grad_(False)


def _read(store: Store, stage: Learnt, file: str) -> bytes:
    manifest = store.manifest(stage.address, stage)
    assert manifest is not None, f"{stage.address} was asked for before it was there"
    return store.read(manifest, file)
