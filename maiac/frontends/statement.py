"""A script of one statement: what a model's own line did when tracing it failed, over inputs of the same shapes."""

from __future__ import annotations

import ast
import builtins
import linecache
from dataclasses import dataclass, field
from types import ModuleType, TracebackType
from typing import Any

import torch

from .journal import Maker, Reproducer
from .reproducer import SCRIPT, NoTextError, example, literal


def statement_of(frame: TracebackType | None) -> Maker | None:
    """How to write a script with the statement that a frame stands at; None where there is no source."""
    if frame is None:
        return None
    code, line = frame.tb_frame.f_code, frame.tb_lineno
    lines = linecache.getlines(code.co_filename)
    expression = _expression("".join(lines), line) if lines else None
    if expression is None:
        return None
    names = {**frame.tb_frame.f_globals, **frame.tb_frame.f_locals}
    try:  # now: the frame's values are gone later
        made = _write(expression, names, f"line_{line}")
    except NoTextError:
        return None
    return lambda: made


@dataclass(frozen=True)
class _Found:
    """An expression, and whether a branch hangs on it."""

    tree: ast.expr
    branch: bool


def _expression(source: str, line: int) -> _Found | None:
    """The expression that the innermost statement at a line computes."""
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except SyntaxError:
        return None
    holders = [n for n in nodes if isinstance(n, ast.stmt) and n.lineno <= line <= (n.end_lineno or n.lineno)]
    if not holders:
        return None
    statement = max(holders, key=lambda n: (n.lineno, -(n.end_lineno or n.lineno)))
    match statement:
        case ast.If(test=tree) | ast.While(test=tree) | ast.Assert(test=tree):
            return _Found(tree, True)
        case ast.Assign(value=tree) | ast.AugAssign(value=tree) | ast.For(iter=tree) | ast.Expr(value=tree):
            return _Found(tree, False)
        case ast.Return(value=ast.expr() as tree) | ast.AnnAssign(value=ast.expr() as tree):
            return _Found(tree, False)
        case _:
            return None


@dataclass
class _Rewriter(ast.NodeTransformer):
    """Puts inputs and numbers in the place of what the frame holds."""

    names: dict[str, Any]
    inputs: dict[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])
    imports: set[str] = field(default_factory=set[str])
    own: set[str] = field(default_factory=set[str])  # names that the expression itself binds

    def visit_Attribute(self, node: ast.Attribute) -> Any:
        """``self.weight`` as a whole."""
        path = _path(node)
        if path is None or path.split(".")[0] in self.own:
            return self.generic_visit(node)
        value: Any = self.names.get(path.split(".")[0])
        for part in path.split(".")[1:]:
            if isinstance(value, (torch.Tensor, ModuleType)):
                return self.generic_visit(node)
            value = getattr(value, part, None)
        return self.held(value, path.replace(".", "_"))

    def visit_Name(self, node: ast.Name) -> Any:
        """A local or global value."""
        if node.id in self.own or isinstance(node.ctx, ast.Store):
            self.own.add(node.id)
            return node
        if node.id not in self.names and hasattr(builtins, node.id):
            return node
        value = self.names.get(node.id)
        if isinstance(value, ModuleType):
            self.imports.add(f"import {value.__name__} as {node.id}")
            return node
        return self.held(value, node.id)

    def held(self, value: Any, name: str) -> ast.expr:
        """A tensor as an input, a number as it is."""
        if isinstance(value, torch.Tensor):
            self.inputs[name] = value
            return ast.Name(name, ast.Load())
        return ast.parse(literal(value), mode="eval").body


def _path(node: ast.expr) -> str | None:
    """``a.b.c`` of nested attributes of a name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        outer = _path(node.value)
        return None if outer is None else f"{outer}.{node.attr}"
    return None


def _write(found: _Found, names: dict[str, Any], stem: str) -> Reproducer | None:
    rewriter = _Rewriter(names)
    text = ast.unparse(ast.fix_missing_locations(rewriter.visit(found.tree)))
    if not rewriter.inputs:
        return None
    first = next(iter(rewriter.inputs))
    body = (
        f"if {text}:\n            return {first} + 1\n        return {first} - 1" if found.branch else f"return {text}"
    )
    inputs = "".join(f"{example(v)}, " for v in rewriter.inputs.values())
    library = "".join(f"{line}\n" for line in sorted(rewriter.imports - {"import torch as torch"}))
    file = f"maiac-repro-{stem}.py"
    content = SCRIPT.format(
        what="One line of a model that cannot be traced",
        file=file,
        library=library,
        parameters="".join(f", {name}" for name in rewriter.inputs),
        body=body,
        inputs=inputs,
        shapes="None",
    )
    return Reproducer(stem, ".py", content.encode())
