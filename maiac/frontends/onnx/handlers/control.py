"""If, Loop and Scan: their graphs become regions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir

from maiac.ir import Block, DType, MaiaError, OptionalType, SequenceType, Symbol, TensorType, Type, UnrankedType, Value
from maiac.ir.dims import sym

from ..context import NodeContext, Slot, tensor_type
from ..known import is_static
from ..registry import onnx_op

MOST_DIMS = 7  # ranks tried for the members of a sequence that starts empty


@onnx_op("If")
def if_(c: NodeContext) -> Any:
    """One of two graphs; a condition that is known chooses while importing."""
    known = c.known(0)
    if known is not None and is_static(known):
        return c.importer.inline_region(c.attr("then_branch" if known.reshape(-1)[0] else "else_branch"))
    regions = [c.region(c.attr(name), ()) for name in ("then_branch", "else_branch")]
    _match_single_elements(c, *regions)
    return list(c.emit_op("if", c.reshape(c[0], ()), regions=regions).results)


def _match_single_elements(c: NodeContext, then: Block, other: Block) -> None:
    """Yield single elements of one rank: models have f32[] in one branch and f32[1] in the other, ONNX's own do."""
    for at, (a, b) in enumerate(zip(then.terminator.operands, other.terminator.operands, strict=False)):
        if a is None or b is None or not _single(a) or not _single(b):
            continue
        rank = max(tensor_type(a).rank, tensor_type(b).rank)
        for region, value in ((then, a), (other, b)):
            if tensor_type(value).rank < rank:
                last = region.terminator
                shaped = c.importer.builder_before(last).emit("reshape", value, shape=(1,) * rank)
                last.set_operand(at, shaped)


def _single(value: Value) -> bool:
    return isinstance(value.type, TensorType) and all(d == 1 for d in value.type.dims)


def _settled(
    c: NodeContext, graph: onnx_ir.Graph, lead: Sequence[Type], carried: Sequence[Type | DType], skip: int
) -> Block:
    """The region of a loop's graph with carried types that its results keep to: dims that change become symbols.

    A carried value given as a dtype is a sequence without members: the body tells the rank of what it puts in. Where
    that is not one rank, members are unranked.
    """
    empty = [i for i, t in enumerate(carried) if isinstance(t, DType)]
    if not empty:
        return _settled_types(c, graph, lead, [t for t in carried if not isinstance(t, DType)], skip)
    symbols, fault = dict(c.module.symbols), None
    for rank in (*range(MOST_DIMS), None):
        types = [_sequence_of(c, t, rank) if isinstance(t, DType) else t for t in carried]
        try:
            with c.importer.attempt():
                region = _settled_types(c, graph, lead, types, skip)
            if rank is None or not any(_has_no_rank(region.args[len(lead) + i].type) for i in empty):
                return region
            _restore(c, symbols)
        except MaiaError as error:
            fault = fault or error
            _restore(c, symbols)
    assert fault is not None
    raise fault


def _has_no_rank(type: Type) -> bool:
    return isinstance(type, SequenceType) and isinstance(type.element, UnrankedType)


def _sequence_of(c: NodeContext, dtype: DType, rank: int | None) -> SequenceType:
    if rank is None:
        return SequenceType(UnrankedType(dtype))
    return SequenceType(TensorType(dtype, tuple(sym(c.module.fresh_symbol("c").name) for _ in range(rank))))


def _restore(c: NodeContext, symbols: dict[str, Symbol]) -> None:
    """Forget the symbols of an attempt."""
    c.module.symbols.clear()
    c.module.symbols.update(symbols)
    c.importer.carried &= set(symbols)


def _settled_types(c: NodeContext, graph: onnx_ir.Graph, lead: Sequence[Type], types: list[Type], skip: int) -> Block:
    opened: set[str] = set()
    for _ in range(3):
        symbols = dict(c.module.symbols)
        region = c.region(graph, [*lead, *types])
        after = [v.type for v in region.terminator.operands[skip : skip + len(types)] if v is not None]
        if all(_keeps(new, old, opened) for new, old in zip(after, types, strict=True)):
            return region
        _restore(c, symbols)
        types = [t if _keeps(a, t, opened) else _opened(c, t, a, opened) for a, t in zip(after, types, strict=True)]
    c.fail("the types of its carried values do not settle")


def _keeps(new: Type, old: Type, opened: set[str]) -> bool:
    """Whether a carried value may have the new type after a step, its parameter being of the old one."""
    match new, old:
        case TensorType(), TensorType():
            pairs = zip(new.dims, old.dims, strict=True) if new.rank == old.rank else [(0, 1)]
            return new.dtype == old.dtype and all(a == b or str(b) in opened for a, b in pairs)
        case (SequenceType(), SequenceType()) | (OptionalType(), OptionalType()):
            a, b = new.element, old.element
            same = isinstance(a, TensorType) and isinstance(b, TensorType) and a.rank == b.rank and a.dtype == b.dtype
            return same or isinstance(b, UnrankedType) or _keeps(a, b, opened)
        case _, OptionalType():
            return _keeps(new, old.element, opened)
        case _:
            return new == old


def _opened(c: NodeContext, old: Type, new: Type, opened: set[str]) -> Type:
    """The old type with a fresh symbol for each dim that the body changes; members of any rank where that changes."""
    match old, new:
        case SequenceType(element=TensorType() as member), SequenceType(element=UnrankedType() | TensorType()):
            return SequenceType(UnrankedType(member.element))
        case OptionalType(), _:
            return OptionalType(_opened(c, old.element, new.element if isinstance(new, OptionalType) else new, opened))
        case _:
            pass
    if not isinstance(old, TensorType) or not isinstance(new, TensorType) or old.rank != new.rank:
        c.fail(f"a carried value changes from {old} to {new}")
    dims = [b if a == b else sym(c.module.fresh_symbol("c").name) for a, b in zip(new.dims, old.dims, strict=True)]
    fresh = {str(d) for d, b in zip(dims, old.dims, strict=True) if d != b}
    opened |= fresh
    c.importer.carried |= fresh
    return TensorType(old.dtype, tuple(dims))


@onnx_op("Loop")
def loop(c: NodeContext) -> list[Value]:
    """A graph repeated up to a count, while a condition holds."""
    graph: onnx_ir.Graph = c.attr("body")
    slots = [c.slot(i) for i in range(2, len(c.inputs))]
    scans = len(graph.outputs) - 1 - len(slots)
    lead = (TensorType(DType.I64), TensorType(DType.BOOL))
    region = _settled(c, graph, lead, [_carried_type(c, s) for s in slots], 1)
    trips = c.reshape(c[0], ()) if c.has(0) else None
    go = c.reshape(c[1], ()) if c.has(1) else None
    carried = [_carried(c, s, a.type) for s, a in zip(slots, region.args[2:], strict=True)]
    _flatten_condition(c, region)
    return list(c.emit_op("loop", trips, go, *carried, regions=[region], scans=scans).results)


def _carried_type(c: NodeContext, slot: Slot) -> Type | DType:
    """The type of an initial value; a sequence without members has only a dtype."""
    if slot.items == []:
        assert slot.dtype is not None
        return slot.dtype
    return c.importer.value_of(slot).type


def _carried(c: NodeContext, slot: Slot, type: Type) -> Value:
    """An initial value; a sequence without members as the body's parameter has it."""
    if slot.items == [] and isinstance(type, SequenceType) and isinstance(type.element, TensorType):
        return c.emit("sequence_empty", dtype=type.element.element, rank=type.element.rank)
    if slot.items == [] and isinstance(type, SequenceType) and isinstance(type.element, UnrankedType):
        return c.emit("sequence_empty", dtype=type.element.dtype)
    return c.importer.value_of(slot)


def _flatten_condition(c: NodeContext, region: Block) -> None:
    """The loop's condition as bool[]: models also yield bool[1]."""
    last = region.terminator
    condition = last.operand(0)
    if tensor_type(condition).rank:
        builder = c.importer.builder_before(last)
        last.set_operand(0, builder.emit("reshape", condition, shape=()))


@onnx_op("Scan", since=9)
def scan(c: NodeContext) -> list[Value]:
    """A graph over slices of its inputs: a loop that takes slice i and stacks what it makes."""
    return _scan(c, 0, len(c.inputs))


@onnx_op("Scan")
def scan_batched(c: NodeContext) -> list[Value]:
    """Opset 8: a batch dim stands in front, and is walked here where it is a number."""
    batch = c.dim(1, 0)
    rows: list[list[Value]] = []
    for n in range(batch):
        taken = [
            c.reshape(c.emit("slice", c[i], dim=0, start=n, end=n + 1), c.shape(i)[1:]) for i in range(1, len(c.inputs))
        ]
        rows.append(_scan_values(c, taken))
    joined: list[Value] = []
    for parts in zip(*rows, strict=True):
        lifted = [c.reshape(p, (1, *tensor_type(p).dims)) for p in parts]
        joined.append(lifted[0] if batch == 1 else c.emit("concat", *lifted, dim=0))
    return joined


def _scan(c: NodeContext, first: int, end: int) -> list[Value]:
    return _scan_values(c, [c[i] for i in range(first, end)])


def _scan_values(c: NodeContext, values: list[Value]) -> list[Value]:
    graph: onnx_ir.Graph = c.attr("body")
    count = int(c.attr("num_scan_inputs"))
    states, scanned = values[: len(values) - count], values[len(values) - count :]
    outputs = len(graph.outputs) - len(states)
    axes = c.ints("scan_input_axes") or [0] * count
    back = c.ints("scan_input_directions") or [0] * count
    scanned = [_fronted(c, v, axes[i], bool(back[i])) for i, v in enumerate(scanned)]
    steps = tensor_type(scanned[0]).dims[0]
    types = [v.type for v in states] + [tensor_type(v).with_dims(tensor_type(v).dims[1:]) for v in scanned]
    region = c.importer.scan_region(graph, types, scanned, len(states))
    trips = c.emit("dim_tensor", value=steps)
    results: list[Value] = list(c.emit_op("loop", trips, None, *states, regions=[region], scans=outputs).results)
    out_axes = c.ints("scan_output_axes") or [0] * outputs
    out_back = c.ints("scan_output_directions") or [0] * outputs
    for i in range(outputs):
        at = len(states) + i
        results[at] = _placed(c, results[at], out_axes[i], bool(out_back[i]))
    return results


def _fronted(c: NodeContext, x: Value, axis: int, reverse: bool) -> Value:
    rank = tensor_type(x).rank
    axis %= rank
    x = c.transpose(x, [axis, *(i for i in range(rank) if i != axis)])
    return c.emit("flip", x, dims=(0,)) if reverse else x


def _placed(c: NodeContext, x: Value, axis: int, reverse: bool) -> Value:
    x = c.emit("flip", x, dims=(0,)) if reverse else x
    rank = tensor_type(x).rank
    order = list(range(1, rank))
    order.insert(axis % rank, 0)
    return c.transpose(x, order)
