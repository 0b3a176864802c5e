"""Reductions over named dims, scans along one, and orderings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ..dims import DimLike
from ..dtypes import DType
from ..errors import TypeFault
from ..opdef import OpDef, op, unknown
from ..types import Axes, TensorType, Type
from .shape import axis

Dims = tuple[int, ...] | None


def reduced(x: TensorType, dims: tuple[DimLike, ...] | None, keepdim: bool) -> tuple[list[DimLike], list[int]]:
    """The dims that stay after a reduction (None: all go), and the positions reduced."""
    if dims is None:
        over = list(range(x.rank))
    elif all(isinstance(d, int) for d in dims):
        over = [axis(x, d) for d in dims]
    else:  # axes known only at run time: every dim is its own size or 1
        rank = x.rank if keepdim else x.rank - len(dims)
        return [unknown(i) for i in range(rank)], []
    if len(set(over)) < len(over):
        raise TypeFault(f"dims {list(dims or ())} name one dim twice")
    kept = [1 if i in over else d for i, d in enumerate(x.dims) if keepdim or i not in over]
    return kept, over


def split_after(x: TensorType, over: list[int], keepdim: bool) -> list[Axes]:
    """The splits of the dims that stay."""
    return [() if i in over else axes for i, axes in enumerate(x.split) if keepdim or i not in over]


def _reduction(
    name: str, fn: Callable[..., Any], doc: str, *, takes: str = "real", dtype: DType | None = None, sums: bool = False
) -> OpDef:
    def reference(x: Any, *, dims: tuple[int, ...] | None = None, keepdim: bool = False) -> Any:
        return fn(x, tuple(range(x.ndim)) if dims is None else dims, keepdim)

    def infer(x: TensorType, *, dims: tuple[DimLike, ...] | None = None, keepdim: bool = False) -> Type:
        return TensorType(dtype or x.dtype, tuple(reduced(x, dims, keepdim)[0]))

    def shard(
        results: list[Type], x: TensorType, *, dims: tuple[DimLike, ...] | None = None, keepdim: bool = False
    ) -> Type:
        over = reduced(x, dims, keepdim)[1]
        gone = {a for i in over for a in x.split[i]}
        if (gone or x.owed) and not sums:
            raise TypeFault(f"{name}: a reduced dim must be whole, but x is {x}", "MAIA0108")
        assert isinstance(results[0], TensorType)
        return results[0].with_split(split_after(x, over, keepdim), gone | set(x.owed))

    reference.__doc__ = doc
    definition = op(f"x:{takes} -> y", name=name, linear="x" if sums else "")(reference)
    definition.infer(infer)
    definition.shard(shard)
    definition.flops(lambda results, x, **_: x.elements())
    return definition


def _each(fn: Callable[..., Any]) -> Callable[..., Any]:
    """A torch reduction over one dim, applied to several from the last."""

    def reduce(x: Any, dims: tuple[int, ...], keepdim: bool) -> Any:
        for d in sorted((d % x.ndim for d in dims), reverse=True):
            x = fn(x, d, keepdim)
        return x

    return reduce


def _sum(x: Any, dims: tuple[int, ...], keepdim: bool) -> Any:
    return torch.sum(x, dims, keepdim, dtype=x.dtype) if dims else x.clone()


def _unless_empty(fn: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, dims, keepdim: fn(x, dims, keepdim) if dims else x.clone()


_reduction("sum", _sum, "The sum over dims (None: all), in the dtype of x.", takes="num", sums=True)
_reduction("mean", _unless_empty(torch.mean), "The mean over dims.", takes="floatc", sums=True)
_reduction("amax", _unless_empty(torch.amax), "The greatest element over dims.", takes="any")
_reduction("amin", _unless_empty(torch.amin), "The least element over dims.", takes="any")
_reduction("prod", _each(lambda x, d, k: torch.prod(x, d, k, dtype=x.dtype)), "The product over dims.", takes="num")
_reduction("any", _each(torch.any), "Whether any element is not 0.", takes="any", dtype=DType.BOOL)
_reduction("all", _each(torch.all), "Whether all elements are not 0.", takes="any", dtype=DType.BOOL)
_reduction("logsumexp", _unless_empty(torch.logsumexp), "log(sum(exp(x))) over dims.", takes="float")


@op("x:floatc -> y")
def var(x: Any, *, dims: tuple[int, ...] | None = None, correction: int = 1, keepdim: bool = False) -> Any:
    """The variance over dims, divided by n - correction."""
    return torch.var(x, dims, correction=correction, keepdim=keepdim)


@var.infer
def _(x: TensorType, *, dims: Any = None, correction: int = 1, keepdim: bool = False) -> Type:
    return TensorType(x.dtype, tuple(reduced(x, dims, keepdim)[0]))


def _arg(name: str, fn: Callable[..., Any], which: str) -> None:
    def reference(x: Any, *, dim: int = -1, keepdim: bool = False, last: bool = False) -> Any:
        if not last:
            return fn(x, dim, keepdim)
        return x.shape[dim] - 1 - fn(x.flip(dim), dim, keepdim)

    def infer(x: TensorType, *, dim: int = -1, keepdim: bool = False, last: bool = False) -> Type:
        return TensorType(DType.I64, tuple(reduced(x, (dim,), keepdim)[0]))

    reference.__doc__ = f"The index of the {which} element along dim; the first one of equals, or the last."
    op("x:any -> y", name=name)(reference).infer(infer)


_arg("argmax", torch.argmax, "greatest")
_arg("argmin", torch.argmin, "least")


def _scan(name: str, fn: Callable[..., Any], doc: str) -> None:
    def reference(x: Any, *, dim: int, exclusive: bool = False, reverse: bool = False) -> Any:
        x = x.flip(dim) if reverse else x
        y = fn(x, dim)
        if exclusive:
            first = torch.full_like(y.narrow(dim, 0, 1), 1 if fn is _cumprod else 0)
            y = torch.cat([first, y.narrow(dim, 0, y.shape[dim] - 1)], dim)
        return y.flip(dim) if reverse else y

    def infer(x: TensorType, *, dim: DimLike, exclusive: bool = False, reverse: bool = False) -> Type:
        if isinstance(dim, int) and x.rank:
            axis(x, dim)
        return x.whole()

    def shard(results: list[Type], x: TensorType, *, dim: int, **_: Any) -> Type:
        if x.owed or x.split[axis(x, dim)]:
            raise TypeFault(f"{name}: the scanned dim must be whole, but x is {x}", "MAIA0108")
        assert isinstance(results[0], TensorType)
        return results[0].with_split(x.split)

    reference.__doc__ = doc
    definition = op("x:num -> y", name=name)(reference)
    definition.infer(infer)
    definition.shard(shard)


def _cumsum(x: Any, dim: int) -> Any:
    return torch.cumsum(x, dim, dtype=x.dtype)


def _cumprod(x: Any, dim: int) -> Any:
    return torch.cumprod(x, dim, dtype=x.dtype)


_scan("cumsum", _cumsum, "Running sums along dim; exclusive: without the element itself; reverse: from the end.")
_scan("cumprod", _cumprod, "Running products along dim.")


@op("x:any -> values, indices")
def topk(x: Any, *, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    """The k greatest (or least) elements along dim, with their indices."""
    return tuple(torch.topk(x, k, dim, largest, sorted))


@topk.infer
def _(x: TensorType, *, k: DimLike, dim: int = -1, largest: bool = True, sorted: bool = True) -> list[Type]:
    at = axis(x, dim)
    dims = tuple(k if i == at else d for i, d in enumerate(x.dims))
    return [TensorType(x.dtype, dims), TensorType(DType.I64, dims)]


@op("x:any -> values, indices")
def sort(x: Any, *, dim: int = -1, descending: bool = False, stable: bool = True) -> Any:
    """The elements in order along dim, with their indices."""
    return tuple(torch.sort(x, dim=dim, descending=descending, stable=stable))


@sort.infer
def _(x: TensorType, *, dim: int = -1, descending: bool = False, stable: bool = True) -> list[Type]:
    return [x.whole(), TensorType(DType.I64, x.dims)]
