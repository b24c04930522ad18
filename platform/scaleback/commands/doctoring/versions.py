"""Python, packages, and whether torch meets its torchvision and its GPUs."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from scaleback.commands.doctoring.check import Check, judged
from scaleback.core import units

CONSTRAINTS = Path(__file__).resolve().parents[4] / "constraints.txt"
LEAST = {"ray": (2, 60), "torch": (2, 10), "pydantic": (2, 11), "optuna": (5, 0)}
"""ray below 2.55 runs code out of Parquet metadata (CVE-2026-41486); torch below 2.10 out of checkpoints."""
TESTED = ("ray", "torch", "pydantic", "optuna", "timm", "diffusers", "peft", "numpy", "pyarrow")


def versions() -> Iterator[Check]:
    """Every package, then what torch can run on."""
    yield judged("Python", sys.version_info >= (3, 11), platform.python_version(), "install 3.11 or later")
    tested = _tested()
    for name in TESTED:
        yield _package(name, metadata.version(name), tested.get(name))
    yield from _torchvision()
    yield from _gpus()


def _package(name: str, version: str, tested: str | None) -> Check:
    least = LEAST.get(name, (0, 0))
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < least:
        return Check(name, "fail", version, f"install {least[0]}.{least[1]} or later")
    same = tested is None or version.split("+")[0] == tested
    return judged(name, same, version, f"tested with {tested}: pip install -c constraints.txt", "warn")


def _tested() -> dict[str, str]:
    """Package to version, as in ``constraints.txt``; empty where the repository is not there."""
    if not CONSTRAINTS.is_file():
        return {}
    pairs = (line.split("==") for line in CONSTRAINTS.read_text().splitlines() if "==" in line)
    return {name: version.strip() for name, version in pairs}


def _torchvision() -> Iterator[Check]:
    import torch

    from scaleback.torchvision_operators import declare

    version, own = metadata.version("torchvision"), not declare()
    import timm

    beside = f"{version} beside torch {torch.__version__}"
    note = "its operators load" if own else "its operators do not load; scaleback declares what timm asks for"
    yield Check("torchvision", "ok", f"{beside}: {note}")
    yield Check("timm", "ok", f"{timm.__version__} imports")


def _gpus() -> Iterator[Check]:
    import torch

    built = torch.version.cuda or torch.version.hip
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            card = torch.cuda.get_device_properties(number)
            narrow = "bf16" if torch.cuda.is_bf16_supported() else "no bf16"
            found = f"{card.name}, {units.size(card.total_memory)}, CUDA {built}, {narrow}"
            yield Check(f"GPU {number}", "ok", found)
        if torch.distributed.is_nccl_available():
            yield Check("NCCL", "ok", ".".join(map(str, torch.cuda.nccl.version())))
        else:
            yield Check("NCCL", "fail", "torch has none", "install a build of torch with NCCL: DDP on GPUs needs it")
    elif os.path.exists("/dev/nvidia0") or shutil.which("nvidia-smi"):
        if built is None:
            yield Check("GPU", "warn", "there, but torch is built for processors", "install a CUDA build of torch")
        else:
            cure = "see nvidia-smi: the driver is missing, too old for it, or kept from this container"
            yield Check("GPU", "fail", f"there, but CUDA {built} does not start", cure)
    else:
        yield Check("GPU", "ok", "none; everything runs on processors")
