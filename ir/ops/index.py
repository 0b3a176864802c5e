"""Gathers and scatters: reading and writing at indices that are tensors."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F

from ..dims import DimLike
from ..dtypes import DType
from ..errors import TypeFault
from ..opdef import op, unknown
from ..types import TensorType, Type
from .rules import axis, broadcast, keep_split
from .sampling import Sample, Sampler


@op("w:float[v d], ids:int[*b] -> y[*b d]", dtype="w", whole="v", linear="w")
def embedding(w: Any, ids: Any) -> Any:
    """The rows of w at ids."""
    return F.embedding(ids, w)


@embedding.flops
def _(results: list[Type], w: TensorType, ids: TensorType) -> DimLike:
    return 0


@embedding.samples
def _(s: Sampler) -> Iterator[Sample]:
    for shape in ((), (4,), (2, 6)):
        yield (s.real(6, 4), s.ints(*shape, high=6)), {}


@op("x, indices:int -> y", linear="x")
def gather(x: Any, indices: Any, *, dim: int) -> Any:
    """Slices of x along dim at indices, whose dims take dim's place; negative indices count from the end."""
    at = dim % x.ndim
    flat = indices.reshape(-1).long()
    flat = torch.where(flat < 0, flat + x.shape[at], flat)
    return x.index_select(at, flat).reshape((*x.shape[:at], *indices.shape, *x.shape[at + 1 :]))


@gather.infer
def _(x: TensorType, indices: TensorType, *, dim: int) -> Type:
    at = axis(x, dim)
    return TensorType(x.dtype, (*x.dims[:at], *indices.dims, *x.dims[at + 1 :]))


@gather.shard
def _(results: list[Type], x: TensorType, indices: TensorType, *, dim: int) -> Type:
    at = axis(x, dim)
    if x.split[at] or indices.owed:
        raise TypeFault(f"gather: dim {dim} of {x} must be whole", "MAIA0108")
    return keep_split(results[0], (*x.split[:at], *indices.split, *x.split[at + 1 :]), x.owed)


@gather.samples
def _(s: Sampler) -> Iterator[Sample]:
    for dim, ids in [(0, (4,)), (1, (2, 4)), (-1, ()), (0, (1, 6))]:
        yield (s.real(4, 6), s.ints(*ids, low=-4, high=4)), {"dim": dim}


@op("x, indices:int -> y", linear="x")
def gather_elements(x: Any, indices: Any, *, dim: int) -> Any:
    """y[i][j] = x[indices[i][j]][j] for dim 0, and alike for others."""
    indices = indices.long()
    return torch.gather(x, dim, torch.where(indices < 0, indices + x.shape[dim], indices))


@gather_elements.infer
def _(x: TensorType, indices: TensorType, *, dim: int) -> Type:
    if x.rank != indices.rank:
        raise TypeFault(f"x is {x} and indices is {indices}; their ranks must be equal")
    axis(x, dim)
    return TensorType(x.dtype, indices.dims)


@gather_elements.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield (s.real(4, 6), s.ints(2, 6, low=-4, high=4)), {"dim": 0}
    yield (s.real(4, 6), s.ints(4, 8, low=-4, high=4, dtype=DType.I32)), {"dim": -1}


@op("x, indices:int, updates -> y")
def scatter_elements(
    x: Any, indices: Any, updates: Any, *, dim: int, reduce: str = "none", include_self: bool = True
) -> Any:
    """x with updates written at indices along dim; reduce: none, add, mul, max, min, mean combine them.

    include_self: what was there takes part in the combination.
    """
    indices = torch.where(indices < 0, indices + x.shape[dim], indices).long()
    if reduce == "none":
        return x.scatter(dim, indices, updates)
    return x.scatter_reduce(dim, indices, updates, _REDUCE[reduce], include_self=include_self)


_REDUCE = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin", "mean": "mean"}


@scatter_elements.infer
def _(x: TensorType, indices: TensorType, updates: TensorType, *, dim: int, reduce: str = "none", **_: Any) -> Type:
    axis(x, dim)
    if reduce != "none" and reduce not in _REDUCE:
        raise TypeFault(f"reduce {reduce!r} is not none, add, mul, max, min or mean")
    return x.whole()


@scatter_elements.samples
def _(s: Sampler) -> Iterator[Sample]:
    for reduce in ("none", "add", "mul", "max", "min"):
        order = torch.randperm(4, generator=s.generator)[:2]
        yield (s.real(4, 6), order[:, None].expand(2, 6), s.real(2, 6)), {"dim": 0, "reduce": reduce}


@op("x, indices:int -> y")
def gather_nd(x: Any, indices: Any, *, batch_dims: int = 0) -> Any:
    """Slices of x at index vectors along the last dim of indices (ONNX GatherND)."""
    width = indices.shape[-1]
    batch = x.shape[:batch_dims]
    grids = [
        torch.arange(n).reshape([-1 if i == j else 1 for j in range(indices.ndim - 1)]) for i, n in enumerate(batch)
    ]
    at = tuple(grids) + tuple(_wrap(indices[..., i], x.shape[batch_dims + i]) for i in range(width))
    return x[at]


def _wrap(indices: Any, size: int) -> Any:
    indices = indices.long()
    return torch.where(indices < 0, indices + size, indices)


@gather_nd.infer
def _(x: TensorType, indices: TensorType, *, batch_dims: int = 0) -> Type:
    width = indices.dims[-1] if indices.rank else None
    if not isinstance(width, int) or batch_dims + width > x.rank:
        raise TypeFault(f"indices is {indices}; its last dim must be a number of at most {x.rank - batch_dims}")
    return TensorType(x.dtype, (*indices.dims[:-1], *x.dims[batch_dims + width :]))


@gather_nd.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield (s.real(4, 6, 2), s.ints(4, 2, high=4)), {}
    yield (s.real(4, 6, 2), s.ints(6, 3, low=-2, high=2)), {}
    yield (s.real(2, 4, 6), s.ints(2, 1, high=4)), {"batch_dims": 1}


@op("x, indices:int, updates -> y")
def scatter_nd(x: Any, indices: Any, updates: Any, *, reduce: str = "none") -> Any:
    """x with slices written at index vectors along the last dim of indices (ONNX ScatterND)."""
    width = indices.shape[-1]
    rows = torch.zeros(indices.shape[:-1], dtype=torch.long)
    for i in range(width):
        rows = rows * x.shape[i] + _wrap(indices[..., i], x.shape[i])
    rest = x.shape[width:]  # with a 0 among them, no -1 could be told
    flat = x.reshape(math.prod(x.shape[:width]), *rest).clone()
    rows, updates = rows.reshape(-1), updates.reshape(rows.numel(), *rest)
    if reduce == "none":
        flat[rows] = updates
    else:
        flat = (
            flat.index_reduce(0, rows, updates, _REDUCE[reduce])
            if reduce != "add"
            else flat.index_add(0, rows, updates)
        )
    return flat.reshape(x.shape)


@scatter_nd.infer
def _(x: TensorType, indices: TensorType, updates: TensorType, *, reduce: str = "none") -> Type:
    if not isinstance(indices.dims[-1], int):
        raise TypeFault(f"indices is {indices}; its last dim must be a number")
    return x.whole()


@scatter_nd.samples
def _(s: Sampler) -> Iterator[Sample]:
    for reduce in ("none", "add", "mul", "max", "min"):
        order = torch.randperm(6, generator=s.generator)[:4]
        yield (s.real(6, 4), order[:, None], s.real(4, 4)), {"reduce": reduce}
    yield (s.real(4, 6), torch.tensor([[0, 1], [3, -1]]), s.real(2)), {}
    yield (s.real(4, 0), s.ints(2, 1, high=4), s.real(2, 0)), {}


@op("x, indices:intb* -> y")
def index(x: Any, *indices: Any, dims: tuple[int, ...]) -> Any:
    """Advanced indexing: indices[i] (broadcast together) selects along dims[i]; other dims stay whole.

    The broadcast dims stand where the first indexed dim was if dims are consecutive, else in front (NumPy's rule).
    """
    return torch.ops.aten.index.Tensor(x, _slots(x, indices, dims))


def _slots(x: Any, indices: tuple[Any, ...], dims: tuple[int, ...]) -> list[Any]:
    """One entry for each dim or mask, None where a dim stays; a mask takes as many dims as it has itself."""
    at = dict(zip(dims, indices, strict=True))
    slots: list[Any] = []
    dim = 0
    while dim < x.ndim:
        chosen = at.get(dim)
        if chosen is None:
            slots.append(None)
            dim += 1
            continue
        mask = chosen.dtype == torch.bool
        slots.append(chosen if mask else chosen.long())
        dim += chosen.ndim if mask else 1
    return slots


@index.infer
def _(x: TensorType, *indices: TensorType, dims: tuple[int, ...]) -> Type:
    taken = indexed_dims(x, indices, dims)
    if any(i.dtype is DType.BOOL for i in indices):
        if any(i.rank > 1 for i in indices if i.dtype is not DType.BOOL):
            raise TypeFault("a mask goes together with indices of rank 1 only")
        shared: tuple[DimLike, ...] = (unknown(),)
    else:
        shared = broadcast([i.dims for i in indices])
    rest = [(i, d) for i, d in enumerate(x.dims) if i not in taken]
    front = taken[0] if taken == list(range(taken[0], taken[0] + len(taken))) else 0
    before = [d for i, d in rest if i < front]
    after = [d for i, d in rest if i >= front]
    return TensorType(x.dtype, (*before, *shared, *after))


def indexed_dims(x: TensorType, indices: tuple[TensorType, ...], dims: tuple[int, ...]) -> list[int]:
    """The dims of x that indices replace: one each, and for a mask as many as it has; TypeFault where they clash."""
    taken = [d + k for d, i in zip(dims, indices, strict=False) for k in range(i.rank if i.dtype is DType.BOOL else 1)]
    rising = all(a < b for a, b in itertools.pairwise(taken))
    if len(dims) != len(indices) or not indices or not rising or taken[0] < 0 or taken[-1] >= x.rank:
        raise TypeFault(f"dims {list(dims)} must name a rising dim of {x} for each of {len(indices)} indices")
    return taken


@index.samples
def _(s: Sampler) -> Iterator[Sample]:
    x = s.real(4, 6, 2)
    yield (x, s.ints(4, high=4)), {"dims": (0,)}
    yield (x, s.ints(2, 4, high=4), s.ints(4, high=4)), {"dims": (0, 1)}
    yield (x, s.ints(4, high=4), s.ints(4, high=2)), {"dims": (0, 2)}
    yield (x, s.ints(2, 2, high=4)), {"dims": (1,)}
    yield (x, s.bools(4)), {"dims": (0,)}
    yield (x, s.bools(4, 6)), {"dims": (0,)}


@op("x, values, indices:intb* -> y")
def index_put(x: Any, values: Any, *indices: Any, dims: tuple[int, ...], accumulate: bool = False) -> Any:
    """x with values written (or added) where advanced indexing by indices along dims would read."""
    return torch.ops.aten.index_put.default(x, _slots(x, indices, dims), values, accumulate)


@index_put.infer
def _(x: TensorType, values: TensorType, *indices: TensorType, dims: tuple[int, ...], accumulate: bool = False) -> Type:
    indexed_dims(x, indices, dims)
    if values.dtype != x.dtype:
        raise TypeFault(f"x is {x}, but values is {values}; expected one dtype")
    return x.whole()


@index_put.samples
def _(s: Sampler) -> Iterator[Sample]:
    order = torch.randperm(4, generator=s.generator)[:2]
    for accumulate in (False, True):
        yield (s.real(4, 6), s.real(2, 6), order), {"dims": (0,), "accumulate": accumulate}
        yield (s.real(6, 4), s.real(6, 2), order), {"dims": (1,), "accumulate": accumulate}
        yield (s.real(4, 6), s.real(2), order, order), {"dims": (0, 1), "accumulate": accumulate}
        yield (s.real(4, 6), s.real(1), s.bools(4, 6)), {"dims": (0,), "accumulate": accumulate}


@op("x -> y")
def nonzero(x: Any) -> Any:
    """The index vectors of elements that are not 0: [count, rank of x]."""
    return torch.nonzero(x)


@nonzero.infer
def _(x: TensorType) -> Type:
    return TensorType(DType.I64, (unknown(), x.rank))


@nonzero.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield (s.ints(4, 6, high=2),), {}
    yield (s.bools(4),), {}


@op("w:float, ids:int, offsets:int, scales:float? -> y")
def embedding_bag(
    w: Any, ids: Any, offsets: Any, scales: Any = None, *, mode: str = "sum", include_last: bool = False
) -> Any:
    """Combine rows of w[v d] in bags of consecutive ids[n]: bag i starts at offsets[i]. Gives [bags d].

    mode: sum, mean or max; scales[n] weighs the rows of a sum; include_last: the last offset ends the last bag.
    """
    return F.embedding_bag(ids, w, offsets, mode=mode, per_sample_weights=scales, include_last_offset=include_last)


@embedding_bag.infer
def _(
    w: TensorType,
    ids: TensorType,
    offsets: TensorType,
    scales: Any = None,
    *,
    mode: str = "sum",
    include_last: bool = False,
) -> Type:
    if w.rank != 2 or ids.rank != 1 or offsets.rank != 1 or mode not in ("sum", "mean", "max"):
        raise TypeFault(f"w is {w}, ids is {ids}, offsets is {offsets}; expected ranks 2, 1 and 1, and a known mode")
    return TensorType(w.dtype, (offsets.dims[0] - int(include_last), w.dims[1]))


@op("x -> y", alias="x")
def as_strided(x: Any, *, size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> Any:
    """Elements of x in row-major order, read at strides: y[i, j] is element offset + i*stride[0] + j*stride[1]."""
    return x.contiguous().as_strided(size, stride, x.storage_offset() + offset if x.is_contiguous() else offset)


@as_strided.infer
def _(x: TensorType, *, size: tuple[DimLike, ...], stride: tuple[DimLike, ...], offset: DimLike = 0) -> Type:
    if len(size) != len(stride):
        raise TypeFault(f"size {list(size)} and stride {list(stride)} differ in length")
    return TensorType(x.dtype, size)


@embedding_bag.samples
def _(s: Sampler) -> Iterator[Sample]:
    ids, offsets = s.ints(6, high=8), torch.tensor([0, 2, 4])
    for mode in ("sum", "mean", "max"):
        yield (s.real(8, 4, dtype=DType.F32), ids, offsets), {"mode": mode}
    yield (s.real(8, 4, dtype=DType.F32), ids, offsets, s.real(6, dtype=DType.F32)), {"include_last": True}


@as_strided.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield (s.real(4, 6),), {"size": (3, 2), "stride": (2, 6), "offset": 1}
    yield (s.real(4, 6).t(),), {"size": (4,), "stride": (0,)}
