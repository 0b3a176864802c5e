"""Matrix products."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F

from ..dims import DimLike, product
from ..errors import TypeFault
from ..opdef import Quant, op
from ..types import TensorType, Type
from .rules import broadcast, keep_split
from .sampling import Sample, Sampler
from .values import QTensor, real


@op(
    "x:num[*b k], w:num[n k], bias[n]? -> y[*b n]",
    dtype="x",
    same="x w bias",
    linear="x w",
    offset="bias",
    quant=Quant("w", along="k"),
)
def linear(x: Any, w: Any, bias: Any = None) -> Any:
    """Project the last dim of x by a transposed weight. A per-channel quantized weight is scaled after the product."""
    if not isinstance(w, QTensor):
        return F.linear(x, w, bias)
    if w.type.per in ("channel", "tensor") and w.zero_point is None and w.type.at in ((), (0,)):
        y = F.linear(x, w.numbers().to(x.dtype)) * w.scale.reshape(-1).to(x.dtype)
        return y if bias is None else y + bias
    return F.linear(x, real(w, x), bias)


@op("x:num, y:num -> z", linear="x y", into=torch.matmul)
def matmul(x: Any, y: Any) -> Any:
    """The matrix product of the last two dims, leading dims broadcast; rank-1 operands as in NumPy."""
    return torch.matmul(x, y)


@matmul.infer
def _(x: TensorType, y: TensorType) -> Type:
    if not x.rank or not y.rank:
        raise TypeFault(f"x is {x} and y is {y}; expected at least one dim")
    if x.dtype != y.dtype:
        raise TypeFault(f"x is {x} and y is {y}; expected one dtype")
    k, other = x.dims[-1], y.dims[-2 if y.rank > 1 else 0]
    if k != other and isinstance(k, int) and isinstance(other, int):
        raise TypeFault(f"x is {x} and y is {y}; the contracted dims {k} and {other} differ")
    lead = broadcast([x.dims[:-2], y.dims[:-2]])
    rows = x.dims[-2:-1] if x.rank > 1 else ()
    columns = y.dims[-1:] if y.rank > 1 else ()
    return TensorType(x.dtype, (*lead, *rows, *columns))


@matmul.shard
def _(results: list[Type], x: TensorType, y: TensorType) -> Type:
    if x.rank < 2 or y.rank < 2:
        raise TypeFault("matmul of a vector has no sharding rule", "MAIA0108")
    (rows, k), (other, columns) = x.split[-2:], y.split[-2:]
    if k != other:
        raise TypeFault(f"matmul: the contracted dim is split differently in {x} and {y}", "MAIA0108")
    if (x.owed and y.owed) or (k and (x.owed or y.owed)):
        raise TypeFault("matmul: a product of two sums that are owed is not their sum", "MAIA0108")
    rank = len(results[0].dims) if isinstance(results[0], TensorType) else 0
    lead = [_lead_split(x, y, i) for i in range(rank, 2, -1)]
    return keep_split(results[0], (*lead, rows, columns), (*k, *x.owed, *y.owed))


def _lead_split(x: TensorType, y: TensorType, back: int) -> tuple[str, ...]:
    found = {t.split[-back] for t in (x, y) if t.rank >= back and t.dims[-back] != 1}
    if len(found) > 1:
        raise TypeFault(f"matmul: dim -{back} is split differently in {x} and {y}", "MAIA0108")
    return found.pop() if found else ()


@matmul.flops
def _(results: list[Type], x: TensorType, y: TensorType) -> DimLike:
    assert isinstance(results[0], TensorType)
    return product(results[0].dims) * x.dims[-1] * 2


@matmul.samples
def _(s: Sampler) -> Iterator[Sample]:
    for x, y in [
        ((4, 6), (6, 2)),
        ((2, 4, 6), (6, 8)),
        ((2, 4, 6), (2, 6, 8)),
        ((4, 1, 2, 6), (2, 6, 4)),
        ((6,), (6, 4)),
        ((4, 6), (6,)),
        ((6,), (6,)),
    ]:
        yield (s.real(*x), s.real(*y)), {}


@op(
    "x:float[t k], w:float[e k n], ends:int[e] -> y[t n]",
    dtype="x",
    linear="x w",
    whole="t e",
    quant=Quant("w", along="k", channel=2),
)
def grouped_matmul(x: Any, w: Any, ends: Any) -> Any:
    """Rows of x, sorted by group, each times its group's matrix: group i ends before row ends[i] (experts' products).

    Rows behind the last end are 0. A weight that is quantized per column is scaled after the product.
    """
    if isinstance(w, QTensor):
        if w.type.per == "channel" and w.zero_point is None and w.type.at == (2,):
            return _grouped(x, w.numbers(), ends) * w.scale.reshape(-1).to(x.dtype)
        w = real(w, x)
    return _grouped(x, w, ends)


def _grouped(x: Any, w: Any, ends: Any) -> Any:
    y = x.new_zeros(x.shape[0], w.shape[2])
    start = 0
    for i, end in enumerate(ends.tolist()):
        if end > start:
            torch.mm(x[start:end], w[i].to(x.dtype), out=y[start:end])
        start = end
    return y


@grouped_matmul.flops
def _(results: list[Type], x: TensorType, w: TensorType, ends: TensorType) -> DimLike:
    return product(x.dims) * w.dims[-1] * 2  # each row meets one matrix


@grouped_matmul.samples
def _(s: Sampler) -> Iterator[Sample]:
    for ends in ([2, 2, 5, 6], [0, 0, 1, 4]):
        yield (s.real(6, 4), s.real(4, 4, 8), torch.tensor(ends)), {}


@op("xs:num* -> y", linear="xs")
def einsum(*xs: Any, equation: str) -> Any:
    """Einstein summation with lower- or upper-case index letters and no ellipsis: ``bik,bkj->bij``."""
    return torch.einsum(equation, *xs)


@einsum.infer
def _(*xs: TensorType, equation: str) -> Type:
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if not arrow or len(terms) != len(xs) or any(len(t) != x.rank for t, x in zip(terms, xs, strict=False)):
        raise TypeFault(f"equation {equation!r} does not fit operands {', '.join(map(str, xs))}")
    sizes: dict[str, DimLike] = {}
    for term, x in zip(terms, xs, strict=True):
        for letter, size in zip(term, x.dims, strict=True):
            seen = sizes.setdefault(letter, size)
            if seen == 1:
                sizes[letter] = size
            elif size != 1 and seen != size and isinstance(seen, int) and isinstance(size, int):
                raise TypeFault(f"{letter} is {seen} elsewhere, but {size} in {x}")
    return TensorType(xs[0].dtype, tuple(sizes[c] for c in right))


@einsum.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield (s.real(2, 4, 6), s.real(2, 6, 8)), {"equation": "bik,bkj->bij"}
    yield (s.real(4, 6), s.real(6)), {"equation": "ij,j->"}
    yield (s.real(4, 4),), {"equation": "ii->i"}
