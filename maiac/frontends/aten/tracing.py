"""Operations that torch defines by code of its own: that code is traced, and imported in the operation's place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from maiac.ir.dims import Dim
from maiac.ir.graph import Value

from ..decompositions import compile_table
from ..importer import Context, to_torch, type_of


def traced(c: Context, function: Callable[..., Any], nodes: Sequence[Any], operands: Sequence[Any]) -> Any:
    """The ATen operations of ``function(*operands)``, traced with what torch knows of the fx nodes behind them.

    Operands may be nested lists; those that are neither values nor dims are constants.
    """
    given, tree = pytree.tree_flatten(list(operands))
    behind = pytree.tree_leaves(list(nodes))
    places = [i for i, v in enumerate(given) if isinstance(v, (Value, Dim))]

    def flattened(*inputs: Any) -> Any:
        filled = list(given)
        for place, value in zip(places, inputs, strict=True):
            filled[place] = value
        return function(*pytree.tree_unflatten(filled, tree))

    with _fake_mode(c.node):
        examples = [_example(behind[i], given[i]) for i in places]
        gm = make_fx(flattened, decomposition_table=compile_table())(*examples)
    return graph_in(c, gm, [given[i] for i in places])


def _example(node: fx.Node, value: Any) -> Any:
    """The fake tensor or symbolic integer of an operand; tensors that a graph holds have none but their type."""
    if "val" in node.meta:
        return node.meta["val"]
    type, shape = type_of(value), list[int]()
    for dim in type.dims:
        assert isinstance(dim, int), "a tensor that a graph holds has known sizes"
        shape.append(dim)
    return torch.empty(shape, dtype=to_torch(type.element))


def _fake_mode(node: fx.Node) -> Any:
    """The mode of the trace that the node stands in."""
    from torch._guards import detect_fake_mode

    vals = pytree.tree_leaves([n.meta.get("val") for n in node.graph.nodes])
    mode = detect_fake_mode([v for v in vals if isinstance(v, torch.Tensor)])
    assert mode is not None, "a graph without fake tensors"
    return mode


def graph_in(c: Context, gm: fx.GraphModule, operands: Sequence[Any]) -> Any:
    """A graph's ops in the place of the node, over given operands and with its location where they have none."""
    for node in gm.graph.nodes:
        for key in ("stack_trace", "nn_module_stack"):
            if not node.meta.get(key) and c.node.meta.get(key):
                node.meta[key] = c.node.meta[key]
    inputs = dict(zip((n for n in gm.graph.nodes if n.op == "placeholder"), operands, strict=True))
    return c.importer.run(gm.graph, gm, c.builder.block, inputs)
