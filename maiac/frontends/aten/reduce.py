"""Reductions, scans and orderings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from maiac.ir.dims import DimLike
from maiac.ir.dtypes import DType
from maiac.ir.graph import Value

from ..importer import Context, type_of, wider
from .registry import Unsupported, aten


def _dims(dims: Any) -> tuple[int, ...] | None:
    """torch's dims of a reduction: None and the empty list mean all."""
    if dims is None or (isinstance(dims, Sequence) and not dims):
        return None
    return tuple(dims) if isinstance(dims, Sequence) else (dims,)


@aten("sum.default", "sum.dim_IntList", "mean.default", "mean.dim")
def summed(c: Context, x: Value, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Value:
    """The sum or mean, computed in the result's dtype."""
    name = "sum" if "sum" in c.name else "mean"
    return c.emit(name, c.cast(x, c.dtype), dims=_dims(dim), keepdim=keepdim)


@aten("amax.default", "amin.default", "max.default", "min.default")
def extreme(c: Context, x: Value, dim: Any = None, keepdim: bool = False) -> Value:
    """The greatest or least element."""
    name = "amax" if "max" in c.name else "amin"
    return c.emit(name, x, dims=_dims(dim), keepdim=keepdim)


@aten("max.dim", "min.dim")
def extreme_with_index(c: Context, x: Value, dim: int, keepdim: bool = False) -> tuple[Value, Value]:
    """The greatest or least element along a dim, and its index."""
    which = "max" if "max" in c.name else "min"
    if type_of(x).rank == 0:
        return x, c.full(0, (), DType.I64)
    values = c.emit(f"a{which}", x, dims=(dim,), keepdim=keepdim)
    return values, c.emit(f"arg{which}", x, dim=dim, keepdim=keepdim)


@aten("prod.default", "prod.dim_int")
def prod(c: Context, x: Value, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Value:
    """The product in the result's dtype."""
    if not type_of(x).rank:
        return c.cast(x, c.dtype)
    return c.emit("prod", c.cast(x, c.dtype), dims=_dims(dim), keepdim=keepdim)


@aten("any.default", "any.dim", "any.dims", "all.default", "all.dim", "all.dims")
def any_or_all(c: Context, x: Value, dim: Any = None, keepdim: bool = False) -> Value:
    """Whether any, or all, elements are not 0."""
    name = "any" if "any" in c.name else "all"
    return c.cast(c.emit(name, x, dims=_dims(dim), keepdim=keepdim), c.dtype)


@aten("logsumexp.default")
def logsumexp(c: Context, x: Value, dim: Any, keepdim: bool = False) -> Value:
    """log(sum(exp(x)))."""
    return c.emit("logsumexp", c.cast(x, c.dtype), dims=_dims(dim), keepdim=keepdim)


@aten("hash_tensor.default")
def hash_tensor(c: Context, x: Value, dim: Any = None, *, keepdim: bool = False, mode: int = 0) -> Value:
    """The xor of the elements' bits; torch has no other mode."""
    x = c.cast(x, DType.I64) if type_of(x).element is DType.BOOL else x
    return c.emit("hash", x, dims=_dims(dim), keepdim=keepdim)


@aten("argmax.default", "argmin.default")
def arg_extreme(c: Context, x: Value, dim: int | None = None, keepdim: bool = False) -> Value:
    """The index of the greatest or least element; over all elements where dim is None."""
    name = "argmax" if "argmax" in c.name else "argmin"
    if dim is None or not type_of(x).rank:
        flat = c.reshape(x, (type_of(x).elements(),))
        return c.reshape(c.emit(name, flat, dim=0), c.shape())
    return c.emit(name, x, dim=dim, keepdim=keepdim)


@aten("var.default", "var.dim", "var.correction", "std.default", "std.dim", "std.correction")
def var(c: Context, x: Value, *args: Any, **kwargs: Any) -> Value:
    """The variance, or its square root."""
    y = _variance(c, x, *args, **kwargs)
    return c.emit("sqrt", y) if "std" in c.name else y


def _variance(
    c: Context, x: Value, dim: Any = None, unbiased: bool = True, keepdim: bool = False, correction: Any = None
) -> Value:
    if isinstance(dim, bool):  # var.default(x, unbiased)
        dim, unbiased = None, dim
    if correction is None:
        correction = int(unbiased)
    if correction != int(correction):
        raise Unsupported(f"a correction of {correction}")
    return c.emit("var", x, dims=_dims(dim), correction=int(correction), keepdim=keepdim)


@aten("var_mean.correction", "var_mean.dim", "std_mean.correction")
def var_mean(c: Context, x: Value, dim: Any = None, *args: Any, keepdim: bool = False, correction: Any = None) -> Any:
    """The variance and the mean."""
    if args:  # var_mean.dim(x, dim, unbiased, keepdim)
        correction, keepdim = int(args[0]), bool(args[1]) if len(args) > 1 else keepdim
    variance = _variance(c, x, dim, True, keepdim, correction)
    if "std" in c.name:
        variance = c.emit("sqrt", variance)
    return variance, c.emit("mean", x, dims=_dims(dim), keepdim=keepdim)


@aten("cumsum.default", "cumprod.default")
def scan(c: Context, x: Value, dim: int, dtype: Any = None) -> Value:
    """Running sums or products, in the result's dtype."""
    name = "cumsum" if "cumsum" in c.name else "cumprod"
    if not type_of(x).rank:
        return c.cast(x, c.dtype)
    return c.emit(name, c.cast(x, c.dtype), dim=dim)


@aten("topk.default")
def topk(c: Context, x: Value, k: DimLike, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    """The k greatest elements and their indices."""
    return c.emit_all("topk", x, k=k, dim=dim, largest=largest, sorted=sorted)


@aten("sort.default")
def sort(c: Context, x: Value, dim: int = -1, descending: bool = False) -> Any:
    """The elements in order, and their indices."""
    return c.emit_all("sort", x, dim=dim, descending=descending)


@aten("sort.stable")
def sort_stable(c: Context, x: Value, dim: int = -1, descending: bool = False, *, stable: bool | None = False) -> Any:
    """The elements in order, equals in their given order."""
    return c.emit_all("sort", x, dim=dim, descending=descending)


@aten("argsort.default", "argsort.stable")
def argsort(c: Context, x: Value, dim: int = -1, descending: bool = False, *, stable: bool = False) -> Any:
    """The indices that order the elements."""
    return c.emit_all("sort", x, dim=dim, descending=descending)[1]


@aten("median.dim", "kthvalue.default")
def kth(c: Context, x: Value, *args: Any) -> Any:
    """The k-th least element along a dim (median: the lower one of the middle), and its index."""
    k, rest = (args[0], args[1:]) if c.name == "kthvalue" else (None, args)
    dim, keepdim = (rest[0] if rest else -1), bool(rest[1]) if len(rest) > 1 else False
    if not type_of(x).rank:
        return x, c.full(0, (), DType.I64)
    size = type_of(x).dims[dim]
    at = (size - 1) // 2 if k is None else k - 1
    out: list[Value] = []
    for i, ordered in enumerate(c.emit_all("sort", x, dim=dim)):
        one = c.emit("slice", ordered, dim=dim, start=at, end=at + 1)
        out.append(one if keepdim else c.reshape(one, c.shape(i)))
    return tuple(out)


@aten("median.default")
def median(c: Context, x: Value) -> Value:
    """The lower one of the middle elements of all."""
    size = type_of(x).elements()
    ordered = c.emit_all("sort", c.reshape(x, (size,)), dim=0)[0]
    return c.reshape(c.emit("slice", ordered, dim=0, start=(size - 1) // 2, end=(size - 1) // 2 + 1), ())


@aten("nanmedian.default", "nanmedian.dim")
def nanmedian(c: Context, x: Value, dim: int | None = None, keepdim: bool = False) -> Any:
    """The lower one of the middle elements that are numbers, along a dim with its index; NaN where there are none."""
    if not type_of(x).rank:
        return x if dim is None else (x, c.full(0, (), DType.I64))
    along = 0 if dim is None else dim
    if dim is None and type_of(x).elements() == 0:
        return c.full(math.nan, (), c.dtype)
    x = c.reshape(x, (type_of(x).elements(),)) if dim is None else x
    ordered, places = c.emit_all("sort", x, dim=along)  # NaN goes last
    numbers = c.cast(c.emit("logical_not", c.emit("is_nan", x)), DType.I64)
    below = c.emit("sub", c.emit("sum", numbers, dims=(along,), keepdim=True), c.scalar(1))
    at = c.emit("clamp", c.emit("floor_div", below, c.scalar(2)), min=0)
    picked = [c.emit("gather_elements", v, at, dim=along) for v in (ordered, places)]
    if dim is None:
        return c.reshape(picked[0], ())
    return tuple(c.reshape(v, c.shape(i)) for i, v in enumerate(picked))


@aten("cummax.default", "cummin.default")
def running_extreme(c: Context, x: Value, dim: int) -> Any:
    """The greatest or least element so far, and its index."""
    if not type_of(x).rank:
        return x, c.full(0, (), DType.I64)
    return c.emit_all(c.name, x, dim=dim)


@aten("mode.default")
def mode(c: Context, x: Value, dim: int = -1, keepdim: bool = False) -> Any:
    """The most frequent element along a dim, and its index."""
    if not type_of(x).rank:
        return x, c.full(0, (), DType.I64)
    return c.emit_all("mode", x, dim=dim, keepdim=keepdim)


@aten("logcumsumexp.default")
def logcumsumexp(c: Context, x: Value, dim: int) -> Value:
    """Running log(sum(exp(x))), scaled by the greatest element so that nothing overflows."""
    if not type_of(x).rank:
        return x
    top = c.emit("amax", x, dims=(dim,), keepdim=True)
    return c.emit("add", c.emit("log", c.emit("cumsum", c.emit("exp", c.emit("sub", x, top)), dim=dim)), top)


@aten("linalg_vector_norm.default")
def vector_norm(
    c: Context, x: Value, order: float = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None
) -> Value:
    """The p-norm of magnitudes over dims."""
    if type_of(x).element.is_complex:
        raise Unsupported("the norm of complex numbers")
    return p_norm(c, c.cast(x, c.dtype), float(order), _dims(dim), keepdim)


@aten("dist.default")
def dist(c: Context, x: Value, y: Value, p: float = 2) -> Value:
    """The p-norm of the difference."""
    return p_norm(c, c.emit("sub", x, y), float(p), None, False)


def p_norm(c: Context, x: Value, p: float, dims: tuple[int, ...] | None, keepdim: bool) -> Value:
    """(sum |x|^p)^(1/p), rounded to the dtype of x once; 0 counts what is not 0, infinities take the extreme."""
    dtype = type_of(x).element
    return c.cast(_wide_p_norm(c, c.cast(x, wider(dtype)), p, {"dims": dims, "keepdim": keepdim}), dtype)


def _wide_p_norm(c: Context, x: Value, p: float, over: dict[str, Any]) -> Value:
    if p == 2:
        return c.emit("sqrt", c.emit("sum", c.emit("square", x), **over))
    if p == 0:
        return c.emit("sum", c.cast(c.emit("ne", x, c.scalar(0, x)), type_of(x).element), **over)
    size = c.emit("abs", x)
    if p in (1.0, float("inf"), float("-inf")):
        return c.emit({1.0: "sum", float("inf"): "amax"}.get(p, "amin"), size, **over)
    total = c.emit("sum", c.emit("pow", size, c.scalar(p, size)), **over)
    return c.emit("pow", total, c.scalar(1.0 / p, total))
