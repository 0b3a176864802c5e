"""Running extremes along a dim, and the most frequent element."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from ..dtypes import DType
from ..errors import TypeFault
from ..opdef import op
from ..types import TensorType, Type
from .reduce import reduced
from .rules import axis
from .sampling import Sample, Sampler


def _running(name: str, fn: Callable[..., Any], which: str) -> None:
    def reference(x: Any, *, dim: int) -> Any:
        return tuple(fn(x, dim))

    def infer(x: TensorType, *, dim: int) -> list[Type]:
        axis(x, dim)
        return [x.whole(), TensorType(DType.I64, x.dims)]

    def shard(results: list[Type], x: TensorType, *, dim: int) -> list[Type]:
        if x.owed or x.split[axis(x, dim)]:
            raise TypeFault(f"{name}: the scanned dim must be whole, but x is {x}", "MAIA0108")
        return [r.with_split(x.split) for r in results if isinstance(r, TensorType)]

    reference.__doc__ = f"The {which} element along dim up to each one, and its index; the last one of equals."
    definition = op("x:any -> values, indices", name=name)(reference)
    definition.infer(infer)
    definition.shard(shard)
    definition.samples(_along)


def _along(s: Sampler) -> Iterator[Sample]:
    for dim in (0, -1):
        yield (s.real(4, 6),), {"dim": dim}
    yield (s.ints(8, high=3),), {"dim": 0}


_running("cummax", torch.cummax, "greatest")
_running("cummin", torch.cummin, "least")


@op("x:any -> values, indices")
def mode(x: Any, *, dim: int = -1, keepdim: bool = False) -> Any:
    """The most frequent element along dim, the least one of several, and its last index."""
    return tuple(torch.mode(x, dim, keepdim))


@mode.infer
def _(x: TensorType, *, dim: int = -1, keepdim: bool = False) -> list[Type]:
    dims = tuple(reduced(x, (dim,), keepdim)[0])
    return [TensorType(x.dtype, dims), TensorType(DType.I64, dims)]


mode.samples(_along)
