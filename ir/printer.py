"""The printer: a module as text that the parser reads back to the same module."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence

from .dims import Dim, Symbol
from .dtypes import BY_NAME, DType
from .errors import Location
from .graph import Attr, Block, Function, Module, Op, Ref, State, Value, Weight
from .types import Type

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")
_GLOBAL = re.compile(r"[A-Za-z_][A-Za-z_0-9.]*")
_NOT_IN_VALUE = re.compile(r"[^A-Za-z0-9_.]+")
KEYWORDS: dict[str, Attr] = {"true": True, "false": False, "none": None, "inf": float("inf"), "nan": float("nan")}


def print_type(type: Type) -> str:
    """The text of a type."""
    return str(type)


def print_module(module: Module) -> str:
    """The text of a module."""
    return Printer(module).module_text()


def print_op(op: Op, module: Module) -> str:
    """One operation as a line, with the names it has in its function's text."""
    printer = Printer(module)
    function = op.function()
    if function is not None:
        printer.name_all(function)
    return "\n".join(printer.op_lines(op, ""))


def print_function(function: Function, module: Module) -> str:
    """The text of one function."""
    return "\n".join(Printer(module).function_lines(function, ""))


def global_text(name: str) -> str:
    """``@name``, quoted where it is not a plain dotted name."""
    return f"@{name}" if _GLOBAL.fullmatch(name) else "@" + json.dumps(name)


class Printer:
    """Holds the names of values while a module is printed."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.names: dict[Value, str] = {}
        self.taken: dict[str, int] = {}  # name -> the number that its next namesake tries first
        self.counter = 0
        self.symbols: Mapping[str, Symbol] = module.symbols

    def module_text(self) -> str:
        """The whole module."""
        m = self.module
        lines = [f"module {global_text(m.name)}{self.attrs_text(m.attrs)} {{"]
        if m.mesh:
            axes = (a if n is None else f"{a} = {n}" for a, n in m.mesh.items())
            lines.append(f"  mesh <{', '.join(axes)}>")
        lines += [f"  {symbol}" for symbol in m.symbols.values()]
        lines += [self.global_line(w) for w in (*m.weights.values(), *m.states.values())]
        for function in m.functions.values():
            lines += [*([""] if len(lines) > 1 else []), *self.function_lines(function, "  ")]
        return "\n".join([*lines, "}", ""])

    def global_line(self, weight: Weight) -> str:
        """A weight's or state's declaration."""
        kind = "state" if isinstance(weight, State) else "weight"
        return f"  {kind} {global_text(weight.name)} : {weight.type}{self.attrs_text(weight.attrs)}"

    def function_lines(self, function: Function, indent: str) -> list[str]:
        """A function with its body."""
        self.name_all(function)
        stage = f" on {function.stage[0]} = {function.stage[1]}" if function.stage else ""
        head = f"func {global_text(function.name)}({self.params_text(function.body)})"
        results = types_text(function.result_types)
        tail = f"{stage}{self.attrs_text(function.attrs)}{loc_text(function.loc)}"
        body = self.block_lines(function.body, indent + "  ")
        return [f"{indent}{head} -> {results}{tail} {{", *body, indent + "}"]

    def name_all(self, function: Function) -> None:
        """Give every value of a function its name, in order of definition."""
        self.names, self.taken, self.counter = {}, {}, 0
        self.name_block(function.body)

    def name_block(self, block: Block) -> None:
        """Name a block's parameters and all results, regions included."""
        for arg in block.args:
            self.claim(arg)
        for op in block:
            for result in op.results:
                self.claim(result)
            for region in op.regions:
                self.name_block(region)

    def claim(self, value: Value) -> None:
        """Choose a name: the hint made unique, or the next number."""
        hint = _NOT_IN_VALUE.sub("_", value.name).strip("_")
        if not hint or hint.isdigit():
            hint, self.counter = str(self.counter), self.counter + 1
        name, n = hint, self.taken.get(hint, 0)
        while name in self.taken:
            n += 1
            name = f"{hint}_{n}"
        self.taken[hint] = n
        self.taken.setdefault(name, 0)
        self.names[value] = name

    def block_lines(self, block: Block, indent: str) -> list[str]:
        """The ops of a block."""
        return [line for op in block for line in self.op_lines(op, indent)]

    def op_head(self, op: Op) -> str:
        """An op without its regions."""
        text = ", ".join(self.value_text(r) for r in op.results) + " = " if op.results else ""
        text += op.name
        if op.operands:
            text += " " + ", ".join(self.value_text(v) for v in op.operands)
        text += self.attrs_text(op.attrs)
        if op.results:
            text += f" : {types_text([r.type for r in op.results])}"
        elif not op.operands and not op.attrs:
            text += " {}"  # keeps the next line's %name from reading as an operand
        return text + loc_text(op.loc)

    def op_lines(self, op: Op, indent: str) -> list[str]:
        """An op and its regions."""
        lines = [indent + self.op_head(op)]
        for region in op.regions:
            lines[-1] += f" ({self.params_text(region)}) {{"
            lines += [*self.block_lines(region, indent + "  "), indent + "}"]
        return lines

    def value_text(self, value: Value | None) -> str:
        """``%name``, ``@name``, or ``_`` for an absent operand."""
        if value is None:
            return "_"
        if isinstance(value, Weight):
            return global_text(value.name)
        return "%" + self.names.get(value, "defined_elsewhere")

    def params_text(self, block: Block) -> str:
        """``%x: T, %y: U``"""
        return ", ".join(f"{self.value_text(a)}: {a.type}" for a in block.args)

    def attrs_text(self, attrs: Mapping[str, Attr]) -> str:
        """`` {a = 1, b = [x, y]}``, or nothing."""
        if not attrs:
            return ""
        return " {" + ", ".join(f"{k} = {self.attr_text(v)}" for k, v in attrs.items()) + "}"

    def attr_text(self, value: Attr) -> str:
        """One attribute's value."""
        match value:
            case bool():
                return "true" if value else "false"
            case None:
                return "none"
            case tuple():
                return "[" + ", ".join(self.attr_text(v) for v in value) + "]"
            case str():
                bare = _PLAIN.fullmatch(value) and value not in BY_NAME and value not in KEYWORDS
                return value if bare and value not in self.symbols else json.dumps(value)
            case Ref():
                return global_text(value.name)
            case float() | int() | Dim() | DType():
                return str(value)
            case _:  # no attribute's kind; the verifier refuses it, and its message shows this line
                return json.dumps(repr(value))


def types_text(types: Sequence[Type] | Iterable[Type]) -> str:
    """One type bare, none or several in parentheses."""
    shown = [str(t) for t in types]
    return shown[0] if len(shown) == 1 else "(" + ", ".join(shown) + ")"


def loc_text(loc: Location) -> str:
    """`` at "name" "file":line``, or nothing."""
    if loc.file:
        return f" at {json.dumps(loc.name)} {json.dumps(loc.file)}:{loc.line}"
    return f" at {json.dumps(loc.name)}" if loc.name else ""
