"""Higher-order operations: branches, loops, and wrappers whose graph is written out in place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from maiac.ir.builder import Builder
from maiac.ir.dims import Dim
from maiac.ir.dtypes import DType
from maiac.ir.graph import Block, Value
from maiac.ir.types import TensorType

from ..importer import Context, is_tensor, type_of
from ..prefix import generic_scan
from .factor import check_info
from .registry import Unsupported, aten
from .tracing import graph_in, traced


@aten("hop::wrap_with_set_grad_enabled", "hop::wrap_with_autocast", "hop::wrap", "hop::invoke_subgraph",
      "hop::tag_activation_checkpoint")  # fmt: skip
def inlined(c: Context, *args: Any, **_: Any) -> Any:
    """The wrapped graph itself: gradients and autocast have left their marks on its ops already."""
    at = next(i for i, a in enumerate(args) if isinstance(a, fx.GraphModule))
    return graph_in(c, args[at], [a for a in args[at + 1 :] if not isinstance(a, str)])


def _region(c: Context, gm: fx.GraphModule, block: Block, operands: Sequence[Any], lead: Sequence[Value] = ()) -> Block:
    """The block, filled with a graph's ops over given operands; it yields ``lead`` and what the graph gives."""
    outer, c.builder = c.builder, Builder(c.importer.module, block, loc=c.builder.loc)
    try:
        outputs = graph_in(c, gm, operands)
        outputs = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
        c.builder.yield_([*lead, *(_as_tensor(c, v) for v in outputs)])
    finally:
        c.builder = outer
    return block


def _as_tensor(c: Context, value: Any) -> Value:
    """A value that a region gives or a loop carries: numbers as tensors of rank 0."""
    if not is_tensor(value) and not isinstance(value, (bool, int, float, Dim)):
        raise Unsupported("a branch or loop that gives something else than tensors and numbers")
    return c.scalar(value)


def _as_traced(c: Context, values: Sequence[Value]) -> tuple[Any, ...]:
    """The results of a node: where torch traced symbolic integers, symbols bound to them."""
    return tuple(_bound(c, v, val) for v, val in zip(values, c.val, strict=True))


def _bound(c: Context, value: Value, val: Any) -> Any:
    """A tensor of rank 0 as the integer that torch has for it; other values as they are."""
    if not isinstance(val, torch.SymInt):
        return value
    dim = c.as_dim(value)
    if val.node.expr.is_Symbol:
        c.symbols.adopt(str(val.node.expr), dim)
    return dim


@aten("hop::cond")
def cond(c: Context, condition: Any, then: fx.GraphModule, other: fx.GraphModule, operands: list[Any]) -> Any:
    """One of two graphs, by a truth value."""
    regions = [_region(c, gm, Block(), operands) for gm in (then, other)]
    condition = c.reshape(c.scalar(condition), ())
    return _as_traced(c, c.builder.emit_op("if", (condition,), {}, regions).results)


@aten("hop::while_loop")
def while_loop(c: Context, test: fx.GraphModule, body: fx.GraphModule, carried: list[Any], extra: list[Any]) -> Any:
    """A graph repeated while another says so; it carries tensors and numbers."""
    init = [_as_tensor(c, v) for v in carried]
    regions: list[Block] = []
    for gm in (test, body):
        block = Block([type_of(v) for v in init])
        regions.append(_region(c, gm, block, [*_parameters(c, gm, block), *extra]))
    return _as_traced(c, c.builder.emit_op("while", tuple(init), {}, regions).results)


def _parameters(c: Context, gm: fx.GraphModule, block: Block) -> list[Any]:
    """A region's parameters as its graph takes them."""
    outer, c.builder = c.builder, Builder(c.importer.module, block, loc=c.builder.loc)
    try:
        vals = [n.meta.get("val") for n in gm.graph.find_nodes(op="placeholder")]
        for val in vals:  # both regions of a loop have one symbol for what each of them binds
            if isinstance(val, torch.SymInt):
                c.symbols.known.pop(str(val.node.expr), None)
        return [_bound(c, arg, val) for arg, val in zip(block.args, vals, strict=False)]
    finally:
        c.builder = outer


@aten("hop::scan")
def scan(c: Context, gm: fx.GraphModule, init: list[Value], xs: list[Value], extra: list[Any]) -> Any:
    """A graph of (carried..., slices..., extra...) over the first dim of xs: the last carried, the rest stacked."""
    block = Block([TensorType(DType.I64), TensorType(DType.BOOL), *(type_of(v) for v in init)])
    at, go, *carried = block.args
    inside = Builder(c.importer.module, block, loc=c.builder.loc)
    slices = [inside.emit("gather", x, at, dim=0) for x in xs]
    region = _region(c, gm, block, [*carried, *slices, *extra], [go])
    trips = c.emit("dim_tensor", value=type_of(xs[0]).dims[0])
    stacked = len(region.terminator.operands) - 1 - len(init)
    made = c.builder.emit_op("loop", (trips, None, *init), {"scans": stacked}, [region])
    return tuple(made.results)


@aten("hop::map_impl")
def map_impl(c: Context, gm: fx.GraphModule, xs: list[Value], extra: list[Any]) -> Any:
    """A graph for each slice along the first dim of xs, its results stacked."""
    return scan(c, gm, [], xs, extra)


@aten("hop::associative_scan")
def associative_scan(c: Context, gm: fx.GraphModule, xs: list[Value], extra: list[Any]) -> Any:
    """For each position, an associative graph over all slices up to it."""
    combine = torch.vmap(gm, in_dims=(0,) * (2 * len(xs)) + (None,) * len(extra))

    def function(leaves: list[Any], held: list[Any]) -> Any:
        return generic_scan(combine, leaves, additional_inputs=held)

    return tuple(traced(c, function, [c.node.args[1], c.node.args[2]], [xs, extra]))


@aten("hop::with_effects")
def with_effects(c: Context, token: Any, op: Any, *args: Any, **_: Any) -> Any:
    """An operation with an effect on the world: assertions are left out, others have no Maia form."""
    if "_linalg_check_errors" in str(op):
        check_info(c, args[0], str(args[1]))
        return None, None
    if "_assert" in str(op) or "print" in str(op):
        return None, None
    raise Unsupported(str(op))
