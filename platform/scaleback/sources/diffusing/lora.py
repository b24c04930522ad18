"""Low-rank changes to a UNet's attention (Hu et al., 2021), by peft, in the files that diffusers reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
"""Queries, keys, values and outputs of self and cross attention (the released script)."""
ADAPTER = "default"


def add_lora(unet: Any, rank: int, generator: torch.Generator) -> list[nn.Parameter]:
    """Add an adapter that as yet changes nothing; all else is frozen. Returns what is to be trained."""
    from peft import LoraConfig

    unet.requires_grad_(False)
    unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=list(TARGETS)), adapter_name=ADAPTER)
    found = [parameter for name, parameter in unet.named_parameters() if ".lora_" in name]
    with torch.no_grad():
        for name, parameter in unet.named_parameters():
            if ".lora_A." in name:  # peft's own draw is from torch's global generator
                parameter.copy_(torch.empty(parameter.shape).normal_(std=1 / rank, generator=generator))
    return found


def lora_file(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a file that ``load_lora_weights`` of diffusers takes.

    Args:
        weights: those of a UNet by name, or all.
    """
    return {f"unet.{name.replace(f'.{ADAPTER}.', '.')}": value for name, value in weights.items() if ".lora_" in name}


def load_lora(unet: Any, file: Mapping[str, Tensor], scale: float) -> None:
    """Add the adapter of a file, at some strength: 0 for none, 1 as it was trained."""
    rank = next(value.shape[0] for name, value in file.items() if ".lora_A." in name)
    add_lora(unet, rank, torch.Generator())
    named = {name.removeprefix("unet."): value for name, value in file.items()}
    with torch.no_grad():
        for name, parameter in unet.named_parameters():
            if ".lora_" in name:
                parameter.copy_(named[name.replace(f".{ADAPTER}.", ".")])
    unet.set_adapters([ADAPTER], weights=[scale])
