"""Reductions over axes given as an attribute or as an operand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from maiac.ir import DType, Value

from ..context import NodeContext, tensor_type
from ..registry import onnx_op
from .wide import WIDE, compared, narrowed

Axes = tuple[Any, ...]


def _over(c: NodeContext) -> Axes | None:
    """The axes to reduce; None for all, an empty tuple for none."""
    axes = c.axes()
    if axes is None and c.has(1):
        c.fail("the number of axes is not known")
    if axes == ():
        axes = None
    if axes is None and c.attr("noop_with_empty_axes", 0):
        return ()
    return axes


def _reduction(name: str) -> Callable[[NodeContext], Value]:
    def handler(c: NodeContext) -> Value:
        return reduce(c, name, c[0], _over(c))

    return handler


def reduce(c: NodeContext, name: str, x: Value, over: Axes | None) -> Value:
    """A reduction with keepdims as the node has it; x itself where nothing is reduced."""
    if over == ():
        return x
    dtype = tensor_type(x).element
    attrs: dict[str, Any] = {"dims": over, "keepdim": bool(c.attr("keepdims", 1))}
    if dtype in WIDE:
        inner = compared(c, x) if name in ("amax", "amin") else c.cast(x, DType.I64)
        made = c.emit(name, inner, **attrs)
        if name in ("amax", "amin") and dtype is DType.U64:
            made = c.emit("bitwise_xor", made, c.const(-(2**63), DType.I64))
        return narrowed(c, made, dtype)
    if name == "mean" and not dtype.is_float:
        return c.cast(c.emit("mean", c.cast(x, DType.F64), **attrs), dtype)
    if name == "logsumexp" and not dtype.is_float:
        return c.cast(c.emit("logsumexp", c.cast(x, DType.F64), **attrs), dtype)
    return c.emit(name, x, **attrs)


_PLAIN = {
    "ReduceSum": "sum",
    "ReduceMean": "mean",
    "ReduceMax": "amax",
    "ReduceMin": "amin",
    "ReduceProd": "prod",
    "ReduceLogSumExp": "logsumexp",
}
for _onnx, _name in _PLAIN.items():
    onnx_op(_onnx)(_reduction(_name))


@onnx_op("ReduceL1")
def reduce_l1(c: NodeContext) -> Value:
    """The sum of magnitudes."""
    return reduce(c, "sum", c.emit("abs", c[0]), _over(c))


@onnx_op("ReduceSumSquare")
def reduce_sum_square(c: NodeContext) -> Value:
    """The sum of squares."""
    return reduce(c, "sum", c.emit("square", c[0]), _over(c))


@onnx_op("ReduceL2")
def reduce_l2(c: NodeContext) -> Value:
    """The root of the sum of squares."""
    dtype = c.dtype(0)
    x = c[0] if dtype.is_float else c.cast(c[0], DType.F64)
    return c.cast(c.emit("sqrt", reduce(c, "sum", c.emit("square", x), _over(c))), dtype)


@onnx_op("ReduceLogSum")
def reduce_log_sum(c: NodeContext) -> Value:
    """The logarithm of the sum."""
    dtype = c.dtype(0)
    x = c[0] if dtype.is_float else c.cast(c[0], DType.F64)
    return c.cast(c.emit("log", reduce(c, "sum", x, _over(c))), dtype)
