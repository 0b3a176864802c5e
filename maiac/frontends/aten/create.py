"""Tensors from sizes and numbers."""

from __future__ import annotations

from typing import Any

from maiac.ir.dims import Dim
from maiac.ir.dtypes import DType
from maiac.ir.graph import Value

from ..importer import Context
from .registry import aten


@aten("full.default", "full_like.default", "fill.Scalar", "new_full.default")
def full(c: Context, like: Any, *args: Any, **_: Any) -> Value:
    """A tensor of one number in the traced shape and dtype."""
    return _filled(c, args[-1] if args else like)


def _filled(c: Context, value: Any) -> Value:
    """A tensor of a number; a symbolic number is broadcast."""
    if isinstance(value, (bool, int, float)):
        value = int(value) if c.dtype.is_integer else float(value) if c.dtype.is_float else value
        return c.full(value, c.shape(), c.dtype)
    return c.expand(c.cast(c.scalar(value), c.dtype), c.shape())


@aten("fill.Tensor")
def fill_tensor(c: Context, x: Value, value: Value) -> Value:
    """A tensor of one element's value."""
    return c.expand(c.cast(value, c.dtype), c.shape())


@aten(
    "zeros.default", "zeros_like.default", "empty.memory_format", "empty_strided.default", "empty_like.default",
    "new_zeros.default", "new_empty.default", "empty_permuted.default", "new_empty_strided.default",
)  # fmt: skip
def zeros(c: Context, *_: Any, **__: Any) -> Value:
    """Zeros; uninitialised memory is zeros too, so that runs repeat."""
    return c.full(0, c.shape(), c.dtype)


@aten("ones.default", "ones_like.default", "new_ones.default")
def ones(c: Context, *_: Any, **__: Any) -> Value:
    """Ones."""
    return c.full(1, c.shape(), c.dtype)


@aten("scalar_tensor.default")
def scalar_tensor(c: Context, value: Any, **_: Any) -> Value:
    """A number as a tensor of rank 0."""
    if isinstance(value, (bool, int, float)):
        return c.emit("constant", value=value, dtype=c.dtype)
    return c.cast(c.scalar(value), c.dtype)


@aten("arange.start_step", "arange.start", "arange.default")
def arange(c: Context, *args: Any, **_: Any) -> Value:
    """start, start + step, ... below end."""
    start, end, step = (0, args[0], 1) if len(args) == 1 else (*args, 1)[:3]
    if all(isinstance(v, (int, Dim)) for v in (start, end, step)) and not isinstance(step, Dim):
        dtype = c.dtype
        return c.emit("iota", start=start, end=end, step=step, dtype=dtype)
    # As eager: start + step * i in double precision, then rounded to the result's dtype.
    count = c.emit("iota", end=c.shape()[0])
    steps = c.emit("mul", c.cast(count, DType.F64), c.cast(c.scalar(step), DType.F64))
    return c.cast(c.emit("add", steps, c.cast(c.scalar(start), DType.F64)), c.dtype)


@aten("eye.default", "eye.m")
def eye(c: Context, *_: Any, **__: Any) -> Value:
    """Ones on the diagonal."""
    rows, columns = c.shape()
    row = c.reshape(c.emit("iota", end=rows), (rows, 1))
    return c.cast(c.emit("eq", row, c.emit("iota", end=columns)), c.dtype)


@aten("tril_indices.default", "triu_indices.default")
def triangle_indices(c: Context, rows: int, columns: int, offset: int = 0, **_: Any) -> Value:
    """The places of a triangle's elements, row by row: [2, count]."""
    below = c.name == "tril_indices"
    cells = [(i, j) for i in range(rows) for j in range(columns) if (j - i <= offset if below else j - i >= offset)]
    values = tuple(i for i, _ in cells) + tuple(j for _, j in cells)
    return c.emit("constant", value=values, dtype=c.dtype, shape=(2, len(cells)))
