"""Collectives over a mesh axis. The bodies are their meaning on a mesh of one; the runtime brings the real ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..attributes import MeshAxis
from ..errors import TypeFault
from ..opdef import op
from ..types import TensorType, Type
from .rules import as_inferred, axis


@op("x:value -> y", effect=True)
def all_reduce(x: Any, *, over: MeshAxis) -> Any:
    """Add the parts of a sum that is owed over a mesh axis; every rank gets the whole sum."""
    return x


@all_reduce.infer
def _(x: TensorType, *, over: MeshAxis) -> Type:
    if over not in x.owed:
        raise TypeFault(f"x is {x}, which owes no sum over {over}", "MAIA0108")
    return replace(x, owed=tuple(a for a in x.owed if a != over))


@op("x:value -> y", effect=True)
def all_gather(x: Any, *, over: MeshAxis, dim: int) -> Any:
    """Join the parts of a dim that is split over a mesh axis; every rank gets the whole dim."""
    return x


@all_gather.infer
def _(x: TensorType, *, over: MeshAxis, dim: int) -> Type:
    at = axis(x, dim)
    if x.split[at][-1:] != (over,):
        raise TypeFault(f"dim {dim} of x is not split by {over} last: {x}", "MAIA0108")
    return x.with_split([s[:-1] if i == at else s for i, s in enumerate(x.split)], x.owed)


@op("x:value -> y", effect=True)
def reduce_scatter(x: Any, *, over: MeshAxis, dim: int) -> Any:
    """Add the parts of an owed sum; each rank keeps its part of dim."""
    return x


@reduce_scatter.infer
def _(x: TensorType, *, over: MeshAxis, dim: int) -> Type:
    if over not in x.owed:
        raise TypeFault(f"x is {x}, which owes no sum over {over}", "MAIA0108")
    return _cut(replace(x, owed=tuple(a for a in x.owed if a != over)), over, axis(x, dim))


@op("x:value -> y", effect=True)
def shard(x: Any, *, over: MeshAxis, dim: int) -> Any:
    """Each rank of a mesh axis keeps its part of dim; nothing is sent."""
    return x


@shard.infer
def _(x: TensorType, *, over: MeshAxis, dim: int) -> Type:
    return _cut(x, over, axis(x, dim))


def _cut(x: TensorType, over: MeshAxis, at: int) -> TensorType:
    if any(over in s for s in x.split) or over in x.owed:
        raise TypeFault(f"{over} already splits x or is owed a sum: {x}", "MAIA0108")
    return x.with_split([(*s, over) if i == at else s for i, s in enumerate(x.split)], x.owed)


@op("x:value -> y", effect=True)
def send_recv(x: Any, *, along: MeshAxis, source: int, target: int) -> Any:
    """Move a value from one pipeline stage to another; stages on one rank pass it on as it is."""
    return x


@op("x:value -> y", effect=True)
def broadcast(x: Any, *, along: MeshAxis, source: int) -> Any:
    """Give every rank of a mesh axis the value of the rank that holds stage ``source``."""
    return x


@send_recv.infer
def _(x: TensorType, *, along: MeshAxis, source: int, target: int) -> Type:
    return x


@broadcast.infer
def _(x: TensorType, *, along: MeshAxis, source: int) -> Type:
    return x


for _definition in (all_reduce, all_gather, reduce_scatter, shard, send_recv, broadcast):
    _definition.shard(as_inferred)
