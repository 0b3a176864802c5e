"""Attention and positions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F

from ..dims import DimLike, product
from ..dtypes import DType
from ..errors import TypeFault
from ..opdef import op
from ..types import TensorType, Type
from .rules import broadcast, keep_split
from .sampling import Sample, Sampler


@op("q:float, k:float, v:float, mask? -> y")
def attention(
    q: Any,
    k: Any,
    v: Any,
    mask: Any = None,
    *,
    causal: bool = False,
    scale: float | None = None,
    softcap: float = 0.0,
    window: int = 0,
) -> Any:
    """softmax(q k^T * scale + mask) v over the last two dims (Vaswani et al. 2017).

    q[*b h t d], k[*b g s d], v[*b g s e]; h is a multiple of g (grouped queries). mask: bool (true takes part) or
    float (added), broadcast to [*b h t s]. scale: 1/sqrt(d) where None. causal: position i sees 0..i. window: it sees
    only less than so many positions back, and ahead where not causal (0: all). softcap c: scores become
    c tanh(score / c) before the mask (0: as they are). A row that sees nothing is 0.
    """
    if q.dtype is torch.float16 and q.device.type == "cpu":
        # torch's CPU kernel rounds the scores to f16 on the way; this rounds the result alone
        bias = mask if mask is None or mask.dtype is torch.bool else mask.float()
        return _attention(q.float(), k.float(), v.float(), bias, causal, scale, softcap, window).half()
    return _attention(q, k, v, mask, causal, scale, softcap, window)


def _attention(
    q: Any, k: Any, v: Any, mask: Any, causal: bool, scale: float | None, softcap: float, window: int
) -> Any:
    grouped = q.ndim > 3 and q.shape[-3] != k.shape[-3]
    if mask is not None and mask.ndim < 2:
        mask = mask.expand(q.shape[-2], k.shape[-2])  # torch wants rows and columns
    if window or (causal and mask is not None):
        mask, causal = _limited(mask, _seen(q.shape[-2], k.shape[-2], causal, window)), False
    if not softcap and (mask is None or mask.dtype in (torch.bool, q.dtype)):
        return F.scaled_dot_product_attention(q, k, v, mask, 0.0, causal, scale=scale, enable_gqa=grouped)
    if causal:
        mask = _seen(q.shape[-2], k.shape[-2], True, 0)
    if grouped:
        k, v = (x.repeat_interleave(q.shape[-3] // k.shape[-3], -3) for x in (k, v))
    wide = torch.promote_types(q.dtype, torch.float32)
    scores = (q.to(wide) @ k.to(wide).mT) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if softcap:
        scores = torch.tanh(scores / softcap) * softcap
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype is torch.bool else scores + mask.to(wide)
    weights = torch.softmax(scores, -1)
    return torch.where(weights.isnan(), 0.0, weights).to(q.dtype) @ v


def _seen(t: int, s: int, causal: bool, window: int) -> torch.Tensor:
    """Which of s positions each of t sees."""
    back = torch.arange(t)[:, None] - torch.arange(s)
    seen = back >= 0 if causal else torch.ones(t, s, dtype=torch.bool)
    return seen & (back < window) & (back > -window) if window else seen


def _limited(mask: Any, seen: torch.Tensor) -> Any:
    """A mask that also hides what is not seen."""
    if mask is None:
        return seen
    return mask & seen if mask.dtype is torch.bool else mask.masked_fill(~seen, -torch.inf)


@attention.infer
def _(
    q: TensorType,
    k: TensorType,
    v: TensorType,
    mask: TensorType | None = None,
    *,
    causal: bool = False,
    scale: float | None = None,
    softcap: float = 0.0,
    window: int = 0,
) -> Type:
    if softcap < 0 or window < 0:
        raise TypeFault(f"softcap is {softcap} and window is {window}; neither may be negative", "MAIA0107")
    if min(q.rank, k.rank, v.rank) < 2 or q.rank != k.rank or k.rank != v.rank:
        raise TypeFault(f"q is {q}, k is {k}, v is {v}; expected equal ranks of at least 2")
    if q.dims[-1] != k.dims[-1] or k.dims[-2] != v.dims[-2]:
        raise TypeFault(f"q is {q}, k is {k}, v is {v}; q and k share their last dim, k and v their last but one")
    if q.rank > 3:
        h, g = q.dims[-3], k.dims[-3]
        if isinstance(h, int) and isinstance(g, int) and (h % g if g else h):
            raise TypeFault(f"{h} query heads are no multiple of {g} key heads")
        lead = (*broadcast([q.dims[:-3], k.dims[:-3], v.dims[:-3]]), h)
    else:
        lead = broadcast([q.dims[:-2], k.dims[:-2], v.dims[:-2]])
    if mask is not None:
        broadcast([mask.dims, (*lead, q.dims[-2], k.dims[-2])])
    return TensorType(q.dtype, (*lead, q.dims[-2], v.dims[-1]))


@attention.shard
def _(
    results: list[Type],
    q: TensorType,
    k: TensorType,
    v: TensorType,
    mask: TensorType | None = None,
    *,
    causal: bool = False,
    window: int = 0,
    **_: Any,
) -> Type:
    if (causal or window) and q.split[-2]:
        raise TypeFault(f"attention: causal positions and windows must be whole, but q is {q}", "MAIA0108")
    if any(t.owed for t in (q, k, v)) or any(any(t.split[-2:]) for t in (k, v)) or q.split[-1]:
        raise TypeFault(f"attention: keys and head dims must be whole, but q is {q}, k is {k}, v is {v}", "MAIA0108")
    if not q.split[:-2] == k.split[:-2] == v.split[:-2]:
        # A single key head, whole on every rank, serves any part of the query heads.
        shared = q.rank > 3 and k.dims[-3] == v.dims[-3] == 1
        same = q.split[:-3] == k.split[:-3] == v.split[:-3] and not (k.split[-3] or v.split[-3])
        if not (shared and same):
            raise TypeFault(f"attention: heads are split differently in q {q}, k {k} and v {v}", "MAIA0108")
    if mask is not None and (mask.owed or any(mask.split[-1:])):
        raise TypeFault(f"attention: the mask's keys must be whole, but it is {mask}", "MAIA0108")
    if mask is not None and any(
        mask.split[i] != q.split[i - mask.rank] for i in range(mask.rank - 1) if mask.dims[i] != 1
    ):
        raise TypeFault(f"attention: the mask {mask} is split otherwise than q {q}", "MAIA0108")
    return keep_split(results[0], (*q.split[:-1], ()), ())


@attention.flops
def _(results: list[Type], q: TensorType, k: TensorType, v: TensorType, mask: Any = None, **_: Any) -> DimLike:
    return product(q.dims) * k.dims[-2] * 2 + product(q.dims[:-1]) * k.dims[-2] * v.dims[-1] * 2


@attention.samples
def _(s: Sampler) -> Iterator[Sample]:
    q, k, v = s.real(2, 4, 6, 8), s.real(2, 4, 6, 8), s.real(2, 4, 6, 4)
    yield (q, k, v), {}
    yield (q, k, v), {"causal": True, "scale": 0.5}
    yield (q, k, v, s.bools(6, 6) | torch.eye(6, dtype=torch.bool)), {}
    yield (q, k, v, s.real(2, 1, 6, 6)), {}
    yield (q, k, v, s.real(6, 6, dtype=DType.F32)), {}
    yield (q, k, v, s.real()), {}
    yield (q, k, v, torch.tensor([True, False, True, True, False, True])), {}
    yield (q, s.real(2, 2, 10, 8), s.real(2, 2, 10, 8)), {}
    yield (q, s.real(2, 1, 6, 8), s.real(2, 1, 6, 8)), {}
    yield (s.real(4, 6, 8), s.real(4, 2, 8), s.real(4, 2, 8)), {}
    yield (q, k, v), {"causal": True, "window": 2}
    yield (q, s.real(2, 2, 10, 8), s.real(2, 2, 10, 8), s.real(2, 1, 6, 10)), {"window": 3, "softcap": 1.5}
    yield (q, s.real(2, 2, 6, 8), s.real(2, 2, 6, 4)), {"softcap": 0.5, "causal": True}
    yield (q, k, v, s.bools(6, 6) | torch.eye(6, dtype=torch.bool)), {"causal": True}
