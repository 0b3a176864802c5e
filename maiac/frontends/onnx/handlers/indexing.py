"""Operators that read and write at indices."""

from __future__ import annotations

from typing import Any

from maiac.ir import Dim, DType, Value

from ..context import NodeContext, tensor_type
from ..registry import onnx_op


@onnx_op("Gather")
def gather(c: NodeContext) -> Value:
    """Slices along an axis; rows of a weight become an embedding."""
    axis = int(c.attr("axis", 0))
    index = c.known(1)
    if index is not None and not index.ndim and isinstance(index.item(), Dim):
        index = None
    if index is not None and not index.ndim and c.rank(0):
        at = int(index.item())
        end = None if at == -1 else at + 1
        dims = [d for i, d in enumerate(c.shape(0)) if i != axis % c.rank(0)]
        if c.dtype(0) is not DType.STR:
            return c.reshape(c.emit("slice", c[0], dim=axis, start=at, end=end), dims)
    return c.emit("gather", c[0], c[1], dim=axis)


@onnx_op("GatherElements")
def gather_elements(c: NodeContext) -> Value:
    """One element for each index along an axis."""
    return c.emit("gather_elements", c[0], c[1], dim=int(c.attr("axis", 0)))


@onnx_op("GatherND")
def gather_nd(c: NodeContext) -> Value:
    """Slices at index vectors."""
    return c.emit("gather_nd", c[0], c[1], batch_dims=int(c.attr("batch_dims", 0)))


@onnx_op("Scatter", "ScatterElements")
def scatter_elements(c: NodeContext) -> Value:
    """x with updates at indices along an axis."""
    return c.emit("scatter_elements", c[0], c[1], c[2], dim=int(c.attr("axis", 0)), reduce=c.attr("reduction", "none"))


@onnx_op("ScatterND")
def scatter_nd(c: NodeContext) -> Value:
    """x with updates at index vectors."""
    return c.emit("scatter_nd", c[0], c[1], c[2], reduce=c.attr("reduction", "none"))


@onnx_op("NonZero")
def non_zero(c: NodeContext) -> Value:
    """The places of elements that are not 0: [rank, count]."""
    return c.emit("transpose", c.emit("nonzero", c[0]), perm=(1, 0))


@onnx_op("Compress")
def compress(c: NodeContext) -> Value:
    """The slices where a condition, shorter perhaps than the axis, holds."""
    axis = c.attr("axis")
    x = c[0]
    if axis is None:
        from maiac.ir.dims import product

        x, axis = c.reshape(x, (product(c.shape(0)),)), 0
    kept = c.emit("nonzero", c[1])
    rows = tensor_type(kept).dims[0]
    return c.emit("gather", x, c.reshape(kept, (rows,)), dim=int(axis))


@onnx_op("OneHot")
def one_hot(c: NodeContext) -> Value:
    """on where the index matches, off elsewhere; negative indices count from depth."""
    axis, rank = int(c.attr("axis", -1)), c.rank(0) + 1
    depth_index = c.cast(c.reshape(c[1], ()), DType.I64) if c.known(1) is None else None
    if depth_index is None:
        depth: Any = c.known(1).reshape(-1)[0]  # type: ignore[union-attr]
    else:
        depth = _bound(c, depth_index)
    at = axis % rank
    indices = c.cast(c[0], DType.I64)
    dims = list(c.shape(0))
    indices = c.reshape(indices, [*dims[:at], 1, *dims[at:]])
    size = c.emit("dim_tensor", value=depth)
    wrapped = c.emit("where", c.emit("lt", indices, c.const(0, DType.I64)), c.emit("add", indices, size), indices)
    places = c.reshape(c.emit("iota", end=depth), [depth if i == at else 1 for i in range(rank)])
    off, on = (c.reshape(c.emit("slice", c[2], dim=0, start=i, end=i + 1), ()) for i in (0, 1))
    return c.emit("where", c.emit("eq", places, wrapped), on, off)


def _bound(c: NodeContext, x: Value) -> Any:
    from maiac.ir.dims import sym

    symbol = sym(c.module.fresh_symbol("n").name)
    c.emit_op("bind", x, to=(symbol,))
    return symbol


@onnx_op("ArgMax", "ArgMin")
def arg_reduce(c: NodeContext) -> Value:
    """The index of the greatest or least element along an axis."""
    name = "argmax" if c.op == "ArgMax" else "argmin"
    last = bool(c.attr("select_last_index", 0))
    return c.emit(name, c[0], dim=int(c.attr("axis", 0)), keepdim=bool(c.attr("keepdims", 1)), last=last)


@onnx_op("TopK")
def top_k(c: NodeContext) -> list[Value]:
    """The k greatest or least elements along an axis, with their indices; of equals the first ones."""
    k = int(c.attr("k")) if c.opset < 10 else (c.dims(1) or (None,))[0]
    axis, largest = int(c.attr("axis", -1)), bool(c.attr("largest", 1))
    ordered = c.emit_op("sort", c[0], dim=axis, descending=largest).results
    return [
        c.emit("slice", v, dim=axis, start=0, end=k) if isinstance(k, int) else _first(c, v, axis, k) for v in ordered
    ]


def _first(c: NodeContext, x: Value, axis: int, k: Any) -> Value:
    rows = c.emit("iota", end=k)
    return c.emit("gather", x, rows, dim=axis)


@onnx_op("Unique")
def unique(c: NodeContext) -> list[Value]:
    """The distinct elements or slices, with first places, inverse and counts."""
    return list(c.emit_op("unique", c[0], dim=c.attr("axis"), sorted=bool(c.attr("sorted", 1))).results)


@onnx_op("TensorScatter")
def tensor_scatter(c: NodeContext) -> Value:
    """A cache with an update written from write_indices[b] on along an axis, around the end where circular."""
    axis = int(c.attr("axis", -2)) % c.rank(0)
    have, new = c.shape(0), c.shape(1)
    rank = len(have)
    places = c.reshape(c.emit("iota", end=new[axis]), [new[axis] if i == axis else 1 for i in range(rank)])
    if c.has(2):
        starts = c.reshape(c[2], [have[0] if i == 0 else 1 for i in range(rank)])
        places = c.emit("add", places, c.cast(starts, DType.I64))
    if c.attr("mode", "linear") == "circular":
        places = c.emit("remainder", places, c.emit("dim_tensor", value=have[axis]))
    return c.emit("scatter_elements", c[0], c.emit("expand", places, shape=new), c[1], dim=axis)


@onnx_op("CumSum", "CumProd")
def cumulative(c: NodeContext) -> Value:
    """Running sums or products along an axis."""
    axis = (c.dims(1) or (0,))[0]
    name = "cumsum" if c.op == "CumSum" else "cumprod"
    return c.emit(name, c[0], dim=axis, exclusive=bool(c.attr("exclusive", 0)), reverse=bool(c.attr("reverse", 0)))


@onnx_op("NonMaxSuppression")
def non_max_suppression(c: NodeContext) -> Value:
    """Boxes kept of each batch and class: [count, 3] of batch, class and box."""
    limits = [c.opt(i) for i in (2, 3, 4)]
    return c.emit("non_max_suppression", c[0], c[1], *limits, center=bool(c.attr("center_point_box", 0)))
