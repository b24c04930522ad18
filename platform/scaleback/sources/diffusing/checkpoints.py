"""Checkpoints of diffusers and transformers, from this machine unless a spec says otherwise."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from scaleback.core.errors import DataError
from scaleback.sources.stable_diffusion import missing

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def dtype_of(precision: str) -> torch.dtype:
    """The numbers of a precision."""
    return DTYPES[precision]


def loaded(kind: Any, field: str, name: str, *, download: bool, **keywords: Any) -> Any:
    """A part or a pipeline with its weights, which must be safetensors: a pickle could run what it likes.

    Args:
        kind: its class.
        field: of a generator, for a refusal.
        name: a folder, or a name of the hub.
        download: whether the hub is asked for what is not here.
        keywords: of its ``from_pretrained``.

    Raises:
        DataError: it is not there, or cannot be read.
    """
    for package in ("diffusers", "transformers"):
        import_module(f"{package}.utils.logging").disable_progress_bar()
    try:
        return kind.from_pretrained(name, local_files_only=not download, use_safetensors=True, **keywords)
    except (OSError, ValueError, RuntimeError) as error:
        if not download and not Path(name).is_dir():
            raise DataError(missing(field, name)) from error
        reason = " ".join(str(error).split())[:160]
        raise DataError(f"generator.{field}: {name}: cannot be loaded ({reason})") from error
