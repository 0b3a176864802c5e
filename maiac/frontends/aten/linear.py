"""Matrix products and attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from maiac.ir.graph import Result, Value

from ..importer import Context, Number, type_of
from .reduce import p_norm
from .registry import Unsupported, aten
from .tracing import traced


@aten("linear.default")
def linear(c: Context, x: Value, w: Value, bias: Value | None = None) -> Value:
    """x w^T + bias."""
    return c.emit("linear", x, w, bias)


@aten("matmul.default", "bmm.default", "dot.default", "mv.default")
def matmul(c: Context, x: Value, y: Value) -> Value:
    """The matrix product of the last two dims."""
    return c.emit("matmul", x, y)


@aten("mm.default")
def mm(c: Context, x: Value, y: Value) -> Value:
    """A product of matrices; by a transposed one it is a projection."""
    w = _transposed(y)
    return c.emit("matmul", x, y) if w is None else c.emit("linear", x, w)


def _transposed(y: Value) -> Value | None:
    """What y is the transpose of."""
    if isinstance(y, Result) and y.op.name == "transpose" and y.op.attrs["perm"] == (1, 0):
        return y.op.operand(0)
    return None


@aten("addmm.default")
def addmm(c: Context, bias: Value, x: Value, y: Value, *, beta: Number = 1, alpha: Number = 1) -> Value:
    """beta bias + alpha x y; the plain form by a transposed matrix is a projection with bias."""
    w = _transposed(y)
    plain = beta == 1 and alpha == 1
    if w is not None and plain and type_of(bias).dims == type_of(w).dims[:1]:
        return c.emit("linear", x, w, bias)
    return _added(c, bias, c.emit("matmul", x, y), beta, alpha)


def _added(c: Context, bias: Value, product: Value, beta: Number, alpha: Number) -> Value:
    if c.dtype.is_integer:
        alpha, beta = int(alpha), int(beta)  # as eager: numbers take the matrices' dtype
    if alpha != 1:
        product = c.emit("mul", product, c.scalar(alpha, product))
    if beta == 0:
        return product
    if beta != 1:
        bias = c.emit("mul", bias, c.scalar(beta, bias))
    return c.emit("add", bias, product)


@aten("baddbmm.default", "addmv.default", "addbmm.default")
def baddbmm(c: Context, bias: Value, x: Value, y: Value, *, beta: Number = 1, alpha: Number = 1) -> Value:
    """beta bias + alpha x y for each batch."""
    product = c.emit("matmul", x, y)
    if c.name == "addbmm":
        product = c.emit("sum", product, dims=(0,))
    return _added(c, bias, product, beta, alpha)


@aten("einsum.default")
def einsum(c: Context, equation: str, operands: list[Value], path: Any = None) -> Value:
    """Einstein summation; ellipses and implicit results are written out."""
    return c.emit("einsum", *operands, equation=_explicit(equation.replace(" ", ""), operands))


_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _explicit(equation: str, operands: list[Value]) -> str:
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    spare = [x for x in _LETTERS if x not in equation]
    ranks = [type_of(o).rank - len(t.replace("...", "")) for t, o in zip(terms, operands, strict=True)]
    if not arrow:
        once = sorted(x for x in set(left) if x.isalpha() and left.count(x) == 1)
        right = ("..." if "..." in left else "") + "".join(once)
    most = max((r for t, r in zip(terms, ranks, strict=True) if "..." in t), default=0)
    if most > len(spare):
        raise Unsupported(f"einsum {equation!r} with so many dims")
    letters = "".join(spare[:most])
    written = [t.replace("...", letters[most - r :] if r else "") for t, r in zip(terms, ranks, strict=True)]
    return ",".join(written) + "->" + right.replace("...", letters)


@aten("scaled_dot_product_attention.default")
def attention(
    c: Context, q: Value, k: Value, v: Value, mask: Value | None = None, dropout: float = 0.0, causal: bool = False,
    *, scale: float | Value | None = None, enable_gqa: bool = False,
) -> Value:  # fmt: skip
    """Scaled dot-product attention, grouped queries included."""
    if isinstance(scale, Value):  # a scale computed from a size: the product takes it before the softmax does
        q, scale = c.emit("mul", q, scale), 1.0
    if dropout:
        return _attention_with_dropout(c, [q, k, v, mask], dropout, causal, scale, enable_gqa)
    return c.emit("attention", q, k, v, mask, causal=causal, scale=scale)


def _attention_with_dropout(
    c: Context, operands: Sequence[Value | None], dropout: float, causal: bool, scale: float | None, grouped: bool
) -> Value:
    """Spelled out, because dropout comes between the softmax and the values."""

    def spelled_out(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        if grouped:
            k, v = (x.repeat_interleave(q.shape[-3] // x.shape[-3], -3) for x in (k, v))
        scores = q @ k.transpose(-2, -1) * (q.shape[-1] ** -0.5 if scale is None else scale)
        if causal:
            mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
        if mask is not None:
            scores = scores.masked_fill(~mask, -math.inf) if mask.dtype is torch.bool else scores + mask
        weights = torch.ops.aten._safe_softmax(scores, -1)  # 0 where a query sees no key
        return torch.native_dropout(weights, dropout, True)[0] @ v

    node = c.node
    mask = node.args[3] if len(node.args) > 3 else node.kwargs.get("attn_mask")
    return traced(c, spelled_out, [*node.args[:3], mask], operands)


@aten("_scaled_dot_product_flash_attention_for_cpu.default")
def flash_attention(
    c: Context, q: Value, k: Value, v: Value, dropout: float = 0.0, causal: bool = False,
    *, attn_mask: Value | None = None, scale: float | None = None,
) -> Any:  # fmt: skip
    """The fused kernel that eager picks; its second output serves the gradient."""
    if dropout:
        raise Unsupported("attention with dropout")
    if _read(c, 1):
        return c.emit_all("attention_lse", q, k, v, attn_mask, causal=causal, scale=scale)
    return c.emit("attention", q, k, v, attn_mask, causal=causal, scale=scale), None


def _read(c: Context, output: int) -> bool:
    """Whether anything reads an output of the node."""
    return any(user.args[1] == output for user in c.node.users)


@aten("_scaled_dot_product_flash_attention_for_cpu_backward.default")
def flash_attention_backward(
    c: Context, grad: Value, q: Value, k: Value, v: Value, out: Value, lse: Value, dropout: float, causal: bool,
    *, attn_mask: Value | None = None, scale: float | None = None,
) -> Any:  # fmt: skip
    """Gradients of the fused attention."""
    return c.emit_all("attention_grad", grad, q, k, v, out, lse, attn_mask, causal=causal, scale=scale)


@aten("_trilinear.default")
def trilinear(
    c: Context, x: Value, y: Value, z: Value, new_x: list[int], new_y: list[int], new_z: list[int], over: list[int],
    unroll: int = 1,
) -> Value:  # fmt: skip
    """The product of three tensors, each with new dims of size 1, summed over dims."""
    parts: list[Value] = []
    for value, new in ((x, new_x), (y, new_y), (z, new_z)):
        left = iter(type_of(value).dims)
        parts.append(c.reshape(value, [1 if d in new else next(left) for d in range(type_of(value).rank + len(new))]))
    product = c.emit("mul", c.emit("mul", parts[0], parts[2]), parts[1])
    return c.emit("sum", product, dims=tuple(over)) if over else product


@aten("_cdist_forward.default", "_euclidean_dist.default")
def cdist(c: Context, x: Value, y: Value, p: float = 2.0, mode: int | None = None) -> Value:
    """Distances between all pairs of rows in the p-norm."""
    (*lead, m, d), (*other, n, _) = type_of(x).dims, type_of(y).dims
    rows, columns = c.reshape(x, (*lead, m, 1, d)), c.reshape(y, (*other, 1, n, d))
    return p_norm(c, c.emit("sub", rows, columns), p, (-1,), False)


@aten("_pdist_forward.default")
def pdist(c: Context, x: Value, p: float = 2.0) -> Value:
    """Distances between all pairs of rows i < j."""
    n, _ = type_of(x).dims
    if not isinstance(n, int):
        raise Unsupported("pdist of a dynamic number of rows")
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n)]
    first, second = (
        (c.emit("iota", end=0), c.emit("iota", end=0))
        if not pairs
        else (_vector(c, s) for s in zip(*pairs, strict=True))
    )
    left, right = (c.emit("gather", x, s, dim=0) for s in (first, second))
    return p_norm(c, c.emit("sub", left, right), p, (-1,), False)


def _vector(c: Context, numbers: tuple[int, ...]) -> Value:
    from maiac.ir.dtypes import DType

    return c.emit("constant", value=numbers, dtype=DType.I64, shape=(len(numbers),))


@aten("transformers::grouped_mm_fallback.default", "_grouped_mm.default")
def grouped_mm(c: Context, x: Value, w: Value, ends: Value | None = None, bias: Value | None = None, *_: Any) -> Value:
    """Rows sorted by expert, each times its expert's matrix."""
    if ends is None or bias is not None or type_of(x).rank != 2 or type_of(w).rank != 3:
        raise Unsupported("a grouped product of other than rows by matrices")
    return c.cast(c.emit("grouped_matmul", x, w, ends), c.dtype)
