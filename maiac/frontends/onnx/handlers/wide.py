"""Unsigned integers that torch's kernels do not take: computed in i64 and cut back.

Addition, subtraction, multiplication and bits agree modulo 2**64. Order does not for u64, whose sign bit is turned
before comparing.
"""

from __future__ import annotations

from maiac.ir import DType, Value

from ..context import NodeContext, tensor_type

WIDE = frozenset({DType.U16, DType.U32, DType.U64})


def widened(c: NodeContext, x: Value) -> Value:
    """x as i64; a u64 keeps its bits."""
    return c.cast(x, DType.I64)


def narrowed(c: NodeContext, x: Value, dtype: DType) -> Value:
    """i64 cut back to an unsigned type: modulo its width."""
    return c.cast(x, dtype)


def compared(c: NodeContext, x: Value) -> Value:
    """x as i64 in the same order."""
    wide = widened(c, x)
    if tensor_type(x).element is not DType.U64:
        return wide
    return c.emit("bitwise_xor", wide, c.const(-(2**63), DType.I64))


def unsigned_shift_right(c: NodeContext, x: Value, y: Value) -> Value:
    """x over 2**y, bits of a u64 held in i64: the first step clears the sign, the others follow."""
    one, zero = c.const(1, DType.I64), c.const(0, DType.I64)
    first = c.emit("bitwise_and", c.emit("shift_right", x, one), c.const(2**63 - 1, DType.I64))
    rest = c.emit("shift_right", first, c.emit("maximum", c.emit("sub", y, one), zero))
    return c.emit("where", c.emit("eq", y, zero), x, rest)
