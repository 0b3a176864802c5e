"""Let torchvision be imported beside a torch that it was not built for.

torchvision's wheel is built for CUDA. Beside a CPU torch its extension does not load, and its import stops at the two
operators whose shape functions it registers without looking whether they exist. Declaring them is enough for every
model that calls no torchvision operator (ResNet, ViT, ConvNeXt, YOLO...); calling one still fails in torchvision, with
its own message.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

import torch

# As torchvision/csrc/ops declares them.
_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


@functools.cache  # a library's declarations live as long as the object does
def declare_operators() -> torch.library.Library | None:
    """Declare what ``import torchvision`` needs; do nothing where its own extension loads or it is not installed."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None or _extension_loads(Path(spec.origin).parent):
        return None
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in _SCHEMAS:
        library.define(schema)
    return library


def _extension_loads(package: Path) -> bool:
    """Whether the compiled operators are there: loading them is the only sure test, and torchvision does it anyway."""
    candidates = sorted(package.glob("_C*.so"))
    if not candidates:
        return False
    try:
        torch.ops.load_library(str(candidates[0]))
    except OSError:
        return False
    return True
