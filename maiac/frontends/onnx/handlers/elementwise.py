"""Operators on each element: arithmetic, comparison, logic, bits, casts."""

from __future__ import annotations

from collections.abc import Callable

from maiac.ir import DType, Value

from ..context import NodeContext, tensor_type
from ..registry import onnx_op
from ..types import dtype_of
from .wide import WIDE, compared, narrowed, unsigned_shift_right, widened

_UNARY = {
    "Abs": "abs",
    "Acos": "acos",
    "Acosh": "acosh",
    "Asin": "asin",
    "Asinh": "asinh",
    "Atan": "atan",
    "Atanh": "atanh",
    "BitwiseNot": "bitwise_not",
    "Ceil": "ceil",
    "Cos": "cos",
    "Cosh": "cosh",
    "Erf": "erf",
    "Exp": "exp",
    "Floor": "floor",
    "IsNaN": "is_nan",
    "Log": "log",
    "Neg": "neg",
    "Not": "logical_not",
    "Reciprocal": "reciprocal",
    "Round": "round",
    "Sigmoid": "sigmoid",
    "Sign": "sign",
    "Sin": "sin",
    "Sinh": "sinh",
    "Sqrt": "sqrt",
    "Tan": "tan",
    "Tanh": "tanh",
}


def _unary(name: str) -> Callable[[NodeContext], Value]:
    def handler(c: NodeContext) -> Value:
        x = c[0]
        if c.op in ("Abs", "Sign") and c.dtype(0) in WIDE:
            return (
                x
                if c.op == "Abs"
                else narrowed(c, c.cast(c.emit("ne", widened(c, x), c.const(0, DType.I64)), DType.I64), c.dtype(0))
            )
        if c.op == "BitwiseNot" and c.dtype(0) in WIDE:
            return narrowed(c, c.emit(name, widened(c, x)), c.dtype(0))
        return c.emit(name, x)

    return handler


for _onnx, _name in _UNARY.items():
    onnx_op(_onnx)(_unary(_name))


def _legacy_broadcast(c: NodeContext, x: Value, y: Value) -> Value:
    """y with the trailing dims that opset 6 and earlier aligned by an ``axis`` attribute."""
    axis = c.attr("axis")
    if c.opset >= 7 or axis is None:
        return y
    have = tensor_type(y)
    trailing = tensor_type(x).rank - int(axis) - have.rank
    return c.reshape(y, (*have.dims, *[1] * trailing)) if trailing > 0 else y


_BINARY = {
    "Add": "add",
    "Sub": "sub",
    "Mul": "mul",
    "BitwiseAnd": "bitwise_and",
    "BitwiseOr": "bitwise_or",
    "BitwiseXor": "bitwise_xor",
}
_COMPARE = {"Equal": "eq", "Less": "lt", "LessOrEqual": "le", "Greater": "gt", "GreaterOrEqual": "ge"}
_LOGIC = {"And": "logical_and", "Or": "logical_or", "Xor": "logical_xor"}


def _binary(name: str) -> Callable[[NodeContext], Value]:
    def handler(c: NodeContext) -> Value:
        x, y = c[0], _legacy_broadcast(c, c[0], c[1])
        if c.dtype(0) in WIDE:
            return narrowed(c, c.emit(name, widened(c, x), widened(c, y)), c.dtype(0))
        return c.emit(name, x, y)

    return handler


def _comparison(name: str) -> Callable[[NodeContext], Value]:
    def handler(c: NodeContext) -> Value:
        x, y = c[0], _legacy_broadcast(c, c[0], c[1])
        if c.dtype(0) is DType.STR:
            return c.emit("string_equal", x, y)
        if c.dtype(0) in WIDE:
            return c.emit(name, compared(c, x), compared(c, y))
        return c.emit(name, x, y)

    return handler


for _onnx, _name in _BINARY.items():
    onnx_op(_onnx)(_binary(_name))
for _onnx, _name in _COMPARE.items():
    onnx_op(_onnx)(_comparison(_name))
for _onnx, _name in _LOGIC.items():
    onnx_op(_onnx)(_binary(_name))


@onnx_op("Div")
def div(c: NodeContext) -> Value:
    """Integers truncate towards zero."""
    x, y = c[0], _legacy_broadcast(c, c[0], c[1])
    dtype = c.dtype(0)
    if dtype is DType.U64:
        return c.emit("unsigned_div", x, y)
    if dtype in WIDE:
        return narrowed(c, c.emit("trunc_div", widened(c, x), widened(c, y)), dtype)
    return c.emit("trunc_div" if dtype.is_integer else "div", x, y)


@onnx_op("Mod")
def mod(c: NodeContext) -> Value:
    """The remainder with the sign of the divisor, or with fmod=1 that of the dividend."""
    name = "fmod" if c.attr("fmod", 0) else "remainder"
    dtype = c.dtype(0)
    if dtype is DType.U64:
        x, y = c[0], c[1]
        whole = c.emit("unsigned_div", x, y)
        return narrowed(c, c.emit("sub", widened(c, x), c.emit("mul", widened(c, whole), widened(c, y))), dtype)
    if dtype in WIDE:
        return narrowed(c, c.emit(name, widened(c, c[0]), widened(c, c[1])), dtype)
    return c.emit(name, c[0], c[1])


@onnx_op("Pow")
def power(c: NodeContext) -> Value:
    """x to the y in the dtype of x, whatever that of y."""
    x, y = c[0], _legacy_broadcast(c, c[0], c[1])
    base, exponent = c.dtype(0), c.dtype(1)
    if base.is_integer and exponent.is_float:
        common = DType.F64 if exponent is DType.F64 else DType.F32
        return c.cast(c.emit("pow", c.cast(x, common), c.cast(y, common)), base)
    if base in WIDE or exponent in WIDE:
        common = base if base.is_float else DType.I64
        return narrowed(c, c.emit("pow", c.cast(x, common), c.cast(y, common)), base)
    return c.emit("pow", x, c.cast(y, base))


@onnx_op("BitShift")
def bit_shift(c: NodeContext) -> Value:
    """Left or logical right shift of unsigned integers, arithmetic right shift of signed ones."""
    left = c.attr("direction") == "LEFT"
    x, y, dtype = c[0], c[1], c.dtype(0)
    if not left and dtype is DType.U64:
        return narrowed(c, unsigned_shift_right(c, widened(c, x), widened(c, y)), dtype)
    name = "shift_left" if left else "shift_right"
    if dtype.family == "uint":
        return narrowed(c, c.emit(name, c.cast(x, DType.I64), c.cast(y, DType.I64)), dtype)
    return c.emit(name, x, y)


def _variadic(name: str) -> Callable[[NodeContext], Value]:
    def handler(c: NodeContext) -> Value:
        dtype = c.dtype(0)
        xs = c.values()
        if dtype in WIDE:
            xs = [widened(c, x) if name == "add" else compared(c, x) for x in xs]
        total = xs[0]
        for x in xs[1:]:
            total = c.emit(name, total, x)
        if dtype not in WIDE:
            return total
        return narrowed(c, total if name == "add" or dtype is not DType.U64 else _uncompared(c, total), dtype)

    return handler


def _uncompared(c: NodeContext, x: Value) -> Value:
    return c.emit("bitwise_xor", x, c.const(-(2**63), DType.I64))


onnx_op("Sum")(_variadic("add"))
onnx_op("Max")(_variadic("maximum"))
onnx_op("Min")(_variadic("minimum"))


@onnx_op("Mean")
def mean(c: NodeContext) -> Value:
    """The elementwise mean of the operands."""
    total = _variadic("add")(c)
    return c.emit("div", total, c.const_like(len(c.inputs), total))


@onnx_op("IsInf")
def is_inf(c: NodeContext) -> Value:
    """Infinities of the signs asked for."""
    positive, negative = c.attr("detect_positive", 1), c.attr("detect_negative", 1)
    x = c[0] if c.dtype(0) in (DType.F32, DType.F64, DType.F16, DType.BF16) else c.cast(c[0], DType.F32)
    infinite = c.emit("is_inf", x)
    if positive and negative:
        return infinite
    zero = c.const_like(0.0, x)
    side = c.emit("gt" if positive else "lt", x, zero)
    if not positive and not negative:
        return c.emit("logical_and", infinite, c.emit("logical_not", infinite))
    return c.emit("logical_and", infinite, side)


@onnx_op("Where")
def where(c: NodeContext) -> Value:
    """x where the condition holds, y elsewhere."""
    return c.emit("where", c[0], c[1], c[2])


@onnx_op("Identity")
def identity(c: NodeContext) -> object:
    """The operand itself; nothing where a function's optional operand is not given."""
    return c.inputs[0]


@onnx_op("Cast")
def cast(c: NodeContext) -> Value:
    """Convert elements; low-precision floats saturate unless told otherwise."""
    return converted(c, c[0], c.dtype(0), c.cast_target())


@onnx_op("CastLike")
def cast_like(c: NodeContext) -> Value:
    """Convert elements to the type of another tensor."""
    return converted(c, c[0], c.dtype(0), c.dtype(1))


PLAIN = frozenset(
    {DType.F64, DType.F32, DType.F16, DType.BF16, DType.I64, DType.I32, DType.I16, DType.I8, DType.U64, DType.U32}
    | {DType.U16, DType.U8, DType.BOOL, DType.C64, DType.C128}
)


def converted(c: NodeContext, x: Value, source: DType, to: DType) -> Value:
    """x with another element type under the rules of Cast."""
    if source is to:
        return x
    if DType.STR in (source, to):
        return c.emit("cast_string", x, to=to)
    if source in PLAIN and to in PLAIN:
        return c.emit("cast", x, to=to)
    rounding = str(c.attr("round_mode", "up"))
    return c.emit("convert", x, to=to, source=source, saturate=bool(c.attr("saturate", 1)), rounding=rounding)


@onnx_op("BitCast")
def bit_cast(c: NodeContext) -> Value:
    """The same bits read as another element type of the same width."""
    return c.emit("bit_cast", c[0], to=dtype_of(c.attr("to")))
