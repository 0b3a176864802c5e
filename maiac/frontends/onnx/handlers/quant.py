"""Quantize and dequantize, and the operators on quantized integers."""

from __future__ import annotations

from maiac.ir import DType, Value

from ..context import NodeContext, tensor_type
from ..registry import onnx_op
from ..types import dtype_of
from .nn import convolution


@onnx_op("QuantizeLinear")
def quantize_linear(c: NodeContext) -> Value:
    """Codes of x under scale and zero point: round(x / scale) + zero, saturated."""
    to = DType.U8
    if c.has(2):
        to = c.dtype(2)
    elif c.attr("output_dtype", 0):
        to = dtype_of(c.attr("output_dtype"))
    return c.emit(
        "quantize_linear", c[0], c[1], c.opt(2), to=to, dim=_axis(c), block=int(c.attr("block_size", 0)),
        precision=_precision(c), saturate=bool(c.attr("saturate", 1)), zero_source=c.dtype(2) if c.has(2) else to,
    )  # fmt: skip


def _axis(c: NodeContext) -> int:
    """The axis that scales lie along; 0 for one scale."""
    return int(c.attr("axis", 1)) % max(c.rank(0), 1) if c.rank(1) else 0


def _precision(c: NodeContext) -> DType:
    """The dtype that x / scale is computed in."""
    given = c.attr("precision", 0)
    return dtype_of(given) if given else c.dtype(1)


@onnx_op("DequantizeLinear")
def dequantize_linear(c: NodeContext) -> Value:
    """(codes - zero) * scale."""
    given = c.attr("output_dtype", 0)
    to = dtype_of(given) if given else c.dtype(1)
    return c.emit(
        "dequantize_linear",
        c[0],
        c[1],
        c.opt(2),
        to=to,
        dim=_axis(c),
        block=int(c.attr("block_size", 0)),
        source=c.dtype(0),
    )


@onnx_op("DynamicQuantizeLinear")
def dynamic_quantize(c: NodeContext) -> list[Value]:
    """u8 codes with scale and zero point from the range of x, which always holds 0."""
    x, zero = c[0], c.const(0.0, DType.F32)
    high = c.emit("maximum", c.emit("amax", x), zero)
    low = c.emit("minimum", c.emit("amin", x), zero)
    scale = c.emit("div", c.emit("sub", high, low), c.const(255.0, DType.F32))
    start = c.emit("clamp", c.emit("round", c.emit("div", c.emit("neg", low), scale)), min=0.0, max=255.0)
    point = c.cast(start, DType.U8)
    codes = c.emit("quantize_linear", x, scale, point, to=DType.U8, precision=DType.F32, zero_source=DType.U8)
    return [codes, scale, point]


def _plain(c: NodeContext, index: int, dtype: DType) -> Value:
    return c.cast(c[index], dtype)


@onnx_op("MatMulInteger")
def matmul_integer(c: NodeContext) -> Value:
    """A product of integers less their zero points, summed in i32."""
    a, b = _plain(c, 0, DType.I32), _plain(c, 1, DType.I32)
    if c.has(2):
        zero = _plain(c, 2, DType.I32)
        zero = c.reshape(zero, (*c.shape(2), 1)) if c.rank(2) == 1 and c.shape(2)[0] != 1 else zero
        a = c.emit("sub", a, zero)
    if c.has(3):
        b = c.emit("sub", b, _plain(c, 3, DType.I32))
    return c.emit("matmul", a, b)


def _real(c: NodeContext, x: int, scale: int, zero: int, dim: int) -> Value:
    """An operand's real numbers, in f32."""
    return c.emit(
        "dequantize_linear", c[x], c.cast(c[scale], DType.F32), c.opt(zero), to=DType.F32,
        dim=dim if c.rank(scale) else 0, source=c.dtype(x),
    )  # fmt: skip


def _codes(c: NodeContext, y: Value, scale: int, zero: int, dim: int) -> Value:
    to = c.dtype(zero)
    return c.emit(
        "quantize_linear", y, c.cast(c[scale], DType.F32), c[zero], to=to, dim=dim if c.rank(scale) else 0,
        precision=DType.F32, zero_source=to,
    )  # fmt: skip


@onnx_op("QLinearMatMul")
def qlinear_matmul(c: NodeContext) -> Value:
    """A product of codes, as codes."""
    a = _real(c, 0, 1, 2, c.rank(0) - 2)
    b = _real(c, 3, 4, 5, c.rank(3) - 1)
    y = c.emit("matmul", a, b)
    return _codes(c, y, 6, 7, tensor_type(y).rank - 2)


@onnx_op("QLinearConv")
def qlinear_conv(c: NodeContext) -> Value:
    """A convolution of codes, as codes; the bias is i32 in units of both scales."""
    x, w = _real(c, 0, 1, 2, 1), _real(c, 3, 4, 5, 0)
    y = convolution(c, x, w, None)
    if c.has(8):
        units = c.emit("mul", c.cast(c[1], DType.F32), c.cast(c[4], DType.F32))
        bias = c.emit("mul", c.cast(c[8], DType.F32), units)
        y = c.emit("add", y, c.reshape(bias, (*c.shape(8), *[1] * (c.rank(0) - 2))))
    return _codes(c, y, 6, 7, 1)
