"""Resampling as torch does it, windows as columns, and pooling into a given number of parts."""

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
from .conv import window
from .rules import per_input
from .sampling import Sample, Sampler

_aten: Any = torch.ops.aten
_KERNELS = {
    "nearest": ("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d"),
    "linear": ("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d"),
    "cubic": ("", "upsample_bicubic2d", ""),
}


def _check(x: TensorType, size: tuple[DimLike, ...], scales: tuple[float, ...], mode: str) -> int:
    spatial = len(size)
    if mode not in _KERNELS or not 1 <= spatial <= 3 or not _KERNELS[mode][spatial - 1] or x.rank != spatial + 2:
        raise TypeFault(f"x is {x}; there is no {mode} upsampling to {list(size)}")
    if scales and len(scales) != spatial:
        raise TypeFault(f"scales {list(scales)} needs {spatial} numbers or none")
    return spatial


@op("x:real -> y", linear="x")
def upsample(
    x: Any,
    *,
    size: tuple[int, ...],
    scales: tuple[float, ...] = (),
    mode: str = "nearest",
    align_corners: bool = False,
) -> Any:
    """Resample the spatial dims of x[n c *s] to ``size`` as torch's interpolate does.

    mode: nearest, linear or cubic (2-D). scales: output over input size, where it differs from the quotient of the
    sizes; it says where samples lie. align_corners: corner elements keep their places.
    """
    factors = scales or (None,) * len(size)
    kernel = getattr(_aten, _KERNELS[mode][len(size) - 1])
    return kernel(x, size, *factors) if mode == "nearest" else kernel(x, size, align_corners, *factors)


@upsample.infer
def _(
    x: TensorType, *, size: tuple[DimLike, ...], scales: tuple[float, ...] = (), mode: str = "nearest", **_: Any
) -> Type:
    _check(x, size, scales, mode)
    return TensorType(x.dtype, (*x.dims[:2], *size))


_TAPS = {"nearest": 0, "linear": 2, "cubic": 4}  # weighted elements of x along each dim


@upsample.flops
def _(results: list[Type], x: TensorType, *, size: tuple[DimLike, ...], mode: str = "nearest", **_: Any) -> DimLike:
    return product((*x.dims[:2], *size)) * 2 * _TAPS[mode] ** len(size)


_CASES: list[dict[str, Any]] = [
    {"mode": "nearest"},
    {"mode": "linear"},
    {"mode": "linear", "align_corners": True},
    {"mode": "cubic"},
    {"mode": "nearest", "scales": (2.0, 1.5)},
]


@upsample.samples
def _(s: Sampler) -> Iterator[Sample]:
    for case in _CASES:
        yield (s.real(2, 4, 4, 6),), {"size": (8, 9), **case}
    yield (s.real(2, 4, 4),), {"size": (6,), "mode": "linear"}
    yield (s.real(2, 4, 2, 4, 6),), {"size": (4, 4, 4), "mode": "nearest"}


@op("grad:float -> y", linear="grad")
def upsample_grad(
    grad: Any,
    *,
    size: tuple[int, ...],
    scales: tuple[float, ...] = (),
    mode: str = "nearest",
    align_corners: bool = False,
) -> Any:
    """The gradient of upsample by its operand of shape ``size`` (all dims)."""
    spatial = len(size) - 2
    factors = scales or (None,) * spatial
    kernel = getattr(_aten, _KERNELS[mode][spatial - 1] + "_backward")
    out = grad.shape[2:]
    return kernel(grad, out, size, *factors) if mode == "nearest" else kernel(grad, out, size, align_corners, *factors)


@upsample_grad.infer
def _(
    grad: TensorType, *, size: tuple[DimLike, ...], scales: tuple[float, ...] = (), mode: str = "nearest", **_: Any
) -> Type:
    _check(grad, size[2:], scales, mode)
    return TensorType(grad.dtype, size)


@upsample_grad.samples
def _(s: Sampler) -> Iterator[Sample]:
    for case in _CASES:
        yield (s.real(2, 4, 8, 9, dtype=DType.F32),), {"size": (2, 4, 4, 6), **case}


@op("x -> y", linear="x")
def im2col(
    x: Any, *, kernel: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...], dilation: tuple[int, ...]
) -> Any:
    """Each window of x[n c h w] as a column: [n, c*kh*kw, windows]."""
    return F.unfold(x, kernel, dilation, padding, stride)


@im2col.infer
def _(
    x: TensorType,
    *,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
) -> Type:
    if x.rank != 4 or not all(len(v) == 2 for v in (kernel, stride, padding, dilation)):
        raise TypeFault(f"x is {x}; expected four dims, and two numbers in each attribute")
    places = [window(x.dims[i + 2], kernel[i], stride[i], padding[i], padding[i], dilation[i]) for i in range(2)]
    return TensorType(x.dtype, (x.dims[0], x.dims[1] * product(kernel), product(places)))


@im2col.samples
def _(s: Sampler) -> Iterator[Sample]:
    attrs = {"kernel": (2, 3), "stride": (1, 2), "padding": (0, 1), "dilation": (1, 1)}
    yield (s.real(2, 4, 6, 8),), attrs
    yield (s.real(2, 4, 6, 8),), {**attrs, "dilation": (2, 2)}


@op("x:float -> y", linear="x")
def adaptive_avg_pool(x: Any, *, sizes: tuple[int, ...]) -> Any:
    """The mean of windows that divide each of the last dims into so many parts (of sizes that differ by at most 1)."""
    pools: Any = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)
    return pools[len(sizes) - 1](x, sizes)


@adaptive_avg_pool.infer
def _(x: TensorType, *, sizes: tuple[DimLike, ...]) -> Type:
    if not 1 <= len(sizes) <= 3 or x.rank < len(sizes) + 1:
        raise TypeFault(f"x is {x}; sizes {list(sizes)} asks for {len(sizes)} spatial dims")
    return TensorType(x.dtype, (*x.dims[: -len(sizes)], *sizes))


adaptive_avg_pool.flops(per_input)


@adaptive_avg_pool.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield (s.real(2, 4, 6, 9),), {"sizes": (3, 4)}
    yield (s.real(2, 4, 6),), {"sizes": (4,)}
    yield (s.real(2, 4, 4, 6, 6),), {"sizes": (2, 3, 4)}


@op("grad:float, x:float -> y", linear="grad")
def adaptive_avg_pool_grad(grad: Any, x: Any, *, spatial: int) -> Any:
    """The gradient of adaptive_avg_pool over the last 2 or 3 dims of x."""
    return (_aten._adaptive_avg_pool2d_backward, _aten._adaptive_avg_pool3d_backward)[spatial - 2](grad, x)


@adaptive_avg_pool_grad.infer
def _(grad: TensorType, x: TensorType, *, spatial: int) -> Type:
    if spatial not in (2, 3):
        raise TypeFault(f"spatial is {spatial}; expected 2 or 3")
    return x.whole()


@adaptive_avg_pool_grad.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield (s.real(2, 4, 3, 4, dtype=DType.F32), s.real(2, 4, 6, 9, dtype=DType.F32)), {"spatial": 2}
