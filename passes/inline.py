"""inline: each call gives way to the ops of the function that it calls; the inverse of outline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from maiac.ir import Function, Location, Module, Op, Value

from .analysis import calls
from .base import Pass, register
from .clone import Relocate, clone_ops
from .dce import remove_functions


@register
@dataclass(frozen=True)
class Inline(Pass):
    """Replace calls by what they call, until there is none. Functions of a pipeline stage of their own stay."""

    name: ClassVar[str] = "inline"

    def run(self, module: Module) -> bool:
        """Inline innermost calls first or last, all of them."""
        changed = False
        while found := [(op, f) for op, f in calls(module) if inlinable(op, f)]:
            for op, function in found:
                inline_call(op, function)
            changed = True
        return remove_functions(module) | changed if changed else False


def inlinable(op: Op, function: Function) -> bool:
    """Whether a call may give way: caller and callee run on the same stage."""
    caller = op.function()
    return caller is not None and caller is not function and caller.stage == function.stage


def inline_call(op: Op, function: Function) -> None:
    """Replace one call by a copy of the body, whose places begin with the call's place instead of the function's."""
    assert op.block is not None
    given = [v for v in op.operands if v is not None]
    mapping: dict[Value, Value] = dict(zip(function.args, given, strict=True))
    body = [o for o in function.body if o.name != "return"]
    clone_ops(body, op.block, mapping, relocation(function.loc, op.loc), op)
    returned = [mapping.get(v, v) for v in function.body.terminator.operands if v is not None]
    op.replace(returned)


def relocation(callee: Location, call: Location) -> Relocate:
    """Moves a place from under the function's first origin to under the call's: layers.0.mlp -> layers.3.mlp."""
    old, new = callee.name, call.name

    def relocate(loc: Location) -> Location:
        if not old or not loc.name.startswith(old):
            return loc
        return Location(new + loc.name[len(old) :], loc.file, loc.line)

    return relocate
