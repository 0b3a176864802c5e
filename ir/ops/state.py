"""Reading and writing states: named mutable globals such as KV caches and running statistics."""

from __future__ import annotations

from typing import Any

from ..errors import TypeFault
from ..opdef import op
from ..types import TensorType, Type


@op("s:value -> y", effect=True)
def read(s: Any) -> Any:
    """The contents of a state as they are now; later writes do not change the result."""
    return s.clone()


@read.infer
def _(s: TensorType) -> Type:
    return s


@op("s:value, x:value -> ", effect=True, mutates="s")
def write(s: Any, x: Any) -> None:
    """Replace the contents of a state."""
    s.copy_(x)


@write.infer
def _(s: TensorType, x: TensorType) -> list[Type]:
    if s.dtype != x.dtype or s.dims != x.dims:
        raise TypeFault(f"the state is {s}, but the new contents are {x}")
    return []


@read.shard
def _(results: list[Type], s: TensorType) -> Type:
    return s


@write.shard
def _(results: list[Type], s: TensorType, x: TensorType) -> list[Type]:
    if s != x:
        raise TypeFault(f"the state is {s}, but the new contents are {x}", "MAIA0108")
    return []
