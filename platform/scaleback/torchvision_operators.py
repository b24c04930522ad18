"""Makes torchvision importable beside a torch it was not compiled for.

timm imports torchvision, and PyPI's torchvision is compiled against the CUDA build of torch. Beside a CPU build its
compiled operators do not load, and its import fails with ``operator torchvision::nms does not exist``. Declaring the
two operators that its Python code refers to is enough for transforms, data sets and timm; nms itself, and decoding,
stay unavailable, and nothing here uses them. Where torchvision's own operators load, this does nothing.
"""

from __future__ import annotations

from typing import Any

_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_declared: list[Any] = []  # torch drops the declarations when the Library object dies


def declare() -> bool:
    """Declare the operators if they are missing; call before the first import of timm or torchvision in a process.

    Returns:
        Whether they are declared by this, in this process.
    """
    import importlib.util

    import torch

    if _declared or hasattr(torch.ops.torchvision, "nms"):
        return bool(_declared)
    spec = importlib.util.find_spec("torchvision")
    if spec is None:
        return False  # timm will say so
    if _compiled_operators_load(spec):
        return False
    library = torch.library.Library("torchvision", "DEF")
    library.define(f"nms{_SIGNATURE}")
    library.define(f"qnms{_SIGNATURE}")
    _declared.append(library)
    return True


def _compiled_operators_load(spec: Any) -> bool:
    """Whether torchvision's operator library fits this torch: load it as torchvision's own import would."""
    import glob
    import os

    import torch

    for file in glob.glob(os.path.join(spec.submodule_search_locations[0], "_C*")):
        try:
            torch.ops.load_library(file)
        except OSError:
            return False
    return hasattr(torch.ops.torchvision, "nms")
