"""Sheets of pooling, resampling, group norms, padding, joining, and reading by indices."""

from __future__ import annotations

from typing import Any

import torch

from maiac.ir import DType, Value
from maiac.ir.dims import sym

from .sheet import FUSED, Runner, Sheet, below, dims_of
from .sheets_products import channel, viewed

IMAGE_ULPS = 12  # means of up to 1200 elements, and norms by them


def images(seed: int, count: int) -> Runner:
    """What is done to images besides convolutions, of any layout, with convolutions between."""
    s = Sheet("images", seed, FUSED, N=(0, 3), H=(10, 30), W=(10, 40))
    n, h, w = sym("N"), sym("H"), sym("W")
    for _ in range(count):
        c = s.pick(1, 3, 8, 12, 17, 32)
        x = viewed(s, DType.F32, n, c, h, w)
        if s.chance(0.4):
            weight = s.weight(DType.F32, c, c, 1, 1, spread=c**-0.5)
            x = s.emit("conv", x, weight, stride=(1, 1), padding=(0, 0), dilation=(1, 1))
        kind = s.pick("max_pool", "avg_pool", "global", "nearest", "linear", "group_norm", "group_norm", "pad")
        attrs, y = made(s, kind, x)
        channel(s, f"{kind} {dims_of(x)} {attrs}", y, IMAGE_ULPS)
    for sizes in ((3, 4), (12, 8), (1, 2)):
        x = viewed(s, DType.F32, n, 8, 12, 8)
        channel(s, f"adaptive {sizes}", s.emit("adaptive_avg_pool", x, sizes=sizes), IMAGE_ULPS)
    return s.finish()


def made(s: Sheet, kind: str, x: Value) -> tuple[dict[str, Any], Value]:
    """What an operation makes of an image, and its attributes."""
    c = dims_of(x).dims[1]
    operands: list[Value] = []
    if kind in ("max_pool", "avg_pool"):
        op, attrs = kind, pooling(s, kind)
    elif kind in ("nearest", "linear"):
        op, attrs = "upsample", resampling(s, kind)
    elif kind == "group_norm":
        groups = s.random.choice([g for g in (1, 2, 3, 4, 8, c) if c % g == 0])
        op, attrs = kind, {"groups": groups, "eps": 1e-4}
        operands = [s.arg(DType.F32, c), s.arg(DType.F32, c)] if s.chance(0.7) else []
    elif kind == "pad":
        op, attrs = kind, {"pads": (0, 0, 0, 0, *(s.pick(0, 1, 2, -1) for _ in range(4))), "value": s.pick(0, 1.5)}
    else:
        op, attrs = "adaptive_avg_pool", {"sizes": (1, 1)}
    y = s.emit(op, x, *operands, **attrs)
    return attrs, s.emit("silu", y) if kind == "group_norm" else y


def pooling(s: Sheet, op: str) -> dict[str, Any]:
    """Windows of several sizes."""
    kernel, stride = s.pick((2, 2), (3, 3), (3, 2), (5, 5)), s.pick((1, 1), (2, 2), (3, 1))
    attrs: dict[str, Any] = {"kernel": kernel, "stride": stride, "ceil_mode": s.chance(0.3)}
    attrs["padding"] = tuple(s.pick(0, k // 2) for k in kernel)
    if op == "max_pool" and s.chance(0.2):
        attrs["dilation"] = (2, 1)
    if op == "avg_pool":
        attrs["count_include_pad"] = s.chance()
    return attrs


def resampling(s: Sheet, mode: str) -> dict[str, Any]:
    """Twice the size, and others."""
    h, w = sym("H"), sym("W")
    attrs: dict[str, Any] = {"size": s.pick((h * 2, w * 2), (17, 23), (h, 5), (h + 3, w * 3)), "mode": mode}
    if mode == "linear":
        attrs["align_corners"] = s.chance()
    return attrs


def joined(seed: int, count: int) -> Runner:
    """Concats of what was made, given, split and joined before, along any dim."""
    s = Sheet("joined", seed, FUSED, T=(0, 60), S=(1, 40), N=(1, 2))
    t, u, n = sym("T"), sym("S"), sym("N")
    for i in range(count):
        dims: list[Any] = list(s.pick((t, u), (n, 8, u, 5), (2, t, 6), (n, 4, t, u)))
        dim = s.random.randrange(len(dims))
        dtype = s.pick(DType.F32, DType.F32, DType.BF16, DType.I64)
        parts = [part(s, dtype, dims, dim) for _ in range(s.random.randint(2, 4))]
        if s.chance(0.4):
            whole = s.emit("mul", s.arg(dtype, *dims), s.number(2, dtype))
            if isinstance(dims[dim], int) and dims[dim] % 2 == 0:
                halves = s.b.emit_op("split", [whole], {"dim": dim, "parts": (dims[dim] // 2,) * 2}).results
                parts += [*halves] if s.chance() else [halves[1], s.emit("neg", halves[0])]
        if s.chance(0.3):
            parts.append(s.random.choice(parts))
        y = s.emit("concat", *parts, dim=dim)
        if s.chance(0.4):
            y = s.emit("concat", part(s, dtype, dims, dim), y, dim=dim)
        label = f"{i}: concat of {len(parts)} {dtype}{dims} dim={dim}"
        s.give(label, y if s.chance() else s.emit("add", y, y), *s.random.sample(parts, 1))
    return s.finish()


def part(s: Sheet, dtype: DType, dims: list[Any], dim: int) -> Value:
    """An operand of a concat: as given, or made by a kernel."""
    x = viewed(s, dtype, *(s.pick(1, 3, 8) if i == dim and s.chance() else d for i, d in enumerate(dims)))
    kind = s.pick("given", "made", "made", "softmax", "view")
    if kind == "given":
        return x
    if kind == "softmax" and dtype.is_float:
        return s.emit("softmax", x, dim=-1)
    if kind == "view":
        return s.emit("flip", s.emit("abs", x), dims=(dim,))
    return s.emit("mul", x, x)


def indexed(seed: int, count: int) -> Runner:
    """Embeddings, gathers and updates at indices of both widths, from the end as well: the elements' own bits."""
    s = Sheet("indexed", seed, FUSED, T=(0, 60), S=(1, 40), V=(2, 50))
    t, u, v = sym("T"), sym("S"), sym("V")
    for _ in range(count):
        wide, ids = s.pick((torch.int64, DType.I64), (torch.int32, DType.I32))
        kind = s.pick("embedding", "gather", "gather", "put", "put")
        shape = s.pick((t,), (u, 3), (), (t, u))
        if kind == "embedding":
            d = s.pick(1, 7, 16, 33)
            y = s.emit("embedding", s.weight(DType.F32, 30, d), s.arg(ids, *shape, fill=below(30, 0, wide)))
            s.give(f"embedding d={d} of {shape}", y, ulps=0)
            continue
        dtype = s.pick(DType.F32, DType.BF16, DType.F64, DType.I64, DType.BOOL, DType.U8)
        dims: tuple[Any, ...] = s.pick((v, 5), (3, v, u), (v,), (2, 3, v, 4), (u, v))
        dim = dims.index(v)
        x = viewed(s, dtype, *dims)
        if kind == "gather":
            at = viewed_ids(s, ids, shape, wide, v)
            y = s.emit("gather", x, at, dim=dim)
            s.give(f"gather {dims_of(x)} dim={dim} at {ids}{list(shape)}", y, ulps=0)
            continue
        count_of = s.pick(1, 2)
        rows = s.arg(ids, count_of, fill=_different(wide))
        values = viewed(s, dtype, *dims[:dim], count_of if s.chance(0.7) else 1, *dims[dim + 1 :])
        s.give(f"put {dims_of(x)} dim={dim}", s.emit("index_put", x, values, rows, dims=(dim,)), ulps=0)
    added_to_zeros(s)
    return s.finish()


def added_to_zeros(s: Sheet) -> None:
    """Zeros that a reference kernel adds to between kernels: what it reads must have been written."""
    t, v = sym("T"), sym("V")
    zeros = s.emit("full", shape=(v, 6), value=0.0, dtype=DType.F32)
    added = s.emit("exp", s.arg(DType.F32, t, 6))
    total = s.emit("index_put", zeros, added, s.arg(DType.I64, t, fill=below(v)), dims=(0,), accumulate=True)
    s.give("added to zeros", s.emit("tanh", total))


def viewed_ids(s: Sheet, ids: DType, shape: tuple[Any, ...], wide: torch.dtype, limit: Any) -> Value:
    """Indices that count from both ends, and may lie transposed."""
    if len(shape) == 2 and s.chance():
        return s.emit("transpose", s.arg(ids, *shape[::-1], fill=below(limit, limit * -1, wide)), perm=(1, 0))
    return s.arg(ids, *shape, fill=below(limit, limit * -1, wide))


def _different(wide: torch.dtype) -> Any:
    def fill(shape: tuple[int, ...], g: torch.Generator, sizes: Any) -> torch.Tensor:
        places = torch.randperm(sizes["V"], generator=g)[: shape[0]]
        return (places - sizes["V"] * (torch.rand(shape, generator=g) < 0.5)).to(wide)  # from either end

    return fill
