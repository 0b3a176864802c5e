"""ONNX Runtime's attention (com.microsoft) as decoders are exported: rotary positions, grouped and many heads."""

from __future__ import annotations

import math

from maiac.ir import DimLike, DType, Value
from maiac.ir.dims import floordiv

from ..context import NodeContext, tensor_type
from ..registry import onnx_op
from .contrib import MICROSOFT
from .linear import projection_weight


@onnx_op("RotaryEmbedding", domain=MICROSOFT)
def rotary_embedding(c: NodeContext) -> Value:
    """Heads turned by the angles of their positions: x[n h t d], or x[n t h*d] with heads side by side."""
    if c.attr("is_packed_batching", 0):
        c.fail("packed batches are not supported")
    x = c[0]
    if c.rank(0) == 3:
        width = c.dim(3, 1) * 2
        heads = int(c.attr("num_heads", 0))
        x = _heads(c, x, heads if heads else floordiv(c.shape(0)[2], width))
    steps = tensor_type(x).dims[2]
    positions = c[1] if c.rank(1) == 2 else c.emit("add", c[1], c.emit("iota", end=steps))
    y = _turned(c, x, positions, 2, bool(c.attr("interleaved", 0)))
    return _side_by_side(c, y) if c.rank(0) == 3 else y


def _turned(c: NodeContext, x: Value, positions: Value, caches: int, interleaved: bool) -> Value:
    """x[n h t d] by the rows of the cos and sin caches [m r/2] at positions[t] or [n t]."""
    angles: list[Value] = []
    for cache in (c[caches], c[caches + 1]):
        half = c.emit("gather", cache, positions, dim=0)
        dims = tensor_type(half).dims
        if interleaved:
            pairs = c.emit("expand", c.reshape(half, (*dims, 1)), shape=(*dims, 2))
            whole = c.reshape(pairs, (*dims[:-1], 2 * dims[-1]))
        else:
            whole = c.emit("concat", half, half, dim=len(dims) - 1)
        made = tensor_type(whole).dims
        whole = whole if len(made) == 2 else c.reshape(whole, (made[0], 1, *made[1:]))
        angles.append(c.cast(whole, tensor_type(x).element))
    return c.emit("rotary", x, *angles, interleaved=interleaved)


@onnx_op("GroupQueryAttention", domain=MICROSOFT)
def group_query_attention(c: NodeContext) -> list[Value]:
    """Causal attention over past and new keys; every sequence of the batch must have as many past ones.

    Queries q[n t h*d] may hold keys and values as well, behind them. Prompts may be padded at the right.
    """
    extra = [i for i in range(10, len(c.inputs)) if c.has(i)]
    if extra or c.attr("smooth_softmax", 0) or c.attr("qk_output", 0) or not c.attr("causal", 1) or c.wants(3):
        c.fail("biases, sinks, norms, quantized caches and outputs of scores are not supported")
    heads, groups = _count(c, "num_heads"), _count(c, "kv_num_heads")
    q, k, v = _queries_keys_values(c, heads, groups)
    steps = tensor_type(q).dims[2]
    past: DimLike = c.shape(3, 4)[2] if c.has(3) else 0
    if c.attr("do_rotary", 0):
        at = c[9] if c.has(9) else c.emit("iota", start=past, end=past + steps)
        q, k = (_turned(c, x, at, 7, bool(c.attr("rotary_interleaved", 0))) for x in (q, k))
    if past != 0:
        _check_lengths(c, past, past + steps)
        k, v = c.emit("concat", c[3], k, dim=2), c.emit("concat", c[4], v, dim=2)
    window = max(int(c.attr("local_window_size", -1)), 0)
    mask = None if past == 0 else _seen(c, past, steps, window)
    scale = float(c.attr("scale", 0.0))
    y = c.emit(
        "attention", q, k, v, mask, causal=mask is None, scale=scale or None, softcap=float(c.attr("softcap", 0.0)),
        window=0 if mask is not None else window,
    )  # fmt: skip
    return [_side_by_side(c, y), k, v]


def _queries_keys_values(c: NodeContext, heads: int, groups: int) -> list[Value]:
    """[n heads t d] of each, from three operands or one."""
    if c.has(1):
        return [_heads(c, c[0], heads), _heads(c, c[1], groups), _heads(c, c[2], groups)]
    size = floordiv(c.shape(0, 3)[2], heads + 2 * groups)
    parts = (heads * size, groups * size, groups * size)
    made = c.emit_op("split", c[0], dim=2, parts=parts).results
    return [_heads(c, x, n) for x, n in zip(made, (heads, groups, groups), strict=True)]


def _check_lengths(c: NodeContext, past: DimLike, total: DimLike) -> None:
    """Stop where sequences have pasts of several lengths, or a buffer that is longer than what it holds."""
    lengths = c.cast(c[5], DType.I64)
    whole = c.emit("eq", lengths, c.emit("dim_tensor", value=total - 1))
    first = c.emit("eq", c.emit("dim_tensor", value=past), c.const(0, DType.I64))
    message = "GroupQueryAttention: seqlens_k + 1 must be the length of past and new keys, for all sequences"
    c.emit_op("check", c.emit("logical_or", whole, first), message=message)


def _seen(c: NodeContext, past: DimLike, steps: DimLike, window: int) -> Value:
    """bool[t s]: which keys each new position sees: up to its own the last ``window``, or all where it is 0."""
    rows = c.reshape(c.emit("iota", start=past, end=past + steps), (steps, 1))
    columns = c.emit("iota", end=past + steps)
    seen = c.emit("le", columns, rows)
    if not window:
        return seen
    before = c.emit("sub", rows, c.const(window, DType.I64))
    return c.emit("logical_and", seen, c.emit("gt", columns, before))


@onnx_op("MultiHeadAttention", domain=MICROSOFT)
def multi_head_attention(c: NodeContext) -> list[Value]:
    """Attention of q[n t h*d] to k[n s h*d] and v, or to k and v [n h s d]."""
    if any(c.has(i) for i in (8, 9)) or not (c.has(1) and c.has(2)) or c.rank(0) != 3 or c.wants(3):
        c.fail("packed operands, cached beams and outputs of scores are not supported")
    heads = _count(c, "num_heads")
    given = [c[0], c[1], c[2]]
    if c.has(3):
        sizes = [tensor_type(x).dims[-1] if tensor_type(x).rank == 3 else 0 for x in given]
        biases = c.emit_op("split", c[3], dim=0, parts=tuple(sizes)).results
        given = [c.emit("add", x, b) if s != 0 else x for x, b, s in zip(given, biases, sizes, strict=True)]
    q, k, v = (_heads(c, x, heads) if tensor_type(x).rank == 3 else x for x in given)
    if c.has(6):
        k, v = c.emit("concat", c[6], k, dim=2), c.emit("concat", c[7], v, dim=2)
    causal, mask = bool(c.attr("unidirectional", 0)), c.opt(5)
    if causal and c.has(6):
        c.fail("causal attention with past keys is not supported; use GroupQueryAttention")
    if c.has(4):
        mask = _padding_mask(c, mask)
    scale = float(c.attr("scale", 0.0))
    y = c.emit("attention", q, k, v, mask, causal=causal, scale=scale or None)
    return [_side_by_side(c, y), k, v]


def _padding_mask(c: NodeContext, bias: Value | None) -> Value:
    """key_padding_mask[n s], 1 for what takes part, with the bias that is added to scores."""
    if c.rank(4) != 2:
        c.fail("key_padding_mask must be [batch, keys]")
    n, s = c.shape(4)
    kept = c.reshape(c.emit("ne", c[4], c.const(0, c.dtype(4))), (n, 1, 1, s))
    if bias is None:
        return kept
    return c.emit("where", kept, bias, c.const_like(float("-inf"), bias))


def _count(c: NodeContext, name: str) -> int:
    """A number of heads."""
    found = int(c.need(name))
    return found if found > 0 else c.fail(f"{name} is {found}", "MAIA0223")


def _heads(c: NodeContext, x: Value, heads: DimLike) -> Value:
    """x[n t h*d] as [n h t d]."""
    if tensor_type(x).rank != 3:
        c.fail(f"an operand is {x.type}; expected 3 dims", "MAIA0223")
    n, t, width = tensor_type(x).dims
    return c.transpose(c.reshape(x, (n, t, heads, floordiv(width, heads))), (0, 2, 1, 3))


def _side_by_side(c: NodeContext, x: Value) -> Value:
    """x[n h t d] as [n t h*d]."""
    n, h, t, d = tensor_type(x).dims
    return c.reshape(c.transpose(x, (0, 2, 1, 3)), (n, t, h * d))


@onnx_op("Attention", domain=MICROSOFT)
def packed_attention(c: NodeContext) -> list[Value]:
    """Attention of x[n t k] to itself and the past, queries, keys and values made by one matrix."""
    if c.attr("do_rotary", 0) or c.attr("past_present_share_buffer", 0) or c.has(6):
        c.fail("rotary positions and shared buffers of the past are not supported")
    heads = _count(c, "num_heads")
    q, k, v = _projected(c, heads)
    steps = tensor_type(q).dims[2]
    past: DimLike = 0
    if c.has(4):
        past = c.shape(4, 5)[3]
        old = [c.reshape(x, tensor_type(x).dims[1:]) for x in c.emit_op("split", c[4], dim=0, parts=(1, 1)).results]
        k, v = (c.emit("concat", before, x, dim=2) for before, x in zip(old, (k, v), strict=True))
    causal = bool(c.attr("unidirectional", 0))
    mask = _kept(c, past + steps) if c.has(3) else None
    if mask is not None:  # a row that sees nothing sees all up to its own place alike, as in ONNX Runtime
        filler = c.const_like(float(c.attr("mask_filter_value", -10000.0)), q)
        mask = c.emit("where", mask, c.const_like(0.0, q), filler)
    if causal and past != 0:
        seen, left = _seen(c, past, steps, 0), c.const_like(0.0, q) if mask is None else mask
        mask, causal = c.emit("where", seen, left, c.const_like(-math.inf, q)), False
    bias = c.opt(5)
    if mask is not None and bias is not None:
        mask = c.emit("add", mask, bias)
    scale = float(c.attr("scale", 0.0))
    y = c.emit("attention", q, k, v, bias if mask is None else mask, causal=causal, scale=scale or None)
    return [_side_by_side(c, y), _stacked(c, k, v) if c.wants(1) else y]


def _projected(c: NodeContext, heads: int) -> list[Value]:
    """[n heads t d] of queries, keys and values."""
    weight = projection_weight(c, 1)
    made = c.emit("matmul", c[0], c[1]) if weight is None else c.emit("linear", c[0], weight)
    made = c.emit("add", made, c[2]) if c.has(2) else made
    third = floordiv(tensor_type(made).dims[2], 3)
    parts = tuple(c.ints("qkv_hidden_sizes") or ()) or (third, third, third)
    return [_heads(c, x, heads) for x in c.emit_op("split", made, dim=2, parts=parts).results]


def _kept(c: NodeContext, total: DimLike) -> Value:
    """bool, broadcast to [n h t s]: which keys a mask leaves. It is 0 or 1 for each, or tells how many count."""
    dims = c.shape(3)
    if len(dims) == 1 and dims == c.shape(0)[:1]:
        count = c.reshape(c[3], (dims[0], 1, 1, 1))
        return c.emit("lt", c.cast(c.emit("iota", end=total), c.dtype(3)), count)
    if len(dims) not in (2, 3):
        c.fail(f"mask_index is {c.type(3)}; it may be [batch], [batch, keys] or [batch, queries, keys]")
    return c.reshape(
        c.emit("ne", c[3], c.const(0, c.dtype(3))), (dims[0], 1, dims[1] if len(dims) == 3 else 1, dims[-1])
    )


def _stacked(c: NodeContext, k: Value, v: Value) -> Value:
    """[2 n h s d]."""
    return c.emit("concat", *(c.reshape(x, (1, *tensor_type(x).dims)) for x in (k, v)), dim=0)


@onnx_op("EmbedLayerNormalization", domain=MICROSOFT)
def embed_layer_norm(c: NodeContext) -> list[Value]:
    """Embeddings of words, positions and segments, their sum normed; with them how much of each row a mask leaves."""
    rows, steps = c.shape(0, 2)
    total = c.emit("embedding", c[2], c[0])
    at = c[8] if c.has(8) else c.emit("iota", end=steps)
    total = c.emit("add", total, c.emit("embedding", c[3], at))
    if c.has(1):
        total = c.emit("add", total, c.emit("embedding", c[4], c[1]))
    y = c.emit("layer_norm", total, c[5], c[6], eps=float(c.attr("epsilon", 1e-12)))
    if c.has(7):
        kept = c.cast(c.emit("sum", c[7], dims=(1,)), DType.I32)
    else:
        kept = c.emit("expand", c.const(0, DType.I32), shape=(rows,))
    return [y, kept, total]
