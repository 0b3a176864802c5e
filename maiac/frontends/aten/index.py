"""Gathers, scatters and lookups."""

from __future__ import annotations

from typing import Any

from maiac.ir.dims import DimLike
from maiac.ir.dtypes import DType
from maiac.ir.graph import Value

from ..importer import Context, Number, type_of
from .registry import Unsupported, aten


@aten("embedding.default")
def embedding(c: Context, weight: Value, ids: Value, *_: Any) -> Value:
    """Rows of a table (padding_idx and the like speak of gradients only)."""
    return c.emit("embedding", weight, ids)


@aten("index.Tensor", "_unsafe_index.Tensor")
def index(c: Context, x: Value, indices: list[Value | None]) -> Value:
    """Advanced indexing; absent indices take whole dims."""
    dims, given = _indexed(indices)
    return c.emit("index", x, *given, dims=dims)


def _indexed(indices: list[Value | None]) -> tuple[tuple[int, ...], list[Value]]:
    """The dim at which each given index stands; a mask of rank r takes r dims."""
    dims: list[int] = []
    at = 0
    for value in indices:
        if value is not None:
            dims.append(at)
        masked = value is not None and type_of(value).dtype is DType.BOOL
        at += type_of(value).rank if masked and value is not None else 1
    return tuple(dims), [v for v in indices if v is not None]


@aten("index_put.default", "_unsafe_index_put.default")
def index_put(c: Context, x: Value, indices: list[Value | None], values: Value, accumulate: bool = False) -> Value:
    """x with values written where indexing would read."""
    dims, given = _indexed(indices)
    return c.emit("index_put", x, c.cast(values, type_of(x).element), *given, dims=dims, accumulate=accumulate)


@aten("index_select.default")
def index_select(c: Context, x: Value, dim: int, indices: Value) -> Value:
    """Indices along a dim."""
    if not type_of(x).rank:
        return x
    return c.emit("gather", x, c.reshape(indices, c.shape()[dim : dim + 1 or None]), dim=dim)


@aten("gather.default")
def gather(c: Context, x: Value, dim: int, indices: Value, *, sparse_grad: bool = False) -> Value:
    """y[i][j] = x[indices[i][j]][j]."""
    if not type_of(x).rank:
        return c.expand(x, type_of(indices).dims)
    return c.emit("gather_elements", x, indices, dim=dim)


@aten("scatter.src", "scatter.value", "scatter_add.default", "scatter.reduce", "scatter.value_reduce")
def scatter(c: Context, x: Value, dim: int, indices: Value, source: Any, *, reduce: str = "none") -> Value:
    """x with elements written, added or multiplied at indices along a dim."""
    x, indices, source, shape = _at_least_one_dim(c, x, indices, source)
    if not isinstance(source, Value):
        source = c.full(source, type_of(indices).dims, type_of(x).element)
    reduce = "add" if "scatter_add" in c.name else {"multiply": "mul"}.get(reduce, reduce)
    return c.reshape(c.emit("scatter_elements", x, indices, source, dim=dim, reduce=reduce), shape)


def _at_least_one_dim(c: Context, *values: Any) -> Any:
    """Operands of rank 0 as vectors of one element; the shape that the result has in the end stands last."""
    shape = type_of(values[0]).dims
    lifted = [c.reshape(v, (1,)) if isinstance(v, Value) and not type_of(v).rank else v for v in values]
    return (*lifted, shape)


_REDUCE = {"sum": "add", "prod": "mul", "amax": "max", "amin": "min", "mean": "mean"}


@aten("scatter_reduce.two")
def scatter_reduce(
    c: Context, x: Value, dim: int, indices: Value, source: Value, reduce: str, *, include_self: bool = True
) -> Value:
    """x combined with elements at indices along a dim."""
    x, indices, source, shape = _at_least_one_dim(c, x, indices, source)
    attrs = {"reduce": _REDUCE[reduce], "include_self": include_self}
    return c.reshape(c.emit("scatter_elements", x, indices, source, dim=dim, **attrs), shape)


@aten("index_add.default")
def index_add(c: Context, x: Value, dim: int, indices: Value, source: Value, *, alpha: Number = 1) -> Value:
    """x with slices added at indices of a dim."""
    dims = type_of(source).dims
    if alpha != 1:
        source = c.emit("mul", source, c.scalar(alpha, source))
    return c.emit("scatter_elements", x, _along(c, indices, dim, dims), source, dim=dim, reduce="add")


@aten("index_reduce.default")
def index_reduce(
    c: Context, x: Value, dim: int, indices: Value, source: Value, reduce: str, *, include_self: bool = True
) -> Value:
    """x with slices combined at indices of a dim."""
    x, indices, source, shape = _at_least_one_dim(c, x, indices, source)
    along = _along(c, indices, dim, type_of(source).dims)
    return c.reshape(scatter_reduce(c, x, dim, along, source, reduce, include_self=include_self), shape)


@aten("segment_reduce.default")
def segment_reduce(
    c: Context, x: Value, reduce: str, *, lengths: Value | None = None, indices: Value | None = None,
    offsets: Value | None = None, axis: int = 0, unsafe: bool = False, initial: Number | None = None,
) -> Value:  # fmt: skip
    """Consecutive segments of a dim combined."""
    ends = offsets if lengths is None else lengths
    start = None if initial is None else float(initial)
    return c.emit("segment_reduce", x, ends, reduce=reduce, axis=axis, offsets=lengths is None, initial=start)


@aten("put.default")
def put(c: Context, x: Value, indices: Value, source: Value, accumulate: bool = False) -> Value:
    """x with elements written, or added, at places that count through all of it."""
    flat, at, values = (c.reshape(v, (type_of(v).elements(),)) for v in (x, indices, source))
    return c.reshape(c.emit("index_put", flat, values, at, dims=(0,), accumulate=accumulate), type_of(x).dims)


@aten("index_copy.default", "index_fill.int_Scalar")
def index_copy(c: Context, x: Value, dim: int, indices: Value, source: Any) -> Value:
    """x with slices replaced at indices of a dim."""
    dims = list(type_of(x).dims)
    dims[dim] = type_of(indices).dims[0]
    if not isinstance(source, Value):
        source = c.full(source, dims, type_of(x).element)
    return c.emit("scatter_elements", x, _along(c, indices, dim, dims), source, dim=dim)


def _along(c: Context, indices: Value, dim: int, dims: Any) -> Value:
    """A vector of indices, repeated over all other dims."""
    shape: list[DimLike] = [1] * len(dims)
    shape[dim] = type_of(indices).dims[0]
    return c.expand(c.reshape(indices, shape), tuple(dims))


@aten("masked_scatter.default")
def masked_scatter(c: Context, x: Value, mask: Value, source: Value) -> Value:
    """x with the elements of source, in order, where the mask is true."""
    dims = c.shape()
    x = c.expand(x, dims)
    mask = c.reshape(c.expand(mask, dims), (type_of(x).elements(),))
    places = c.emit("sub", c.emit("cumsum", c.cast(mask, DType.I64), dim=0), c.scalar(1))
    flat = c.reshape(source, (type_of(source).elements(),))
    places = c.emit("clamp", places, min=0)
    # Places behind the last true element are never read; they only have to exist.
    picked = c.emit("gather", flat, c.emit("minimum", places, c.scalar(type_of(flat).dims[0] - 1)), dim=0)
    return c.reshape(c.emit("where", mask, picked, c.reshape(x, (type_of(x).elements(),))), dims)


@aten("unfold.default")
def unfold(c: Context, x: Value, dim: int, size: int, step: int) -> Value:
    """Windows of a dim, every ``step`` elements, as a new last dim."""
    rank = type_of(x).rank
    if not rank:
        return c.reshape(x, c.shape())
    at = dim % rank
    count = c.shape()[at]
    first = c.emit("mul", c.reshape(c.emit("iota", end=count), (count, 1)), c.scalar(step))
    windows = c.emit("gather", x, c.emit("add", first, c.emit("iota", end=size)), dim=at)
    return c.emit("transpose", windows, perm=(*range(at + 1), *range(at + 2, rank + 1), at + 1))


@aten("diagonal_scatter.default")
def diagonal_scatter(c: Context, x: Value, source: Value, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Value:
    """x with a diagonal of two dims replaced."""
    rank = type_of(x).rank
    a, b = dim1 % rank, dim2 % rank
    rest = [d for d in range(rank) if d not in (a, b)]
    front = c.emit("transpose", x, perm=(a, b, *rest))
    count = type_of(source).dims[-1]
    rows, columns = (c.emit("iota", start=s, end=s + count) for s in (max(-offset, 0), max(offset, 0)))
    values = c.emit("transpose", source, perm=(rank - 2, *range(rank - 2)))
    put = c.emit("index_put", front, c.cast(values, type_of(x).element), rows, columns, dims=(0, 1))
    back = [(a, b, *rest).index(d) for d in range(rank)]
    return c.emit("transpose", put, perm=tuple(back))


@aten("nonzero.default")
def nonzero(c: Context, x: Value) -> Value:
    """The indices of elements that are not 0."""
    return c.emit("nonzero", x)


@aten("masked_select.default")
def masked_select(c: Context, x: Value, mask: Value) -> Value:
    """The elements where the mask is true."""
    shape = _broadcast(c, x, mask) or (1,)
    return c.emit("index", c.expand(x, shape), c.expand(mask, shape), dims=(0,))


def _broadcast(c: Context, x: Value, y: Value) -> tuple[DimLike, ...]:
    from maiac.ir.ops.rules import broadcast

    return broadcast([type_of(x).dims, type_of(y).dims])


@aten("one_hot.default")
def one_hot(c: Context, x: Value, classes: int = -1) -> Value:
    """1 at each element's class, 0 elsewhere."""
    if classes < 0:
        raise Unsupported("one_hot without num_classes")
    dims = type_of(x).dims
    return c.cast(c.emit("eq", c.reshape(x, (*dims, 1)), c.emit("iota", end=classes)), DType.I64)


@aten("isin.Tensor_Tensor")
def isin(c: Context, x: Value, among: Value, *, assume_unique: bool = False, invert: bool = False) -> Value:
    """Whether each element is among others."""
    column = c.reshape(x, (*type_of(x).dims, 1))
    found = c.emit("any", c.emit("eq", column, c.reshape(among, (type_of(among).elements(),))), dims=(-1,))
    return c.emit("logical_not", found) if invert else found


@aten("searchsorted.Tensor", "searchsorted.Scalar", "bucketize.Tensor", "bucketize.Scalar")
def searchsorted(c: Context, a: Any, b: Any, *, right: bool = False, side: str | None = None, **_: Any) -> Value:
    """Where each value would stand in a sorted vector: how many of its elements come before. NaN stands last."""
    edges, values = c.operands(*((b, a) if "bucketize" in c.name else (a, b)))
    if type_of(edges).rank != 1:
        raise Unsupported("searchsorted in more than one row")
    values = c.reshape(values, (*type_of(values).dims, 1))
    before = c.emit("le" if right or side == "right" else "lt", edges, values)
    if type_of(values).element.is_float:
        before = c.emit("logical_or", before, c.emit("is_nan", values))
    return c.cast(c.emit("sum", c.cast(before, DType.I64), dims=(-1,)), c.dtype)


@aten("_embedding_bag.default", "_embedding_bag_forward_only.default")
def embedding_bag(
    c: Context, weight: Value, indices: Value, offsets: Value, scale_grad: bool = False, mode: int = 0,
    sparse: bool = False, per_sample: Value | None = None, include_last: bool = False, padding_idx: int = -1,
) -> Any:  # fmt: skip
    """Sums, means or maxima of bags of rows; the other three outputs serve the gradient only."""
    if padding_idx >= 0:
        raise Unsupported("embedding_bag with padding_idx")
    name = ("sum", "mean", "max")[mode]
    bags = c.emit("embedding_bag", weight, indices, offsets, per_sample, mode=name, include_last=include_last)
    return bags, None, None, None


@aten("embedding_dense_backward.default")
def embedding_dense_backward(
    c: Context, grad: Value, indices: Value, rows: DimLike, padding_idx: int = -1, by_frequency: bool = False
) -> Value:
    """The gradient of a table: each row's gradients added up."""
    if by_frequency:
        raise Unsupported("embedding with scale_grad_by_freq")
    width = type_of(grad).dims[-1]
    table = c.full(0, (rows, width), type_of(grad).element)
    if padding_idx >= 0:
        keep = c.emit("ne", indices, c.scalar(padding_idx))
        mask = c.reshape(keep, (*type_of(indices).dims, 1))
        grad = c.emit("mul", grad, c.cast(mask, type_of(grad).element))
    flat = c.reshape(grad, (type_of(indices).elements(), width))
    ids = _along(c, c.reshape(indices, (type_of(indices).elements(),)), 0, type_of(flat).dims)
    return c.emit("scatter_elements", table, ids, flat, dim=0, reduce="add")


@aten("histc.default")
def histc(c: Context, x: Value, bins: int = 100, low: Number = 0, high: Number = 0) -> Value:
    """How many elements fall into each of ``bins`` equal parts of [low, high]."""
    if low == high:
        raise Unsupported("histc over the range of the data")
    flat = c.reshape(x, (type_of(x).elements(),))
    wide = flat if type_of(x).element.is_float else c.cast(flat, DType.F64)
    # In eager's order of operations, so that elements on an edge fall to the same side.
    place = c.emit("mul", c.emit("sub", wide, c.scalar(float(low), wide)), c.scalar(float(bins), wide))
    place = c.cast(c.emit("div", place, c.scalar(float(high - low), wide)), DType.I64)
    place = c.emit("minimum", place, c.scalar(bins - 1))
    inside = c.emit("logical_and", c.emit("ge", wide, c.scalar(float(low))), c.emit("le", wide, c.scalar(float(high))))
    place = c.emit("where", inside, place, c.scalar(-1))
    hits = c.emit("eq", c.reshape(place, (type_of(x).elements(), 1)), c.emit("iota", end=bins))
    return c.emit("sum", c.cast(hits, c.dtype), dims=(0,))


@aten("repeat_interleave.Tensor")
def repeat_interleave(c: Context, repeats: Value, *, output_size: DimLike | None = None) -> Value:
    """Index i as often as repeats[i] says."""
    repeats = c.cast(repeats, DType.I64)
    if output_size is None:
        output_size = c.as_dim(c.emit("sum", repeats, dims=(0,)), 0)
    ends = c.emit("cumsum", repeats, dim=0)
    places = c.reshape(c.emit("iota", end=output_size), (output_size, 1))
    return c.cast(c.emit("sum", c.cast(c.emit("ge", places, ends), DType.I64), dims=(1,)), c.dtype)
