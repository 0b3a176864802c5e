"""Gathers and scatters: reading and writing at indices that are tensors."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from ..dims import DimLike
from ..dtypes import DType
from ..errors import TypeFault
from ..opdef import op, unknown
from ..types import TensorType, Type
from .shape import axis, keep_split


@op("w:float[v d], ids:int[*b] -> y[*b d]", dtype="w", whole="v", linear="w")
def embedding(w: Any, ids: Any) -> Any:
    """The rows of w at ids."""
    return F.embedding(ids, w)


@op("x, indices:int -> y", linear="x")
def gather(x: Any, indices: Any, *, dim: int) -> Any:
    """Slices of x along dim at indices, whose dims take dim's place; negative indices count from the end."""
    at = dim % x.ndim
    flat = indices.reshape(-1).long()
    flat = torch.where(flat < 0, flat + x.shape[at], flat)
    return x.index_select(at, flat).reshape(*x.shape[:at], *indices.shape, *x.shape[at + 1 :])


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


@op("x, indices:int, updates -> y")
def scatter_elements(x: Any, indices: Any, updates: Any, *, dim: int, reduce: str = "none") -> Any:
    """x with updates written at indices along dim; reduce: none, add, mul, max, min combine with what was there."""
    indices = torch.where(indices < 0, indices + x.shape[dim], indices).long()
    if reduce == "none":
        return x.scatter(dim, indices, updates)
    return x.scatter_reduce(dim, indices, updates, _REDUCE[reduce])


_REDUCE = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin", "mean": "mean"}


@scatter_elements.infer
def _(x: TensorType, indices: TensorType, updates: TensorType, *, dim: int, reduce: str = "none") -> Type:
    axis(x, dim)
    if reduce != "none" and reduce not in _REDUCE:
        raise TypeFault(f"reduce {reduce!r} is not none, add, mul, max, min or mean")
    return x.whole()


@op("x, indices:int -> y")
def gather_nd(x: Any, indices: Any, *, batch_dims: int = 0) -> Any:
    """Slices of x at index vectors along the last dim of indices (ONNX GatherND)."""
    width = indices.shape[-1]
    batch = x.shape[:batch_dims]
    grids = [torch.arange(n).reshape([-1 if i == j else 1 for j in range(indices.ndim - 1)]) for i, n in enumerate(batch)]
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


@op("x, indices:int, updates -> y")
def scatter_nd(x: Any, indices: Any, updates: Any, *, reduce: str = "none") -> Any:
    """x with slices written at index vectors along the last dim of indices (ONNX ScatterND)."""
    width = indices.shape[-1]
    rows = torch.zeros(indices.shape[:-1], dtype=torch.long)
    for i in range(width):
        rows = rows * x.shape[i] + _wrap(indices[..., i], x.shape[i])
    flat = x.reshape(-1, *x.shape[width:]).clone()
    rows, updates = rows.reshape(-1), updates.reshape(-1, *x.shape[width:])
    if reduce == "none":
        flat[rows] = updates
    else:
        flat = flat.index_reduce(0, rows, updates, _REDUCE[reduce]) if reduce != "add" else flat.index_add(0, rows, updates)
    return flat.reshape(x.shape)


@scatter_nd.infer
def _(x: TensorType, indices: TensorType, updates: TensorType, *, reduce: str = "none") -> Type:
    if not isinstance(indices.dims[-1], int):
        raise TypeFault(f"indices is {indices}; its last dim must be a number")
    return x.whole()


@op("x, indices:any* -> y")
def index(x: Any, *indices: Any, dims: tuple[int, ...]) -> Any:
    """Advanced indexing: indices[i] (broadcast together) selects along dims[i]; other dims stay whole.

    The broadcast dims stand where the first indexed dim was if dims are consecutive, else in front (NumPy's rule).
    """
    at: list[Any] = [builtin_all] * x.ndim
    for d, i in zip(dims, indices, strict=True):
        at[d] = i if i.dtype in (torch.bool, torch.uint8) else i.long()
    return x[tuple(at)]


builtin_all = slice(None)


@index.infer
def _(x: TensorType, *indices: TensorType, dims: tuple[int, ...]) -> Type:
    if len(dims) != len(indices) or list(dims) != sorted(set(dims)) or any(d >= x.rank for d in dims):
        raise TypeFault(f"dims {list(dims)} must name a rising dim of {x} for each of {len(indices)} indices")
    if any(i.dtype is DType.BOOL for i in indices):
        kept = x.rank - sum(i.rank for i in indices)
        return TensorType(x.dtype, tuple(unknown(i) for i in range(1 + kept)))
    shared = broadcast([i.dims for i in indices])
    rest = [(i, d) for i, d in enumerate(x.dims) if i not in dims]
    consecutive = list(dims) == list(range(dims[0], dims[0] + len(dims)))
    front = dims[0] if consecutive else 0
    before = [d for i, d in rest if i < front]
    after = [d for i, d in rest if i >= front]
    return TensorType(x.dtype, (*before, *shared, *after))


def broadcast(shapes: list[tuple[DimLike, ...]]) -> tuple[DimLike, ...]:
    """NumPy's broadcast of shapes; TypeFault where two dims differ and neither is 1."""
    rank = max((len(s) for s in shapes), default=0)
    out: list[DimLike] = [1] * rank
    for shape in shapes:
        for i, d in enumerate(shape, rank - len(shape)):
            if out[i] == 1 or out[i] == d:
                out[i] = d
            elif d != 1 and isinstance(d, int) and isinstance(out[i], int):
                raise TypeFault(f"shapes {', '.join(str(list(s)) for s in shapes)} do not broadcast")
    return tuple(out)


@op("x, values, indices:int* -> y")
def index_put(x: Any, values: Any, *indices: Any, dims: tuple[int, ...], accumulate: bool = False) -> Any:
    """x with values written (or added) where advanced indexing by indices along dims would read."""
    at: list[Any] = [builtin_all] * x.ndim
    for d, i in zip(dims, indices, strict=True):
        at[d] = i
    return torch.index_put(x, _fill(x, at), values, accumulate) if len(dims) == x.ndim else _put(x, at, values, accumulate)


def _fill(x: Any, at: list[Any]) -> tuple[Any, ...]:
    return tuple(at)


def _put(x: Any, at: list[Any], values: Any, accumulate: bool) -> Any:
    out = x.clone()
    if accumulate:
        torch.ops.aten.index_put_(out, [None if isinstance(i, slice) else i for i in at], values, True)
    else:
        out[tuple(at)] = values
    return out


@index_put.infer
def _(x: TensorType, values: TensorType, *indices: TensorType, dims: tuple[int, ...], accumulate: bool = False) -> Type:
    return x.whole()


@op("x -> y")
def nonzero(x: Any) -> Any:
    """The index vectors of elements that are not 0: [count, rank of x]."""
    return torch.nonzero(x)


@nonzero.infer
def _(x: TensorType) -> Type:
    return TensorType(DType.I64, (unknown(), x.rank))
