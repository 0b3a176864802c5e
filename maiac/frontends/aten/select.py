"""Results whose size depends on the data."""

from __future__ import annotations

from typing import Any

from maiac.ir.dims import DimLike
from maiac.ir.graph import Value

from ..importer import Context, type_of
from .registry import Unsupported, aten


@aten("_unique2.default", "_unique.default")
def unique(c: Context, x: Value, sorted: bool = True, inverse: bool = False, counts: bool = False) -> Any:
    """The distinct elements in order, which one each is, and how often."""
    values, _, places, numbers = c.emit_all("unique", x)
    return _asked(c, values, c.reshape(places, type_of(x).dims), numbers, inverse, counts)


@aten("unique_dim.default")
def unique_dim(c: Context, x: Value, dim: int, sorted: bool = True, inverse: bool = False, counts: bool = False) -> Any:
    """The distinct slices along a dim in order, which one each is, and how often."""
    values, _, places, numbers = c.emit_all("unique", x, dim=dim)
    return _asked(c, values, places, numbers, inverse, counts)


@aten("unique_consecutive.default")
def unique_consecutive(
    c: Context, x: Value, inverse: bool = False, counts: bool = False, dim: int | None = None
) -> Any:
    """The elements, or slices along a dim, that differ from the one before."""
    rank = type_of(x).rank
    if dim is not None and rank > 1 and (dim % rank or c.val[0].ndim != rank):
        raise Unsupported("along a dim torch traces it with a wrong shape")
    values, places, numbers = c.emit_all("unique_consecutive", x, dim=dim)
    if dim is None:
        places = c.reshape(places, type_of(x).dims)
    return _asked(c, values, places, numbers, inverse, counts)


@aten("unique_dim_consecutive.default")
def unique_dim_consecutive(c: Context, x: Value, dim: int, inverse: bool = False, counts: bool = False) -> Any:
    """The slices along a dim that differ from the one before."""
    return unique_consecutive(c, x, inverse, counts, dim)


def _asked(
    c: Context, values: Value, places: Value, numbers: Value, inverse: bool, counts: bool
) -> tuple[Value | None, ...]:
    """torch gives empty tensors for what was not asked for."""
    wanted = (values, places if inverse else None, numbers if counts else None)
    return wanted[: len(c.val)]


@aten("bincount.default")
def bincount(c: Context, x: Value, weights: Value | None = None, least: DimLike = 0) -> Value:
    """How often each number stands in x, or the sum of its weights."""
    return c.emit("bincount", x, weights, least=least)


@aten("nonzero_static.default")
def nonzero_static(c: Context, x: Value, *, size: DimLike, fill_value: int = -1) -> Value:
    """The indices of the first elements that are not 0."""
    return c.emit("nonzero_first", x, size=size, fill=fill_value)
