"""Windows over space beyond plain pooling: ONNX's pooling forms, unpooling, col2im, deformable convolution."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F

from ..dims import DimLike, product
from ..dtypes import DType
from ..errors import TypeFault
from ..opdef import op
from ..types import TensorType, Type
from .conv import pooled, window, window_flops
from .sampling import Sample, Sampler


def _unfolded(
    x: Any,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    counts: list[int],
    fill: float,
) -> Any:
    """[n c *counts *kernel]: each window's elements; beyond the input lies ``fill``."""
    spatial = len(kernel)
    before = padding[::2]
    flat: list[int] = []
    for i in reversed(range(spatial)):
        need = (counts[i] - 1) * stride[i] + (kernel[i] - 1) * dilation[i] + 1
        flat += [before[i], max(need - before[i] - x.shape[i + 2], 0)]
    x = F.pad(x, flat, value=fill)
    for i in range(spatial):
        at = torch.arange(counts[i])[:, None] * stride[i] + torch.arange(kernel[i])[None] * dilation[i]
        x = x.index_select(2 + i, at.reshape(-1)).unflatten(2 + i, (counts[i], kernel[i]))
        x = x.movedim(3 + i, x.ndim - 1)
    return x


def _counts(x: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> list[int]:
    type = TensorType(DType.F32, tuple(x.shape))
    return [int(d) for d in pooled(type, kernel, stride, padding, dilation, ceil_mode).dims[2:]]  # type: ignore[arg-type]


@op("x:float -> y")
def avg_window(
    x: Any,
    *,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    ceil_mode: bool = False,
    count_include_pad: bool = False,
) -> Any:
    """The mean of each window with dilation and uneven padding (before, after of each dim), as ONNX counts it."""
    counts = _counts(x, kernel, stride, padding, dilation, ceil_mode)
    over = tuple(range(-len(kernel), 0))
    total = _unfolded(x, kernel, stride, padding, dilation, counts, 0.0).sum(over)
    ones = torch.ones_like(x[:1, :1])
    if count_include_pad:
        ones = F.pad(ones, [p for i in reversed(range(len(kernel))) for p in padding[2 * i : 2 * i + 2]], value=1.0)
        padding = (0,) * len(padding)
    return total / _unfolded(ones, kernel, stride, padding, dilation, counts, 0.0).sum(over)


@op("x:float -> y")
def lp_window(
    x: Any,
    *,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    ceil_mode: bool = False,
    p: int = 2,
) -> Any:
    """The p-norm of each window; padding counts as 0."""
    counts = _counts(x, kernel, stride, padding, dilation, ceil_mode)
    windows = _unfolded(x.abs() ** p, kernel, stride, padding, dilation, counts, 0.0)
    return windows.sum(tuple(range(-len(kernel), 0))) ** (1.0 / p)


@op("x:real -> y, indices")
def max_window(
    x: Any,
    *,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    ceil_mode: bool = False,
    column_major: bool = False,
) -> Any:
    """The greatest element of each window and its place in the whole of x flattened, row- or column-major."""
    counts, spatial = _counts(x, kernel, stride, padding, dilation, ceil_mode), len(kernel)
    least = float("-inf") if x.is_floating_point() else torch.iinfo(x.dtype).min
    values, at = _unfolded(x, kernel, stride, padding, dilation, counts, least).flatten(-spatial).max(-1)
    sizes = list(x.shape[2:])
    strides = [int(torch.tensor(sizes[i + 1 :]).prod()) for i in range(spatial)]
    if column_major:
        strides = [int(torch.tensor(sizes[:i]).prod()) for i in range(spatial)]
    place = torch.zeros_like(at)
    for i in reversed(range(spatial)):
        first = torch.arange(counts[i]) * stride[i] - padding[2 * i]
        shape = [-1 if d == 2 + i else 1 for d in range(x.ndim)]
        place = place + (first.reshape(shape) + at % kernel[i] * dilation[i]) * strides[i]
        at = at // kernel[i]
    planes = torch.arange(x.shape[0] * x.shape[1]).reshape(x.shape[0], x.shape[1], *[1] * spatial)
    return values, place + planes * int(torch.tensor(sizes).prod())


def _same_window(
    x: TensorType, *, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool = False, **_: Any
) -> Type:
    return pooled(x, kernel, stride, padding, dilation, ceil_mode)


avg_window.infer(_same_window)
lp_window.infer(_same_window)


@max_window.infer
def _(
    x: TensorType, *, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool = False, **_: Any
) -> list[Type]:
    y = pooled(x, kernel, stride, padding, dilation, ceil_mode)
    return [y, TensorType(DType.I64, y.dims)]


for _definition in (avg_window, lp_window, max_window):
    _definition.flops(window_flops)


@op("x, indices:int -> y")
def max_unpool(x: Any, indices: Any, *, shape: tuple[int, ...]) -> Any:
    """Zeros of a shape with x written at indices into it flattened."""
    out = x.new_zeros(shape)
    out.view(-1)[indices.reshape(-1)] = x.reshape(-1)
    return out


@max_unpool.infer
def _(x: TensorType, indices: TensorType, *, shape: tuple[DimLike, ...]) -> Type:
    if indices.dims != x.dims:
        raise TypeFault(f"x is {x}, but indices is {indices}")
    return TensorType(x.dtype, shape)


@op("x -> y", linear="x")
def col2im(
    x: Any,
    *,
    image: tuple[int, ...],
    block: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
) -> Any:
    """The image [n c *image] whose blocks, added where they overlap, are the columns x[n c*prod(block) l]."""
    spatial = len(image)
    padded = [image[i] + padding[2 * i] + padding[2 * i + 1] for i in range(spatial)]
    counts = [(padded[i] - (block[i] - 1) * dilation[i] - 1) // stride[i] + 1 for i in range(spatial)]
    channels = x.shape[1] // int(torch.tensor(block).prod())
    cells = x.reshape(x.shape[0], channels, *block, *counts)
    out = x.new_zeros(x.shape[0], channels, *padded)
    for at in itertools.product(*(range(b) for b in block)):
        cut = tuple(
            slice(at[i] * dilation[i], at[i] * dilation[i] + (counts[i] - 1) * stride[i] + 1, stride[i])
            for i in range(spatial)
        )
        out[(slice(None), slice(None), *cut)] += cells[(slice(None), slice(None), *at)]
    return out[(slice(None), slice(None), *(slice(padding[2 * i], padding[2 * i] + image[i]) for i in range(spatial)))]


@col2im.infer
def _(
    x: TensorType,
    *,
    image: tuple[DimLike, ...],
    block: tuple[DimLike, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
) -> Type:
    if x.rank != 3 or not len(image) == len(block) == len(stride) == len(dilation):
        raise TypeFault(f"x is {x}; expected three dims, and as many strides and dilations as the image has dims")
    return TensorType(x.dtype, (x.dims[0], x.dims[1] // product(block), *image))


@op("x:float, w:float, offset:float, bias:float?, mask:float? -> y")
def deform_conv(
    x: Any,
    w: Any,
    offset: Any,
    bias: Any = None,
    mask: Any = None,
    *,
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    dilation: tuple[int, int],
    groups: int = 1,
    offset_groups: int = 1,
) -> Any:
    """A 2-D convolution whose taps are moved by offset[n og*kh*kw*2 oh ow] and scaled by mask (Zhu et al. 2019)."""
    n, c, height, width = x.shape
    kh, kw = w.shape[2:]
    oh, ow = offset.shape[2:]
    moved = offset.double().reshape(n, offset_groups, kh * kw, 2, oh, ow)
    taps_y = (torch.arange(kh) * dilation[0]).repeat_interleave(kw).reshape(-1, 1, 1)
    taps_x = (torch.arange(kw) * dilation[1]).repeat(kh).reshape(-1, 1, 1)
    ys = moved[:, :, :, 0] + taps_y + (torch.arange(oh) * stride[0] - padding[0]).reshape(-1, 1)
    xs = moved[:, :, :, 1] + taps_x + (torch.arange(ow) * stride[1] - padding[2])
    grid = torch.stack((2 * (xs + 0.5) / width - 1, 2 * (ys + 0.5) / height - 1), -1)
    planes = x.reshape(n * offset_groups, c // offset_groups, height, width)
    grid = grid.reshape(n * offset_groups, kh * kw * oh, ow, 2)
    read = F.grid_sample(planes.double(), grid, "bilinear", "zeros", False).to(x.dtype)  # places are exact in f64
    read = read.reshape(n, offset_groups, c // offset_groups, kh * kw, oh, ow)
    if mask is not None:
        read = read * mask.reshape(n, offset_groups, 1, kh * kw, oh, ow)
    columns = read.reshape(n, groups, (c // groups) * kh * kw, oh * ow)
    kernel = w.reshape(groups, w.shape[0] // groups, -1)
    y = torch.einsum("gok,ngkp->ngop", kernel, columns).reshape(n, w.shape[0], oh, ow)
    return y if bias is None else y + bias.reshape(-1, 1, 1)


@deform_conv.infer
def _(
    x: TensorType,
    w: TensorType,
    offset: TensorType,
    bias: Any = None,
    mask: Any = None,
    *,
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    dilation: tuple[int, int],
    **_: Any,
) -> Type:
    if x.rank != 4 or w.rank != 4:
        raise TypeFault(f"x is {x} and w is {w}; expected two spatial dims")
    sizes = [
        window(x.dims[i + 2], w.dims[i + 2], stride[i], padding[2 * i], padding[2 * i + 1], dilation[i]) for i in (0, 1)
    ]
    return TensorType(x.dtype, (x.dims[0], w.dims[0], *sizes))


@op("x:float -> y", whole="")
def lrn(x: Any, *, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0) -> Any:
    """x over (bias + alpha / size * the sum of squares of ``size`` neighbouring channels) ** beta."""
    before, after = (size - 1) // 2, size // 2
    squares = F.pad(x.square().movedim(1, -1), (before, after)).unfold(-1, size, 1).sum(-1).movedim(-1, 1)
    return x / (bias + alpha / size * squares) ** beta


@lrn.infer
def _(x: TensorType, **_: Any) -> Type:
    return x.whole()


@avg_window.samples
def _(s: Sampler) -> Iterator[Sample]:
    attrs: dict[str, Any] = {"kernel": (2, 3), "stride": (2, 1), "padding": (0, 1, 1, 0), "dilation": (1, 2)}
    yield (s.real(2, 4, 6, 8),), attrs
    yield (s.real(2, 4, 6, 8),), {**attrs, "ceil_mode": True, "count_include_pad": True}


@lp_window.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield (s.real(2, 4, 7),), {"kernel": (3,), "stride": (2,), "padding": (1, 1), "dilation": (1,), "p": 2}


@max_window.samples
def _(s: Sampler) -> Iterator[Sample]:
    attrs: dict[str, Any] = {"kernel": (2, 3), "stride": (2, 1), "padding": (0, 1, 1, 0), "dilation": (1, 2)}
    yield (s.real(2, 4, 6, 8),), attrs
    yield (s.real(2, 4, 6, 8),), {**attrs, "ceil_mode": True, "column_major": True}


@max_unpool.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield (s.real(1, 2, 2), torch.tensor([[[0, 3], [5, 6]]])), {"shape": (1, 2, 4)}


@col2im.samples
def _(s: Sampler) -> Iterator[Sample]:
    attrs: dict[str, Any] = {
        "image": (4, 6),
        "block": (2, 2),
        "stride": (2, 2),
        "padding": (0, 0, 0, 0),
        "dilation": (1, 1),
    }
    yield (s.real(2, 8, 6),), attrs


@deform_conv.samples
def _(s: Sampler) -> Iterator[Sample]:
    attrs: dict[str, Any] = {"stride": (1, 1), "padding": (0, 0, 0, 0), "dilation": (1, 1)}
    x, w, offset = s.real(2, 4, 4, 6), s.real(6, 4, 2, 2), s.real(2, 8, 3, 5)
    yield (x, w, offset), attrs
    yield (x, w, offset, s.real(6), s.real(2, 4, 3, 5)), attrs


@lrn.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield (s.real(2, 4, 6),), {"size": 3}
