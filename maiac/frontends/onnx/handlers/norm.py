"""Normalisations."""

from __future__ import annotations

from typing import Any

from maiac.ir import DType, Value

from ..context import NodeContext, tensor_type
from ..registry import onnx_op


@onnx_op("BatchNormalization")
def batch_norm(c: NodeContext) -> Any:
    """Normalise each channel by given statistics, or in training by those of the batch."""
    eps, x = float(c.attr("epsilon", 1e-5)), c[0]
    if not c.attr("training_mode", 0):
        stats = [c.cast(c[i], c.dtype(0)) for i in (3, 4, 1, 2)]
        if c.rank(0) < 3:
            return _manual_batch_norm(c, x, stats, eps)
        return c.emit("batch_norm", x, *stats, eps=eps)
    over = (0, *range(2, c.rank(0)))
    mean, var = c.emit("mean", x, dims=over), c.emit("var", x, dims=over, correction=0)
    y = _manual_batch_norm(c, x, [mean, var, c[1], c[2]], eps)
    keep = float(c.attr("momentum", 0.9))
    return [y, _mixed(c, c[3], mean, keep), _mixed(c, c[4], var, keep)]


def _mixed(c: NodeContext, old: Value, new: Value, keep: float) -> Value:
    dtype = tensor_type(old).element
    a = c.emit("mul", old, c.const(keep, dtype))
    return c.emit("add", a, c.emit("mul", c.cast(new, dtype), c.const(1 - keep, dtype)))


def _manual_batch_norm(c: NodeContext, x: Value, stats: list[Value], eps: float) -> Value:
    rank = tensor_type(x).rank
    mean, var, g, b = (c.reshape(s, (*tensor_type(s).dims, *[1] * (rank - 2))) for s in stats)
    scaled = c.emit("mul", c.emit("sub", x, mean), c.emit("rsqrt", c.emit("add", var, c.const_like(eps, var))))
    return c.emit("add", c.emit("mul", scaled, g), b)


@onnx_op("InstanceNormalization")
def instance_norm(c: NodeContext) -> Value:
    """Normalise each channel of each sample: group_norm with one channel a group."""
    channels = c.dim(0, 1)
    return c.emit("group_norm", c[0], c[1], c[2], groups=channels, eps=float(c.attr("epsilon", 1e-5)))


@onnx_op("GroupNormalization", since=21)
def group_norm(c: NodeContext) -> Value:
    """Normalise groups of channels; scale and bias have one element a channel."""
    if c.attr("stash_type", 1) != 1 or c.dtype(0) not in (DType.F32, DType.F16, DType.BF16):
        return NotImplemented
    x = c.cast(c[0], DType.F32)
    g, b = (c.cast(c[i], DType.F32) for i in (1, 2))
    groups = int(c.attr("num_groups"))
    return c.cast(c.emit("group_norm", x, g, b, groups=groups, eps=float(c.attr("epsilon", 1e-5))), c.dtype(0))


@onnx_op("GroupNormalization", since=18)
def group_norm_per_group(c: NodeContext) -> Value:
    """Opset 18: scale and bias have one element a group."""
    groups, channels = int(c.attr("num_groups")), c.dim(0, 1)
    each = channels // groups
    g, b = (
        c.reshape(c.emit("expand", c.reshape(c[i], (groups, 1)), shape=(groups, each)), (channels,)) for i in (1, 2)
    )
    return c.emit("group_norm", c[0], g, b, groups=groups, eps=float(c.attr("epsilon", 1e-5)))


@onnx_op("LayerNormalization")
def layer_norm(c: NodeContext) -> Any:
    """Zero mean and unit variance over the dims from axis on; the statistics are further outputs."""
    rank = c.rank(0)
    axis = int(c.attr("axis", -1)) % rank
    tail, eps = c.shape(0)[axis:], float(c.attr("epsilon", 1e-5))
    fits = all(not c.has(i) or c.shape(i) == tail for i in (1, 2))
    if not fits or c.wants(1) or c.wants(2) or c.attr("stash_type", 1) != 1:
        return NotImplemented
    x = c.cast(c[0], DType.F32) if c.dtype(0) in (DType.F16, DType.BF16) else c[0]
    dtype = tensor_type(x).element
    g, b = (None if not c.has(i) else c.cast(c[i], dtype) for i in (1, 2))
    return c.cast(c.emit("layer_norm", x, g, b, dims=rank - axis, eps=eps), c.dtype(0))


@onnx_op("RMSNormalization")
def rms_norm(c: NodeContext) -> Value:
    """Unit mean square over the dims from axis on."""
    rank = c.rank(0)
    axis = int(c.attr("axis", -1)) % rank
    if (
        axis != rank - 1
        or c.shape(1) != c.shape(0)[-1:]
        or c.dtype(0) is not c.dtype(1)
        or c.attr("stash_type", 1) != 1
    ):
        return NotImplemented
    x = c.cast(c[0], DType.F32) if c.dtype(0) in (DType.F16, DType.BF16) else c[0]
    y = c.emit("rms_norm", x, c.cast(c[1], tensor_type(x).element), eps=float(c.attr("epsilon", 1e-5)))
    return c.cast(y, c.dtype(0))


@onnx_op("LRN")
def lrn(c: NodeContext) -> Value:
    """Divide by the energy of neighbouring channels."""
    attrs = {
        "alpha": float(c.attr("alpha", 1e-4)),
        "beta": float(c.attr("beta", 0.75)),
        "bias": float(c.attr("bias", 1.0)),
    }
    return c.emit("lrn", c[0], size=int(c.attr("size")), **attrs)


@onnx_op("LpNormalization")
def lp_normalization(c: NodeContext) -> Value:
    """x over its p-norm along an axis; 0 where that is 0."""
    x, axis, p = c[0], int(c.attr("axis", -1)), int(c.attr("p", 2))
    if p == 1:
        norm = c.emit("sum", c.emit("abs", x), dims=(axis,), keepdim=True)
    else:
        norm = c.emit("sqrt", c.emit("sum", c.emit("square", x), dims=(axis,), keepdim=True))
    zero = c.emit("eq", norm, c.const_like(0.0, norm))
    return c.emit("where", zero, c.emit("mul", x, c.const_like(0.0, x)), c.emit("div", x, norm))


@onnx_op("MeanVarianceNormalization")
def mean_variance(c: NodeContext) -> Value:
    """Zero mean and unit variance over axes."""
    x, axes = c[0], tuple(c.ints("axes") or (0, 2, 3))
    centered = c.emit("sub", x, c.emit("mean", x, dims=axes, keepdim=True))
    deviation = c.emit("sqrt", c.emit("mean", c.emit("square", centered), dims=axes, keepdim=True))
    return c.emit("div", centered, c.emit("add", deviation, c.const_like(1e-9, x)))


@onnx_op("Dropout")
def dropout(c: NodeContext) -> Any:
    """Nothing at inference; in training a random mask of a ratio."""
    x = c[0]
    training = c.constant(2) if c.opset >= 12 and c.has(2) else None
    ratio = c.constant(1) if c.opset >= 12 and c.has(1) else None
    rate = float(ratio.reshape(-1)[0]) if ratio is not None else float(c.attr("ratio", 0.5))
    off = (not c.has(2) or (training is not None and not training.reshape(-1)[0])) if c.opset >= 12 else True
    if off or (ratio is not None and rate == 0.0):
        mask = c.emit("full", value=True, dtype=DType.BOOL, shape=c.shape(0)) if c.wants(1) else None
        return [x, mask]
    return _random_dropout(c, x, rate)


def _random_dropout(c: NodeContext, x: Value, rate: float) -> list[Value]:
    """A mask drawn at run time; ratio and training_mode may be tensors."""
    dtype = c.dtype(0)
    ratio = c.cast(c.reshape(c[1], ()), dtype) if c.has(1) else c.const(rate, dtype)
    on = c.cast(c.reshape(c[2], ()), dtype)
    ratio = c.emit("mul", ratio, on)  # outside training nothing is dropped
    drawn = c.emit("random_uniform", shape=c.shape(0), dtype=DType.F64, seed=c.attr("seed"))
    mask = c.emit("ge", drawn, c.cast(ratio, DType.F64))
    scale = c.emit("div", c.const(1.0, dtype), c.emit("sub", c.const(1.0, dtype), ratio))
    return [c.emit("mul", c.emit("mul", x, c.cast(mask, dtype)), scale), mask]
