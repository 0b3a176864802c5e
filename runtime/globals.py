"""Weights and states of one rank: loaded when first run, sliced where they are split, shared wherever possible."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from maiac.ir.errors import raise_all
from maiac.ir.graph import State, Weight
from maiac.ir.ops.values import QTensor
from maiac.ir.types import TensorType

from .placement import Placement


def load_weights(weights: Sequence[Weight], placement: Placement) -> list[torch.Tensor | QTensor]:
    """The contents of each weight, or this rank's part. MAIA0504 names all that have none.

    A whole weight is the tensor that its data holds or maps, never a copy; a part has storage of its own.
    """
    missing = [f"{kind(w)} @{w.name} : {w.type}" for w in weights if w.data is None]
    raise_all("MAIA0504", "the program cannot run: weights have no contents", missing)
    loaded = [_load(w, placement) for w in weights]
    empty = [f"{kind(w)} @{w.name} : {w.type} (on meta)" for w, t in zip(weights, loaded, strict=True) if _meta(t)]
    raise_all("MAIA0504", "the program cannot run: weights have no contents", empty)
    return loaded


def mutable(initial: Sequence[Any]) -> list[torch.Tensor]:
    """Copies of states' initial contents, to be written to."""
    return [t.clone(memory_format=torch.contiguous_format) for t in initial]


def kind(weight: Weight) -> str:
    """``weight`` or ``state``."""
    return "state" if isinstance(weight, State) else "weight"


def _meta(t: torch.Tensor | QTensor) -> bool:
    return (t.codes if isinstance(t, QTensor) else t).is_meta


def _load(weight: Weight, placement: Placement) -> Any:
    data: Any = weight.data
    type = weight.type
    if not isinstance(type, TensorType) or not any(type.split):
        return data.load()
    shape = tuple(d for d in type.dims if isinstance(d, int))
    assert len(shape) == type.rank, f"the split weight {weight.name} has symbolic dims"
    slices = placement.slices(type, shape)
    return data.load() if slices is None else data.load_slice(slices)


def bytes_held(t: torch.Tensor | QTensor) -> int:
    """Bytes of a tensor, scales included."""
    if isinstance(t, QTensor):
        return sum(bytes_held(p) for p in (t.codes, t.scale, t.zero_point) if p is not None)
    return t.numel() * t.element_size()
