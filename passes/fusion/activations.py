"""Activations written out of primitives become the op that they are."""

from __future__ import annotations

import math

from maiac.ir import Op, Value

from ..pattern import both_orders, producer, splat
from ..rewrite import Miss, Outcome, Rewriter, Rule, rule
from ..rules.shape import tensor_of

ACTIVATIONS: list[Rule] = []


def _near(a: float, b: float, like: Value) -> bool:
    """Whether a factor is meant to be ``b``: written with five digits, or in the half precision of ``like``."""
    return abs(a - b) <= abs(b) * (2e-3 if tensor_of(like).element.bits <= 16 else 3e-5)


def _number(value: Value) -> float | None:
    found = splat(value)
    return None if found is None else float(found)


def _scaled(value: Value) -> tuple[Value, float]:
    """x and c of x * c or x / c, for a number c."""
    op = producer(value, "mul", "div")
    if op is None:
        return value, 1.0
    for x, c in both_orders(op):
        number = _number(c)
        if number:
            return x, number if op.name == "mul" else 1 / number
    return value, 1.0


def _factors(value: Value) -> tuple[float, list[Value]]:
    """A product as a number and at most two other factors."""
    scale, queue, found = 1.0, [value], list[Value]()
    while queue:
        top = queue.pop(0)
        op = producer(top, "mul", "div")
        right, left = (None, None) if op is None else (_number(op.operand(1)), _number(op.operand(0)))
        if op is not None and right:
            scale *= right if op.name == "mul" else 1 / right
            queue.insert(0, op.operand(0))
        elif op is not None and left and op.name == "mul":
            scale *= left
            queue.insert(0, op.operand(1))
        elif op is not None and op.name == "mul" and not found and not queue:
            queue += [op.operand(0), op.operand(1)]
        else:
            found.append(top)
    return scale, found


def _plus(value: Value, number: float) -> Value | None:
    """x of x + number."""
    op = producer(value, "add")
    if op is None:
        return None
    return next((x for x, c in both_orders(op) if _number(c) == number), None)


# **** gelu ****


def _gate(value: Value) -> tuple[str, Value] | None:
    """x of 1 + erf(x / sqrt 2), or of 1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))."""
    inner = _plus(value, 1)
    op = None if inner is None else producer(inner, "erf", "tanh")
    if op is None:
        return None
    scale, factors = _factors(op.operand(0))
    if op.name == "erf":
        return ("none", factors[0]) if len(factors) == 1 and _near(scale, math.sqrt(0.5), value) else None
    if not _near(scale, math.sqrt(2 / math.pi), value):
        return None
    source = _with_cube(factors[0]) if len(factors) == 1 else _times_square(*factors)
    return None if source is None else ("tanh", source)


def _times_square(x: Value, y: Value) -> Value | None:
    """x of x * (1 + 0.044715 x^2), in either order."""
    for source, more in ((x, y), (y, x)):
        square = _plus(more, 1)
        scale, factors = (0.0, list[Value]()) if square is None else _factors(square)
        if not _near(scale, 0.044715, x):
            continue
        if factors == [source, source] or (len(factors) == 1 and _power(factors[0], 2) is source):
            return source
    return None


def _with_cube(value: Value) -> Value | None:
    """x of x + 0.044715 x^3."""
    op = producer(value, "add")
    if op is None:
        return None
    for x, y in both_orders(op):
        cube, scale = _scaled(y)
        if _near(scale, 0.044715, x) and _power(cube, 3) is x:
            return x
    return None


def _power(value: Value, n: int) -> Value | None:
    op = producer(value, "pow", "mul", "square")
    if op is None:
        return None
    if op.name == "square":
        return op.operand(0) if n == 2 else None
    if op.name == "pow":
        return op.operand(0) if splat(op.operand(1)) == n else None
    if n == 2:
        return op.operand(0) if op.operand(0) is op.operand(1) else None
    return next((x for x, y in both_orders(op) if _power(y, 2) is x), None)


@rule("mul", "div", table=ACTIVATIONS)
def gelu_of_parts(op: Op, b: Rewriter) -> Outcome:
    """0.5 * x * (1 + erf(x / sqrt 2)), or with tanh -> gelu x."""
    scale, factors = _factors(op.result)
    if len(factors) != 2 or scale != 0.5:
        return None
    for x, y in (factors, factors[::-1]):
        gate = _gate(y)
        if gate is None:
            continue
        if gate[1] is not x or x.type != op.result.type:
            return Miss("the gate is of another value", gate[1])
        return b.emit("gelu", x, approximate=gate[0])
    return None


# **** sigmoids ****


@rule("mul", table=ACTIVATIONS)
def silu_of_parts(op: Op, b: Rewriter) -> Outcome:
    """x * sigmoid(x) -> silu x."""
    for x, y in both_orders(op):
        gate = producer(y, "sigmoid")
        if gate is None:
            continue
        if gate.operand(0) is x and x.type == op.result.type:
            return b.emit("silu", x)
        scaled, by = _scaled(gate.operand(0))
        if scaled is x and by != 1:
            return Miss(f"the sigmoid is of {by:.6g} x, for which there is no op", y)
    return None


@rule("div", table=ACTIVATIONS)
def silu_of_quotient(op: Op, b: Rewriter) -> Outcome:
    """x / (1 + exp(-x)) -> silu x, and 1 / (1 + exp(-x)) -> sigmoid x."""
    inner = _plus(op.operand(1), 1)
    grown = None if inner is None else producer(inner, "exp")
    negated = None if grown is None else producer(grown.operand(0), "neg")
    if negated is None:
        return None
    x = negated.operand(0)
    if x.type != op.result.type:
        return None
    if op.operand(0) is x:
        return b.emit("silu", x)
    return b.emit("sigmoid", x) if _number(op.operand(0)) == 1 else None


# **** hard ones ****


def _clamped(value: Value, low: float, high: float) -> Value | None:
    """x of min(max(x, low), high)."""
    op = producer(value, "clamp", "minimum", "maximum")
    if op is None:
        return None
    if op.name == "clamp":
        inner = producer(op.operand(0), "relu")
        if op.attrs.get("max") == high and op.attrs.get("min") is None and inner is not None and low == 0:
            return inner.operand(0)
        return op.operand(0) if (op.attrs.get("min"), op.attrs.get("max")) == (low, high) else None
    for x, c in both_orders(op):
        if _number(c) != (high if op.name == "minimum" else low):
            continue
        rest = producer(x, "maximum" if op.name == "minimum" else "minimum")
        other = low if op.name == "minimum" else high
        found = None if rest is None else next((y for y, d in both_orders(rest) if _number(d) == other), None)
        if found is not None:
            return found
    return None


def _over_six(value: Value) -> Value | None:
    """x of clamp(x + 3, 0, 6) / 6."""
    bounded, scale = _scaled(value)
    shifted = _clamped(bounded, 0, 6) if _near(scale, 1 / 6, value) else None
    return None if shifted is None else _plus(shifted, 3)


@rule("mul", "div", table=ACTIVATIONS)
def hard_activation_of_parts(op: Op, b: Rewriter) -> Outcome:
    """x * clamp(x + 3, 0, 6) / 6 -> hardswish x, and clamp(x + 3, 0, 6) / 6 -> hardsigmoid x."""
    x = _over_six(op.result)
    if x is not None:
        return b.emit("hardsigmoid", x) if x.type == op.result.type else None
    if op.name == "mul":
        for x, y in both_orders(op):
            gate = producer(y, "hardsigmoid")
            source = _over_six(y) if gate is None else gate.operand(0)
            if source is x and x.type == op.result.type:
                return b.emit("hardswish", x)
    scale, factors = _factors(op.result)
    if len(factors) != 2 or not _near(scale, 1 / 6, op.result):
        return None
    for x, y in (factors, factors[::-1]):
        shifted = _clamped(y, 0, 6)
        if shifted is not None and _plus(shifted, 3) is x and x.type == op.result.type:
            return b.emit("hardswish", x)
    return None


# **** softplus and mish ****


@rule("log", "log1p", table=ACTIVATIONS)
def softplus_of_parts(op: Op, b: Rewriter) -> Outcome:
    """log(1 + exp(x)) -> softplus x, which does not overflow."""
    inner = op.operand(0) if op.name == "log1p" else _plus(op.operand(0), 1)
    grown = None if inner is None else producer(inner, "exp")
    x = None if grown is None else grown.operand(0)
    return None if x is None or x.type != op.result.type else b.emit("softplus", x)


@rule("mul", table=ACTIVATIONS)
def mish_of_parts(op: Op, b: Rewriter) -> Outcome:
    """x * tanh(softplus(x)) -> mish x."""
    for x, y in both_orders(op):
        gate = producer(y, "tanh")
        plus = None if gate is None else producer(gate.operand(0), "softplus")
        if plus is None:
            continue
        if plus.attrs.get("beta", 1.0) != 1 or plus.operand(0) is not x or x.type != op.result.type:
            return Miss("the softplus is of another value, or scaled", y)
        return b.emit("mish", x)
    return None
