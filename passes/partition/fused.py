"""Fused projections taken apart: ``split(linear(x, w_qkv))`` becomes one ``linear`` for each part, and experts' alike.

A column split of a fused weight would give a rank columns of the query only, and another the key's. Cut into its
parts, each of them splits by heads. The parts are views of the fused weight, so nothing is copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from maiac.ir import Builder, Module, Op, TensorType, Value, Weight

from ..weights import cut, drop_unused

Parts = list[tuple[int, int, Value]]  # start, stop, the value that holds these columns


def unfuse(module: Module, op: Op, dim: int, size: int) -> list[Op]:
    """Replace a product whose result is only cut along its last dim; the new ops, or none where it is not so.

    ``dim``: that of the weight's columns. ``size``: every part's columns must divide by it.
    """
    views, parts = _parts(op.result)
    weight, bias = op.operands[1], op.operands[2] if op.name == "linear" and len(op.operands) > 2 else None
    fits = all((stop - start) % size == 0 for start, stop, _ in parts)
    if len(parts) < 2 or not fits or not isinstance(weight, Weight) or not isinstance(bias, (Weight, type(None))):
        return []
    made: list[Op] = []
    cutters = {p.op for _, _, p in parts}  # type: ignore[attr-defined]
    for start, stop, part in parts:
        w = cut(module, weight, dim, start, stop, f"{weight.name}.{start}")
        b = None if bias is None else cut(module, bias, 0, start, stop, f"{bias.name}.{start}")
        rest = (b,) if op.name == "linear" else op.operands[2:]
        made.append(_project(module, op, (op.operand(0), w, *rest), views, stop - start, part))
    for cutter in cutters:
        cutter.erase()
    for view in reversed(views):
        view.erase()
    op.erase()
    for fused in (weight, bias):
        if fused is not None:
            drop_unused(module, fused)
    return made


def _parts(value: Value) -> tuple[list[Op], Parts]:
    """The reshapes that keep the last dim, and the parts into which their result is cut; no parts where it is not."""
    views: list[Op] = []
    while True:
        users = list(value.uses)
        if len(users) == 1 and users[0].name == "reshape" and _last(users[0].result) == _last(value):
            views.append(users[0])
            value = users[0].result
            continue
        return views, _cuts(value, users)


def _cuts(value: Value, users: Sequence[Op]) -> Parts:
    """The runs of the last dim that splits or slices take, where they do not overlap."""
    parts: Parts = []
    for user in users:
        assert isinstance(value.type, TensorType)
        dim = user.attrs.get("dim")
        if user.name not in ("split", "slice") or dim not in (-1, value.type.rank - 1):
            return []
        found = _split_parts(user) if user.name == "split" else _slice_part(user, _last(value))
        if not found:
            return []
        parts += found
    parts.sort(key=lambda part: part[:2])
    apart = all(a[1] <= b[0] for a, b in pairwise(parts))
    return parts if apart else []


def _split_parts(op: Op) -> Parts:
    sizes = op.attrs["parts"]
    if not isinstance(sizes, tuple) or not all(isinstance(s, int) for s in sizes):
        return []
    parts: Parts = []
    start = 0
    for result, size in zip(op.results, sizes, strict=True):
        assert isinstance(size, int)
        parts.append((start, start + size, result))
        start += size
    return parts


def _slice_part(op: Op, size: object) -> Parts:
    start, end = op.attrs.get("start", 0), op.attrs.get("end")
    if not isinstance(size, int) or op.attrs.get("step", 1) != 1 or not isinstance(start, int):
        return []
    if not isinstance(end, (int, type(None))):
        return []
    first, stop, _ = slice(start, end).indices(size)
    return [(first, stop, op.result)]


def _last(value: Value) -> object:
    type = value.type
    return type.dims[-1] if isinstance(type, TensorType) and type.rank else None


def _project(
    module: Module, op: Op, operands: Sequence[Value | None], views: Sequence[Op], width: int, part: Value
) -> Op:
    """One part's own projection, under the same reshapes."""
    assert op.block is not None
    builder = Builder(module, op.block, op, op.loc)
    made = builder.emit_op(op.name, operands, op.attrs)
    result: Value = made.result
    for view in views:
        shape = view.attrs["shape"]
        assert isinstance(shape, tuple)
        result = builder.emit("reshape", result, shape=(*shape[:-1], width))
    result.name = part.name
    part.replace_all_uses(result)
    return made
