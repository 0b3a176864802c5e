"""What a model asserts: conditions that the ranges of inputs do not settle become ``check`` operations."""

from __future__ import annotations

from typing import Any

import torch
from sympy import piecewise_fold
from torch import fx

from maiac.ir.dims import DimLike, bounds, simplify, symbols_of
from maiac.ir.dtypes import DType
from maiac.ir.errors import Location
from maiac.ir.graph import Value
from maiac.ir.types import type_symbols

from ..importer import Context, is_tensor
from ..locations import location_of
from .registry import Unsupported, aten

# sympy relations -> (operation against 0, how the text writes it)
_RELATIONS = {
    "GreaterThan": ("ge", ">="), "StrictGreaterThan": ("gt", ">"), "LessThan": ("le", "<="),
    "StrictLessThan": ("lt", "<"), "Equality": ("eq", "=="), "Unequality": ("ne", "!="),
}  # fmt: skip
_CONNECTIVES = {"And": "logical_and", "Or": "logical_or", "Not": "logical_not"}


@aten("_assert_scalar.default", "python::_check")
def assert_scalar(c: Context, condition: Any, message: Any = "") -> None:
    """A condition about sizes and other symbolic integers, or one that was computed as a tensor."""
    if is_tensor(condition):
        _check(c, condition, str(message))
        return
    val = condition if isinstance(condition, bool) else _traced(c.node)
    if val is True:
        return
    if _about_layout(c.node):
        return  # values of a Maia program have no strides or offsets
    if not isinstance(val, torch.SymBool):
        raise Unsupported(f"an assertion about {val}")
    _assert_expression(c, val.node.expr)


@aten("_assert_async.msg", "_assert_async.default")
def assert_async(c: Context, condition: Value, message: str = "an assertion of the model does not hold") -> None:
    """A condition that is computed as a tensor."""
    _check(c, condition, message)


@aten("sym_constrain_range.default", "sym_constrain_range_for_size.default", "python::sym_constrain_range_for_size")
def constrain_range(c: Context, size: Any, min: Any = None, max: Any = None) -> None:
    """A symbolic integer lies between two numbers; a size is not negative."""
    low = 0 if min is None and "size" in c.name else min
    for limit, relation in ((low, "GreaterThan"), (max, "LessThan")):
        if limit is not None:
            _assert_relation(c, relation, size - limit, f"{size} {_RELATIONS[relation][1]} {limit}")


@aten("_assert_tensor_metadata.default")
def assert_metadata(c: Context, *_: Any, **__: Any) -> None:
    """What a trace assumes of dtypes and devices; types say it."""


def _traced(node: fx.Node) -> Any:
    """What torch traced for an assertion's condition."""
    condition = node.args[0]
    return condition.meta.get("val") if isinstance(condition, fx.Node) else condition


def _about_layout(node: fx.Node) -> bool:
    """Whether the condition is computed from where a tensor lies in its storage."""
    if node.target in (torch.ops.aten.sym_storage_offset.default, torch.ops.aten.sym_stride.int):
        return True
    return any(_about_layout(n) for n in node.all_input_nodes if not isinstance(n.meta.get("val"), torch.Tensor))


def _assert_expression(c: Context, expr: Any) -> None:
    expr = piecewise_fold(expr)  # torch asks whether a truth value as a number is 0 or 1, which then is no question
    if type(expr).__name__ == "And":
        for part in expr.args:
            _assert_expression(c, part)
        return
    if expr.is_Relational:
        left, right = _sides(c, expr)
        shown = f"{left} {_RELATIONS[type(expr).__name__][1]} {right}"
        _assert_relation(c, type(expr).__name__, left - right, shown)
    elif str(expr) != "True":
        _check(c, _computed(c, expr), str(expr))


def _assert_relation(c: Context, relation: str, gap: DimLike, shown: str) -> None:
    """``gap`` stands in a relation to 0: checked, unless the sizes of inputs, which a call checks, settle it."""
    gap = simplify(gap, c.importer.module.symbols)
    given = {s for a in c.importer.module.main.args for s in type_symbols(a.type)}
    if symbols_of(gap) <= given and _always(c, relation, gap):
        return
    with c.builder.at(_place(c)):
        _check(c, _related(c, relation, gap), f"the model expects {shown}")


def _always(c: Context, relation: str, gap: DimLike) -> bool:
    low, high = bounds(gap, c.importer.module.symbols)
    return {
        "GreaterThan": low >= 0, "StrictGreaterThan": low > 0, "LessThan": high <= 0, "StrictLessThan": high < 0,
        "Equality": low == high == 0, "Unequality": low > 0 or high < 0,
    }[relation]  # fmt: skip


def _sides(c: Context, expr: Any) -> tuple[DimLike, DimLike]:
    """Both sides of a relation as dims; Unsupported where the program does not know a symbol of them."""
    unknown = sorted(str(s) for s in expr.free_symbols if str(s) not in c.symbols.known)
    if unknown:
        raise Unsupported(f"an assertion about {expr}, where {', '.join(unknown)} is no integer of the program")
    return c.symbols.expression(expr.args[0]), c.symbols.expression(expr.args[1])


def _related(c: Context, relation: str, gap: DimLike) -> Value:
    zero = c.emit("constant", value=0, dtype=DType.I64)
    return c.emit(_RELATIONS[relation][0], c.emit("dim_tensor", value=gap), zero)


def _computed(c: Context, expr: Any) -> Value:
    """The truth of an expression, as a tensor of rank 0."""
    if expr.is_Relational:
        left, right = _sides(c, expr)
        return _related(c, type(expr).__name__, left - right)
    name = _CONNECTIVES.get(type(expr).__name__)
    if name is None:
        raise Unsupported(f"an assertion about {expr}")
    made = [_computed(c, part) for part in expr.args]
    if name == "logical_not":
        return c.emit(name, made[0])
    out = made[0]
    for part in made[1:]:
        out = c.emit(name, out, part)
    return out


def _check(c: Context, condition: Value, message: str) -> None:
    c.emit_all("check", c.cast(condition, DType.BOOL), message=message)


def _place(c: Context) -> Location:
    """Where the number that is asserted about comes from: torch writes such assertions itself, without a place."""
    here = location_of(c.node)
    left: list[fx.Node] = [c.node]
    while left:
        node = left.pop(0)
        found = location_of(node)
        if found.file and "runtime_assert" not in found.file and node is not c.node:
            return found
        left += node.all_input_nodes
    return here
