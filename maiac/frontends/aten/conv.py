"""Convolutions and pooling."""

from __future__ import annotations

from typing import Any

from maiac.ir.dims import DimLike
from maiac.ir.dtypes import DType
from maiac.ir.graph import Value

from ..importer import Context, type_of
from .registry import aten


def spread(numbers: Any, spatial: int, default: int = 1) -> tuple[DimLike, ...]:
    """One number for each spatial dim; torch lets one stand for all, or none for the default."""
    numbers = [numbers] if isinstance(numbers, int) else list(numbers or [default])
    return tuple(numbers * spatial if len(numbers) == 1 else numbers)


def _real(c: Context, x: Value) -> Value:
    """Integers in double precision, which holds their sums of products exactly below 2^53."""
    return c.cast(x, DType.F64) if type_of(x).element.is_integer else x


@aten("convolution.default")
def convolution(
    c: Context, x: Value, w: Value, bias: Value | None, stride: Any, padding: Any, dilation: Any, transposed: bool,
    output_padding: Any, groups: int,
) -> Value:  # fmt: skip
    """Any convolution; a sample without batch dim gets one for the time."""
    spatial = type_of(w).rank - 2
    attrs: dict[str, Any] = {
        "stride": spread(stride, spatial),
        "padding": spread(padding, spatial),
        "dilation": spread(dilation, spatial),
        "groups": groups,
    }
    single = type_of(x).rank == spatial + 1
    if single:
        x = c.reshape(x, (1, *type_of(x).dims))
    operands = [v and _real(c, v) for v in (x, w, bias)]
    if transposed:
        y = c.emit("conv_transpose", *operands, **attrs, output_padding=spread(output_padding, spatial))
    else:
        y = c.emit("conv", *operands, **attrs)
    y = c.cast(y, c.dtype)
    return c.reshape(y, type_of(y).dims[1:]) if single else y


@aten("convolution_backward.default")
def convolution_backward(
    c: Context, grad: Value, x: Value, w: Value, bias_sizes: Any, stride: Any, padding: Any, dilation: Any,
    transposed: bool, output_padding: Any, groups: int, mask: list[bool],
) -> Any:  # fmt: skip
    """Gradients by x, weight and bias."""
    spatial = type_of(w).rank - 2
    attrs: dict[str, Any] = {
        "stride": spread(stride, spatial),
        "padding": spread(padding, spatial),
        "dilation": spread(dilation, spatial),
        "output_padding": spread(output_padding, spatial, 0),
        "transposed": transposed,
        "groups": groups,
    }
    by_x = c.emit("conv_grad_input", grad, x, w, **attrs) if mask[0] else None
    by_w = c.emit("conv_grad_weight", grad, x, w, **attrs) if mask[1] else None
    over = tuple(d for d in range(type_of(grad).rank) if d != 1)
    return by_x, by_w, c.emit("sum", grad, dims=over) if mask[2] else None


# **** pooling ****


def _batched(c: Context, x: Value, spatial: int) -> tuple[Value, bool]:
    """x with a batch dim, and whether it had none."""
    if type_of(x).rank == spatial + 2:
        return x, False
    return c.reshape(x, (1, *type_of(x).dims)), True


def _spatial(c: Context) -> int:
    """1, 2 or 3, from the overload's name."""
    return next(n for n in (1, 2, 3) if f"pool{n}d" in c.name)


def _pool_attrs(kernel: Any, stride: Any, padding: Any, spatial: int) -> dict[str, Any]:
    size = spread(kernel, spatial)
    return {
        "kernel": size,
        "stride": spread(stride, spatial) if stride else size,
        "padding": spread(padding, spatial, 0),
    }


@aten("max_pool1d.default", "max_pool2d.default", "max_pool3d.default")
def max_pool(
    c: Context, x: Value, kernel: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Value:
    """The greatest element of each window."""
    n = _spatial(c)
    attrs = _pool_attrs(kernel, stride, padding, n)
    x, single = _batched(c, x, n)
    y = c.emit("max_pool", x, **attrs, dilation=spread(dilation, n), ceil_mode=ceil_mode)
    return c.reshape(y, type_of(y).dims[1:]) if single else y


@aten("max_pool2d_with_indices.default", "max_pool3d_with_indices.default", "max_pool1d_with_indices.default")
def max_pool_with_indices(
    c: Context, x: Value, kernel: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Any:
    """max_pool with the place of each greatest element in its plane."""
    if all(user.args[1] == 0 for user in c.node.users):
        return max_pool(c, x, kernel, stride, padding, dilation, ceil_mode), None
    n = _spatial(c)
    attrs = _pool_attrs(kernel, stride, padding, n)
    x, single = _batched(c, x, n)
    both = c.emit_all("max_pool_indices", x, **attrs, dilation=spread(dilation, n), ceil_mode=ceil_mode)
    return tuple(c.reshape(v, type_of(v).dims[1:]) for v in both) if single else both


@aten("max_pool2d_with_indices_backward.default", "max_pool3d_with_indices_backward.default")
def max_pool_backward(c: Context, grad: Value, x: Value, *args: Any) -> Value:
    """Each window's gradient at the place of its greatest element."""
    dims, indices = type_of(x).dims, args[-1]
    n = _spatial(c)
    front = dims[: len(dims) - n]
    plane: DimLike = 1
    for d in dims[len(dims) - n :]:
        plane = d * plane
    window: DimLike = 1
    for d in type_of(grad).dims[len(dims) - n :]:
        window = d * window
    zero = c.full(0, (*front, plane), type_of(grad).element)
    at, values = (c.reshape(v, (*front, window)) for v in (indices, grad))
    return c.reshape(c.emit("scatter_elements", zero, at, values, dim=len(front), reduce="add"), dims)


@aten("avg_pool1d.default", "avg_pool2d.default", "avg_pool3d.default")
def avg_pool(
    c: Context, x: Value, kernel: Any, stride: Any = (), padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor: int | None = None,
) -> Value:  # fmt: skip
    """The mean of each window."""
    n = _spatial(c)
    attrs = _pool_attrs(kernel, stride, padding, n)
    x, single = _batched(c, x, n)
    y = c.emit(
        "avg_pool", _real(c, x), **attrs, ceil_mode=ceil_mode, count_include_pad=count_include_pad, divisor=divisor
    )
    y = c.cast(y, c.dtype)  # of integers: without the fraction, as eager divides
    return c.reshape(y, type_of(y).dims[1:]) if single else y


@aten("avg_pool2d_backward.default", "avg_pool3d_backward.default")
def avg_pool_backward(
    c: Context, grad: Value, x: Value, kernel: Any, stride: Any, padding: Any, ceil_mode: bool, count_include_pad: bool,
    divisor: int | None,
) -> Value:  # fmt: skip
    """Each window's gradient spread over its elements."""
    attrs = _pool_attrs(kernel, stride, padding, _spatial(c))
    return c.emit(
        "avg_pool_grad", grad, x, **attrs, ceil_mode=ceil_mode, count_include_pad=count_include_pad, divisor=divisor
    )


@aten(
    "adaptive_avg_pool1d.default", "adaptive_avg_pool2d.default", "_adaptive_avg_pool2d.default",
    "adaptive_avg_pool3d.default", "_adaptive_avg_pool3d.default",
)  # fmt: skip
def adaptive_avg_pool(c: Context, x: Value, sizes: list[DimLike]) -> Value:
    """The mean of windows that divide each dim into so many parts."""
    if all(s == 1 for s in sizes):
        return c.emit("mean", x, dims=tuple(range(-len(sizes), 0)), keepdim=True)
    return c.emit("adaptive_avg_pool", x, sizes=tuple(sizes))


@aten("_adaptive_avg_pool2d_backward.default", "_adaptive_avg_pool3d_backward.default")
def adaptive_avg_pool_backward(c: Context, grad: Value, x: Value) -> Value:
    """Each window's gradient spread over its elements."""
    return c.emit("adaptive_avg_pool_grad", grad, x, spatial=_spatial(c))


@aten("adaptive_max_pool1d.default", "adaptive_max_pool2d.default", "adaptive_max_pool3d.default")
def adaptive_max_pool(c: Context, x: Value, sizes: list[DimLike]) -> Any:
    """The greatest element of windows that divide each dim into so many parts; equal parts are a plain pool."""
    n = len(sizes)
    dims = type_of(x).dims[-n:]
    equal = all(
        isinstance(d, int) and isinstance(s, int) and s and d % s == 0 for d, s in zip(dims, sizes, strict=True)
    )
    if not equal or any(user.args[1] != 0 for user in c.node.users):
        return c.emit_all("adaptive_max_pool", x, sizes=tuple(sizes))
    x, single = _batched(c, x, n)
    kernel = tuple(d // s for d, s in zip(dims, sizes, strict=True))
    y = c.emit("max_pool", x, kernel=kernel, stride=kernel, padding=(0,) * n)
    return c.reshape(y, type_of(y).dims[1:]) if single else y, None


@aten("fractional_max_pool2d.default", "fractional_max_pool3d.default")
def fractional_max_pool(c: Context, x: Value, kernel: Any, sizes: list[DimLike], noise: Value) -> Any:
    """The greatest element of windows at pseudorandom places, and its place."""
    n = len(sizes)
    return c.emit_all("fractional_max_pool", x, noise, kernel=spread(kernel, n), sizes=tuple(sizes))
