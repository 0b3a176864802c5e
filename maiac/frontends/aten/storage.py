"""Operations on the storage of a tensor rather than on its elements: strides over it, and another size of it."""

from __future__ import annotations

from typing import Any

from maiac.ir.dims import DimLike, product
from maiac.ir.graph import Value

from ..importer import Context, type_of
from .index import put
from .registry import Unsupported, aten


@aten("resize.default")
def resize(c: Context, x: Value, *_: Any, **__: Any) -> Value:
    """The first elements under other dims; new ones are 0."""
    have, dims = type_of(x).elements(), c.shape()
    want = product(dims)
    if not isinstance(have, int) or not isinstance(want, int):
        raise Unsupported("resize by symbolic sizes")
    if dims != type_of(x).dims:
        _check_contiguous(c, x)
    flat = c.reshape(x, (have,))
    flat = c.emit("slice", flat, dim=0, end=want) if want < have else flat
    flat = c.emit("pad", flat, pads=(0, want - have)) if want > have else flat
    return c.reshape(flat, dims)


@aten("as_strided.default", "as_strided_copy.default")
def as_strided(c: Context, x: Value, size: Any, stride: Any, offset: Any = None) -> Value:
    """Elements at strides of the storage."""
    start = _start(c, x, size, stride, offset)
    return c.emit("as_strided", x, size=tuple(size), stride=tuple(stride), offset=start)


@aten("as_strided_scatter.default")
def as_strided_scatter(c: Context, x: Value, source: Value, size: Any, stride: Any, offset: Any = None) -> Value:
    """x with elements at strides of its storage replaced."""
    start = _start(c, x, size, stride, offset)
    places = c.reshape(c.emit("iota", end=type_of(x).elements()), type_of(x).dims)
    at = c.emit("as_strided", places, size=tuple(size), stride=tuple(stride), offset=start)
    return put(c, x, at, source)


def _start(c: Context, x: Value, size: Any, stride: Any, offset: Any) -> DimLike:
    """At which element of x strides over its storage begin; x must lie contiguous, as IR values do, and hold them."""
    own = c.offset_of(0)
    start = 0 if offset is None else c.as_dim(offset) - own
    last = start + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    if not _within(start, last, type_of(x).elements(), own == 0):
        raise Unsupported(f"{c.name} of a part of a storage")
    _check_contiguous(c, x)
    return start


def _check_contiguous(c: Context, x: Value) -> None:
    """What reads a storage is not supported where torch traced the operand in another order than its elements'."""
    expected: DimLike = 1
    for have, dim in zip(reversed(c.strides_of(0)), reversed(type_of(x).dims), strict=True):
        if have != expected and dim != 1:
            raise Unsupported(f"{c.name} of a tensor that is not contiguous")
        expected = dim * expected


def _within(first: DimLike, last: DimLike, count: DimLike, otherwise: bool) -> bool:
    """Whether elements first..last are among ``count``; a given answer where sizes are symbolic."""
    if isinstance(first, int) and isinstance(last, int) and isinstance(count, int):
        return first >= 0 and last < max(count, 1)
    return otherwise
