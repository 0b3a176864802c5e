"""The parser: Maia text to a module. One lark grammar, then names are resolved in order."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from lark import Lark, Token, Transformer, UnexpectedInput, v_args
from lark.exceptions import UnexpectedCharacters, UnexpectedToken, VisitError

from .dims import Symbol, floordiv, maximum, minimum, mod, sym
from .dtypes import BY_NAME, DType
from .errors import Location, MaiaError
from .graph import Attr, Block, Function, Module, Op, Ref, Value
from .printer import KEYWORDS
from .types import GRANULARITIES, DimType, OptionalType, Quantized, SequenceType, TensorType, Type

__all__ = ["parse", "parse_type"]


class Fault(Exception):
    """Something wrong at a token; ``parse`` adds the excerpt."""

    def __init__(self, token: Token, code: str, message: str) -> None:
        super().__init__(message)
        self.token = token
        self.code = code


def parse(text: str, *, file: str = "<text>") -> Module:
    """Read a module. MaiaError MAIA0101 to MAIA0104 with line, column and a caret where the text is wrong."""
    return _run(text, file, "start", lambda tree: ModuleMaker().module(*tree))


def parse_type(text: str) -> Type:
    """Read a type: ``bf16[T, 4096/tp]``."""
    return _run(text, "<type>", "type", lambda tree: tree)


def _run(text: str, file: str, start: str, finish: Callable[[Any], Any]) -> Any:
    try:
        return finish(_grammar().parse(text, start=start))
    except UnexpectedInput as e:
        raise _syntax_error(text, file, e) from None
    except VisitError as e:
        if isinstance(e.orig_exc, Fault):
            raise _located(text, file, e.orig_exc) from None
        raise e.orig_exc from None
    except Fault as e:
        raise _located(text, file, e) from None


@lru_cache(maxsize=1)
def _grammar() -> Lark:
    grammar = Path(__file__).with_name("maia.lark").read_text(encoding="utf-8")
    return Lark(grammar, parser="lalr", lexer="contextual", transformer=_Tree(), start=["start", "type"])


def _excerpt(text: str, line: int, column: int) -> str:
    lines = text.splitlines() or [""]
    line = min(max(line, 1), len(lines))
    return f"{line:>5} {lines[line - 1]}\n{'':>5} {' ' * (column - 1)}^"


def _located(text: str, file: str, fault: Fault) -> MaiaError:
    line, column = fault.token.line or 1, fault.token.column or 1
    where = f"{file}:{line}:{column}"
    return MaiaError(fault.code, f"{where}: {fault}", excerpt=_excerpt(text, line, column))


def _syntax_error(text: str, file: str, e: UnexpectedInput) -> MaiaError:
    line, column = int(e.line), int(e.column)
    if line < 1:  # end of input
        line = len(text.splitlines()) or 1
        column = len((text.splitlines() or [""])[-1]) + 1
    if isinstance(e, UnexpectedToken):
        found = "the end of the text" if e.token.type == "$END" else repr(str(e.token))
        wanted = sorted(_show_terminal(t) for t in e.accepts or e.expected)
    else:
        assert isinstance(e, UnexpectedCharacters)
        found, wanted = repr(e.char), sorted(_show_terminal(t) for t in e.allowed or ())
    message = f"{file}:{line}:{column}: unexpected {found}"
    hint = f"expected one of: {', '.join(wanted)}" if wanted else ""
    return MaiaError("MAIA0101", message, excerpt=_excerpt(text, line, column), hint=hint)


def _show_terminal(name: str) -> str:
    names = {"VALUE": "%value", "SYMBOL": "@name", "NAME": "a name", "INT": "an integer", "STRING": "a string"}
    if name in names:
        return names[name]
    for terminal in _grammar().terminals:
        if terminal.name == name and terminal.pattern.type == "str":
            return repr(terminal.pattern.value)
    return name.lower()


def _global_name(token: Token) -> str:
    return json.loads(token[1:]) if token[1] == '"' else str(token[1:])


def _as_dim(value: Any) -> Any:
    return sym(str(value)) if isinstance(value, Token) else value


def _binary(fn: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    @v_args(inline=True)
    def rule(_self: Any, a: Any, b: Any) -> Any:
        return fn(_as_dim(a), _as_dim(b))

    return rule


class _Tree(Transformer[Token, Any]):
    """Turns syntax into plain tuples and types while it is read; bare names stay tokens until their place is known."""

    def start(self, kids: list[Any]) -> Any:
        name, *rest = kids
        attrs = rest.pop(0) if rest and rest[0][0] == "attrs" else ("attrs", [])
        return name, attrs[1], rest

    def mesh(self, kids: list[Any]) -> Any:
        return "mesh", kids

    def axis(self, kids: list[Any]) -> Any:
        return kids[0], None if kids[1] is None else int(kids[1])

    def sym(self, kids: list[Any]) -> Any:
        name, low, high, step = kids
        return "sym", name, low, high, 1 if step is None else int(step)

    def low(self, kids: list[Any]) -> int:
        return int(kids[0])

    def negative_low(self, kids: list[Any]) -> int:
        return -int(kids[0])

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

    def stage(self, kids: list[Any]) -> Any:
        return "stage", (str(kids[0]), int(kids[1]))

    def op(self, kids: list[Any]) -> Any:
        results, name, operands, *rest = kids
        return "op", results or [], name, operands or [], [r for r in rest if r is not None]

    def results(self, kids: list[Any]) -> Any:
        return kids

    operands = results

    @v_args(inline=True)
    def value(self, token: Token) -> Token:
        return token

    symbol = value

    def absent(self, _: list[Any]) -> None:
        return None

    def region(self, kids: list[Any]) -> Any:
        return "region", kids[0] or [], kids[1:]

    def loc(self, kids: list[Any]) -> Any:
        name = json.loads(kids[0])
        return "loc", Location(name, json.loads(kids[1]), int(kids[2])) if len(kids) > 1 else Location(name)

    def types(self, kids: list[Any]) -> Any:
        return "types", kids

    def type_list(self, kids: list[Any]) -> Any:
        return "types", [k for k in kids if k is not None]

    def tensor_type(self, kids: list[Any]) -> Type:
        dtype, *dims, owed = kids
        dims = [d for d in dims if d is not None]
        split = tuple(axes for _, axes in dims)
        return TensorType(dtype, tuple(d for d, _ in dims), split, owed or ())

    def seq_type(self, kids: list[Any]) -> Type:
        return SequenceType(kids[0])

    def opt_type(self, kids: list[Any]) -> Type:
        return OptionalType(kids[0])

    def dim_type(self, kids: list[Any]) -> Type:
        return DimType(_as_dim(kids[0]))

    def dtype(self, kids: list[Any]) -> DType | Quantized:
        name, *args = [k for k in kids if k is not None]
        if not args:
            return _dtype(name)
        if name not in GRANULARITIES:
            raise Fault(name, "MAIA0101", f"{name} is no granularity; expected one of {', '.join(GRANULARITIES)}")
        storage, *rest = args
        at = tuple(int(a) for a in rest if a.type == "INT")
        if len(at) != GRANULARITIES[str(name)]:
            raise Fault(name, "MAIA0101", f"{name}<> takes {GRANULARITIES[str(name)]} integers, but has {len(at)}")
        names = [a for a in rest if a.type == "NAME"]
        scale = DType.E8M0 if name == "mx" else DType.F32
        for n in names:
            scale = scale if n == "asym" else _dtype(n)
        return Quantized(_dtype(storage), str(name), at, scale, "asym" in names)

    def dim(self, kids: list[Any]) -> Any:
        return _as_dim(kids[0]), kids[1] or ()

    def owed(self, kids: list[Any]) -> Any:
        return kids[0]

    def axes(self, kids: list[Any]) -> Any:
        return tuple(map(str, kids))

    add = _binary(lambda a, b: a + b)
    sub = _binary(lambda a, b: a - b)
    mul = _binary(lambda a, b: a * b)
    floordiv = _binary(floordiv)
    mod = _binary(mod)

    def integer(self, kids: list[Any]) -> int:
        return int(kids[0])

    def neg(self, kids: list[Any]) -> Any:
        if isinstance(kids[0], Token) and kids[0] in ("inf", "nan"):
            return -float(kids[0])
        return -_as_dim(kids[0])

    def name(self, kids: list[Any]) -> Token:
        return kids[0]

    def minmax(self, kids: list[Any]) -> Any:
        fn, a, b = kids
        if fn not in ("min", "max"):
            raise Fault(fn, "MAIA0101", f"{fn} is not a function of dims; expected min or max")
        return (minimum if fn == "min" else maximum)(_as_dim(a), _as_dim(b))

    def attrs(self, kids: list[Any]) -> Any:
        return "attrs", [k for k in kids if k is not None]

    def attr(self, kids: list[Any]) -> Any:
        return tuple(kids)

    def expression(self, kids: list[Any]) -> Any:
        return kids[0]

    def float(self, kids: list[Any]) -> Any:
        return float(kids[0])

    def negative_float(self, kids: list[Any]) -> Any:
        return -float(kids[0])

    def string(self, kids: list[Any]) -> str:
        return json.loads(kids[0])

    def ref(self, kids: list[Any]) -> Ref:
        return Ref(_global_name(kids[0]))

    def list(self, kids: list[Any]) -> Any:
        return tuple(k for k in kids if k is not None)


def _dtype(token: Token) -> DType:
    found = BY_NAME.get(str(token))
    if found is None:
        raise Fault(token, "MAIA0101", f"{str(token)!r} is not a dtype; expected one of {', '.join(BY_NAME)}")
    return found


class ModuleMaker:
    """Builds the graph from the tuples, resolving names in order."""

    def __init__(self) -> None:
        self.out = Module()
        self.values: dict[str, Value] = {}

    def module(self, name: Token, attrs: list[Any], items: list[Any]) -> Module:
        """The whole module: declarations first, so that functions may stand in any order."""
        self.out.name = _global_name(name)
        for item in items:
            self.declare(item)
        self.out.attrs = self.attrs(attrs)
        functions = [(self.header(item), item) for item in items if item[0] == "func"]
        for function, (_, _, params, _, rest) in functions:
            self.values = {}
            for arg, (token, _) in zip(function.body.args, params, strict=True):
                self.define(token, arg)
            self.ops(function.body, [r for r in rest if r[0] == "op"])
        return self.out

    def declare(self, item: Any) -> None:
        """Meshes, symbols, weights, states."""
        match item:
            case ("mesh", axes):
                self.out.mesh.update({str(a): n for a, n in axes})
            case ("sym", name, low, high, step):
                self.unique(name, str(name), self.out.symbols, "symbol")
                if str(name) in BY_NAME or str(name) in KEYWORDS:
                    raise Fault(name, "MAIA0104", f"{str(name)!r} is reserved; a symbol needs another name")
                self.out.symbols[str(name)] = Symbol(str(name), low or 0, high, step)
            case ("weight" | "state" as kind, token, type, attrs):
                name = _global_name(token)
                self.unique(token, name, self.out.weights.keys() | self.out.states.keys(), "global")
                add = self.out.add_weight if kind == "weight" else self.out.add_state
                add(name, type).attrs.update(self.attrs(attrs))
            case _:
                pass

    def header(self, item: Any) -> Function:
        """A function without its body."""
        _, token, params, (_, results), rest = item
        name = _global_name(token)
        self.unique(token, name, self.out.functions, "function")
        facts = {k: v for k, *v in rest if k in ("stage", "attrs", "loc")}
        function = Function(
            name,
            [t for _, t in params],
            results,
            stage=facts["stage"][0] if "stage" in facts else None,
            attrs=self.attrs(facts["attrs"][0]) if "attrs" in facts else {},
            loc=facts["loc"][0] if "loc" in facts else None,
        )
        return self.out.add_function(function)

    def unique(self, token: Token, name: str, taken: Any, kind: str) -> None:
        """Fault where a name is defined twice."""
        if name in taken:
            raise Fault(token, "MAIA0104", f"the {kind} {name} is defined twice")

    def define(self, token: Token, value: Value) -> None:
        """Bind a value's name."""
        name = str(token[1:])
        self.unique(token, name, self.values, "value")
        self.values[name] = value
        value.name = "" if name.isdigit() else name

    def ops(self, block: Block, ops: Sequence[Any]) -> None:
        """Build the ops of a block in order."""
        for _, results, name, operands, rest in ops:
            facts: dict[str, Any] = {k: v[0] for k, *v in rest if k in ("types", "attrs", "loc")}
            types = facts.get("types", [])
            if len(types) != len(results):
                raise Fault(name, "MAIA0101", f"{name} has {len(results)} results, but {len(types)} types")
            values = [None if t is None else self.lookup(t) for t in operands]
            op = Op(str(name), values, self.attrs(facts.get("attrs", [])), types, (), facts.get("loc"))
            for _, params, body in (r for r in rest if r[0] == "region"):
                region = Block([t for _, t in params])
                for arg, (token, _) in zip(region.args, params, strict=True):
                    self.define(token, arg)
                self.ops(region, body)
                op.add_region(region)
            for token, result in zip(results, op.results, strict=True):
                self.define(token, result)
            block.append(op)

    def lookup(self, token: Token) -> Value:
        """The value that an operand names."""
        if token.type == "VALUE":
            found = self.values.get(str(token[1:]))
        else:
            name = _global_name(token)
            found = self.out.weights.get(name) or self.out.states.get(name)
        if found is None:
            raise Fault(token, "MAIA0103", f"{token} is not defined before this use")
        return found

    def attrs(self, pairs: list[Any]) -> dict[str, Attr]:
        """Attributes with bare names resolved."""
        return {str(k): self.attr(v) for k, v in pairs}

    def attr(self, value: Any) -> Attr:
        """A bare name is a dtype, a keyword, a declared symbol, or else a string."""
        if isinstance(value, tuple):
            return tuple(self.attr(v) for v in value)
        if not isinstance(value, Token):
            return value
        text = str(value)
        if text in BY_NAME:
            return BY_NAME[text]
        if text in KEYWORDS:
            return KEYWORDS[text]
        return sym(text) if text in self.out.symbols else text


