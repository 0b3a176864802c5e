"""Pooling into windows that the sizes of the result, or random numbers, set; each also says where the greatest lies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F

from ..dims import DimLike
from ..dtypes import DType
from ..errors import TypeFault
from ..opdef import op
from ..types import TensorType, Type
from .sampling import Sample, Sampler

_ADAPTIVE = {1: F.adaptive_max_pool1d, 2: F.adaptive_max_pool2d, 3: F.adaptive_max_pool3d}
_FRACTIONAL: dict[int, Any] = {
    2: torch.ops.aten.fractional_max_pool2d.default,
    3: torch.ops.aten.fractional_max_pool3d.default,
}


def _pooled(x: TensorType, sizes: tuple[DimLike, ...]) -> list[Type]:
    if x.rank <= len(sizes):
        raise TypeFault(f"x is {x}, which has no {len(sizes)} dims behind its channels")
    dims = (*x.dims[: x.rank - len(sizes)], *sizes)
    return [TensorType(x.dtype, dims), TensorType(DType.I64, dims)]


@op("x:float -> y, indices")
def adaptive_max_pool(x: Any, *, sizes: tuple[int, ...]) -> Any:
    """The greatest element of windows that divide each of the last dims into so many parts, and its place."""
    return tuple(_ADAPTIVE[len(sizes)](x, sizes, return_indices=True))


@adaptive_max_pool.infer
def _(x: TensorType, *, sizes: tuple[DimLike, ...]) -> list[Type]:
    return _pooled(x, sizes)


@adaptive_max_pool.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield (s.real(2, 4, 7),), {"sizes": (3,)}
    yield (s.real(2, 4, 7, 6),), {"sizes": (3, 4)}
    yield (s.real(4, 7, 6, 5),), {"sizes": (3, 4, 2)}


@op("x:float, noise:float -> y, indices")
def fractional_max_pool(x: Any, noise: Any, *, kernel: tuple[int, ...], sizes: tuple[int, ...]) -> Any:
    """The greatest element of windows at pseudorandom places (Graham 2014), one random number for each plane's dim."""
    return tuple(_FRACTIONAL[len(sizes)](x, kernel, sizes, noise))


@fractional_max_pool.infer
def _(x: TensorType, noise: TensorType, *, kernel: tuple[int, ...], sizes: tuple[DimLike, ...]) -> list[Type]:
    return _pooled(x, sizes)


@fractional_max_pool.samples
def _(s: Sampler) -> Iterator[Sample]:
    for dims in ((7, 8), (7, 8, 6)):
        x = s.real(2, 4, *dims, dtype=DType.F32)
        noise = s.real(2, 4, len(dims), low=0.0, high=1.0, dtype=DType.F32)
        yield (x, noise), {"kernel": (2,) * len(dims), "sizes": (3,) * len(dims)}
