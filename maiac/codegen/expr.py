"""What each elementwise operation is in C++: one table, from operation names to expressions over vectors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from maiac.ir.dtypes import DType
from maiac.ir.ops.values import to_torch
from maiac.ir.promotion import promote
from maiac.ir.types import Quantized, TensorType, Type


class Unsupported(Exception):
    """A step has no native form; the message says what about it."""


# How elements lie in memory, and in which type arithmetic on them happens (bf16 and f16 compute in f32).
C_TYPE: dict[DType, str] = {
    DType.F32: "float",
    DType.F64: "double",
    DType.BF16: "bf16",
    DType.F16: "f16",
    DType.I64: "int64_t",
    DType.I32: "int32_t",
    DType.I16: "int16_t",
    DType.I8: "int8_t",
    DType.U8: "uint8_t",
    DType.U16: "uint16_t",
    DType.U32: "uint32_t",
    DType.BOOL: "bool",
}
_COMPUTE: dict[DType, DType] = {DType.BF16: DType.F32, DType.F16: DType.F32}
# fmt: off
_HEAVY = frozenset((
    "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sin", "cos", "tan", "asin", "acos", "atan",
    "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "erf", "erfc", "sigmoid", "silu", "mish", "gelu", "elu",
    "softplus", "log_sigmoid", "pow", "div", "fmod", "remainder", "atan2", "floor_div", "trunc_div", "sqrt",
    "rsqrt",
))
# fmt: on


def compute(dtype: DType) -> DType:
    """The dtype that arithmetic on elements of this dtype happens in."""
    return _COMPUTE.get(dtype, dtype)


def plain(type: Type | None) -> TensorType:
    """A tensor type of elements that native code knows; Unsupported otherwise."""
    if not isinstance(type, TensorType) or isinstance(type.dtype, Quantized) or type.dtype not in C_TYPE:
        raise Unsupported(f"values of {type}")
    if any(d == 0 for d in type.dims):
        raise Unsupported("empty tensors")
    return type


@dataclass(frozen=True)
class Term:
    """An expression, the dtype that it computes in, and its value where that is one constant."""

    text: str
    dtype: DType
    value: bool | int | float | None = None


def literal(value: bool | int | float, dtype: DType) -> Term:
    """A number in every lane, rounded to the dtype."""
    if compute(dtype) is not dtype:
        value = torch.tensor(value, dtype=to_torch(dtype)).item()
    dtype = compute(dtype)
    if dtype is DType.BOOL:
        return Term(f"splat<int32_t>({-1 if value else 0})", dtype, value)
    c = C_TYPE[dtype]
    return Term(f"splat<{c}>({number(value, dtype)})", dtype, value)


def number(value: bool | int | float, dtype: DType) -> str:
    """A C++ literal."""
    if not dtype.is_float:
        n = int(value)
        return "INT64_MIN" if n == -(2**63) else f"{n}ll" if abs(n) >= 2**31 else str(n)
    c = C_TYPE[dtype]
    if math.isnan(value):
        return f"std::numeric_limits<{c}>::quiet_NaN()"
    if math.isinf(value):
        return f"{'-' if value < 0 else ''}std::numeric_limits<{c}>::infinity()"
    if c == "float" and abs(value) > 3.4028235e38:  # rounds to infinity, as torch's conversion of the scalar does
        return f"{'-' if value < 0 else ''}std::numeric_limits<float>::infinity()"
    return f"{float(value)!r}{'f' if c == 'float' else ''}"


def convert(term: Term, to: DType) -> Term:
    """The elements in another dtype's arithmetic: to integers towards zero, to bool where not 0."""
    to = compute(to)
    if term.dtype is to:
        return term
    if to is DType.BOOL:
        return Term(f"to_mask({term.text})", to)
    if term.dtype is DType.BOOL:
        return Term(f"from_mask<{C_TYPE[to]}>({term.text})", to)
    return Term(f"convert<{C_TYPE[to]}>({term.text})", to)


Rule = Callable[[Sequence[str], Mapping[str, Any], DType], str]  # (operands, attributes, dtype) -> expression

_COMPARE = frozenset(["eq", "ne", "lt", "le", "gt", "ge"])
_LOGIC = {"logical_and": "&", "logical_or": "|", "logical_xor": "^"}


def _call(name: str) -> Rule:
    return lambda x, a, d: f"{name}({', '.join(x)})"


def _infix(op: str) -> Rule:
    return lambda x, a, d: f"({x[0]} {op} {x[1]})"


# Operations that are functions of the kernel library by the same name.
# fmt: off
_NAMED = (
    "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "rsqrt", "sin", "cos", "tan", "asin",
    "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "erf", "erfc", "floor", "ceil", "round",
    "trunc", "sigmoid", "silu", "pow", "fmod", "remainder", "atan2", "copysign", "abs", "sign", "maximum",
    "minimum", "fmax", "fmin",
)
# fmt: on
# Operations whose operands are converted to the result's dtype: of a float result, an integer one, either.
_FUNCTIONS: dict[str, Rule] = {name: _call(name) for name in _NAMED}
_FLOAT: dict[str, Rule] = {
    **_FUNCTIONS,
    "div": _infix("/"),
    "reciprocal": lambda x, a, d: f"({_one(d)} / {x[0]})",
    "relu": lambda x, a, d: f"maximum({x[0]}, {_n(0, d)})",
    "leaky_relu": lambda x, a, d: f"({x[0]} > 0 ? {x[0]} : {x[0]} * {_n(a['slope'], d)})",
    "elu": lambda x, a, d: f"({x[0]} > 0 ? {x[0]} : {_n(a['alpha'], d)} * expm1({x[0]}))",
    "hardsigmoid": lambda x, a, d: f"(minimum(maximum({x[0]} + {_n(3, d)}, {_n(0, d)}), {_n(6, d)}) / {_n(6, d)})",
    "hardswish": lambda x, a, d: (
        f"({x[0]} * minimum(maximum({x[0]} + {_n(3, d)}, {_n(0, d)}), {_n(6, d)}) / {_n(6, d)})"
    ),
    "softsign": lambda x, a, d: f"({x[0]} / ({_one(d)} + abs({x[0]})))",
    "softplus": lambda x, a, d: (
        f"({x[0]} * {_n(a['beta'], d)} > {_n(a['threshold'], d)} ? {x[0]}"
        f" : log1p(exp({x[0]} * {_n(a['beta'], d)})) / {_n(a['beta'], d)})"
    ),
    "log_sigmoid": lambda x, a, d: f"(minimum({x[0]}, {_n(0, d)}) - log1p(exp(-abs({x[0]}))))",
    "mish": lambda x, a, d: f"({x[0]} * tanh({x[0]} > {_n(20, d)} ? {x[0]} : log1p(exp({x[0]}))))",
    "gelu": lambda x, a, d: _gelu(x[0], a["approximate"], d),
    "clamp": lambda x, a, d: _clamp(x[0], a, d, "maximum", "minimum"),
    "floor_div": _call("floor_div"),
    "trunc_div": lambda x, a, d: f"trunc({x[0]} / {x[1]})",
}
_ANY: dict[str, Rule] = {
    "neg": lambda x, a, d: f"(-{x[0]})",
    "square": lambda x, a, d: f"({x[0]} * {x[0]})",
    "add": _infix("+"),
    "sub": _infix("-"),
    "mul": _infix("*"),
}
_INT: dict[str, Rule] = {
    "abs": _call("int_abs"),
    "maximum": _call("int_max"),
    "minimum": _call("int_min"),
    "fmax": _call("int_max"),
    "fmin": _call("int_min"),
    "relu": lambda x, a, d: f"int_max({x[0]}, {_n(0, d)})",
    "floor": lambda x, a, d: x[0],
    "ceil": lambda x, a, d: x[0],
    "round": lambda x, a, d: x[0],
    "trunc": lambda x, a, d: x[0],
    "floor_div": _call("int_floor_div"),
    "trunc_div": _call("int_trunc_div"),
    "remainder": _call("int_remainder"),
    "fmod": _call("int_fmod"),
    "bitwise_and": _infix("&"),
    "bitwise_or": _infix("|"),
    "bitwise_xor": _infix("^"),
    "bitwise_not": lambda x, a, d: f"(~{x[0]})",
    "clamp": lambda x, a, d: _clamp(x[0], a, d, "int_max", "int_min"),
}
_QUOTIENTS = frozenset(["floor_div", "trunc_div", "remainder", "fmod"])
_MASKS: dict[str, Rule] = {
    "bitwise_and": _infix("&"),
    "bitwise_or": _infix("|"),
    "bitwise_xor": _infix("^"),
    "bitwise_not": lambda x, a, d: f"(~{x[0]})",
    "add": _infix("|"),
    "mul": _infix("&"),
    "maximum": _infix("|"),
    "minimum": _infix("&"),
}


def _n(value: float, dtype: DType) -> str:
    return literal(value, dtype).text


def _one(dtype: DType) -> str:
    return _n(1, dtype)


def _gelu(x: str, approximate: str, d: DType) -> str:
    half = f"({_n(0.5, d)} * {x})"
    if approximate == "tanh":
        inner = f"{_n(math.sqrt(2 / math.pi), d)} * ({x} + {_n(0.044715, d)} * {x} * {x} * {x})"
        return f"({half} * ({_one(d)} + tanh({inner})))"
    return f"({half} * ({_one(d)} + erf({x} * {_n(math.sqrt(0.5), d)})))"


def _clamp(x: str, a: Mapping[str, Any], d: DType, larger: str, smaller: str) -> str:
    if a.get("min") is not None:
        x = f"{larger}({x}, {_n(a['min'], d)})"
    return x if a.get("max") is None else f"{smaller}({x}, {_n(a['max'], d)})"


def cost_class(name: str) -> int:
    """Roughly how many cycles one vector takes."""
    return 12 if name in _HEAVY else 1


def is_elementwise(name: str) -> bool:
    """Whether the table knows an operation of this name."""
    return (
        name in _FLOAT
        or name in _ANY
        or name in _INT
        or name in _COMPARE
        or name in _LOGIC
        or name in ("where", "cast", "copy", "logical_not", "is_nan", "is_inf")
    )


def expression(
    name: str, operands: Sequence[Term], types: Sequence[TensorType], result: TensorType, attrs: Mapping[str, Any]
) -> Term:
    """One operation on vectors; ``types`` are the operands' in the IR. Unsupported where the table has no form."""
    to = compute(plain(result).element)
    if name in _COMPARE:
        common = promote(types)
        if common is DType.BOOL:
            if name not in ("eq", "ne"):
                raise Unsupported(f"{name} of bools")
            x, y = (t.text for t in operands)
            return Term(f"({x} ^ {y})" if name == "ne" else f"(~({x} ^ {y}))", DType.BOOL)
        x, y = (convert(t, common).text for t in operands)
        return Term(f"{name}({x}, {y})", DType.BOOL)
    if name in _LOGIC:
        x, y = (convert(t, DType.BOOL).text for t in operands)
        return Term(f"({x} {_LOGIC[name]} {y})", DType.BOOL)
    if name == "logical_not":
        return Term(f"(~{convert(operands[0], DType.BOOL).text})", DType.BOOL)
    if name in ("is_nan", "is_inf"):
        x = operands[0]
        if not x.dtype.is_float:
            return literal(False, DType.BOOL)
        test = f"ne({x.text}, {x.text})" if name == "is_nan" else f"eq(abs({x.text}), {_n(math.inf, x.dtype)})"
        return Term(test, DType.BOOL)
    if name in ("cast", "copy"):
        x = convert(operands[0], to)
        lower = plain(result).element in (DType.BF16, DType.F16) and plain(types[0]).element is not result.dtype
        return Term(f"round_to<{C_TYPE[plain(result).element]}>({x.text})", to) if lower else x
    if name == "where":
        c, x, y = convert(operands[0], DType.BOOL), convert(operands[1], to), convert(operands[2], to)
        return Term(f"{'select_mask' if to is DType.BOOL else 'select'}({c.text}, {x.text}, {y.text})", to)
    table = _MASKS if to is DType.BOOL else _FLOAT if to.is_float else _INT
    rule = table.get(name) or (None if to is DType.BOOL else _ANY.get(name))
    if rule is None:
        raise Unsupported(f"{name} of {to}")
    if table is _INT and name in _QUOTIENTS and not operands[1].value:
        raise Unsupported(f"{name} of {to} by what may be 0, which is an error")
    return Term(rule([convert(t, to).text for t in operands], attrs, to), to)
