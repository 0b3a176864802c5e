"""ONNX Runtime's own operators (com.microsoft) that exporters and its optimizer write: norms, activations, products."""

from __future__ import annotations

from typing import Any

from maiac.ir import DType, Value

from ..context import NodeContext, tensor_type
from ..registry import onnx_op
from .linear import gemm, projection_weight
from .nn import conv

MICROSOFT = "com.microsoft"


@onnx_op("Gelu", domain=MICROSOFT)
def gelu(c: NodeContext) -> Value:
    """x * Phi(x)."""
    return c.emit("gelu", c[0])


@onnx_op("FastGelu", domain=MICROSOFT)
def fast_gelu(c: NodeContext) -> Value:
    """Gelu by tanh, of x and a bias."""
    return c.emit("gelu", _plus(c, c[0], 1), approximate="tanh")


@onnx_op("BiasGelu", domain=MICROSOFT)
def bias_gelu(c: NodeContext) -> Value:
    """Gelu of x and a bias."""
    return c.emit("gelu", _plus(c, c[0], 1))


@onnx_op("QuickGelu", domain=MICROSOFT)
def quick_gelu(c: NodeContext) -> Value:
    """x * sigmoid(alpha x)."""
    x, alpha = c[0], float(c.attr("alpha", 1.702))
    return c.emit("mul", x, c.emit("sigmoid", c.emit("mul", x, c.const_like(alpha, x))))


def _plus(c: NodeContext, x: Value, index: int) -> Value:
    return c.emit("add", x, c[index]) if c.has(index) else x


@onnx_op("SimplifiedLayerNormalization", domain=MICROSOFT)
@onnx_op("SimplifiedLayerNormalization")
def rms_norm(c: NodeContext) -> Value:
    """RMS norm over the last dim, which ONNX Runtime also keeps in ONNX's own domain."""
    if int(c.attr("axis", -1)) % c.rank(0) != c.rank(0) - 1 or c.wants(1):
        c.fail("it normalises the last dim, and gives no statistics")
    return _norm(c, c[0], c[1], None, simplified=True)


@onnx_op("SkipLayerNormalization", "SkipSimplifiedLayerNormalization", domain=MICROSOFT)
def skip_norm(c: NodeContext) -> list[Value | None]:
    """A norm of the sum of two values and a bias; the sum is the last output."""
    if c.wants(1) or c.wants(2):
        c.fail("it gives no statistics")
    simplified = c.op == "SkipSimplifiedLayerNormalization"
    total = _plus(c, c.emit("add", c[0], c[1]), 3 if simplified else 4)
    return [_norm(c, total, c[2], None if simplified else c.opt(3), simplified=simplified), None, None, total]


def _norm(c: NodeContext, x: Value, gamma: Value, beta: Value | None, *, simplified: bool) -> Value:
    """Over the last dim, computed in f32 where x is narrower."""
    dtype, eps = tensor_type(x).element, float(c.attr("epsilon", 1e-5 if simplified else 1e-12))
    wide = DType.F32 if dtype in (DType.F16, DType.BF16) else dtype
    g, b = c.cast(gamma, wide), None if beta is None else c.cast(beta, wide)
    if simplified:
        return c.cast(c.emit("rms_norm", c.cast(x, wide), g, eps=eps), dtype)
    return c.cast(c.emit("layer_norm", c.cast(x, wide), g, b, eps=eps), dtype)


@onnx_op("FusedMatMul", "TransposeMatMul", domain=MICROSOFT)
def fused_matmul(c: NodeContext) -> Value:
    """alpha a b, either with its last two dims swapped."""
    if c.attr("transBatchA", 0) or c.attr("transBatchB", 0):
        c.fail("batches are not transposed")
    a = _swapped(c, c[0]) if c.attr("transA", 0) else c[0]
    weight = None if c.attr("transB", 0) else projection_weight(c, 1)
    if weight is not None:
        y = c.emit("linear", a, weight)
    else:
        y = c.emit("matmul", a, _swapped(c, c[1]) if c.attr("transB", 0) else c[1])
    alpha = float(c.attr("alpha", 1.0))
    return y if alpha == 1.0 else c.emit("mul", y, c.const_like(alpha, y))


def _swapped(c: NodeContext, x: Value) -> Value:
    rank = tensor_type(x).rank
    return x if rank < 2 else c.transpose(x, [*range(rank - 2), rank - 1, rank - 2])


@onnx_op("FusedConv", domain=MICROSOFT)
def fused_conv(c: NodeContext) -> Value:
    """A convolution, what is added to it, and an activation."""
    return _activated(c, _plus(c, conv(c), 3), c.attr("activation_params") or [])


@onnx_op("FusedGemm", domain=MICROSOFT)
def fused_gemm(c: NodeContext) -> Value:
    """Gemm and an activation."""
    return _activated(c, gemm(c), [c.attr(f"activation_{n}", 0.0) for n in ("alpha", "beta")])


def _activated(c: NodeContext, x: Value, params: list[Any]) -> Value:
    name = str(c.attr("activation", ""))
    if name in ("", "Relu", "Sigmoid", "Tanh"):
        return c.emit(name.lower(), x) if name else x
    if len(params) < {"LeakyRelu": 1, "Clip": 2}.get(name, 0):
        c.fail(f"its activation {name} has {len(params)} parameters", "MAIA0223")
    if name == "LeakyRelu":
        return c.emit("leaky_relu", x, slope=float(params[0]))
    if name == "Clip":
        return c.emit("clamp", x, min=float(params[0]), max=float(params[1]))
    c.fail(f"its activation is {name}")
