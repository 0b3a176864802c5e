"""Convolutions and pooling."""

from __future__ import annotations

from typing import Any

from maiac.ir import DimLike, DType, Value
from maiac.ir.dims import ceildiv, maximum

from ..context import NodeContext, tensor_type
from ..registry import onnx_op


def spatial(c: NodeContext, name: str, count: int) -> tuple[int, ...]:
    """A list attribute with one number a spatial dim; ones where it is not given."""
    return tuple(c.ints(name) or [1] * count)


def padding(
    c: NodeContext,
    sizes: tuple[DimLike, ...],
    kernel: tuple[DimLike, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
) -> tuple[DimLike, ...]:
    """(before, after) of each spatial dim, from pads or auto_pad."""
    auto, count = c.attr("auto_pad", "NOTSET"), len(sizes)
    if auto in ("NOTSET", "VALID"):
        pads = c.ints("pads") if auto == "NOTSET" else None
        pads = pads or [0] * (2 * count)
        if len(pads) != 2 * count:
            c.fail(f"pads has {len(pads)} numbers for {count} spatial dims", "MAIA0223")
        return tuple(p for i in range(count) for p in (pads[i], pads[i + count]))
    if not len(sizes) == len(kernel) == len(stride) == len(dilation):
        c.fail(f"kernel_shape, strides or dilations do not have {count} numbers", "MAIA0223")
    out: list[DimLike] = []
    for size, k, s, d in zip(sizes, kernel, stride, dilation, strict=True):
        reach = (k - 1) * d + 1
        total = maximum((ceildiv(size, s) - 1) * s + reach - size, 0)
        less = total // 2
        out += [less, total - less] if auto == "SAME_UPPER" else [total - less, less]
    return tuple(out)


def even(pads: tuple[DimLike, ...]) -> tuple[DimLike, ...]:
    """One number a dim where both sides are padded alike."""
    return pads[::2] if pads[::2] == pads[1::2] else pads


@onnx_op("Conv")
def conv(c: NodeContext) -> Value:
    """A convolution over any number of spatial dims."""
    return convolution(c, c[0], c[1], c.opt(2))


def convolution(c: NodeContext, x: Value, w: Value, bias: Value | None) -> Value:
    """A convolution with the node's attributes."""
    xt, wt = tensor_type(x), tensor_type(w)
    count = xt.rank - 2
    stride, dilation = spatial(c, "strides", count), spatial(c, "dilations", count)
    pads = padding(c, xt.dims[2:], wt.dims[2:], stride, dilation)
    attrs: dict[str, Any] = {
        "stride": stride,
        "padding": even(pads),
        "dilation": dilation,
        "groups": int(c.attr("group", 1)),
    }
    return c.emit("conv", x, w, bias, **attrs)


@onnx_op("ConvTranspose")
def conv_transpose(c: NodeContext) -> Value:
    """The adjoint of Conv; output_shape sets the padding."""
    x, w, count = c.type(0), c.type(1), c.rank(0) - 2
    stride, dilation = spatial(c, "strides", count), spatial(c, "dilations", count)
    extra = list(c.ints("output_padding") or [0] * count)
    pads = list(padding(c, x.dims[2:], w.dims[2:], stride, dilation))
    target = c.ints("output_shape")
    auto = c.attr("auto_pad", "NOTSET")
    if target is None and auto.startswith("SAME"):
        target = [d * s for d, s in zip(x.dims[2:], stride, strict=True)]  # type: ignore[misc]
    if target is not None:
        for i, size in enumerate(target[-count:]):
            full = (x.dims[i + 2] - 1) * stride[i] + extra[i] + (w.dims[i + 2] - 1) * dilation[i] + 1
            total = full - size
            if isinstance(total, int) and total < 0:
                extra[i], total = extra[i] - total, 0
            less = total // 2
            pads[2 * i : 2 * i + 2] = [total - less, less] if auto != "SAME_UPPER" else [less, total - less]
    after = list(extra)
    # torch's kernel wants output_padding below stride or dilation: what is more is padding behind that is not cropped.
    for i, e in enumerate(after):
        if e >= max(stride[i], dilation[i]):
            pads[2 * i + 1] = pads[2 * i + 1] - e
            after[i] = 0
    bias, groups = c.opt(2), int(c.attr("group", 1))
    return c.emit(
        "conv_transpose", c[0], c[1], bias,
        stride=stride, padding=even(tuple(pads)), dilation=dilation, output_padding=tuple(after), groups=groups,
    )  # fmt: skip


@onnx_op("DeformConv")
def deform_conv(c: NodeContext) -> Value:
    """A convolution whose taps are moved by offsets."""
    stride, dilation = spatial(c, "strides", 2), spatial(c, "dilations", 2)
    pads = padding(c, c.shape(0)[2:], c.shape(1)[2:], stride, dilation)
    return c.emit(
        "deform_conv", c[0], c[1], c[2], c.opt(3), c.opt(4), stride=stride, padding=pads, dilation=dilation,
        groups=int(c.attr("group", 1)), offset_groups=int(c.attr("offset_group", 1)),
    )  # fmt: skip


def _window(c: NodeContext, x: Value | None = None) -> dict[str, Any]:
    """The attributes of windows over x[n c *s] (the first operand)."""
    sizes = c.shape(0)[2:] if x is None else tensor_type(x).dims[2:]
    kernel = tuple(c.ints("kernel_shape") or [])
    stride, dilation = spatial(c, "strides", len(kernel)), spatial(c, "dilations", len(kernel))
    pads = padding(c, sizes, kernel, stride, dilation)
    ceil = bool(c.attr("ceil_mode", 0))
    return {"kernel": kernel, "stride": stride, "padding": pads, "dilation": dilation, "ceil_mode": ceil}


@onnx_op("MaxPool")
def max_pool(c: NodeContext) -> Any:
    """The greatest element of each window, and where it lies."""
    window = _window(c)
    if c.wants(1):
        return list(c.emit_op("max_window", c[0], column_major=bool(c.attr("storage_order", 0)), **window).results)
    plain = even(window["padding"])
    simple = len(plain) == len(window["kernel"]) and not (window["ceil_mode"] and any(p != 0 for p in plain))
    if c.dtype(0).is_float and len(window["kernel"]) <= 3 and (simple or not window["ceil_mode"]):
        return c.emit("max_pool", c[0], **{**window, "padding": plain})
    return c.emit_op("max_window", c[0], **window).results[0]


@onnx_op("AveragePool")
def average_pool(c: NodeContext) -> Value:
    """The mean of each window."""
    return pooled_mean(c, c[0])


def pooled_mean(c: NodeContext, x: Value) -> Value:
    """The mean of each window of x[n c *s]."""
    window, include = _window(c, x), bool(c.attr("count_include_pad", 0))
    plain = even(window["padding"])
    simple = len(plain) == len(window["kernel"]) <= 3 and set(window["dilation"]) == {1} and not window["ceil_mode"]
    if simple and all(isinstance(p, int) and 2 * p <= k for p, k in zip(plain, window["kernel"], strict=True)):
        kernel, stride = window["kernel"], window["stride"]
        return c.emit("avg_pool", x, kernel=kernel, stride=stride, padding=plain, count_include_pad=include)
    return c.emit("avg_window", x, count_include_pad=include, **window)


@onnx_op("LpPool")
def lp_pool(c: NodeContext) -> Value:
    """The p-norm of each window."""
    return c.emit("lp_window", c[0], p=int(c.attr("p", 2)), **_window(c))


@onnx_op("GlobalAveragePool", "GlobalMaxPool")
def global_pool(c: NodeContext) -> Value:
    """The mean or greatest element over all spatial dims."""
    name = "mean" if c.op == "GlobalAveragePool" else "amax"
    return c.emit(name, c[0], dims=tuple(range(2, c.rank(0))), keepdim=True)


@onnx_op("GlobalLpPool")
def global_lp_pool(c: NodeContext) -> Value:
    """The p-norm over all spatial dims."""
    p, x = float(c.attr("p", 2)), c.emit("abs", c[0])
    powers = c.emit("pow", x, c.const_like(p, x))
    total = c.emit("sum", powers, dims=tuple(range(2, c.rank(0))), keepdim=True)
    return c.emit("pow", total, c.const_like(1.0 / p, total))


@onnx_op("MaxUnpool")
def max_unpool(c: NodeContext) -> Value:
    """Zeros with x at the places that MaxPool told."""
    if c.has(2):
        target = c.dims(2)
        if target is None:
            c.fail("the number of dims of output_shape is not known")
        return _unpooled(c, target)
    return c.emit("max_unpool", c[0], c[1], shape=_pooled_from(c))


def _pooled_from(c: NodeContext) -> tuple[DimLike, ...]:
    kernel = tuple(c.ints("kernel_shape") or [])
    count = len(kernel)
    stride, pads = spatial(c, "strides", count), c.ints("pads") or [0] * (2 * count)
    dims = c.shape(0)
    sizes = [(dims[i + 2] - 1) * stride[i] + kernel[i] - pads[i] - pads[i + count] for i in range(count)]
    return (*dims[:2], *sizes)


def _unpooled(c: NodeContext, target: tuple[DimLike, ...]) -> Value:
    """Places are those in the least output that the pooling could come from; it is padded behind to the target."""
    inner = _pooled_from(c)
    y = c.emit("max_unpool", c[0], c[1], shape=inner)
    pads: list[DimLike] = [p for t, d in zip(target, inner, strict=True) for p in (0, t - d)]
    return y if not any(p != 0 for p in pads) else c.emit("pad", y, pads=tuple(pads))


@onnx_op("Col2Im")
def col2im(c: NodeContext) -> Value:
    """Columns added into an image."""
    image, block = c.dims(1), c.dims(2)
    if image is None or block is None:
        c.fail("the number of spatial dims is not known")
    n = len(image)
    pads = c.ints("pads") or [0] * (2 * n)
    pairs = tuple(p for i in range(n) for p in (pads[i], pads[i + n]))
    return c.emit(
        "col2im", c[0], image=image, block=block, stride=spatial(c, "strides", n), padding=pairs,
        dilation=spatial(c, "dilations", n),
    )  # fmt: skip


@onnx_op("ConvInteger")
def conv_integer(c: NodeContext) -> Value:
    """A convolution of integers less their zero points, summed in i32."""
    x, w = (c.cast(c[i], DType.I32) for i in (0, 1))
    if c.has(2):
        x = c.emit("sub", x, c.cast(c.reshape(c[2], ()), DType.I32))
    if c.has(3):
        zero = c.cast(c[3], DType.I32)
        per = c.rank(3) == 1 and c.shape(3)[0] != 1
        w = c.emit("sub", w, c.reshape(zero, (c.shape(3)[0], *[1] * (c.rank(1) - 1)) if per else ()))
    return c.cast(convolution(c, c.cast(x, DType.F64), c.cast(w, DType.F64), None), DType.I32)
