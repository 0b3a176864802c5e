"""Fourier transforms, mel filters and window functions."""

from __future__ import annotations

from maiac.ir import DType, Value

from ..context import NodeContext
from ..registry import onnx_op
from ..types import dtype_of


@onnx_op("DFT")
def dft(c: NodeContext) -> Value:
    """The discrete Fourier transform; the axis is an operand from opset 20 on."""
    flags = {"inverse": bool(c.attr("inverse", 0)), "onesided": bool(c.attr("onesided", 0))}
    if c.opset < 20:
        return c.emit("dft", c[0], c.opt(1), dim=int(c.attr("axis", 1)), **flags)
    axis = c.static(2) if c.has(2) else (c.rank(0) - 2,)
    if axis is not None:
        return c.emit("dft", c[0], c.opt(1), dim=axis[0] % c.rank(0), **flags)
    return c.emit("dft", c[0], c.opt(1), c[2], **flags)


@onnx_op("STFT")
def stft(c: NodeContext) -> Value:
    """Fourier transforms of sliding windows."""
    return c.emit("stft", c[0], c[1], c.opt(2), c.opt(3), onesided=bool(c.attr("onesided", 1)))


@onnx_op("MelWeightMatrix")
def mel_weights(c: NodeContext) -> Value:
    """Triangular filters evenly spaced in mel."""
    return c.emit("mel_weights", *c.values(), dtype=dtype_of(c.attr("output_datatype", 1)))


@onnx_op("RandomNormal", "RandomUniform")
def random(c: NodeContext) -> Value:
    """Random numbers of a shape in the model."""
    return _random(c, c.op == "RandomNormal", tuple(c.ints("shape") or ()), dtype_of(c.attr("dtype", 1)))


@onnx_op("RandomNormalLike", "RandomUniformLike")
def random_like(c: NodeContext) -> Value:
    """Random numbers of the shape of an operand."""
    dtype = dtype_of(c.attr("dtype")) if c.attrs.get("dtype") else c.dtype(0)
    return _random(c, c.op == "RandomNormalLike", c.shape(0), dtype)


def _random(c: NodeContext, normal: bool, shape: tuple[object, ...], dtype: DType) -> Value:
    seed = c.attr("seed")
    drawn = c.emit(
        "random_normal" if normal else "random_uniform",
        shape=shape,
        dtype=DType.F32,
        seed=None if seed is None else int(seed),
    )
    if normal:
        low, width = float(c.attr("mean", 0.0)), float(c.attr("scale", 1.0))
    else:
        low = float(c.attr("low", 0.0))
        width = float(c.attr("high", 1.0)) - low
    if width != 1.0:
        drawn = c.emit("mul", drawn, c.const(width, DType.F32))
    if low != 0.0:
        drawn = c.emit("add", drawn, c.const(low, DType.F32))
    return c.cast(drawn, dtype)


@onnx_op("Bernoulli")
def bernoulli(c: NodeContext) -> Value:
    """1 with the probability that an operand tells, else 0."""
    seed = c.attr("seed")
    drawn = c.emit("random_uniform", shape=c.shape(0), seed=None if seed is None else int(seed))
    dtype = dtype_of(c.attr("dtype")) if c.attrs.get("dtype") else c.dtype(0)
    return c.cast(c.emit("lt", c.cast(drawn, c.dtype(0)), c[0]), dtype)
