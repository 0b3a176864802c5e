"""Arithmetic that does nothing. Only what is exact in floating point: NaN, infinities and -0.0 come out as before.

So x + 0.0 stays (it turns -0.0 into 0.0) while x + -0.0 and x - 0.0 go; x * 0 stays (NaN) except for integers; and
constants are joined only where the joint product rounds as the two did.
"""

from __future__ import annotations

import math

from maiac.ir import DType, Op, TensorType, Value
from maiac.ir.types import type_symbols

from ..pattern import COMMUTATIVE, Number, is_constant, is_splat, only_user, producer, splat, with_operand
from ..rewrite import Miss, Outcome, Rewriter, Rule, rule

ARITHMETIC: list[Rule] = []

_IDEMPOTENT = ("abs", "relu", "floor", "ceil", "round", "trunc", "sign")
_INTEGER_MANTISSA = {DType.F64: 53, DType.F32: 24, DType.F16: 11, DType.BF16: 8}
_WIDER_FLOAT = {
    DType.F16: (DType.F32, DType.F64),
    DType.BF16: (DType.F32, DType.F64),
    DType.F32: (DType.F64,),
    DType.F8E4M3FN: (DType.BF16, DType.F16, DType.F32, DType.F64),
    DType.F8E5M2: (DType.BF16, DType.F16, DType.F32, DType.F64),
}


def same_or_miss(op: Op, x: Value | None) -> Outcome:
    """x in place of op's result, where it has that type."""
    if x is None or x.type == op.result.type:
        return x
    return Miss(f"the result is {op.result.type}: the operand would have to be promoted or broadcast", x)


def is_integer(value: Value) -> bool:
    """Whether a value's elements are integers."""
    return isinstance(value.type, TensorType) and value.type.element.is_integer


@rule(*COMMUTATIVE, table=ARITHMETIC)
def constant_to_the_right(op: Op, b: Rewriter) -> Outcome:
    """c + x -> x + c, for all commutative ops."""
    x, y = op.operand(0), op.operand(1)
    if is_constant(x) and not is_constant(y):
        return b.like(op, [y, x])
    return None


@rule("add", table=ARITHMETIC)
def add_zero(op: Op, _: Rewriter) -> Outcome:
    """x + -0.0 -> x, and x + 0 -> x for integers."""
    if is_integer(op.result):
        return same_or_miss(op, with_operand(op, is_splat(0)))
    if with_operand(op, is_splat(0.0)) is not None:
        return Miss("x + 0.0 turns -0.0 into 0.0", op.operand(0))
    return same_or_miss(op, with_operand(op, is_splat(-0.0)))


@rule("sub", table=ARITHMETIC)
def sub_zero(op: Op, _: Rewriter) -> Outcome:
    """x - 0.0 -> x."""
    return same_or_miss(op, with_operand(op, is_splat(0)))


@rule("mul", "div", "pow", table=ARITHMETIC)
def by_one(op: Op, _: Rewriter) -> Outcome:
    """x * 1, x / 1, x ** 1 -> x."""
    return same_or_miss(op, with_operand(op, is_splat(1)))


@rule("mul", table=ARITHMETIC)
def mul_zero(op: Op, b: Rewriter) -> Outcome:
    """x * 0 -> 0 for integers."""
    x = with_operand(op, is_splat(0))
    if x is None:
        return None
    if not is_integer(op.result):
        return Miss("x * 0.0 is NaN where x is NaN or infinite, and -0.0 where x is negative", x)
    return filled_like(op, 0, b)


@rule("sub", table=ARITHMETIC)
def sub_self(op: Op, b: Rewriter) -> Outcome:
    """x - x -> 0 for integers."""
    if op.operand(0) is not op.operand(1):
        return None
    if not is_integer(op.result):
        return Miss("x - x is NaN where x is NaN or infinite", op.operand(0))
    return filled_like(op, 0, b)


def filled_like(op: Op, number: Number, b: Rewriter) -> Outcome:
    """A tensor of op's result type, filled with a number."""
    type = op.result.type
    assert isinstance(type, TensorType)
    return told_by_run(op) or b.emit("full", value=number, dtype=type.element, shape=type.dims)


def told_by_run(op: Op) -> Miss | None:
    """Why the result's shape cannot be written into an attribute: it is sharded, or only the op itself tells it."""
    assert isinstance(op.result.type, TensorType)
    known = {s for v in op.operands if v is not None for s in type_symbols(v.type)}
    if op.result.type.is_sharded:
        return Miss("the result is sharded", op.result)
    return None if type_symbols(op.result.type) <= known else Miss("its shape is known only at run time", op.result)


@rule("add", "mul", table=ARITHMETIC)
def join_constants(op: Op, b: Rewriter) -> Outcome:
    """(x + c) + d -> x + (c + d) for integers; (x * c) * d -> x * (c * d) also for powers of two not below 1."""
    inner, d = producer(op.operand(0), op.name), splat(op.operand(1))
    c = None if inner is None else splat(inner.operand(1))
    if inner is None or c is None or d is None or inner.operand(0).type != op.result.type:
        return None
    assert isinstance(op.result.type, TensorType)
    dtype = op.result.type.element
    if is_integer(op.result) and all(isinstance(n, int) for n in (c, d)):
        joined = c + d if op.name == "add" else c * d
        if abs(joined) >= 2 ** (dtype.bits - 1) or (joined < 0 and dtype.family == "uint"):
            return Miss("the joint constant overflows", op.operand(1))
        return b.emit(op.name, inner.operand(0), b.constant(int(joined), dtype))
    exact = dtype in _INTEGER_MANTISSA and grows_exactly(c) and grows_exactly(d) and abs(c * d) < 2.0**15
    if op.name == "mul" and exact:
        return b.emit("mul", inner.operand(0), b.constant(float(c) * float(d), dtype))
    return Miss("the joint constant would round otherwise", op.operand(1))


def grows_exactly(n: float) -> bool:
    """A power of two that is not below 1: a product with it is exact or infinite."""
    return abs(n) >= 1 and math.frexp(n)[0] in (0.5, -0.5)


@rule("neg", "bitwise_not", "logical_not", table=ARITHMETIC)
def undone_twice(op: Op, _: Rewriter) -> Outcome:
    """-(-x) -> x, not not x -> x."""
    inner = producer(op.operand(0), op.name)
    return None if inner is None else same_or_miss(op, inner.operand(0))


@rule(*_IDEMPOTENT, table=ARITHMETIC)
def done_twice(op: Op, _: Rewriter) -> Outcome:
    """relu(relu(x)) -> relu(x), and alike for abs, rounding and sign."""
    return op.operand(0) if producer(op.operand(0), op.name) is not None else None


@rule("floor", "ceil", "round", "trunc", table=ARITHMETIC)
def round_integers(op: Op, _: Rewriter) -> Outcome:
    """floor(x) -> x for integers."""
    return op.operand(0) if is_integer(op.operand(0)) else None


@rule("abs", table=ARITHMETIC)
def abs_of_neg(op: Op, b: Rewriter) -> Outcome:
    """abs(-x) -> abs(x)."""
    inner = producer(op.operand(0), "neg")
    return None if inner is None else b.like(op, [inner.operand(0)])


@rule("clamp", table=ARITHMETIC)
def clamp_nothing(op: Op, _: Rewriter) -> Outcome:
    """clamp(x) without bounds, or clamped so before -> x."""
    inner = producer(op.operand(0), "clamp")
    if not any(op.attrs.get(k) is not None for k in ("min", "max")) or (inner is not None and inner.attrs == op.attrs):
        return op.operand(0)
    return None


@rule("maximum", "minimum", "fmax", "fmin", "logical_and", "logical_or", "bitwise_and", "bitwise_or", table=ARITHMETIC)
def with_itself(op: Op, _: Rewriter) -> Outcome:
    """max(x, x) -> x, x and x -> x."""
    return same_or_miss(op, op.operand(0)) if op.operand(0) is op.operand(1) else None


@rule("logical_and", "logical_or", "logical_xor", "bitwise_and", "bitwise_or", "bitwise_xor", table=ARITHMETIC)
def known_truth(op: Op, b: Rewriter) -> Outcome:
    """x and true -> x, x and false -> false, and alike for or and xor; of bools only."""
    found = splat(op.operand(1))
    if not isinstance(found, bool) or not is_bool(op.operand(0)):
        return None
    kind = op.name.split("_")[1]
    if found == (kind == "and"):
        return same_or_miss(op, op.operand(0))
    if kind == "xor":
        return same_or_miss(op, b.emit("logical_not", op.operand(0)))
    return filled_like(op, found, b)


def is_bool(value: Value) -> bool:
    """Whether a value's elements are bools."""
    return isinstance(value.type, TensorType) and value.type.element is DType.BOOL


@rule("eq", "ne", table=ARITHMETIC)
def compare_bool(op: Op, b: Rewriter) -> Outcome:
    """x == true -> x, x == false -> not x, and alike for !=; of bools only."""
    found = splat(op.operand(1))
    if not isinstance(found, bool) or not is_bool(op.operand(0)):
        return None
    keep = found == (op.name == "eq")
    return same_or_miss(op, op.operand(0) if keep else b.emit("logical_not", op.operand(0)))


@rule("where", table=ARITHMETIC)
def where_known(op: Op, b: Rewriter) -> Outcome:
    """where(true, x, y) -> x, where(c, x, x) -> x, broadcast as needed."""
    c, x, y = op.operand(0), op.operand(1), op.operand(2)
    known = splat(c)
    if x is not y and known is None:
        return None
    chosen = x if x is y or known else y
    have, want = chosen.type, op.result.type
    if have == want:
        return chosen
    assert isinstance(have, TensorType) and isinstance(want, TensorType)
    if have.dtype != want.dtype or have.is_sharded:
        return Miss(f"the result is {want}", chosen)
    return told_by_run(op) or b.emit("expand", chosen, shape=want.dims)


@rule("where", table=ARITHMETIC)
def where_not(op: Op, b: Rewriter) -> Outcome:
    """where(not c, x, y) -> where(c, y, x)."""
    inner = producer(op.operand(0), "logical_not")
    if inner is None or not is_bool(inner.operand(0)):
        return None
    return b.like(op, [inner.operand(0), op.operand(2), op.operand(1)])


# **** casts ****


@rule("cast", table=ARITHMETIC)
def cast_to_itself(op: Op, _: Rewriter) -> Outcome:
    """A cast to the dtype that x has -> x."""
    return op.operand(0) if op.operand(0).type == op.result.type else None


@rule("cast", table=ARITHMETIC)
def cast_of_cast(op: Op, b: Rewriter) -> Outcome:
    """A cast after one that loses nothing -> one cast."""
    inner = producer(op.operand(0), "cast")
    if inner is None:
        return None
    first, middle = inner.operand(0).type, inner.result.type
    assert isinstance(first, TensorType) and isinstance(middle, TensorType)
    if isinstance(first.dtype, DType) and isinstance(middle.dtype, DType) and lossless(first.dtype, middle.dtype):
        return b.like(op, [inner.operand(0)])
    return Miss(f"the cast from {first.dtype} to {middle.dtype} may round or wrap", op.operand(0))


def lossless(a: DType, b: DType) -> bool:
    """Whether every number of dtype a is one of dtype b."""
    if a is b or a is DType.BOOL:
        return a is b or (b.bits >= 8 and b is not DType.E8M0)
    if a.is_integer and b.is_float:
        return a.bits - (a.family == "int") < _INTEGER_MANTISSA.get(b, 0)
    if a.is_integer and b.is_integer:
        return a.bits <= b.bits if a.family == b.family else a.family == "uint" and a.bits < b.bits
    return b in _WIDER_FLOAT.get(a, ())


@rule("copy", table=ARITHMETIC)
def copy_of_copy(op: Op, _: Rewriter) -> Outcome:
    """A copy of a copy that nobody else reads -> the first copy."""
    inner = producer(op.operand(0), "copy")
    return inner.result if inner is not None and only_user(inner.result) is op else None
