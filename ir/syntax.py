"""What each grammar rule becomes: plain tuples, types and dims. Bare names stay tokens until their place is known."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from lark import Token, Transformer, v_args

from .dims import Dim, DimLike, depth, floordiv, maximum, minimum, mod, sym
from .dtypes import BY_NAME, DType
from .errors import Location, TypeFault
from .graph import Ref
from .types import GRANULARITIES, DimType, OptionalType, Quantized, SequenceType, TensorType, Type, UnrankedType

MAX_CALLS = 32  # calls (//, %, min, max) inside one another in a dim
MAX_TERMS = 256  # terms of a dim
MAX_DEGREE = 32  # factors of a term
MAX_DIGITS = 150  # of an integer: far beyond any dim, far below what Python refuses to read


class Fault(Exception):
    """Something wrong at a token; ``parse`` adds the excerpt."""

    def __init__(self, token: Token, code: str, message: str) -> None:
        super().__init__(message)
        self.token = token
        self.code = code


def unquote(token: Token) -> str:
    """The text of a quoted string, or of a global's name with or without quotes."""
    text = str(token).removeprefix("@")
    if not text.startswith('"'):
        return text
    try:
        return json.loads(text)
    except ValueError:
        raise Fault(token, "MAIA0101", f"{token} has an escape that is not one of JSON's") from None


def integer(token: Token) -> int:
    """A number of a length that can be meant."""
    if len(token) > MAX_DIGITS:
        raise Fault(token, "MAIA0101", f"an integer has at most {MAX_DIGITS} digits")
    return int(token)


def dtype_of(token: Token) -> DType:
    """The dtype of this name."""
    found = BY_NAME.get(str(token))
    if found is None:
        raise Fault(token, "MAIA0101", f"{str(token)!r} is not a dtype; expected one of {', '.join(BY_NAME)}")
    return found


def as_dim(value: Any) -> Any:
    """A bare name where a dim is meant."""
    return sym(str(value)) if isinstance(value, Token) else value


def _calculate(fn: Callable[[DimLike, DimLike], DimLike], a: Any, at: Token, b: Any) -> DimLike:
    """Arithmetic on dims, kept to sizes that a reader could have meant; ``at`` is where faults are shown."""
    a, b = as_dim(a), as_dim(b)
    if _terms(a) * _terms(b) > MAX_TERMS or _degree(a) + _degree(b) > MAX_DEGREE:
        raise Fault(at, "MAIA0101", "this dim has too many terms or factors")
    try:
        made = fn(a, b)
    except ZeroDivisionError:
        raise Fault(at, "MAIA0101", "this dim is divided by 0") from None
    if depth(made) > MAX_CALLS:
        raise Fault(at, "MAIA0101", "this dim has too many divisions inside one another")
    numbers = (c for _, c in made.terms) if isinstance(made, Dim) else (made,)
    if any(abs(n) >= 10**MAX_DIGITS for n in numbers):
        raise Fault(at, "MAIA0101", f"this dim has a number of more than {MAX_DIGITS} digits")
    return made


def _product(a: DimLike, b: DimLike) -> DimLike:
    return a * b


def _terms(dim: DimLike) -> int:
    return len(dim.terms) if isinstance(dim, Dim) else 1


def _degree(dim: DimLike) -> int:
    return max(len(factors) for factors, _ in dim.terms) if isinstance(dim, Dim) else 0


def _binary(fn: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    @v_args(inline=True)
    def rule(_self: Any, a: Any, at: Token, b: Any) -> Any:
        return _calculate(fn, a, at, b)

    return rule


@lru_cache(maxsize=4096)
def _plain_type(text: str) -> TensorType | None:
    """``f32[1, 128]``; None where the name is no dtype."""
    name, _, dims = text[:-1].partition("[")
    dtype = BY_NAME.get(name)
    return None if dtype is None else TensorType(dtype, tuple(map(int, dims.split(","))) if dims else ())


_PARAMS = re.compile(r"(%[^:]+): ([^\]]+\])")  # the pieces of maia.lark's tokens, which are known to be right
_OPERANDS = re.compile(r"[^, ]+")
_ATTRS = re.compile(r"([a-z_]+) = (?:(\d+)|\[([^\]]*)\])")


def _integers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


def _part(token: Token, type: str, start: int, text: str) -> Token:
    """A part of a token of one line, ``start`` characters into it."""
    line, column, at = token.line or 1, (token.column or 1) + start, (token.start_pos or 0) + start
    return Token(type, text, at, line, column)


class Syntax(Transformer[Token, Any]):
    """One method for each rule of maia.lark, called while the text is read."""

    def start(self, kids: list[Any]) -> Any:
        name, *rest = kids
        attrs = rest.pop(0) if rest and rest[0][0] == "attrs" else ("attrs", [])
        return name, attrs[1], rest

    def mesh(self, kids: list[Any]) -> Any:
        return "mesh", kids

    def axis(self, kids: list[Any]) -> Any:
        return kids[0], None if kids[1] is None else integer(kids[1])

    def sym(self, kids: list[Any]) -> Any:
        name, low, high, step = kids
        return "sym", name, low, high, 1 if step is None else integer(step)

    def bound(self, kids: list[Any]) -> int:
        return integer(kids[0])

    def negative_bound(self, kids: list[Any]) -> int:
        return -integer(kids[1])

    def unbounded(self, _: list[Any]) -> None:
        return None

    def global_(self, kids: list[Any]) -> Any:
        kind, name, type, *attrs = kids
        return str(kind), name, type, attrs[0][1] if attrs else []

    def func(self, kids: list[Any]) -> Any:
        name, params, types, *rest = kids
        return "func", name, params or [], types, rest

    def params(self, kids: list[Any]) -> Any:
        return kids

    def param(self, kids: list[Any]) -> Any:
        return tuple(kids)

    @v_args(inline=True)
    def plain_params(self, token: Token) -> Any:
        return [
            (_part(token, "VALUE", m.start(1), m[1]), self.plain_type(_part(token, "PLAIN", m.start(2), m[2])))
            for m in _PARAMS.finditer(token)
        ]

    def stage(self, kids: list[Any]) -> Any:
        return "stage", (str(kids[0]), integer(kids[1]))

    def op(self, kids: list[Any]) -> Any:
        results, name, operands, *rest = kids
        return "op", results or [], name, operands or [], [r for r in rest if r is not None]

    def results(self, kids: list[Any]) -> Any:
        return kids

    operands = results

    @v_args(inline=True)
    def plain_operands(self, token: Token) -> Any:
        kinds = {"%": "VALUE", "@": "SYMBOL"}
        return [_part(token, kinds[m[0][0]], m.start(), m[0]) for m in _OPERANDS.finditer(token)]

    @v_args(inline=True)
    def value(self, token: Token) -> Token:
        return token

    symbol = value

    def absent(self, _: list[Any]) -> None:
        return None

    def region(self, kids: list[Any]) -> Any:
        return "region", kids[0] or [], kids[1:]

    def loc(self, kids: list[Any]) -> Any:
        name = unquote(kids[0])
        return "loc", Location(name, unquote(kids[1]), integer(kids[2])) if len(kids) > 1 else Location(name)

    @v_args(inline=True)
    def plain_loc(self, token: Token) -> Any:
        _, name, _, file, line = str(token).split('"')
        return "loc", Location(name, file, int(line[1:]))

    def types(self, kids: list[Any]) -> Any:
        return "types", kids

    def type_list(self, kids: list[Any]) -> Any:
        return "types", [k for k in kids if k is not None]

    @v_args(inline=True)
    def plain_type(self, token: Token) -> Any:
        found = _plain_type(str(token))
        if found is None:
            dtype_of(Token("NAME", str(token).partition("[")[0], token.start_pos, token.line, token.column))
        return found

    def tensor_type(self, kids: list[Any]) -> Type:
        dtype, *dims, owed = kids
        dims = [d for d in dims if d is not None]
        split = tuple(axes for _, axes in dims)
        return TensorType(dtype, tuple(d for d, _ in dims), split, owed or ())

    def unranked_type(self, kids: list[Any]) -> Type:
        return UnrankedType(kids[0])

    def seq_type(self, kids: list[Any]) -> Type:
        return SequenceType(kids[0])

    def opt_type(self, kids: list[Any]) -> Type:
        return OptionalType(kids[0])

    def dim_type(self, kids: list[Any]) -> Type:
        return DimType(as_dim(kids[0]))

    def dtype(self, kids: list[Any]) -> DType | Quantized:
        name, *args = (k for k in kids if k is not None)
        assert isinstance(name, Token)
        if not args:
            return dtype_of(name)
        if str(name) not in GRANULARITIES:
            raise Fault(name, "MAIA0101", f"{name} is no granularity; expected one of {', '.join(GRANULARITIES)}")
        storage, *rest = args
        at = tuple(integer(a) for a in rest if a.type == "INT")
        scales = [dtype_of(a) for a in rest if a.type == "NAME" and a != "asym"]
        if len(scales) > 1 or rest.count("asym") > 1:
            raise Fault(name, "MAIA0101", f"{name}<> names its scales' dtype twice")
        scale = scales[0] if scales else DType.E8M0 if str(name) == "mx" else DType.F32
        try:
            return Quantized(dtype_of(storage), str(name), at, scale, "asym" in rest)
        except TypeFault as fault:
            raise Fault(name, "MAIA0101", str(fault)) from None

    def dim(self, kids: list[Any]) -> Any:
        return as_dim(kids[0]), kids[1] or ()

    def owed(self, kids: list[Any]) -> Any:
        return kids[1]

    def axes(self, kids: list[Any]) -> Any:
        return tuple(map(str, kids))

    add = _binary(operator.add)
    sub = _binary(operator.sub)
    mul = _binary(operator.mul)
    floordiv = _binary(floordiv)
    mod = _binary(mod)

    def integer(self, kids: list[Any]) -> int:
        return integer(kids[0])

    def neg(self, kids: list[Any]) -> Any:
        at, value = kids
        if isinstance(value, Token) and value in ("inf", "nan"):
            return -float(value)
        return _calculate(_product, -1, at, value)

    def name(self, kids: list[Any]) -> Token:
        return kids[0]

    def minmax(self, kids: list[Any]) -> Any:
        fn, a, b = kids
        assert isinstance(fn, Token)
        if str(fn) not in ("min", "max"):
            raise Fault(fn, "MAIA0101", f"{fn} is not a function of dims; expected min or max")
        return _calculate(minimum if fn == "min" else maximum, a, fn, b)

    def attrs(self, kids: list[Any]) -> Any:
        return "attrs", [k for k in kids if k is not None]

    @v_args(inline=True)
    def plain_attrs(self, token: Token) -> Any:
        return "attrs", [(k, int(number) if number else _integers(some)) for k, number, some in _ATTRS.findall(token)]

    def attr(self, kids: list[Any]) -> Any:
        return tuple(kids)

    def expression(self, kids: list[Any]) -> Any:
        return kids[0]

    def float(self, kids: list[Any]) -> Any:
        return float(kids[0])

    def negative_float(self, kids: list[Any]) -> Any:
        return -float(kids[1])

    def string(self, kids: list[Any]) -> str:
        return unquote(kids[0])

    def ref(self, kids: list[Any]) -> Ref:
        return Ref(unquote(kids[0]))

    def list(self, kids: list[Any]) -> Any:
        return tuple(k for k in kids if k is not None)

    @v_args(inline=True)
    def plain_list(self, token: Token) -> Any:
        return _integers(token[1:-1])
