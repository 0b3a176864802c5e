"""Sheets of matrix products and convolutions, in full and low precision, with what follows them."""

from __future__ import annotations

import math

from maiac.ir import DType, Value
from maiac.ir.dims import DimLike, sym
from maiac.ir.types import Quantized

from .sheet import FUSED, Runner, Sheet, dims_of

WIDTHS = (1, 2, 3, 8, 15, 16, 17, 33, 40, 64, 100)
ACTIVATIONS = ("relu", "gelu", "silu", "tanh", "sigmoid", "hardswish")
CODES = (
    Quantized(DType.I8, "channel", (0,)),
    Quantized(DType.U8, "channel", (0,), zero_point=True),
    Quantized(DType.I8, "channel", (0,), zero_point=True),
    Quantized(DType.I8, "group", (32,)),
    Quantized(DType.I4, "group", (32,)),
    Quantized(DType.I4, "group", (16,), zero_point=True),
    Quantized(DType.U4, "group", (8,), zero_point=True),
    Quantized(DType.F8E4M3FN, "channel", (0,)),
    Quantized(DType.F8E5M2, "tensor"),
    Quantized(DType.F8E4M3FN, "mx", (), DType.E8M0),
)
# Sums of up to a hundred products of order one over the root of their number, and what activations make of these.
PRODUCT_ULPS = 16
# Sums of up to 576 such products (2,349 where twice as much is allowed); Winograd's transforms add and subtract some
# more numbers on the way.
CONV_ULPS = 32


def viewed(s: Sheet, dtype: DType, *dims: DimLike) -> Value:
    """A tensor of these dims that may lie in memory in any way that strides can say."""
    kind = s.pick("plain", "plain", "slice", "transpose", "split", "expand", "flip")
    rank = len(dims)
    if kind == "slice":
        at = s.random.randrange(rank)
        wide = s.arg(dtype, *(d + 3 if i == at else d for i, d in enumerate(dims)))
        return s.emit("slice", wide, dim=at, start=2, end=dims[at] + 2)
    if kind == "transpose" and rank > 1:
        order = s.random.sample(range(rank), rank)
        mixed = s.arg(dtype, *(dims[order.index(i)] for i in range(rank)))
        return s.emit("transpose", mixed, perm=tuple(order))
    if kind == "split":
        wide = s.arg(dtype, *dims[:-1], dims[-1] * 2)
        return s.b.emit_op("split", [wide], {"dim": -1, "parts": (dims[-1], dims[-1])}).results[s.pick(0, 1)]
    if kind == "expand":
        return s.emit("expand", s.arg(dtype, *dims[1:]), shape=dims)
    if kind == "flip":
        return s.emit("flip", s.arg(dtype, *dims), dims=(s.random.randrange(rank),))
    return s.arg(dtype, *dims)


def follow(s: Sheet, label: str, y: Value) -> None:
    """What may stand behind a product, and its results."""
    dtype, dims = dims_of(y).element, dims_of(y).dims
    kind = s.pick("none", "activation", "residual", "row", "column", "several", "cast", "long")
    made = [y]
    if kind == "activation":
        made = [s.emit(s.pick(*ACTIVATIONS), y)]
    elif kind == "residual":
        made = [s.emit("add", y, viewed(s, dtype, *dims))]
    elif kind == "row":
        made = [s.emit("mul", s.emit("silu", y), s.arg(dtype, dims[-1]))]
    elif kind == "column":
        made = [s.emit("sub", y, s.arg(dtype, *dims[:-1], 1))]
    elif kind == "several":
        z = s.emit("sigmoid", y)
        made = [y, z, s.emit("mul", y, z)]
    elif kind == "cast":
        made = [s.emit("cast", s.emit("add", y, s.number(0.5, dtype)), to=DType.BF16)]
    elif kind == "long":
        z = s.emit("tanh", s.emit("add", y, s.arg(dtype, *dims)))
        made = [s.emit("maximum", s.emit("add", z, s.arg(dtype, 1, dims[-1])), s.number(0.0, dtype))]
    s.give(f"{label} {dims_of(y)} {kind}", *made, ulps=PRODUCT_ULPS)


def products(seed: int, count: int) -> Runner:
    """Products with weights, plain and of codes, and of two activations."""
    s = Sheet("products", seed, FUSED, T=(0, 200), S=(1, 150), B=(0, 5))
    t, u, b = sym("T"), sym("S"), sym("B")
    for i in range(count):
        n, k = s.pick(*WIDTHS), s.pick(*WIDTHS)
        lead = s.pick((t,), (b, t), (1, t), (b, 3, t), (t, 2))
        kind = s.pick("linear", "linear", "codes", "codes", "matmul", "weight", "low")
        if kind == "linear":
            linear(s, DType.F32, n, k, lead)
        elif kind == "codes":
            of_codes(s, CODES[(seed + i) % len(CODES)], n, lead)
        elif kind == "matmul":
            x, y = s.pick(
                ((b, 2, t, k), (b, 2, k, u)), ((b, t, k), (b, k, n)), ((t, k), (k, u)), ((b, 3, t, k), (1, 1, k, n))
            )
            scaled = s.emit("mul", viewed(s, DType.F32, *x), s.number(k**-0.5))
            follow(s, f"matmul k={k}", s.emit("matmul", scaled, viewed(s, DType.F32, *y)))
        elif kind == "weight":
            w = s.weight(DType.F32, k, n, spread=k**-0.5)
            follow(s, f"matmul by a weight k={k}", s.emit("matmul", viewed(s, DType.F32, *lead, k), w))
        else:
            linear(s, s.pick(DType.BF16, DType.F16), n, k, lead)
    # Sums over a dim of any length.
    x, y = s.arg(DType.F32, 5, u), s.arg(DType.F32, u, 19)
    s.give("matmul over a symbol", s.emit("matmul", x, y), scale=u)
    return s.finish()


def linear(s: Sheet, dtype: DType, n: int, k: int, lead: tuple[DimLike, ...]) -> None:
    """A product with a weight of the same dtype."""
    w = s.weight(dtype, n, k, spread=k**-0.5)
    bias = s.arg(dtype, n) if s.chance() else None
    follow(s, f"linear {dtype} k={k}", s.emit("linear", viewed(s, dtype, *lead, k), w, bias))


def of_codes(s: Sheet, type: Quantized, n: int, lead: tuple[DimLike, ...]) -> None:
    """A product with a weight of codes."""
    k = s.pick(*WIDTHS) if type.per in ("channel", "tensor") else s.pick(1, 2, 5) * (type.at or (32,))[0]
    bias = s.arg(DType.F32, n) if s.chance() else None
    x = viewed(s, DType.F32, *lead, k)
    follow(s, f"linear {type} k={k}", s.emit("linear", x, s.quantized(type, n, k), bias))


def convolutions(seed: int, count: int) -> Runner:
    """Convolutions of all kinds."""
    s = Sheet("convolutions", seed, FUSED, N=(0, 3), H=(9, 40), L=(5, 70), S=(3, 18))
    n, h, w, length, small = sym("N"), sym("H"), sym("H") + s.pick(0, 3), sym("L"), sym("S")
    for i in range(count):
        kind = s.pick("plain", "plain", "one", "depthwise", "groups", "winograd", "winograd", "line")
        if i % 10 == 0:  # small images with filters that Winograd's convolution transforms in every call
            kind = "deep"
        c, o, groups = channels(s, kind)
        taps, stride, dilation = steps(s, kind)
        size = {"line": (length,), "deep": (small, small + s.pick(0, 3))}.get(kind, (h, w))
        dims: tuple[DimLike, ...] = (n, c, *size)
        pad = [s.pick(0, 1, 2) for _ in (taps if s.chance() else taps * 2)]
        weight = s.weight(DType.F32, o, c // groups, *taps, spread=(c // groups * math.prod(taps)) ** -0.5)
        bias = s.weight(DType.F32, o) if s.chance() else None
        x = viewed(s, DType.F32, *dims)
        if s.chance(0.3):
            x = s.emit("relu", x)
        y = s.emit("conv", x, weight, bias, stride=stride, padding=tuple(pad), dilation=dilation, groups=groups)
        label = f"conv {kind} c={c} o={o} taps={taps} stride={stride} pad={pad} dilation={dilation} groups={groups}"
        channel(s, label, y, CONV_ULPS * 2 if kind == "deep" else CONV_ULPS)
    return s.finish()


def channels(s: Sheet, kind: str) -> tuple[int, int, int]:
    """Channels in and out, and groups, of a kind of convolution."""
    if kind == "depthwise":
        c = s.pick(3, 8, 29, 40, 150)
        return c, c * s.pick(1, 1, 2), c
    if kind == "groups":
        groups, own = s.pick(2, 3), s.pick(1, 4, 5, 8, 24)
        return groups * own, groups * s.pick(own, 2, 11), groups
    if kind == "winograd":
        return s.pick(32, 64), s.pick(24, 64, 70), 1
    if kind == "deep":
        return s.pick(256, 261), s.pick(256, 250), 1
    return s.pick(1, 3, 8, 17, 32), s.pick(1, 4, 8, 19, 32), 1


def steps(s: Sheet, kind: str) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Taps, stride and dilation of a kind of convolution."""
    if kind in ("winograd", "deep"):
        return (3, 3), (1, 1), (1, 1)
    taps, stride = s.pick((3, 3), (1, 3), (2, 2), (5, 3)), s.pick((1, 1), (2, 2), (2, 1))
    dilation = s.pick((1, 1), (1, 1), (2, 1))
    if kind == "one":
        return (1, 1), stride, (1, 1)
    if kind == "depthwise":
        return s.pick((3, 3), (5, 5), (7, 7), (2, 2), (5, 3)), s.pick((1, 1), (2, 2), (2, 1), (3, 3)), dilation
    if kind == "line":
        return taps[1:], stride[1:], dilation[:1]
    return taps, stride, dilation


def channel(s: Sheet, label: str, y: Value, ulps: float) -> None:
    """What stands behind an image: operands of channels as well."""
    dims = dims_of(y).dims
    kind = s.pick("none", "relu", "residual", "scale", "pair")
    label = f"{label} {kind}"
    if kind == "residual":
        y = s.emit("silu", s.emit("add", y, s.arg(DType.F32, *dims)))
    elif kind == "scale":
        ones = [1] * (len(dims) - 2)
        y = s.emit("add", s.emit("mul", y, s.arg(DType.F32, dims[1], *ones)), s.arg(DType.F32, dims[0], dims[1], *ones))
    elif kind == "relu":
        y = s.emit("relu", y)
    if kind == "pair":
        s.give(label, s.emit("sigmoid", y), ulps=ulps)
    s.give(label, y, ulps=ulps)
