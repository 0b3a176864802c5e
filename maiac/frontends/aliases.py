"""Branches and loops whose operands or results share storage, which torch refuses to decompose.

A loop may carry a tensor that its body also reads from outside, and a branch may give back what it was given. Values
of a Maia program have no storage to share, so a copy in front changes nothing but torch's mind.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import Any

import torch
from torch import fx
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import _pytree as pytree

_STRICT = ("cond", "while_loop", "scan", "map_impl", "associative_scan")
_clone = torch.ops.aten.clone.default


@contextlib.contextmanager
def without_aliases(gm: fx.GraphModule) -> Generator[None]:
    """Copies where higher-order operations of a graph want distinct tensors; the graph is as before afterwards."""
    made: list[fx.Node] = []
    graphs = [m for m in gm.modules() if isinstance(m, fx.GraphModule)]
    for graph in graphs:
        for node in [n for n in graph.graph.nodes if str(n.target) in _STRICT]:
            made += _distinct(node, [])
            for region in (getattr(graph, str(a.target)) for a in node.all_input_nodes if a.op == "get_attr"):
                if isinstance(region, fx.GraphModule):
                    made += _distinct(region.graph.output_node(), region.graph.find_nodes(op="placeholder"))
    _recompile(graphs)
    try:
        yield
    finally:
        for node in reversed(made):
            source: Any = node.args[0]
            node.replace_all_uses_with(source)
            node.graph.erase_node(node)
        _recompile(graphs)


def _recompile(graphs: list[fx.GraphModule]) -> None:
    for graph in graphs:
        graph.recompile()


def _distinct(node: fx.Node, taken: list[fx.Node]) -> list[fx.Node]:
    """Copies for operands of a node that share storage with ``taken`` or with an operand before them."""
    seen = {s for n in taken if (s := _storage(n)) is not None}
    made: list[fx.Node] = []

    def operand(arg: Any) -> Any:
        storage = _storage(arg)
        if storage is None or storage not in seen:
            seen.add(storage)
            return arg
        with node.graph.inserting_before(node):
            copy = node.graph.call_function(_clone, (arg,))
        copy.meta = {**arg.meta, "val": torch.empty_like(arg.meta["val"])}
        made.append(copy)
        return copy

    node.args = pytree.tree_map(operand, node.args)
    return made


def _storage(node: Any) -> Any:
    """Which storage a node's tensor lies in; None where it is no tensor."""
    val = node.meta.get("val") if isinstance(node, fx.Node) else None
    return StorageWeakRef(val.untyped_storage()) if isinstance(val, torch.Tensor) else None
