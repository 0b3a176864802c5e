"""Reductions of consecutive segments of a dim."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from ..errors import TypeFault
from ..opdef import op
from ..types import TensorType, Type
from .sampling import Sample, Sampler


@op("x:float, ends:int -> y")
def segment_reduce(
    x: Any, ends: Any, *, reduce: str, axis: int = 0, offsets: bool = False, initial: float | None = None
) -> Any:
    """Combine segments of x along ``axis``, whose lengths (or offsets, the last end included) are ends[*lead count].

    reduce: sum, mean, max, min or prod. initial: where each segment starts; without it by what changes nothing.
    """
    places = {"offsets": ends} if offsets else {"lengths": ends}
    return torch.segment_reduce(x, reduce, axis=axis, unsafe=False, initial=initial, **places)


@segment_reduce.infer
def _(
    x: TensorType, ends: TensorType, *, reduce: str, axis: int = 0, offsets: bool = False, initial: float | None = None
) -> Type:
    if ends.rank != axis + 1:
        raise TypeFault(f"ends is {ends}; expected {axis + 1} dims for axis {axis}")
    count = ends.dims[axis] - 1 if offsets else ends.dims[axis]
    return TensorType(x.dtype, (*ends.dims[:axis], count, *x.dims[axis + 1 :]))


@segment_reduce.samples
def _(s: Sampler) -> Iterator[Sample]:
    for reduce in ("sum", "mean", "max", "min", "prod"):
        yield (s.real(6, 2), torch.tensor([2, 0, 4])), {"reduce": reduce, "initial": 1.0}
        yield (s.real(2, 6), torch.tensor([[0, 2, 6], [0, 3, 6]])), {"reduce": reduce, "axis": 1, "offsets": True}
