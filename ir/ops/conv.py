"""Convolutions and pooling windows over one, two or three spatial dims."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F

from ..dims import DimLike, ceildiv, floordiv, minimum, product
from ..errors import TypeFault
from ..opdef import Quant, op
from ..types import TensorType, Type
from .rules import keep_split
from .sampling import Sample, Sampler
from .values import QTensor, real


def window(size: DimLike, kernel: DimLike, stride: int, before: DimLike, after: DimLike, dilation: int) -> DimLike:
    """Positions of a window along one padded dim."""
    reach = (kernel - 1) * dilation + 1
    return floordiv(before + size + after - reach, stride) + 1


def _uneven(padding: tuple[int, ...], spatial: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Padding before and after each spatial dim; one number a dim means both sides."""
    return (padding, padding) if len(padding) == spatial else (padding[::2], padding[1::2])


def pad_uneven(x: Any, padding: tuple[int, ...], spatial: int, value: float = 0.0) -> tuple[Any, tuple[int, ...]]:
    """x padded where the two sides differ, and the padding left for the kernel itself."""
    before, after = _uneven(padding, spatial)
    if before == after:
        return x, before
    return F.pad(x, [p for b, a in reversed([*zip(before, after, strict=True)]) for p in (b, a)], value=value), (
        0,
    ) * spatial


@op("x:float, w:float, bias? -> y", linear="x w", quant=Quant("w", along="k"))
def conv(
    x: Any,
    w: Any,
    bias: Any = None,
    *,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int = 1,
) -> Any:
    """Cross-correlate x[n c *s] with w[o c/groups *k]; padding is one number a dim, or (before, after) pairs."""
    spatial = len(stride)
    x, even = pad_uneven(x, padding, spatial)
    if isinstance(w, QTensor) and w.type.per in ("channel", "tensor") and w.zero_point is None:
        y = torch.convolution(x, w.numbers().to(x.dtype), None, stride, even, dilation, False, (0,) * spatial, groups)
        y = y * w.scale.reshape(-1, *[1] * spatial).to(x.dtype)
        return y if bias is None else y + bias.reshape(-1, *[1] * spatial)
    return torch.convolution(x, real(w, x), bias, stride, even, dilation, False, (0,) * spatial, groups)


@conv.infer
def _(
    x: TensorType,
    w: TensorType,
    bias: TensorType | None = None,
    *,
    stride: tuple[int, ...],
    padding: tuple[DimLike, ...],
    dilation: tuple[int, ...],
    groups: int = 1,
) -> Type:
    spatial = len(stride)
    if x.rank != spatial + 2 or w.rank != spatial + 2 or len(dilation) != spatial:
        raise TypeFault(f"x is {x} and w is {w}; stride {list(stride)} asks for {spatial} spatial dims")
    channels = w.dims[1] * groups
    if isinstance(x.dims[1], int) and channels != x.dims[1]:
        raise TypeFault(f"x is {x} with {x.dims[1]} channels; w = {w} with groups = {groups} takes {channels}")
    if len(padding) not in (spatial, 2 * spatial):
        raise TypeFault(f"padding {list(padding)} needs {spatial} or {2 * spatial} numbers")
    before, after = _uneven(padding, spatial)  # type: ignore[arg-type]
    sizes = [window(x.dims[i + 2], w.dims[i + 2], stride[i], before[i], after[i], dilation[i]) for i in range(spatial)]
    if any(isinstance(n, int) and n < 0 for n in sizes):
        raise TypeFault(f"the window {w} is larger than the padded input {x}")
    return TensorType(x.dtype, (x.dims[0], w.dims[0], *sizes))


@conv.shard
def _(
    results: list[Type], x: TensorType, w: TensorType, bias: TensorType | None = None, *, groups: int = 1, **_: Any
) -> Type:
    if any(x.split[2:]) or any(w.split[2:]):
        raise TypeFault(f"conv: spatial dims must be whole, but x is {x} and w is {w}", "MAIA0108")
    if groups != 1 and (x.split[1] or w.split[0]):
        raise TypeFault("conv: a grouped convolution's channels must be whole", "MAIA0108")
    if x.split[1] != w.split[1]:
        raise TypeFault(f"conv: the summed channels are split differently in {x} and {w}", "MAIA0108")
    if x.owed and w.owed:
        raise TypeFault("conv: a product of two sums that are owed is not their sum", "MAIA0108")
    owed = {*x.split[1], *x.owed, *w.owed}
    if bias is not None and (owed or bias.owed or bias.split[0] != w.split[0]):
        raise TypeFault("conv: bias would be added once per rank, or is split otherwise than w", "MAIA0108")
    return keep_split(results[0], (x.split[0], w.split[0], *x.split[2:]), tuple(owed))


@conv.flops
def _(results: list[Type], x: TensorType, w: TensorType, bias: TensorType | None = None, **_: Any) -> DimLike:
    assert isinstance(results[0], TensorType)
    return product(results[0].dims) * product(w.dims[1:]) * 2


@conv.samples
def _(s: Sampler) -> Iterator[Sample]:
    for spatial in (1, 2, 3):
        one, two = (1,) * spatial, (2,) * spatial
        x, w, bias = s.real(2, 4, *(6,) * spatial), s.real(6, 4, *(3,) * spatial), s.real(6)
        yield (x, w, bias), {"stride": one, "padding": one, "dilation": one}
        yield (x, w), {"stride": two, "padding": (0, 1) * spatial, "dilation": two}
        yield (x, s.real(4, 2, *(3,) * spatial)), {"stride": one, "padding": one, "dilation": one, "groups": 2}


@op("x:float, w:float, bias? -> y", linear="x w", quant=Quant("w", along="c", channel=1))
def conv_transpose(
    x: Any,
    w: Any,
    bias: Any = None,
    *,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    output_padding: tuple[int, ...],
    groups: int = 1,
) -> Any:
    """The adjoint of conv: x[n c *s] with w[c o/groups *k]; padding crops, pairs crop (before, after)."""
    spatial = len(stride)
    before, after = _uneven(padding, spatial)
    if before == after:
        return torch.convolution(x, real(w, x), bias, stride, before, dilation, True, output_padding, groups)
    y = torch.convolution(x, real(w, x), bias, stride, (0,) * spatial, dilation, True, output_padding, groups)
    for i, (b, a) in enumerate(zip(before, after, strict=True)):
        y = y.narrow(i + 2, b, y.shape[i + 2] - b - a)
    return y


@conv_transpose.infer
def _(
    x: TensorType,
    w: TensorType,
    bias: TensorType | None = None,
    *,
    stride: tuple[int, ...],
    padding: tuple[DimLike, ...],
    dilation: tuple[int, ...],
    output_padding: tuple[DimLike, ...],
    groups: int = 1,
) -> Type:
    spatial = len(stride)
    if x.rank != spatial + 2 or w.rank != spatial + 2:
        raise TypeFault(f"x is {x} and w is {w}; stride {list(stride)} asks for {spatial} spatial dims")
    before, after = _uneven(padding, spatial)  # type: ignore[arg-type]
    sizes = [
        (x.dims[i + 2] - 1) * stride[i]
        - before[i]
        - after[i]
        + (w.dims[i + 2] - 1) * dilation[i]
        + output_padding[i]
        + 1
        for i in range(spatial)
    ]
    return TensorType(x.dtype, (x.dims[0], w.dims[1] * groups, *sizes))


@conv_transpose.flops
def _(results: list[Type], x: TensorType, w: TensorType, bias: TensorType | None = None, **_: Any) -> DimLike:
    return product(x.dims) * product(w.dims[1:]) * 2


@conv_transpose.samples
def _(s: Sampler) -> Iterator[Sample]:
    for spatial in (1, 2):
        one, two = (1,) * spatial, (2,) * spatial
        x, w, bias = s.real(2, 4, *(6,) * spatial), s.real(4, 6, *(3,) * spatial), s.real(6)
        zero = (0,) * spatial
        yield (x, w, bias), {"stride": one, "padding": one, "dilation": one, "output_padding": zero}
        yield (x, w), {"stride": two, "padding": (0, 1) * spatial, "dilation": one, "output_padding": one}
        yield (
            (x, s.real(4, 3, *(3,) * spatial)),
            {"stride": one, "padding": zero, "dilation": two, "output_padding": zero, "groups": 2},
        )


def pooled(
    x: TensorType,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...] | None,
    ceil_mode: bool,
) -> TensorType:
    """The type after pooling the last dims of x; ceil_mode drops windows that start in the padding behind."""
    spatial = len(kernel)
    if x.rank < spatial + 1 or len(stride) != spatial or len(padding) not in (spatial, 2 * spatial):
        raise TypeFault(f"x is {x}; kernel {list(kernel)} asks for {spatial} spatial dims, stride and padding alike")
    before, after = _uneven(padding, spatial)
    dims = list(x.dims[:-spatial])
    for i, size in enumerate(x.dims[-spatial:]):
        reach = (kernel[i] - 1) * (dilation[i] if dilation else 1) + 1
        room = before[i] + size + after[i] - reach
        count = floordiv(room + (stride[i] - 1 if ceil_mode else 0), stride[i]) + 1
        if ceil_mode and stride[i] > reach - after[i]:  # else no window can start behind the input
            count = minimum(count, ceildiv(before[i] + size, stride[i]))
        dims.append(count)
    return TensorType(x.dtype, tuple(dims))


@op("x:real -> y")
def max_pool(
    x: Any,
    *,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...] | None = None,
    ceil_mode: bool = False,
) -> Any:
    """The greatest element in each window; padding counts as minus infinity."""
    spatial = len(kernel)
    least = float("-inf") if x.is_floating_point() else torch.iinfo(x.dtype).min
    widest = all(2 * p <= k for p, k in zip(_uneven(padding, spatial)[0], kernel, strict=True))
    if len(padding) == 2 * spatial or not widest:
        before, after = _uneven(padding, spatial)
        flat = [p for b, a in reversed([*zip(before, after, strict=True)]) for p in (b, a)]
        x, padding = F.pad(x, flat, value=least), (0,) * spatial
    fn = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[spatial - 1]
    return fn(x, kernel, stride, padding, dilation or (1,) * spatial, ceil_mode)


@max_pool.infer
def _(x: TensorType, *, kernel: Any, stride: Any, padding: Any, dilation: Any = None, ceil_mode: bool = False) -> Type:
    return pooled(x, kernel, stride, padding, dilation, ceil_mode)


@op("x:float -> y")
def avg_pool(
    x: Any,
    *,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor: int | None = None,
) -> Any:
    """The mean of each window; count_include_pad: zeros of the padding count; divisor replaces the count."""
    spatial = len(kernel)
    if spatial == 1:
        return F.avg_pool1d(x, kernel, stride, padding, ceil_mode, count_include_pad)
    fn = (F.avg_pool2d, F.avg_pool3d)[spatial - 2]
    return fn(x, kernel, stride, padding, ceil_mode, count_include_pad, divisor)


@avg_pool.infer
def _(x: TensorType, *, kernel: Any, stride: Any, padding: Any, ceil_mode: bool = False, **_: Any) -> Type:
    return pooled(x, kernel, stride, padding, None, ceil_mode)


def _channelwise(results: list[Type], x: TensorType, *, kernel: tuple[int, ...], **_: Any) -> Type:
    if any(x.split[-len(kernel) :]) or x.owed:
        raise TypeFault(f"a pooled dim must be whole, but x is {x}", "MAIA0108")
    return keep_split(results[0], x.split, ())


max_pool.shard(_channelwise)
avg_pool.shard(_channelwise)


def _windows(s: Sampler) -> Iterator[Sample]:
    for spatial in (1, 2, 3):
        two, three = (2,) * spatial, (3,) * spatial
        x = s.real(2, 4, *(7,) * spatial)
        for ceil_mode in (False, True):
            yield (x,), {"kernel": three, "stride": two, "padding": (1,) * spatial, "ceil_mode": ceil_mode}
            yield (x,), {"kernel": two, "stride": three, "padding": (0,) * spatial, "ceil_mode": ceil_mode}


max_pool.samples(_windows)
avg_pool.samples(_windows)


def window_flops(results: list[Type], x: TensorType, *, kernel: tuple[int, ...], **_: Any) -> DimLike:
    """One operation for each element of each window."""
    assert isinstance(results[0], TensorType)
    return product(results[0].dims) * math.prod(kernel)


max_pool.flops(window_flops)
avg_pool.flops(window_flops)
