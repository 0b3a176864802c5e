"""ONNX Runtime's quantized operators (com.microsoft): weights in blocks of few bits, and arithmetic on codes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from maiac.ir import DType, TensorType, Value
from maiac.ir.ops.values import QTensor
from maiac.ir.types import Quantized
from maiac.runtime.weights import DerivedTensor

from ..context import NodeContext, tensor_type
from ..registry import onnx_op
from .activation import over_tail
from .contrib import MICROSOFT
from .nn import pooled_mean
from .quant import dequantize_linear, dynamic_quantize, quantize_linear

onnx_op("QuantizeLinear", domain=MICROSOFT)(quantize_linear)
onnx_op("DequantizeLinear", domain=MICROSOFT)(dequantize_linear)
_SIGNED = {2: DType.I2, 4: DType.I4, 8: DType.I8}
_UNSIGNED = {2: DType.U2, 4: DType.U4, 8: DType.U8}


@onnx_op("MatMulNBits", domain=MICROSOFT)
def matmul_nbits(c: NodeContext) -> Value:
    """x times a matrix of 2, 4 or 8 bits an element, with a scale for each block along K: a linear of ``group`` type.

    Without zero points codes count from the middle of their range, so that they are signed integers.
    """
    bits, block, n, k = int(c.attr("bits", 4)), *(int(c.need(name)) for name in ("block_size", "N", "K"))
    if min(block, n, k) < 1:
        c.fail(f"block_size is {block}, N is {n} and K is {k}; expected positive numbers", "MAIA0223")
    packed, scales = c.constant(1), c.constant(2)
    if c.has(4) or packed is None or scales is None or bits not in _SIGNED or c.attr("weight_prepacked", 0):
        c.fail("the weight must be part of the model, of 2, 4 or 8 bits, neither reordered nor packed beforehand")
    zeros = c.constant(3) if c.has(3) else None
    if c.has(3) and (zeros is None or zeros.dtype != np.uint8):
        c.fail("zero points must be packed integers that are part of the model")
    if not c.dtype(2).is_float:
        c.fail(f"scales are {c.type(2)}; expected floats", "MAIA0223")
    storage = (_SIGNED if zeros is None else _UNSIGNED)[bits]
    scheme = Quantized(storage, "group", (block,), c.dtype(2), zeros is not None)

    def load() -> QTensor:
        blocks = -(-k // block)
        codes = _unpacked(packed.reshape(n, -1), bits)[:, :k]
        scale = torch.from_numpy(np.array(scales).reshape(n, blocks))
        if zeros is None:
            return QTensor((codes.to(torch.int16) - 2 ** (bits - 1)).to(torch.int8), scale, None, scheme)
        return QTensor(
            codes.contiguous(), scale, _unpacked(zeros.reshape(n, -1), bits)[:, :blocks].contiguous(), scheme
        )

    name = c.node.inputs[1].name if c.node.inputs[1] is not None else c.op
    weight = c.module.add_weight(str(name), TensorType(scheme, (n, k)), DerivedTensor(load))
    return c.emit("linear", c[0], weight, c.opt(5))


def _unpacked(rows: np.ndarray[Any, Any], bits: int) -> torch.Tensor:
    """u8 codes from bytes that hold several, lowest bits first."""
    places = np.arange(0, 8, bits, dtype=np.uint8)
    codes = (rows[..., None] >> places) & np.uint8(2**bits - 1)
    return torch.from_numpy(codes.reshape(len(rows), -1))


@onnx_op("DynamicQuantizeMatMul", domain=MICROSOFT)
def dynamic_quantize_matmul(c: NodeContext) -> Value:
    """a quantized by its own range, times codes of b."""
    codes, scale, zero = dynamic_quantize(c)
    a = c.emit("sub", c.cast(codes, DType.I32), c.cast(zero, DType.I32))
    return _scaled_product(c, a, _centered(c, 1, 3), c.emit("mul", scale, c[2]), 4)


@onnx_op("MatMulIntegerToFloat", domain=MICROSOFT)
def matmul_integer_to_float(c: NodeContext) -> Value:
    """Codes times codes, as real numbers."""
    return _scaled_product(c, _centered(c, 0, 4), _centered(c, 1, 5), c.emit("mul", c[2], c[3]), 6)


def _centered(c: NodeContext, codes: int, zero: int, *, turned: bool = False) -> Value:
    """Codes (a matrix with its dims swapped where ``turned``) less their zero point, which may be one a column."""
    x = c.cast(c[codes], DType.I32)
    x = c.transpose(x, (1, 0)) if turned else x
    return c.emit("sub", x, c.cast(c[zero], DType.I32)) if c.has(zero) else x


def _scaled_product(c: NodeContext, a: Value, b: Value, scale: Value, bias: int) -> Value:
    y = c.emit("mul", c.cast(c.emit("matmul", a, b), DType.F32), scale)
    return c.emit("add", y, c[bias]) if c.has(bias) else y


@onnx_op("QLinearAdd", "QLinearMul", domain=MICROSOFT)
def qlinear_binary(c: NodeContext) -> Value:
    """A sum or product of codes, as codes."""
    y = c.emit("add" if c.op == "QLinearAdd" else "mul", _real(c, 0), _real(c, 3))
    return _codes(c, y, 6, c.dtype(0))


@onnx_op("QLinearSigmoid", "QLinearLeakyRelu", "QLinearGlobalAveragePool", domain=MICROSOFT)
def qlinear_unary(c: NodeContext) -> Value:
    """A function of codes, as codes."""
    x = _real(c, 0)
    if c.op == "QLinearSigmoid":
        return _codes(c, c.emit("sigmoid", x), 3, c.dtype(0))
    if c.op == "QLinearLeakyRelu":
        return _codes(c, c.emit("leaky_relu", x, slope=float(c.attr("alpha", 0.01))), 3, c.dtype(0))
    first = 1 if c.attr("channels_last", 0) else 2
    dims = tuple(range(first, first + c.rank(0) - 2))
    return _codes(c, c.emit("mean", x, dims=dims, keepdim=True), 3, c.dtype(0))


@onnx_op("QLinearAveragePool", domain=MICROSOFT)
def qlinear_average_pool(c: NodeContext) -> Value:
    """The mean of each window of codes, as codes."""
    if not c.attr("channels_last", 0):
        return _codes(c, pooled_mean(c, _real(c, 0)), 3, c.dtype(0))
    spatial = range(1, c.rank(0) - 1)
    x = c.transpose(_real(c, 0), (0, c.rank(0) - 1, *spatial))
    y = c.transpose(pooled_mean(c, x), (0, *(i + 1 for i in spatial), 1))
    return _codes(c, y, 3, c.dtype(0))


@onnx_op("QLinearSoftmax", domain=MICROSOFT)
def qlinear_softmax(c: NodeContext) -> Value:
    """Softmax of codes, as codes: along an axis, or before opset 13 over all dims from it on."""
    x, axis = _real(c, 0), int(c.attr("axis", -1))
    if int(c.need("opset")) >= 13:
        y = c.emit("softmax", x, dim=axis)
    else:
        y = over_tail(c, lambda v: c.emit("softmax", v, dim=-1), axis, x)
    return _codes(c, y, 3, c.dtype(0))


@onnx_op("QGemm", domain=MICROSOFT)
def qgemm(c: NodeContext) -> Value:
    """alpha times a product of codes and what is added to it, as codes or as real numbers."""
    a, b = (_centered(c, i, i + 2, turned=bool(c.attr(n, 0))) for i, n in ((0, "transA"), (3, "transB")))
    product = c.emit("matmul", a, b)
    product = c.emit("add", product, c[6]) if c.has(6) else product
    scale = c.emit("mul", c.emit("mul", c[1], c[4]), c.const(float(c.attr("alpha", 1.0)), DType.F32))
    y = c.emit("mul", c.cast(product, DType.F32), scale)
    return _codes(c, y, 7, c.dtype(0)) if c.has(7) else y


@onnx_op("QLinearConcat", domain=MICROSOFT)
def qlinear_concat(c: NodeContext) -> Value:
    """Codes joined along an axis, each under its scale, as codes under one."""
    parts = [_real(c, i) for i in range(2, len(c.inputs), 3)]
    return _codes(c, c.emit("concat", *parts, dim=int(c.need("axis"))), 0, c.dtype(2))


def _real(c: NodeContext, first: int) -> Value:
    """Real numbers of codes that scale and zero point follow."""
    scale, source = c.reshape(c[first + 1], ()), c.dtype(first)
    return c.emit("dequantize_linear", c[first], scale, _zero(c, first + 2), to=DType.F32, source=source)


def _codes(c: NodeContext, y: Value, scale: int, to: DType) -> Value:
    by, zero = c.reshape(c[scale], ()), _zero(c, scale + 1)
    assert tensor_type(y).element is DType.F32
    return c.emit("quantize_linear", y, by, zero, to=to, precision=DType.F32, zero_source=to)


def _zero(c: NodeContext, index: int) -> Value | None:
    return c.reshape(c[index], ()) if c.has(index) else None
