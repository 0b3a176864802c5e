"""Activation functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from maiac.ir import DType, Value

from ..context import NodeContext, tensor_type
from ..registry import onnx_op


def _plain(name: str, **names: tuple[str, float]) -> Callable[[NodeContext], Value]:
    """An operation whose attributes are the operator's under other names."""

    def handler(c: NodeContext) -> Value:
        attrs = {ours: float(c.attr(theirs, default)) for ours, (theirs, default) in names.items()}
        return c.emit(name, c[0], **attrs)

    return handler


onnx_op("Relu")(_plain("relu"))
onnx_op("LeakyRelu")(_plain("leaky_relu", slope=("alpha", 0.01)))
onnx_op("Elu")(_plain("elu", alpha=("alpha", 1.0)))
onnx_op("Softplus")(_plain("softplus"))
onnx_op("Softsign")(_plain("softsign"))
onnx_op("Mish")(_plain("mish"))
onnx_op("HardSwish")(_plain("hardswish"))


@onnx_op("Gelu")
def gelu(c: NodeContext) -> Value:
    """x * Phi(x), exact or by tanh."""
    return c.emit("gelu", c[0], approximate=c.attr("approximate", "none"))


@onnx_op("Swish")
def swish(c: NodeContext) -> Value:
    """x * sigmoid(alpha * x)."""
    alpha = float(c.attr("alpha", 1.0))
    if alpha == 1.0:
        return c.emit("silu", c[0])
    return c.emit("mul", c[0], c.emit("sigmoid", _scaled(c, c[0], alpha)))


@onnx_op("HardSigmoid")
def hard_sigmoid(c: NodeContext) -> Value:
    """clamp(alpha * x + beta, 0, 1)."""
    return hard_sigmoid_of(c, c[0], float(c.attr("alpha", 0.2)), float(c.attr("beta", 0.5)))


def hard_sigmoid_of(c: NodeContext, x: Value, alpha: float, beta: float) -> Value:
    """clamp(alpha * x + beta, 0, 1)."""
    return c.emit("clamp", _shifted(c, _scaled(c, x, alpha), beta), min=0.0, max=1.0)


def _scaled(c: NodeContext, x: Value, by: float) -> Value:
    return c.emit("mul", x, c.const_like(by, x))


def _shifted(c: NodeContext, x: Value, by: float) -> Value:
    return c.emit("add", x, c.const_like(by, x))


@onnx_op("Selu")
def selu(c: NodeContext) -> Value:
    """gamma * elu(x, alpha)."""
    gamma, alpha = c.attr("gamma", 1.0507009873554805), c.attr("alpha", 1.6732632423543772)
    return _scaled(c, c.emit("elu", c[0], alpha=float(alpha)), float(gamma))


@onnx_op("Celu")
def celu(c: NodeContext) -> Value:
    """max(0, x) + min(0, alpha * (exp(x / alpha) - 1))."""
    x, alpha = c[0], float(c.attr("alpha", 1.0))
    if not alpha:
        c.fail("alpha is 0", "MAIA0223")
    curved = _scaled(c, c.emit("expm1", _scaled(c, x, 1.0 / alpha)), alpha)
    return c.emit("where", c.emit("gt", x, c.const_like(0.0, x)), x, curved)


@onnx_op("ThresholdedRelu")
def thresholded_relu(c: NodeContext) -> Value:
    """x where above alpha, 0 elsewhere."""
    x = c[0]
    above = c.emit("gt", x, c.const_like(float(c.attr("alpha", 1.0)), x))
    return c.emit("where", above, x, c.const_like(0.0, x))


@onnx_op("PRelu")
def prelu(c: NodeContext) -> Value:
    """x where not negative, slope * x elsewhere; opset 6 has one slope a channel."""
    x, slope = c[0], c[1]
    rank, have = c.rank(0), c.type(1)
    if c.opset < 7 and have.rank == 1 and have.dims != (1,):
        slope = c.reshape(slope, (*have.dims, *[1] * (rank - 2)))
    test = c.emit("lt", x, c.const_like(0, x))
    return c.emit("where", test, c.emit("mul", x, slope), x)


@onnx_op("Shrink")
def shrink(c: NodeContext) -> Value:
    """x + bias below -lambd, x - bias above lambd, 0 between."""
    x, bias, limit = c[0], c.attr("bias", 0.0), c.attr("lambd", 0.5)
    integer = c.dtype(0).is_integer
    low = c.emit("lt", x, c.const(-float(limit), DType.F64 if not integer else DType.F32))
    high = c.emit("gt", x, c.const(float(limit), DType.F64 if not integer else DType.F32))
    amount: Any = int(bias) if integer else float(bias)
    zero = c.emit("mul", x, c.const_like(0, x)) if integer else c.const_like(0.0, x)
    shifted = c.emit("sub", x, c.const_like(amount, x))
    return c.emit("where", low, _shifted(c, x, amount), c.emit("where", high, shifted, zero))


@onnx_op("Clip")
def clip(c: NodeContext) -> Value:
    """Limit x to [min, max], given as attributes (opset 6) or operands."""
    x = c[0]
    if c.opset < 11:
        low, high = c.attr("min", None), c.attr("max", None)
        return c.emit("clamp", x, min=low, max=high) if low is not None or high is not None else x
    bounds = [c.constant(i) if c.has(i) and c.dtype(0).is_float else None for i in (1, 2)]
    if all(b is not None or not c.has(i) for i, b in zip((1, 2), bounds, strict=True)) and c.dtype(0) is DType.F32:
        low, high = (None if b is None else float(b.reshape(-1)[0]) for b in bounds)
        return c.emit("clamp", x, min=low, max=high) if c.has(1) or c.has(2) else x
    for i, name in ((1, "maximum"), (2, "minimum")):
        if c.has(i):
            x = c.emit(name, x, c.reshape(c[i], ()))
    return x


@onnx_op("Softmax", "LogSoftmax", since=13)
def softmax(c: NodeContext) -> Value:
    """Softmax along one axis."""
    name = "softmax" if c.op == "Softmax" else "log_softmax"
    return c.emit(name, c[0], dim=int(c.attr("axis", -1)))


@onnx_op("Softmax", "LogSoftmax")
def softmax_flat(c: NodeContext) -> Value:
    """Softmax over all dims from ``axis`` on (before opset 13)."""
    name = "softmax" if c.op == "Softmax" else "log_softmax"
    return over_tail(c, lambda x: c.emit(name, x, dim=-1), int(c.attr("axis", 1)))


def over_tail(c: NodeContext, fn: Callable[[Value], Value], axis: int, x: Value | None = None) -> Value:
    """Apply fn to the rows of x (the first operand) flattened to two dims at ``axis``."""
    from maiac.ir.dims import product

    dims = c.shape(0)
    axis %= max(len(dims), 1)
    flat = c.reshape(c[0] if x is None else x, (product(dims[:axis]), product(dims[axis:])))
    return c.reshape(fn(flat), dims)


@onnx_op("Hardmax")
def hardmax(c: NodeContext) -> Value:
    """1 at the first greatest element along an axis, 0 elsewhere; before opset 13 over all dims from ``axis`` on."""
    if c.opset < 13:
        return over_tail(c, lambda x: _hardmax(c, x, -1), int(c.attr("axis", 1)))
    return _hardmax(c, c[0], int(c.attr("axis", -1)))


def _hardmax(c: NodeContext, x: Value, axis: int) -> Value:
    type = tensor_type(x)
    at = c.emit("argmax", x, dim=axis, keepdim=True)
    size = type.dims[axis]
    shape = [size if i == axis % type.rank else 1 for i in range(type.rank)]
    places = c.reshape(c.emit("iota", end=size), shape)
    return c.cast(c.emit("eq", places, at), type.element)
