"""Python arithmetic on symbolic numbers that no dim expresses (floats), and bookkeeping nodes."""

from __future__ import annotations

from typing import Any

import torch

from maiac.ir.dtypes import DType
from maiac.ir.graph import Value

from ..importer import Context
from .registry import Handler, Unsupported, aten


@aten("python::getitem")
def getitem(c: Context, values: Any, index: int) -> Any:
    """One output of a node with several."""
    return values[index]


def _on_floats(name: str) -> Handler:
    """A Python operator on SymFloats, computed as rank-0 f64 tensors."""

    def handler(c: Context, *args: Any) -> Value:
        operands = [c.cast(c.scalar(a), DType.F64) for a in args]
        return _back(c, c.emit(name, *operands))

    return handler


def _back(c: Context, value: Value) -> Any:
    """A symbolic integer (``int(x * 0.5)``) is bound to a fresh symbol; a float stays a tensor of rank 0."""
    val = c.node.meta.get("val")
    if not isinstance(val, torch.SymInt):
        return value
    dim = c.as_dim(c.cast(value, DType.I64))
    if val.node.expr.is_Symbol:
        c.symbols.adopt(str(val.node.expr), dim)
    return dim


_OPERATORS = {
    "add": "add", "sub": "sub", "mul": "mul", "truediv": "div", "pow": "pow", "floordiv": "floor_div", "neg": "neg",
    "mod": "remainder", "sym_sqrt": "sqrt", "_sym_sqrt": "sqrt", "ceil": "ceil", "floor": "floor", "trunc": "trunc",
    "round": "round", "sym_max": "maximum", "sym_min": "minimum", "_sym_cos": "cos", "_sym_sin": "sin",
    "_sym_exp": "exp", "_sym_tanh": "tanh", "_sym_log2": "log2", "eq": "eq", "ne": "ne", "lt": "lt", "le": "le",
    "gt": "gt", "ge": "ge",
}  # fmt: skip

for _python, _op in _OPERATORS.items():
    aten(f"python::{_python}")(_on_floats(_op))


@aten("python::sym_float", "python::sym_int", "python::float", "python::int")
def sym_float(c: Context, x: Any) -> Any:
    """A symbolic number as the other kind."""
    return _back(c, c.cast(c.scalar(x), DType.F64))


@aten("python::sym_not", "python::not_")
def sym_not(c: Context, x: Any) -> Value:
    """The negation of a symbolic truth value."""
    return c.emit("logical_not", c.scalar(x))


@aten("python::and_", "python::or_")
def sym_and(c: Context, x: Any, y: Any) -> Value:
    """Both, or either, of two symbolic truth values."""
    name = "logical_and" if c.name == "and_" else "logical_or"
    return c.emit(name, c.scalar(x), c.scalar(y))


@aten("python::sym_ite")
def sym_ite(c: Context, condition: Any, x: Any, y: Any) -> Any:
    """One of two symbolic numbers, by a symbolic truth value."""
    val = c.node.meta.get("val")
    kind = DType.I64 if isinstance(val, torch.SymInt) else DType.F64
    chosen = _back(c, c.emit("where", c.scalar(condition), *(c.cast(c.scalar(v), kind) for v in (x, y))))
    if isinstance(val, torch.SymInt):
        c.symbols.known[str(val.node.expr)] = chosen
    return chosen


@aten("_local_scalar_dense.default", "item.default")
def item(c: Context, x: Value) -> Any:
    """The only element as a Python number: an integer is bound to a symbol, a float stays a tensor of rank 0."""
    val = c.node.meta["val"]
    scalar = c.reshape(x, ())
    if isinstance(val, torch.SymInt):
        dim = c.as_dim(scalar)
        if not val.node.expr.is_Symbol:
            raise Unsupported(f"item() whose symbol is {val}")
        c.symbols.adopt(str(val.node.expr), dim)
        return dim
    return scalar if isinstance(val, torch.SymBool) else c.cast(scalar, DType.F64)


@aten("sym_size.int", "sym_numel.default", "sym_stride.int", "sym_storage_offset.default")
def size(c: Context, *_: Any) -> Any:
    """A size, stride or offset: its symbolic form was read from the trace before; only unknown forms arrive here."""
    raise Unsupported(f"the symbolic number {c.node.meta.get('val')}")
