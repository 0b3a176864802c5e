"""Reductions over named dims, scans along one, and orderings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from ..dims import DimLike
from ..dtypes import DType
from ..errors import TypeFault
from ..opdef import OpDef, op, unknown
from ..types import Axes, TensorType, Type
from .rules import axis, per_input
from .sampling import Sample, Sampler

Dims = tuple[int, ...] | None


def reduced(x: TensorType, dims: tuple[DimLike, ...] | None, keepdim: bool) -> tuple[list[DimLike], list[int]]:
    """The dims that stay after a reduction (None: all go), and the positions reduced."""
    if dims is None:
        over = list(range(x.rank))
    else:
        over = [axis(x, d) for d in dims if isinstance(d, int)]
    if dims is not None and len(over) < len(dims):  # known only at run time: every dim may be its own size or 1
        if x.is_sharded:
            raise TypeFault(f"x is {x}, and which dims are reduced is not known", "MAIA0108")
        return [unknown(i) for i in range(x.rank if keepdim else x.rank - len(dims))], []
    if len(set(over)) < len(over):
        raise TypeFault(f"dims {list(dims or ())} name one dim twice")
    kept = [1 if i in over else d for i, d in enumerate(x.dims) if keepdim or i not in over]
    return kept, over


def split_after(x: TensorType, over: list[int], keepdim: bool) -> list[Axes]:
    """The splits of the dims that stay."""
    return [() if i in over else axes for i, axes in enumerate(x.split) if keepdim or i not in over]


def _reduction(
    name: str,
    fn: Callable[..., Any],
    doc: str,
    *,
    takes: str = "real",
    dtype: DType | None = None,
    linear: bool = False,
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
        # A mean divides by the size of the part that a rank holds, so only a sum may be owed over a reduced dim.
        if (gone and name != "sum") or (x.owed and not linear):
            raise TypeFault(f"{name}: a reduced dim must be whole, but x is {x}", "MAIA0108")
        assert isinstance(results[0], TensorType)
        return results[0].with_split(split_after(x, over, keepdim), gone | set(x.owed))

    reference.__doc__ = doc
    definition = op(f"x:{takes} -> y", name=name, linear="x" if linear else "")(reference)
    definition.infer(infer)
    definition.shard(shard)
    definition.flops(per_input)
    definition.samples(_reductions(takes))
    return definition


def _reductions(takes: str) -> Callable[[Sampler], Iterator[Sample]]:
    def draw(s: Sampler) -> Iterator[Sample]:
        for dims in ((0,), (-1,), (0, 2), None):
            for keepdim in (False, True):
                yield (s.real(4, 2, 6),), {"dims": dims, "keepdim": keepdim}
        yield (s.real(4, 6),), {"dims": ()}
        if takes not in ("float", "floatc"):
            yield (s.ints(4, 6),), {"dims": (1,)}
        if takes == "any":
            yield (s.bools(4, 6),), {"dims": (0,)}

    return draw


def _each(fn: Callable[..., Any]) -> Callable[..., Any]:
    """A torch reduction over one dim, applied to several from the last; one element without dims is its own."""

    def reduce(x: Any, dims: tuple[int, ...], keepdim: bool) -> Any:
        if not x.ndim:
            return x
        for d in sorted((d % x.ndim for d in dims), reverse=True):
            x = fn(x, d, keepdim)
        return x

    return reduce


def _truth(fn: Callable[..., Any]) -> Callable[..., Any]:
    each = _each(fn)

    def reduce(x: Any, dims: tuple[int, ...], keepdim: bool) -> Any:
        return each(x.bool(), dims, keepdim)  # torch.any of uint8 is uint8

    return reduce


def _sum(x: Any, dims: tuple[int, ...], keepdim: bool) -> Any:
    return torch.sum(x, dims, keepdim, dtype=x.dtype) if dims else x.clone()


def _prod(x: Any, dim: int, keepdim: bool) -> Any:
    return torch.prod(x, dim, keepdim, dtype=x.dtype)


def _unless_empty(fn: Callable[..., Any]) -> Callable[..., Any]:
    """torch takes an empty list of dims for all of them; here it is none of them."""

    def reduce(x: Any, dims: tuple[int, ...], keepdim: bool) -> Any:
        return fn(x, dims, keepdim) if dims else x.clone()

    return reduce


def _extreme(fn: Callable[..., Any], greatest: bool) -> Callable[..., Any]:
    """amax or amin; over no elements it is the least or greatest value of the dtype, where torch refuses."""

    def reduce(x: Any, dims: tuple[int, ...], keepdim: bool) -> Any:
        if x.numel() or not any(x.shape[d] == 0 for d in dims):
            return fn(x, dims, keepdim) if dims else x.clone()
        like = torch.sum(x, dims, keepdim)
        if x.dtype == torch.bool:
            worst: Any = greatest
        elif x.is_floating_point():
            worst = float("inf") if greatest else float("-inf")
        else:
            worst = torch.iinfo(x.dtype).max if greatest else torch.iinfo(x.dtype).min
        return torch.full_like(like, worst, dtype=x.dtype)

    return reduce


def _hash(x: Any, dims: tuple[int, ...], keepdim: bool) -> Any:
    over = (0, *(d % x.ndim + 1 for d in dims if x.ndim))  # torch takes an empty list of dims for all of them
    y = torch.hash_tensor(x[None], over, keepdim=keepdim)
    return y[0] if keepdim else y


_reduction("sum", _sum, "The sum over dims (None: all), in the dtype of x.", takes="num", linear=True)
_reduction("mean", _unless_empty(torch.mean), "The mean over dims.", takes="floatc", linear=True)
_reduction("amax", _extreme(torch.amax, False), "The greatest element over dims.", takes="any")
_reduction("amin", _extreme(torch.amin, True), "The least element over dims.", takes="any")
_reduction("prod", _each(_prod), "The product over dims.", takes="num")
_reduction("any", _truth(torch.any), "Whether any element is not 0.", takes="any", dtype=DType.BOOL)
_reduction("all", _truth(torch.all), "Whether all elements are not 0.", takes="any", dtype=DType.BOOL)
_reduction("hash", _hash, "The xor of the elements' bits, as 64-bit numbers, over dims.", dtype=DType.U64)
_reduction("logsumexp", _unless_empty(torch.logsumexp), "log(sum(exp(x))) over dims.", takes="float")


@op("x:floatc -> y")
def var(x: Any, *, dims: tuple[int, ...] | None = None, correction: int = 1, keepdim: bool = False) -> Any:
    """The variance over dims, divided by n - correction."""
    return torch.var(x, dims, correction=correction, keepdim=keepdim)


@var.infer
def _(x: TensorType, *, dims: Any = None, correction: int = 1, keepdim: bool = False) -> Type:
    return TensorType(x.dtype, tuple(reduced(x, dims, keepdim)[0]))


@var.samples
def _(s: Sampler) -> Iterator[Sample]:
    for dims in ((0,), (0, -1), None):
        yield (s.real(4, 6),), {"dims": dims, "correction": s.random.choice((0, 1)), "keepdim": s.random.random() < 0.5}


def _along(s: Sampler) -> Iterator[Sample]:
    for dim in (0, 1, -1):
        for last in (False, True):
            yield (s.real(4, 2, 6),), {"dim": dim, "keepdim": s.random.random() < 0.5, "last": last}
    yield (s.ints(6, high=3),), {}
    yield (s.bools(6),), {}


def _arg(name: str, fn: Callable[..., Any], which: str) -> None:
    def reference(x: Any, *, dim: int = -1, keepdim: bool = False, last: bool = False) -> Any:
        x = x.byte() if x.dtype == torch.bool else x  # torch orders no truth values here
        if not last:
            return fn(x, dim, keepdim)
        return x.shape[dim] - 1 - fn(x.flip(dim), dim, keepdim)

    def infer(x: TensorType, *, dim: int = -1, keepdim: bool = False, last: bool = False) -> Type:
        return TensorType(DType.I64, tuple(reduced(x, (dim,), keepdim)[0]))

    reference.__doc__ = f"The index of the {which} element along dim; the first one of equals, or the last."
    definition = op("x:any -> y", name=name)(reference)
    definition.infer(infer)
    definition.samples(_along)


_arg("argmax", torch.argmax, "greatest")
_arg("argmin", torch.argmin, "least")


def _scans(s: Sampler) -> Iterator[Sample]:
    for dim in (0, -1):
        for exclusive, reverse in ((False, False), (True, False), (False, True), (True, True)):
            yield (s.real(4, 6),), {"dim": dim, "exclusive": exclusive, "reverse": reverse}
    yield (s.ints(6, dtype=DType.I32),), {"dim": 0}


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
    definition.samples(_scans)


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


@topk.samples
def _(s: Sampler) -> Iterator[Sample]:
    for dim in (0, -1):
        yield (s.real(6, 4),), {"k": 2, "dim": dim, "largest": s.random.random() < 0.5}


@op("x:any -> values, indices")
def sort(x: Any, *, dim: int = -1, descending: bool = False, stable: bool = True) -> Any:
    """The elements in order along dim, with their indices."""
    return tuple(torch.sort(x, dim=dim, descending=descending, stable=stable))


@sort.infer
def _(x: TensorType, *, dim: int = -1, descending: bool = False, stable: bool = True) -> list[Type]:
    return [x.whole(), TensorType(DType.I64, x.dims)]


@sort.samples
def _(s: Sampler) -> Iterator[Sample]:
    for dim in (0, -1):
        yield (s.real(6, 4),), {"dim": dim, "descending": s.random.random() < 0.5}
    yield (s.ints(8, high=3),), {}
