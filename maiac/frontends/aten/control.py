"""Higher-order operations: branches, loops, and wrappers whose graph is written out in place."""

from __future__ import annotations

from typing import Any

from torch import fx

from maiac.ir.builder import Builder
from maiac.ir.graph import Block, Value

from ..importer import Context, is_tensor, type_of
from .factor import check_info
from .registry import Unsupported, aten


@aten("hop::wrap_with_set_grad_enabled", "hop::wrap_with_autocast", "hop::wrap", "hop::invoke_subgraph",
      "hop::tag_activation_checkpoint")  # fmt: skip
def inlined(c: Context, *args: Any, **_: Any) -> Any:
    """The wrapped graph itself: gradients and autocast have left their marks on its ops already."""
    at = next(i for i, a in enumerate(args) if isinstance(a, fx.GraphModule))
    operands = [a for a in args[at + 1 :] if not isinstance(a, str)]
    return graph_in(c, args[at], c.builder.block, operands)


def graph_in(c: Context, gm: fx.GraphModule, block: Block, operands: list[Any]) -> Any:
    """A graph's ops at the end of a block, over given operands; its outputs."""
    inputs = dict(zip((n for n in gm.graph.nodes if n.op == "placeholder"), operands, strict=True))
    return c.importer.run(gm.graph, gm, block, inputs)


def _yielding(c: Context, gm: fx.GraphModule, block: Block, operands: list[Any]) -> Block:
    outputs = graph_in(c, gm, block, operands)
    values = [outputs] if isinstance(outputs, Value) else list(outputs)
    if not all(is_tensor(v) for v in values):
        raise Unsupported("a branch or loop that gives something else than tensors")
    Builder(c.importer.module, block).yield_(values)
    return block


@aten("hop::cond")
def cond(c: Context, condition: Any, then: fx.GraphModule, other: fx.GraphModule, operands: list[Any]) -> Any:
    """One of two graphs, by a truth value."""
    regions = [_yielding(c, gm, Block(), list(operands)) for gm in (then, other)]
    condition = c.reshape(c.scalar(condition), ())
    return tuple(c.builder.emit_op("if", (condition,), {}, regions).results)


@aten("hop::while_loop")
def while_loop(c: Context, test: fx.GraphModule, body: fx.GraphModule, carried: list[Any], extra: list[Any]) -> Any:
    """A graph repeated while another says so."""
    if not all(is_tensor(v) for v in carried):
        raise Unsupported("a loop that carries something else than tensors")
    regions: list[Block] = []
    for gm in (test, body):
        block = Block([type_of(v) for v in carried])
        regions.append(_yielding(c, gm, block, [*block.args, *extra]))
    return tuple(c.builder.emit_op("while", tuple(carried), {}, regions).results)


@aten("hop::with_effects")
def with_effects(c: Context, token: Any, op: Any, *args: Any, **_: Any) -> Any:
    """An operation with an effect on the world: assertions are left out, others have no Maia form."""
    if "_linalg_check_errors" in str(op):
        check_info(c, args[0], str(args[1]))
        return None, None
    if "_assert" in str(op) or "print" in str(op):
        return None, None
    raise Unsupported(str(op))
