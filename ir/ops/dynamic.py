"""Shapes that only the run tells: operations whose shape arguments are tensors (ONNX)."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from typing import Any

import torch

from ..dims import DimLike
from ..dtypes import DType
from ..errors import TypeFault
from ..opdef import op, unknown
from ..types import TensorType, Type
from .sampling import Sample, Sampler
from .values import to_torch


@op("x, shape:int -> y", alias="x")
def expand_to(x: Any, shape: Any, *, rank: int) -> Any:
    """Broadcast with a shape that only the run tells; a 1 in it keeps the dim of x (ONNX Expand)."""
    return x.expand(torch.broadcast_shapes(x.shape, tuple(shape.tolist())))


@expand_to.infer
def _(x: TensorType, shape: TensorType, *, rank: int) -> Type:
    return TensorType(x.dtype, tuple(unknown(i) for i in range(rank)))


@op("x, starts:int, ends:int, axes:int?, steps:int? -> y")
def slice_to(x: Any, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> Any:
    """Elements start, start + step, ... before end along several axes that only the run tells (ONNX Slice)."""
    count = starts.numel()
    where = list(range(count)) if axes is None else axes.tolist()
    stride = [1] * count if steps is None else steps.tolist()
    for start, end, dim, step in zip(starts.tolist(), ends.tolist(), where, stride, strict=True):
        kept = range(
            *builtins.slice(start, None if step < 0 and end < -x.shape[dim] else end, step).indices(x.shape[dim])
        )
        x = x.index_select(dim, torch.tensor(list(kept), dtype=torch.long))
    return x


@slice_to.infer
def _(x: TensorType, starts: TensorType, ends: TensorType, axes: Any = None, steps: Any = None) -> Type:
    return TensorType(x.dtype, tuple(unknown(i) for i in range(x.rank)))


@op("x, axes:int -> y", alias="x")
def unsqueeze_at(x: Any, axes: Any) -> Any:
    """New dims of size 1 at axes of the result that only the run tells."""
    rank = x.ndim + axes.numel()
    for at in sorted(a % rank for a in axes.reshape(-1).tolist()):
        x = x.unsqueeze(at)
    return x


@unsqueeze_at.infer
def _(x: TensorType, axes: TensorType) -> Type:
    count = axes.elements()
    if not isinstance(count, int):
        raise TypeFault(f"axes is {axes}; their number must be known")
    return TensorType(x.dtype, tuple(unknown(i) for i in range(x.rank + count)))


@op("x, axes:int -> y", alias="x")
def squeeze_at(x: Any, axes: Any) -> Any:
    """x without the dims of size 1 at axes that only the run tells."""
    return x.squeeze(tuple(axes.reshape(-1).tolist()))


@squeeze_at.infer
def _(x: TensorType, axes: TensorType) -> Type:
    count = axes.elements()
    if not isinstance(count, int) or count > x.rank:
        raise TypeFault(f"axes is {axes}; their number must be known and at most the rank of {x}")
    return TensorType(x.dtype, tuple(unknown(i) for i in range(x.rank - count)))


@op("x, pads:int, value?, axes:int? -> y")
def pad_to(x: Any, pads: Any, value: Any = None, axes: Any = None, *, mode: str = "constant") -> Any:
    """x padded by amounts (all before, then all after) along axes that only the run tells (ONNX Pad)."""
    from .shape import pad

    where = list(range(x.ndim)) if axes is None else [a % x.ndim for a in axes.tolist()]
    amounts, spread = pads.tolist(), [0] * (2 * x.ndim)
    for i, dim in enumerate(where):
        spread[2 * dim], spread[2 * dim + 1] = amounts[i], amounts[i + len(where)]
    fill = 0 if value is None else value.item()
    return pad.reference(x, pads=tuple(spread), mode=mode, value=fill)


@pad_to.infer
def _(x: TensorType, pads: TensorType, value: Any = None, axes: Any = None, *, mode: str = "constant") -> Type:
    return TensorType(x.dtype, tuple(unknown(i) for i in range(x.rank)))


@op("start, limit, delta -> y")
def range_to(start: Any, limit: Any, delta: Any) -> Any:
    """start, start + delta, ... before limit, all of one dtype (ONNX Range)."""
    return torch.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype)


@range_to.infer
def _(start: TensorType, limit: TensorType, delta: TensorType) -> Type:
    return TensorType(start.dtype, (unknown(),))


@op("shape:int -> y")
def full_to(shape: Any, *, value: bool | int | float, dtype: DType, rank: int) -> Any:
    """A tensor of one number, of a shape that only the run tells."""
    return torch.full(tuple(shape.tolist()), value, dtype=to_torch(dtype))


@full_to.infer
def _(shape: TensorType, *, value: Any, dtype: DType, rank: int) -> Type:
    return TensorType(dtype, tuple(unknown(i) for i in range(rank)))


@op("x -> y", alias="x", local={"shape": "y"})
def refine(x: Any, *, shape: tuple[int, ...]) -> Any:
    """x, which is said to have these dims where its own type leaves them open; it fails where they differ."""
    if tuple(x.shape) != tuple(shape):
        raise ValueError(f"a tensor of shape {list(x.shape)} was said to have shape {list(shape)}")
    return x


@refine.infer
def _(x: TensorType, *, shape: tuple[DimLike, ...]) -> Type:
    if len(shape) != x.rank:
        raise TypeFault(f"x is {x}; shape {list(shape)} has another rank")
    return TensorType(x.dtype, shape)


@expand_to.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield (s.real(4, 1), torch.tensor([4, 6])), {"rank": 2}
    yield (s.real(6), torch.tensor([2, 1, 1])), {"rank": 3}


@slice_to.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield (s.real(4, 6), torch.tensor([1, 0]), torch.tensor([3, 100])), {}
    yield (s.real(4, 6), torch.tensor([-1]), torch.tensor([-100]), torch.tensor([1]), torch.tensor([-2])), {}


@unsqueeze_at.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield (s.real(4, 6), torch.tensor([0, -1])), {}


@squeeze_at.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield (s.real(1, 4, 1), torch.tensor([0, -1])), {}


@pad_to.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield (s.real(4, 6), torch.tensor([1, 0, 2, 3]), s.real()), {}
    yield (s.real(4, 6), torch.tensor([1, 2]), None, torch.tensor([-1])), {"mode": "reflect"}


@range_to.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield (torch.tensor(1), torch.tensor(8), torch.tensor(3)), {}
    yield (torch.tensor(1.0), torch.tensor(0.0), torch.tensor(-0.25)), {}


@full_to.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield (torch.tensor([2, 4]),), {"value": 1.5, "dtype": s.dtype, "rank": 2}


@refine.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield (s.real(4, 6),), {"shape": (4, 6)}
