"""Histograms over one and more dims, with weights and as densities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from maiac.ir.dims import product
from maiac.ir.dtypes import DType
from maiac.ir.graph import Value

from ..importer import Context, type_of
from .registry import aten

Ends = tuple[Value, Value]


@aten("histogram.bin_ct")
def histogram(c: Context, x: Value, bins: int = 100, *, range: Any = None, **options: Any) -> tuple[Value, Value]:
    """How many elements lie in each of ``bins`` equal parts of a range (None: that of the elements); the edges."""
    columns = [c.reshape(x, (type_of(x).elements(),))]
    edges = _edges(c, columns, [bins], range)
    return _counts(c, columns, edges, **options), edges[0]


@aten("histogram.bins_tensor")
def histogram_between(c: Context, x: Value, edges: Value, **options: Any) -> tuple[Value, Value]:
    """How many elements lie between neighbouring edges."""
    return _counts(c, [c.reshape(x, (type_of(x).elements(),))], [edges], **options), edges


@aten("_histogramdd_bin_edges.default")
def bin_edges(c: Context, x: Value, bins: list[int], *, range: Any = None, **_: Any) -> list[Value]:
    """The edges of equal parts along each of the last dim's coordinates."""
    return _edges(c, _columns(c, x), bins, range)


@aten("_histogramdd_from_bin_cts.default")
def histogramdd(c: Context, x: Value, bins: list[int], *, range: Any = None, **options: Any) -> Value:
    """How many points of the last dim lie in each cell of a grid of equal parts."""
    columns = _columns(c, x)
    return _counts(c, columns, _edges(c, columns, bins, range), **options)


@aten("_histogramdd_from_bin_tensors.default")
def histogramdd_between(c: Context, x: Value, edges: list[Value], **options: Any) -> Value:
    """How many points of the last dim lie in each cell between edges."""
    return _counts(c, _columns(c, x), edges, **options)


def _columns(c: Context, x: Value) -> list[Value]:
    """Each coordinate of the last dim for all points."""
    *lead, width = type_of(x).dims
    assert isinstance(width, int)  # the trace has as many bins
    count = product(lead)
    parts = c.emit_all("split", c.reshape(x, (count, width)), dim=1, parts=(1,) * width)
    return [c.reshape(part, (count,)) for part in parts]


# **** edges ****


def _edges(c: Context, columns: Sequence[Value], bins: Sequence[int], given: Sequence[float] | None) -> list[Value]:
    """Equally spaced edges over the given ends, two for each column, or over the values of each column."""
    if given is None:
        ends = [_extremes(c, column) for column in columns]
    else:
        ends = [_widened(c, columns[0], *given[i : i + 2]) for i in range(0, len(given), 2)]
    return [_spaced(c, *end, count) for end, count in zip(ends, bins, strict=True)]


def _extremes(c: Context, column: Value) -> Ends:
    """The least and the greatest value, half a unit further where they are the same; of none, 0 and 1."""
    if type_of(column).dims[0] == 0:
        return _widened(c, column, 0.0, 1.0)
    low, high = (c.emit(name, column, dims=(0,)) for name in ("amin", "amax"))
    span = c.emit("sub", high, low)
    finite = c.emit("lt", c.emit("abs", span), c.scalar(float("inf"), span))  # false for NaN
    c.emit_all("check", finite, message="a histogram over the range of its values needs finite ones")
    half = c.emit("mul", c.cast(c.emit("eq", low, high), type_of(column).element), c.scalar(0.5, low))
    return c.emit("sub", low, half), c.emit("add", high, half)


def _widened(c: Context, column: Value, low: float, high: float) -> Ends:
    half = 0.5 if low == high else 0.0
    dtype = type_of(column).element
    return c.cast(c.scalar(float(low - half)), dtype), c.cast(c.scalar(float(high + half)), dtype)


def _spaced(c: Context, low: Value, high: Value, bins: int) -> Value:
    """bins + 1 numbers from low to high, reckoned from the nearer end as torch.linspace does: both ends are exact."""
    dtype = type_of(low).element
    step = c.emit("div", c.emit("sub", high, low), c.scalar(float(bins), low))
    at = c.emit("iota", end=bins + 1)
    up = c.emit("mul", c.cast(at, dtype), step)
    down = c.emit("mul", c.cast(c.emit("sub", c.scalar(bins), at), dtype), step)
    below = c.emit("lt", at, c.scalar((bins + 1) // 2))
    return c.emit("where", below, c.emit("add", low, up), c.emit("sub", high, down))


# **** counts ****


def _counts(
    c: Context, columns: Sequence[Value], edges: Sequence[Value], *, weight: Value | None = None, density: bool = False
) -> Value:
    """The weight (None: 1 each) of the points in each cell, or its density. What lies outside goes to a last cell."""
    sizes = [type_of(e).dims[0] - 1 for e in edges]
    cells, dtype = product(sizes), type_of(columns[0]).element
    place, inside = _place(c, columns[0], edges[0])
    for column, edge, size in zip(columns[1:], edges[1:], sizes[1:], strict=True):
        nearer, within = _place(c, column, edge)
        place = c.emit("add", c.emit("mul", place, c.scalar(size)), nearer)
        inside = c.emit("logical_and", inside, within)
    place = c.emit("where", inside, place, c.scalar(cells))
    count = type_of(place).dims
    amount = c.full(1, count, dtype) if weight is None else c.cast(c.reshape(weight, count), dtype)
    sums = c.emit("scatter_elements", c.full(0, (cells + 1,), dtype), place, amount, dim=0, reduce="add")
    hist = c.reshape(c.emit("slice", sums, dim=0, start=0, end=cells), sizes)
    return _density(c, hist, edges) if density else hist


def _place(c: Context, column: Value, edges: Value) -> tuple[Value, Value]:
    """Between which edges each value lies, and whether it lies between any; the last edge belongs to the last bin."""
    last = type_of(edges).dims[0] - 1
    reached = c.emit("le", edges, c.reshape(column, (*type_of(column).dims, 1)))
    place = c.emit("sub", c.emit("sum", c.cast(reached, DType.I64), dims=(1,)), c.scalar(1))
    low, high = (c.emit("slice", edges, dim=0, start=at, end=at + 1) for at in (0, last))
    inside = c.emit("logical_and", c.emit("ge", column, low), c.emit("le", column, high))
    return c.emit("minimum", place, c.scalar(last - 1)), inside


def _density(c: Context, hist: Value, edges: Sequence[Value]) -> Value:
    """Each cell's part of the whole, divided by its volume."""
    rank = type_of(hist).rank
    hist = c.emit("div", hist, c.emit("sum", hist, dims=None))
    for dim, edge in enumerate(edges):
        last = type_of(edge).dims[0] - 1
        high, low = (c.emit("slice", edge, dim=0, start=s, end=s + last) for s in (1, 0))
        lengths = c.reshape(c.emit("sub", high, low), [last if d == dim else 1 for d in range(rank)])
        hist = c.emit("div", hist, lengths)
    return hist
