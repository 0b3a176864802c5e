"""Constants that are equal become one: folding makes the tables of positions and masks anew for every layer."""

from __future__ import annotations

import hashlib
from typing import Any

from maiac.ir import DType, Module, TensorType, Weight

from ..fold import FoldedTensor
from .derived import drop_read

LARGEST = 1 << 22  # elements: what is folded is made of tables, not of a model's parameters


def share_constants(module: Module) -> int:
    """Let readers of equal folded weights read the first of them; how many went."""
    found: dict[Any, Weight] = {}
    gone = 0
    for weight in list(module.weights.values()):
        key = _key(weight)
        if key is None:
            continue
        first = found.setdefault(key, weight)
        if first is not weight:
            weight.replace_all_uses(first)
            drop_read(module, [weight])
            gone += 1
    return gone


def _key(weight: Weight) -> Any:
    type = weight.type
    if not isinstance(weight.data, FoldedTensor) or not isinstance(type, TensorType) or type.is_sharded:
        return None
    count = type.elements()
    if not isinstance(type.dtype, DType) or not isinstance(count, int) or count > LARGEST or type.dtype.bits < 8:
        return None
    tensor = weight.data.load()
    if tensor.is_meta or tensor.is_complex():
        return None
    import torch

    raw = tensor.contiguous().reshape(-1).view(torch.uint8) if count else tensor.reshape(-1)
    return type, hashlib.sha256(raw.numpy().tobytes()).digest()
