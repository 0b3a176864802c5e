"""The parser: Maia text to a module. One lark grammar, then names are resolved in order."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Container, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from lark import Lark, Token, UnexpectedInput
from lark.exceptions import UnexpectedCharacters, UnexpectedToken, VisitError

from .caches import cache_folder
from .dims import Symbol, sym
from .dtypes import BY_NAME
from .errors import MaiaError
from .graph import Attr, Block, Function, Module, Op, Value
from .printer import KEYWORDS
from .syntax import Fault, Syntax, unquote
from .types import Type

__all__ = ["parse", "parse_type", "prepare_parser"]

WINDOW = 100  # characters shown at each side of a fault
MAX_NESTING = 100  # brackets inside one another; printing and verifying recurse as deep
_BRACKETS = re.compile(r"""#[^\n]*|"(?:[^"\\\n]|\\.)*"|->|[(\[{<]|[)\]}>]""")


def parse(text: str, *, file: str = "<text>") -> Module:
    """Read a module. MaiaError MAIA0101 to MAIA0104 with line, column and a caret where the text is wrong."""
    return _run(text, file, "start", lambda tree: ModuleMaker().module(*tree))


def parse_type(text: str) -> Type:
    """Read a type: ``bf16[T, 4096/tp]``."""
    return _run(text, "<type>", "type", lambda tree: tree)


def _run(text: str, file: str, start: str, finish: Callable[[Any], Any]) -> Any:
    _check_nesting(text, file)
    try:
        return finish(_grammar().parse(text, start=start))
    except UnexpectedInput as e:
        raise _syntax_error(text, file, e) from None
    except VisitError as e:
        if not isinstance(e.orig_exc, Fault):
            raise e.orig_exc from None
        raise _located(text, file, e.orig_exc) from None
    except Fault as e:
        raise _located(text, file, e) from None


def _check_nesting(text: str, file: str) -> None:
    depth = 0
    for match in _BRACKETS.finditer(text):
        found = match.group()
        depth += (found in "([{<") - (found in ")]}>")
        if depth > MAX_NESTING:
            line, column = text.count("\n", 0, match.start()) + 1, match.start() - text.rfind("\n", 0, match.start())
            message = f"{file}:{line}:{column}: brackets stand more than {MAX_NESTING} deep"
            raise MaiaError("MAIA0101", message, excerpt=_excerpt(text, line, column))


@lru_cache(maxsize=1)
def _grammar() -> Lark:
    grammar = Path(__file__).with_name("maia.lark").read_text(encoding="utf-8")
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        return _lark(grammar, str(folder / "grammar"))  # its tables; they take longer than reading a program
    except OSError:
        return _lark(grammar, False)


def prepare_parser() -> None:
    """Have the grammar's tables made in the background, 0.2 s once on a machine, so that the first load finds them."""
    threading.Thread(target=_grammar, name="maiac parser").start()


def _lark(grammar: str, cache: str | bool) -> Lark:
    return Lark(grammar, parser="lalr", lexer="contextual", transformer=Syntax(), start=["start", "type"], cache=cache)


def _excerpt(text: str, line: int, column: int) -> str:
    lines = text.splitlines() or [""]
    line = min(max(line, 1), len(lines))
    start = max(0, column - 1 - WINDOW)
    shown = lines[line - 1][start : start + 2 * WINDOW]
    return f"{line:>5} {shown}\n{'':>5} {' ' * (column - 1 - start)}^"


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
        wanted = _show_terminals(e.accepts or e.expected)
    else:
        assert isinstance(e, UnexpectedCharacters)
        found, wanted = repr(e.char), _show_terminals(e.allowed or ())
    message = f"{file}:{line}:{column}: unexpected {found}"
    hint = f"expected one of: {', '.join(wanted)}" if wanted else ""
    return MaiaError("MAIA0101", message, excerpt=_excerpt(text, line, column), hint=hint)


def _show_terminals(names: Iterable[str]) -> list[str]:
    """What may follow; terminals that stand for several others in one piece say nothing new."""
    return sorted(_show_terminal(n) for n in names if not n.startswith("PLAIN_"))


def _show_terminal(name: str) -> str:
    names = {
        "VALUE": "%value",
        "PLAIN": "a type",
        "SYMBOL": "@name",
        "NAME": "a name",
        "INT": "an integer",
        "STRING": "a string",
    }
    if name in names:
        return names[name]
    for terminal in _grammar().terminals:
        if terminal.name == name and terminal.pattern.type == "str":
            return repr(terminal.pattern.value)
    return name.lower()


class ModuleMaker:
    """Builds the graph from the tuples, resolving names in order."""

    def __init__(self) -> None:
        self.out = Module()
        self.values: dict[str, Value] = {}  # what can be seen here
        self.taken: set[str] = set()  # every name of the function

    def module(self, name: Token, attrs: list[Any], items: list[Any]) -> Module:
        """The whole module: declarations first, so that functions may stand in any order."""
        self.out.name = unquote(name)
        for item in items:
            self.declare(item)
        self.out.attrs = self.attrs(attrs)
        functions = [(self.header(item), item) for item in items if item[0] == "func"]
        for function, (_, _, params, _, rest) in functions:
            self.values, self.taken = {}, set()
            for arg, (token, _) in zip(function.body.args, params, strict=True):
                self.define(token, arg)
            self.ops(function.body, [r for r in rest if r[0] == "op"])
        return self.out

    def declare(self, item: Any) -> None:
        """Meshes, symbols, weights, states."""
        match item:
            case ("mesh", axes):
                for token, size in axes:
                    self.unique(token, str(token), self.out.mesh, "mesh axis")
                    self.out.mesh[str(token)] = size
            case ("sym", name, low, high, step):
                self.unique(name, str(name), self.out.symbols, "symbol")
                if str(name) in BY_NAME or str(name) in KEYWORDS:
                    raise Fault(name, "MAIA0104", f"{str(name)!r} is reserved; a symbol needs another name")
                if low is None:
                    raise Fault(name, "MAIA0101", f"the symbol {name} needs a number as its lower bound")
                self.out.symbols[str(name)] = Symbol(str(name), low, high, step)
            case ("weight" | "state" as kind, token, type, attrs):
                name = unquote(token)
                self.unique(token, name, self.out.weights.keys() | self.out.states.keys(), "global")
                add = self.out.add_weight if kind == "weight" else self.out.add_state
                add(name, type).attrs.update(self.attrs(attrs))
            case _:
                pass

    def header(self, item: Any) -> Function:
        """A function without its body."""
        _, token, params, (_, results), rest = item
        name = unquote(token)
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

    def unique(self, token: Token, name: str, taken: Container[str], kind: str) -> None:
        """Fault where a name is defined twice."""
        if name in taken:
            raise Fault(token, "MAIA0104", f"the {kind} {name} is defined twice")

    def define(self, token: Token, value: Value) -> None:
        """Bind a value's name."""
        name = str(token[1:])
        self.unique(token, name, self.taken, "value")
        self.taken.add(name)
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
                op.add_region(self.region(params, body))
            for token, result in zip(results, op.results, strict=True):
                self.define(token, result)
            block.append(op)

    def region(self, params: Sequence[Any], body: Sequence[Any]) -> Block:
        """A region; what it defines is not visible after it, though its names stay taken."""
        outer = self.values
        self.values = dict(outer)
        block = Block([t for _, t in params])
        for arg, (token, _) in zip(block.args, params, strict=True):
            self.define(token, arg)
        self.ops(block, body)
        self.values = outer
        return block

    def lookup(self, token: Token) -> Value:
        """The value that an operand names."""
        if token.type == "VALUE":
            found = self.values.get(str(token[1:]))
        else:
            name = unquote(token)
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
