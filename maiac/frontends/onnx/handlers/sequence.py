"""Sequences and optionals. A sequence whose members are known while importing costs nothing at run time."""

from __future__ import annotations

from typing import Any

from maiac.ir import DType, OptionalType, SequenceType, TensorType, Type, UnrankedType, Value

from ..context import NodeContext, Slot, tensor_type
from ..known import Known, scalar
from ..registry import onnx_op
from ..types import convert_type, dtype_of


@onnx_op("SequenceConstruct")
def construct(c: NodeContext) -> Slot:
    """A sequence of the operands."""
    return Slot(items=[c.slot(i) for i in range(len(c.inputs))])


@onnx_op("SequenceEmpty")
def empty(c: NodeContext) -> Any:
    """A sequence without members; its element type is told when one comes in."""
    return Slot(items=[], dtype=dtype_of(c.attr("dtype", 1)))


def _items(c: NodeContext, index: int = 0) -> list[Slot] | None:
    return c.slot(index).items


def _position(c: NodeContext, index: int, default: int) -> int | None:
    """A position known while importing."""
    if not c.has(index):
        return default
    static = c.static(index)
    return None if static is None else static[0]


@onnx_op("SequenceAt")
def at(c: NodeContext) -> Any:
    """The member at a position."""
    items, position = _items(c), _position(c, 1, 0)
    if items is not None and position is not None:
        if not -len(items) <= position < len(items):
            c.fail(f"the sequence has {len(items)} members, but position {position} is asked for")
        return items[position]
    unranked = isinstance(c[0].type, SequenceType) and isinstance(c[0].type.element, UnrankedType)
    return c.emit("sequence_at", c[0], c[1], rank=c.hinted_rank() if unranked else None)


@onnx_op("SequenceLength")
def length(c: NodeContext) -> Any:
    """The number of members."""
    items = _items(c)
    return c.emit("sequence_length", c[0]) if items is None else Known(scalar(len(items)))


@onnx_op("SequenceInsert")
def insert(c: NodeContext) -> Any:
    """The sequence with a member more."""
    items = _items(c)
    if items is not None:
        position = _position(c, 2, len(items))
        if position is not None:
            return Slot(items=[*items[:position], c.slot(1), *items[position:]])
        if not items:
            return Slot(items=[c.slot(1)])
    return c.emit("sequence_insert", c[0], c[1], c.opt(2))


@onnx_op("SequenceErase")
def erase(c: NodeContext) -> Any:
    """The sequence with a member less."""
    items = _items(c)
    if items:
        position = _position(c, 1, len(items) - 1)
        if position is not None:
            position %= len(items)
            return Slot(items=[*items[:position], *items[position + 1 :]])
    return c.emit("sequence_erase", c[0], c.opt(1))


@onnx_op("ConcatFromSequence")
def concat(c: NodeContext) -> Value:
    """All members joined along an axis, which may be a new one."""
    axis, new = int(c.attr("axis")), bool(c.attr("new_axis", 0))
    items = _items(c)
    if not items:
        return c.emit("concat_from_sequence", c[0], dim=axis, new_axis=new)
    parts = [c.importer.value_of(s) for s in items]
    if new:
        rank = tensor_type(parts[0]).rank + 1
        at = axis % rank
        parts = [c.reshape(p, (*tensor_type(p).dims[:at], 1, *tensor_type(p).dims[at:])) for p in parts]
    return parts[0] if len(parts) == 1 else c.emit("concat", *parts, dim=axis)


@onnx_op("SplitToSequence")
def split(c: NodeContext) -> Any:
    """A tensor cut along an axis into members."""
    axis, keep = int(c.attr("axis", 0)), bool(c.attr("keepdims", 1))
    parts = _parts(c, axis)
    if parts is None:
        return c.emit("split_to_sequence", c[0], c.opt(1), dim=axis, keepdim=keep)
    pieces: list[Value] = list(c.emit_op("split", c[0], dim=axis, parts=tuple(parts)).results)
    if not keep and not c.has(1):
        at = axis % c.rank(0)
        pieces = [c.reshape(p, [d for i, d in enumerate(tensor_type(p).dims) if i != at]) for p in pieces]
    return Slot(items=[Slot(value=p, dtype=c.dtype(0)) for p in pieces])


def _parts(c: NodeContext, axis: int) -> list[int] | None:
    size = c.shape(0)[axis]
    if not c.has(1):
        return [1] * size if isinstance(size, int) else None
    static = c.static(1)
    if static is None:
        return None
    if c.rank(1):
        return list(static)
    if not isinstance(size, int):
        return None
    each = static[0]
    return [min(each, size - i) for i in range(0, size, each)]


@onnx_op("Optional")
def optional(c: NodeContext) -> Value:
    """A value, or nothing of a type, as an optional."""
    if c.has(0):
        return c.emit("optional", c[0])
    type = c.attr("type")
    found = convert_type(type.type, type.shape, c.importer.dim_table, "the optional's type")
    inner: Type = found.element if isinstance(found, OptionalType) else found
    sequence = isinstance(inner, SequenceType)
    element = inner.element if isinstance(inner, SequenceType) else inner
    assert isinstance(element, TensorType)
    return c.emit("optional_none", dtype=element.element, rank=element.rank, sequence=sequence)


@onnx_op("OptionalGetElement")
def get(c: NodeContext) -> Any:
    """The contents of an optional; anything else as it is."""
    if c.slot(0).items is not None or not isinstance(c[0].type, OptionalType):
        return c.slot(0)
    return c.emit("optional_get", c[0])


@onnx_op("OptionalHasElement")
def has(c: NodeContext) -> Any:
    """Whether there are contents."""
    if not c.has(0):
        return Known(scalar(0), DType.BOOL)
    if c.slot(0).items is not None or not isinstance(c[0].type, OptionalType):
        return Known(scalar(1), DType.BOOL)
    return c.emit("optional_has", c[0])
