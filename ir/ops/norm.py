"""Normalisations and softmax."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F

from ..dims import DimLike
from ..errors import TypeFault
from ..opdef import OpDef, op
from ..types import TensorType, Type
from .rules import axis, keep_split
from .sampling import Sample, Sampler


def _norm_flops(definition: OpDef, each: int) -> None:
    """So many operations for each element, and one more for each of g and b."""

    def flops(results: list[Type], x: TensorType, *affine: TensorType | None, **_: Any) -> DimLike:
        return x.elements() * (each + sum(t is not None for t in affine))

    definition.flops(flops)


@op("x:float[*b d], g[d]? -> y[*b d]", dtype="x", whole="d")
def rms_norm(x: Any, g: Any = None, *, eps: float = 1e-6) -> Any:
    """Scale each row to unit mean square, then by g (Zhang and Sennrich 2019)."""
    return F.rms_norm(x, x.shape[-1:], g, eps)


_norm_flops(rms_norm, 3)  # square, sum, scale


def _last_dims(x: TensorType, g: TensorType | None, b: TensorType | None, dims: int) -> None:
    shape = x.dims[x.rank - dims :]
    for affine in (g, b):
        if affine is not None and affine.dims != shape:
            raise TypeFault(f"x is {x}; a scale or shift over its last {dims} dims cannot be {affine}")


@op("x:float, g?, b? -> y")
def layer_norm(x: Any, g: Any = None, b: Any = None, *, dims: int = 1, eps: float = 1e-5) -> Any:
    """Zero mean and unit variance over the last ``dims`` dims, then g and b (Ba et al. 2016)."""
    return F.layer_norm(x, x.shape[x.ndim - dims :], g, b, eps)


@layer_norm.infer
def _(x: TensorType, g: Any = None, b: Any = None, *, dims: int = 1, eps: float = 1e-5) -> Type:
    _last_dims(x, g, b, dims)
    return x.whole()


_norm_flops(layer_norm, 5)  # sum, subtract, square, sum, scale


@layer_norm.shard
def _(results: list[Type], x: TensorType, g: Any = None, b: Any = None, *, dims: int = 1, eps: float = 1e-5) -> Type:
    if x.owed or any(x.split[x.rank - dims :]) or any(t is not None and t.is_sharded for t in (g, b)):
        raise TypeFault(f"layer_norm: the normalised dims must be whole, but x is {x}", "MAIA0108")
    return keep_split(results[0], x.split, ())


@layer_norm.samples
def _(s: Sampler) -> Iterator[Sample]:
    for dims in (1, 2):
        shape = (6, 4)[2 - dims :]
        yield (s.real(2, 6, 4), s.real(*shape), s.real(*shape)), {"dims": dims}
        yield (s.real(2, 6, 4),), {"dims": dims}
    yield (s.real(2, 4), s.real(4)), {}


@op("x:float[n c *s], g[c]?, b[c]? -> y[n c *s]", dtype="x", whole="c *s")
def group_norm(x: Any, g: Any = None, b: Any = None, *, groups: int, eps: float = 1e-5) -> Any:
    """Zero mean and unit variance over each group of channels, then g and b (Wu and He 2018)."""
    return F.group_norm(x, groups, g, b, eps)


_norm_flops(group_norm, 5)


@group_norm.samples
def _(s: Sampler) -> Iterator[Sample]:
    for spatial in ((), (4,), (2, 4)):
        yield (s.real(4, 6, *spatial), s.real(6), s.real(6)), {"groups": 3}
    yield (s.real(2, 4, 6),), {"groups": 2}


@op("x:float[n c *s], mean:float[c], var:float[c], g:float[c]?, b:float[c]? -> y[n c *s]", dtype="x", domain=(0.1, 2.0))
def batch_norm(x: Any, mean: Any, var: Any, g: Any = None, b: Any = None, *, eps: float = 1e-5) -> Any:
    """Normalise each channel by given mean and variance, then g and b (inference form)."""
    return F.batch_norm(x, mean, var, g, b, False, 0.0, eps)


def _whole_dim(definition: OpDef) -> None:
    """Sharding of an op that reads a whole dim ``dim`` and keeps the shape."""

    def infer(x: TensorType, *, dim: int = -1) -> Type:
        axis(x, dim)
        return x.whole()

    def shard(results: list[Type], x: TensorType, *, dim: int = -1) -> Type:
        if x.owed or x.split[axis(x, dim)]:
            raise TypeFault(f"{definition.name}: dim {dim} must be whole, but x is {x}", "MAIA0108")
        return keep_split(results[0], x.split, ())

    def flops(results: list[Type], x: TensorType, **_: Any) -> DimLike:
        return x.elements() * 5

    definition.infer(infer)
    definition.shard(shard)
    definition.flops(flops)
    definition.samples(_rows)


def _rows(s: Sampler) -> Iterator[Sample]:
    for dim in (0, 1, -1):
        yield (s.real(4, 2, 6),), {"dim": dim}


@op("x:float -> y", into=torch.softmax)
def softmax(x: Any, *, dim: int = -1) -> Any:
    """exp(x) over its sum along dim."""
    return torch.softmax(x, dim)


@op("x:float -> y", into=torch.log_softmax)
def log_softmax(x: Any, *, dim: int = -1) -> Any:
    """The logarithm of softmax."""
    return torch.log_softmax(x, dim)


_whole_dim(softmax)
_whole_dim(log_softmax)
