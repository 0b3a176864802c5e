"""Writing a region into the graph: new types, collectives, biases after sums."""

from __future__ import annotations

from collections.abc import Mapping

from maiac.ir import Builder, Module, Op, State, Value

from .region import Move, Region


def apply_region(module: Module, region: Region, axis: str, order: Mapping[Op, int]) -> None:
    """Make the edits that a region found."""
    for value, type in region.types.items():
        value.type = type
    made: dict[tuple[Value, tuple[Move, ...]], Value] = {}
    for op, at in sorted(region.moves, key=lambda slot: (order[slot[0]], slot[1])):
        moves, value = region.moves[op, at], op.operand(at)
        if (value, moves) not in made:
            made[value, moves] = _emit(module, op, value, moves, axis)
        op.set_operand(at, made[value, moves])
    for op, owed in region.late_bias.items():
        op.result.type = owed
        _bias_after_sum(module, op, axis)
    for op in region.dropped:
        op.replace([op.operand(0)])


def _emit(module: Module, op: Op, value: Value, moves: tuple[Move, ...], axis: str) -> Value:
    """The collectives of one operand, before the op."""
    assert op.block is not None
    builder = Builder(module, op.block, op, op.loc)
    for move in moves:
        attrs = {} if move.kind == "all_reduce" else {"dim": move.dim}
        value = builder.emit(move.kind, value, hint=value.name, over=axis, **attrs)
    return value


def _bias_after_sum(module: Module, op: Op, axis: str) -> None:
    assert op.block is not None
    product, bias = op.result, op.operand(2)
    op.set_operands(op.operands[:2])
    builder = Builder(module, op.block, op.next, op.loc)
    total = builder.emit("all_reduce", product, over=axis)
    result = builder.emit("add", total, bias, hint=product.name)
    readers = [user for user in product.uses if user is not total.op]  # type: ignore[attr-defined]
    for user in readers:
        user.replace_operand(product, result)


def settle_weights(module: Module, axis: str) -> None:
    """A weight of which every reader takes the same part is itself split: no rank holds more than its part."""
    for weight in module.weights.values():
        readers = list(weight.uses)
        if not readers or isinstance(weight, State) or any(op.name != "shard" for op in readers):
            continue
        if any(op.attrs != readers[0].attrs for op in readers) or readers[0].attrs["over"] != axis:
            continue
        weight.type = readers[0].result.type
        for op in readers:
            op.replace([weight])
