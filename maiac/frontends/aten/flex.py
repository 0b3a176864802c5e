"""flex_attention: the attention op where the score function is of a known kind, else what eager computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import torch
from torch import fx
from torch._higher_order_ops.flex_attention import math_attention

from maiac.ir.dtypes import DType
from maiac.ir.graph import Value

from ..importer import Context, type_of
from .registry import Unsupported, aten
from .tracing import traced

_aten = torch.ops.aten
_torch_flex: Any = import_module("torch.nn.attention.flex_attention")


@dataclass
class _Score:
    """What a score function does: cap the score, then add biases and hide positions."""

    softcap: float = 0.0
    biases: list[tuple[str, fx.Node]] = field(default_factory=list[tuple[str, fx.Node]])  # (add or sub, addend)
    shown: list[fx.Node] = field(default_factory=list[fx.Node])


@aten("hop::flex_attention")
def flex_attention(c: Context, *args: Any, **kwargs: Any) -> Any:
    """(y, logsumexp, greatest scores) of q, k, v with functions that change scores and hide positions."""
    if kwargs:
        raise Unsupported(f"flex_attention with {', '.join(kwargs)} by name")
    more = any(u.users for u in c.node.users if u.args[1] != 0)
    score = None if more else _read_score(args[3])
    if score is None:
        return traced(c, math_attention, c.node.args, args)
    return _attention(c, args, score), None, None


def _attention(c: Context, args: Sequence[Any], score: _Score) -> Value:
    q, k, v, score_mod, block_mask, scale, _, score_buffers, mask_buffers = args
    nodes: Any = c.node.args
    unread = [torch.empty(())]  # what stands for the score where nothing depends on it

    def of_score(node: fx.Node) -> Value:
        return _everywhere(c, _part(score_mod, node), unread, [q, k, *score_buffers], [*nodes[:2], *nodes[7]])

    shown = [of_score(n) for n in score.shown]
    shown.append(_everywhere(c, block_mask[-1], [], [q, k, *mask_buffers], [*nodes[:2], *nodes[8]]))
    mask = shown[0]
    for other in shown[1:]:
        mask = c.emit("logical_and", mask, other)
    if score.biases:
        mask = _biased(c, mask, [(sign, of_score(n)) for sign, n in score.biases])
    return c.emit("attention", q, k, v, mask, scale=float(scale), softcap=score.softcap)


def _biased(c: Context, shown: Value, biases: list[tuple[str, Value]]) -> Value:
    """The sum of biases where positions are shown, minus infinity elsewhere."""
    wide = DType.F64 if any(type_of(b).dtype is DType.F64 for _, b in biases) else DType.F32
    total = c.full(0.0, (), wide)
    for sign, bias in biases:
        total = c.emit(sign, total, c.cast(bias, wide))
    return c.emit("where", shown, total, c.full(float("-inf"), (), wide))


def _everywhere(c: Context, graph: fx.GraphModule, lead: list[Any], operands: list[Any], nodes: list[Any]) -> Value:
    """A graph of (lead..., b, h, i, j, buffers...) for all positions of q and k; dims that it does not read are 1.

    operands: q, k and the buffers.
    """
    from torch._dynamo._trace_wrapped_higher_order_op import TransformGetItemToIndex

    placeholders = [n for n in graph.graph.nodes if n.op == "placeholder"]
    read = [bool(n.users) for n in placeholders[len(lead) : len(lead) + 4]]

    def function(q: torch.Tensor, k: torch.Tensor, *buffers: Any) -> Any:
        sizes = [*q.shape[:3], k.shape[2]]
        places = [torch.arange(n if r else 1) for n, r in zip(sizes, read, strict=True)]
        everywhere = _torch_flex._vmap_for_bhqkv(graph, prefix=(None,) * len(lead), suffix=(None,) * len(buffers))
        with TransformGetItemToIndex():
            return everywhere(*lead, *places, *buffers)

    return traced(c, function, nodes, operands)


def _part(graph: fx.GraphModule, node: fx.Node) -> fx.GraphModule:
    """The same graph with one of its nodes for a result."""
    part, env = fx.Graph(), dict[fx.Node, fx.Node]()
    part.graph_copy(graph.graph, env)
    part.output(env[node])
    part.eliminate_dead_code()
    return fx.GraphModule(graph, part)


def _read_score(graph: fx.GraphModule) -> _Score | None:
    """The score function in known terms; None where it has none."""
    nodes = list(graph.graph.nodes)
    result = nodes[-1].args[0]
    result = result[0] if isinstance(result, (tuple, list)) else result
    return _read(result, nodes[0]) if isinstance(result, fx.Node) else None


def _read(node: fx.Node, score: fx.Node) -> _Score | None:
    """A node as a function of the score; every other part of it must not depend on the score."""
    if node is score:
        return _Score()
    if node.op != "call_function":
        return None
    if node.target is _aten.mul.Tensor:
        cap = _softcap(node, score)
        return None if cap is None else _Score(cap)
    if node.target is _aten.where.self:
        return _read_where(node, score)
    if node.target not in (_aten.add.Tensor, _aten.sub.Tensor) or node.kwargs:
        return None
    left, right = node.args
    adds = node.target is _aten.add.Tensor
    if adds and isinstance(left, fx.Node) and not _depends(left, score):
        left, right = right, left
    if not isinstance(left, fx.Node) or not _is_bias(right, score):
        return None
    found = _read(left, score)
    if found is not None and isinstance(right, fx.Node):
        found.biases.append(("add" if adds else "sub", right))
    return found


def _read_where(node: fx.Node, score: fx.Node) -> _Score | None:
    """where(c, changed score, -inf)."""
    shown, kept, hidden = node.args
    if not isinstance(shown, fx.Node) or not isinstance(kept, fx.Node) or _depends(shown, score):
        return None
    if _number(hidden) != float("-inf"):
        return None
    found = _read(kept, score)
    if found is not None:
        found.shown.append(shown)
    return found


def _softcap(node: fx.Node, score: fx.Node) -> float | None:
    """cap of ``cap * tanh(score / cap)``."""
    tanh, cap = node.args
    if _number(tanh) is not None:
        tanh, cap = cap, tanh
    number = _number(cap)
    if number is None or not isinstance(tanh, fx.Node) or tanh.target is not _aten.tanh.default:
        return None
    inner = tanh.args[0]
    if not isinstance(inner, fx.Node) or inner.args[:1] != (score,) or number <= 0:
        return None
    divided = inner.target is _aten.div.Tensor and _number(inner.args[1]) == number
    scaled = inner.target is _aten.mul.Tensor and _number(inner.args[1]) == 1 / number
    return number if divided or scaled else None


def _is_bias(node: Any, score: fx.Node) -> bool:
    """Whether an addend is a tensor that does not depend on the score, and does not make the sum wider."""
    if not isinstance(node, fx.Node) or _depends(node, score):
        return False
    val, known = node.meta.get("val"), score.meta.get("val")
    if not isinstance(val, torch.Tensor) or not isinstance(known, torch.Tensor):
        return False
    scores = torch.promote_types(known.dtype, torch.float32)  # which eager computes in
    return torch.promote_types(val.dtype, scores) is scores


def _depends(node: fx.Node, on: fx.Node) -> bool:
    return node is on or any(_depends(n, on) for n in node.all_input_nodes)


def _number(node: Any) -> float | None:
    """The number that an argument is, or that a node makes a tensor of."""
    if isinstance(node, (int, float)):
        return float(node)
    makers = (_aten.scalar_tensor.default, _aten.full.default)
    if isinstance(node, fx.Node) and node.target in makers:
        value = node.args[-1]
        return float(value) if isinstance(value, (int, float)) else None
    return None
