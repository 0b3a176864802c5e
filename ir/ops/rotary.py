"""Rotary positions: pairs of elements of each head turned by an angle that grows with the position."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from ..dims import DimLike
from ..errors import TypeFault
from ..opdef import op
from ..promotion import promote
from ..types import TensorType, Type
from .rules import broadcast, keep_split
from .sampling import Sample, Sampler


@op("x:float, cos:float, sin:float -> y")
def rotary(x: Any, cos: Any, sin: Any, *, interleaved: bool = False) -> Any:
    """x * cos + turned(x) * sin over the first r elements of the last dim (RoPE, Su et al. 2021); the rest stays.

    x[*b h t d]; cos and sin [.. t r] broadcast to x but for r <= d. turned: the halves (a, b) of r become (-b, a);
    interleaved: each pair (a, b) becomes (-b, a).
    """
    r = cos.shape[-1]
    part, rest = x[..., :r], x[..., r:]
    if interleaved:
        turned = torch.stack((-part[..., 1::2], part[..., ::2]), -1).flatten(-2)
    else:
        turned = torch.cat((-part[..., r // 2 :], part[..., : r // 2]), -1)
    y = part * cos + turned * sin
    return torch.cat((y, rest.to(y.dtype)), -1) if r < x.shape[-1] else y


@rotary.infer
def _(x: TensorType, cos: TensorType, sin: TensorType, *, interleaved: bool = False) -> Type:
    if not x.rank or not cos.rank or not sin.rank or cos.dims[-1] != sin.dims[-1]:
        raise TypeFault(f"x is {x}, cos is {cos}, sin is {sin}; cos and sin share their last dim")
    r, d = cos.dims[-1], x.dims[-1]
    if not isinstance(r, int) or r % 2 or (isinstance(d, int) and r > d):
        raise TypeFault(f"x is {x} and cos is {cos}; expected an even number of elements to turn, of no more than {d}")
    whole = broadcast([x.dims[:-1], cos.dims[:-1], sin.dims[:-1]])
    if len(whole) != x.rank - 1:
        raise TypeFault(f"x is {x}, cos is {cos}, sin is {sin}; the angles have more dims than x")
    return TensorType(promote([x, cos, sin]), (*whole, d))


@rotary.shard
def _(results: list[Type], x: TensorType, cos: TensorType, sin: TensorType, **_: Any) -> Type:
    if x.owed or cos.owed or sin.owed or x.split[-1] or cos.split[-1] or sin.split[-1]:
        raise TypeFault(f"rotary: heads must be whole and no sum owed, but x is {x} and cos is {cos}", "MAIA0108")
    for angle in (cos, sin):
        for back in range(2, angle.rank + 1):
            if angle.split[-back] != x.split[-back] and (angle.dims[-back] != 1 or angle.split[-back]):
                raise TypeFault(f"rotary: dim -{back} is split differently in {x} and {angle}", "MAIA0108")
    return keep_split(results[0], x.split, ())


@rotary.flops
def _(results: list[Type], x: TensorType, *_: Any, **__: Any) -> DimLike:
    return x.elements() * 3


@rotary.samples
def _(s: Sampler) -> Iterator[Sample]:
    for interleaved in (False, True):
        yield (s.real(2, 4, 6, 8), s.real(6, 8), s.real(6, 8)), {"interleaved": interleaved}
        yield (s.real(2, 6, 4, 8), s.real(2, 6, 1, 4), s.real(2, 6, 1, 4)), {"interleaved": interleaved}
    yield (s.real(6, 4), s.real(6, 4), s.real(6, 4)), {}
