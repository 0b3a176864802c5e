"""Copies of ops and of whole modules; contents of weights are shared."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from maiac.ir import Block, Function, Location, Module, Op, State, Value, Weight

Relocate = Callable[[Location], Location]


def clone_op(op: Op, mapping: dict[Value, Value], relocate: Relocate = lambda loc: loc) -> Op:
    """A copy of an op, regions included, in no block yet.

    Operands are looked up in ``mapping`` (values that it lacks stay); the copy's results and region parameters are
    added to it.
    """
    operands = [None if v is None else mapping.get(v, v) for v in op.operands]
    new = Op(op.name, operands, op.attrs, [r.type for r in op.results], (), relocate(op.loc))
    for region in op.regions:
        copy = Block(a.type for a in region.args)
        _map(region.args, copy.args, mapping)
        new.add_region(copy)
        clone_ops(region, copy, mapping, relocate)
    _map(op.results, new.results, mapping)
    return new


def clone_ops(
    ops: Iterable[Op],
    into: Block,
    mapping: dict[Value, Value],
    relocate: Relocate = lambda loc: loc,
    before: Op | None = None,
) -> None:
    """Copies of ops at the end of a block, or before one of its ops."""
    for op in ops:
        into.insert(clone_op(op, mapping, relocate), before)


def _map(old: Iterable[Value], new: Iterable[Value], mapping: dict[Value, Value]) -> None:
    for a, b in zip(old, new, strict=True):
        b.name = a.name
        mapping[a] = b


def clone_module(module: Module) -> Module:
    """A copy that later changes of the module do not reach."""
    out = Module(module.name, dict(module.attrs), dict(module.mesh), dict(module.symbols))
    mapping: dict[Value, Value] = {}
    for w in module.weights.values():
        mapping[w] = out.weights[w.name] = Weight(w.name, w.type, w.data, w.attrs)
    for s in module.states.values():
        mapping[s] = out.states[s.name] = State(s.name, s.type, s.data, s.attrs)
    for f in module.functions.values():
        types = [a.type for a in f.args]
        copy = out.add_function(Function(f.name, types, f.result_types, stage=f.stage, attrs=f.attrs, loc=f.loc))
        _map(f.args, copy.args, mapping)
        clone_ops(f.body, copy.body, mapping)
    return out
