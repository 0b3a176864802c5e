"""Matching: constants, chains of operands, and commutative operands in either order."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TypeAlias

from maiac.ir import Op, Result, TensorType, Value

Number: TypeAlias = bool | int | float

# Swapping the operands of these changes no bit of the result (maximum and minimum may tell -0.0 from 0.0).
COMMUTATIVE = frozenset(
    ["add", "mul", "eq", "ne", "logical_and", "logical_or", "logical_xor", "bitwise_and", "bitwise_or", "bitwise_xor"]
)
_PASS_ON = frozenset({"reshape", "expand", "transpose", "copy"})  # every element of the result is one of the operand's


def producer(value: Value | None, *names: str) -> Op | None:
    """The op that makes a value, if it is one of these."""
    if isinstance(value, Result) and value.op.name in names:
        return value.op
    return None


def chain(value: Value | None, *names: str) -> list[Op] | None:
    """The ops that make a value, each through its first operand: ``chain(x, "mul", "rsqrt")``; None where not so."""
    found: list[Op] = []
    for name in names:
        op = producer(value, name)
        if op is None:
            return None
        found.append(op)
        value = op.operands[0] if op.operands else None
    return found


def both_orders(op: Op) -> Iterator[tuple[Value, Value]]:
    """The operands of a binary op, and swapped where it is commutative."""
    x, y = op.operand(0), op.operand(1)
    yield x, y
    if op.name in COMMUTATIVE and x is not y:
        yield y, x


def with_operand(op: Op, test: Callable[[Value], bool]) -> Value | None:
    """The operand of a binary op that stands beside one that passes a test (on the right, or either if commutative)."""
    return next((x for x, y in both_orders(op) if test(y)), None)


def only_user(value: Value) -> Op | None:
    """The op that alone uses a value."""
    return next(iter(value.uses)) if len(value.uses) == 1 else None


def is_constant(value: Value | None) -> bool:
    """Whether a value is written in the text."""
    return producer(value, "constant", "full", "dim_tensor", "iota") is not None


def splat(value: Value | None) -> Number | None:
    """The number that fills a constant tensor, looked at through ops that only move elements."""
    while isinstance(value, Result) and value.op.name in _PASS_ON:
        value = value.op.operand(0)
    op = producer(value, "constant", "full")
    if op is None:
        return None
    number = op.attrs["value"]
    if isinstance(number, tuple):
        number = number[0] if number and all(same_number(number[0], n) for n in number) else None
    return number if isinstance(number, (bool, int, float)) else None


def same_number(a: object, b: object) -> bool:
    """Equal as elements of a tensor: NaN equals itself, -0.0 is not 0.0."""
    if isinstance(a, float) and isinstance(b, float):
        return (a == b and math.copysign(1, a) == math.copysign(1, b)) or (a != a and b != b)
    return type(a) is type(b) and a == b


def is_splat(number: Number) -> Callable[[Value], bool]:
    """A test for constants filled with a number, whatever their dtype; 0 is not -0.0."""

    def test(value: Value) -> bool:
        found = splat(value)
        return found is not None and found == number and math.copysign(1, found) == math.copysign(1, number)

    return test


def integers(value: Value | None) -> tuple[int, ...] | None:
    """The elements of an integer constant in row-major order, where they are written in the text."""
    op = producer(value, "constant")
    if op is None or not isinstance(op.result.type, TensorType) or not op.result.type.element.is_integer:
        return None
    found = op.attrs["value"]
    if not isinstance(found, tuple):
        count = op.result.type.elements()
        found = (found,) * count if isinstance(count, int) else ()
    return tuple(int(n) for n in found if isinstance(n, (int, float)))
