"""Attention and rotary positions, whole where the forms meet; other forms run through ONNX's function body."""

from __future__ import annotations

from typing import Any

from maiac.ir import DimLike, DType, Value
from maiac.ir.dims import floordiv

from ..context import NodeContext, tensor_type
from ..registry import onnx_op


@onnx_op("Attention", since=23)
def attention(c: NodeContext) -> Any:
    """Scaled dot-product attention with grouped heads, mask and past keys and values."""
    plain = not (c.wants(3) or c.has(6) or c.attr("softcap", 0.0) or c.attr("left_window_size", -1) != -1)
    if not plain or c.attr("softmax_precision", 1) not in (1, 0) or c.attr("right_window_size", -1) != -1:
        return NotImplemented
    causal = bool(c.attr("is_causal", 0))
    if causal and (c.has(3) or c.has(4)):
        return NotImplemented  # aligned otherwise than the kernel's causal mask
    q = _heads(c, 0, "q_num_heads")
    k, v = _heads(c, 1, "kv_num_heads"), _heads(c, 2, "kv_num_heads")
    mask = None
    if c.has(3):
        if c.dtype(3) is DType.BOOL or c.shape(3)[-1] != _total(c, k):
            return NotImplemented  # rows that no key may attend give 0 in ONNX, NaN in the kernel
        mask = c.cast(c[3], c.dtype(0))
    if c.has(4):
        k, v = c.emit("concat", c[4], k, dim=2), c.emit("concat", c[5], v, dim=2)
    scale = c.attr("scale")
    y = c.emit("attention", q, k, v, mask, causal=causal, scale=None if scale is None else float(scale))
    if c.rank(0) == 3:
        n, h, t, e = tensor_type(y).dims
        y = c.reshape(c.transpose(y, (0, 2, 1, 3)), (n, t, h * e))
    return [y, k, v]


def _total(c: NodeContext, k: Value) -> DimLike:
    past = c.shape(4)[2] if c.has(4) else 0
    return tensor_type(k).dims[2] + past


def _heads(c: NodeContext, index: int, attr: str) -> Value:
    """An operand as [n h t d]; one of three dims holds its heads side by side."""
    if c.rank(index) == 4:
        return c[index]
    heads = int(c.need(attr))
    n, t, width = c.shape(index, 3)
    if heads < 1:
        c.fail(f"{attr} is {heads}", "MAIA0223")
    return c.transpose(c.reshape(c[index], (n, t, heads, floordiv(width, heads))), (0, 2, 1, 3))
