"""Sheets of attention and of rotary positions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from maiac.ir import DType, Value
from maiac.ir.dims import sym

from .sheet import FUSED, Runner, Sheet, below
from .sheets_products import viewed

DTYPES = (DType.F32, DType.F32, DType.F32, DType.BF16, DType.F16)
ULPS = 10  # what keys and values are summed with is off by the error of its exponent, which grows as logits do


def _some_seen(shape: tuple[int, ...], g: torch.Generator, sizes: Mapping[str, int]) -> torch.Tensor:
    """A mask most of which takes part; now and then a row of which nothing does."""
    return (torch.rand(shape, generator=g) < 0.6) & (torch.rand(*shape[:-1], 1, generator=g) < 0.9)


def _with_infinities(shape: tuple[int, ...], g: torch.Generator, sizes: Mapping[str, int]) -> torch.Tensor:
    """A mask to be added, which hides some keys; the first one never."""
    mask = torch.randn(shape, generator=g)
    hidden = torch.rand(shape, generator=g) < 0.3
    hidden[..., :1] = False
    return mask.masked_fill(hidden, -torch.inf)


def attention(seed: int, count: int) -> Runner:
    """Attention over T queries and S keys: heads that share keys, masks, windows, caps; decoding where T is small."""
    s = Sheet("attention", seed, FUSED, B=(0, 3), T=(0, 90), S=(1, 300), D=(1, 8))
    b, u = sym("B"), sym("S")
    for _ in range(count):
        t = s.pick(sym("T"), sym("D"), sym("D"), 1)
        g = s.pick(1, 2, 3)
        h, d = g * s.pick(1, 1, 2, 4), s.pick(1, 4, 8, 17, 40, 64, 80, 128)
        e = s.pick(d, d, 5, 24, 64)
        dtype = s.pick(*DTYPES)
        kind = s.pick("plain", "positions", "positions", "views", "flat")
        operands = [operand(s, kind, dtype, dims) for dims in ((b, h, t, d), (b, g, u, d), (b, g, u, e))]
        lead: tuple[Any, ...] = (b,) if kind == "flat" else s.pick((b, h), (b, 1), (1, h), (h,), (1, 1), ())
        masked = s.pick("none", "none", "bool", "float", "keys")
        mask = mask_of(s, masked, dtype, (*lead, t, u))
        attrs = settings(s)
        logits = max(1.0, attrs.get("scale", 0) * d**0.5)  # their spread
        label = f"{kind} {dtype} h={h} g={g} t={t} d={d} e={e} mask={masked}{lead} {attrs}"
        s.give(label, s.emit("attention", *operands, mask, **attrs), ulps=ULPS * logits)
    return s.finish()


def operand(s: Sheet, kind: str, dtype: DType, dims: tuple[Any, ...]) -> Value:
    """x[batch, head, position, depth], lying in one of several ways; flat: without heads."""
    b, h, n, d = dims
    if kind == "positions":  # heads behind positions, as projections leave them
        return s.emit("transpose", s.arg(dtype, b, n, h, d), perm=(0, 2, 1, 3))
    if kind == "views":
        return viewed(s, dtype, *dims)
    if kind == "flat":
        return s.arg(dtype, b, n, d)
    return s.arg(dtype, *dims)


def mask_of(s: Sheet, kind: str, dtype: DType, dims: tuple[Any, ...]) -> Value | None:
    """A mask, of which keys alone have no dim for queries; only float32 takes one to be added."""
    if kind == "bool":
        return s.arg(DType.BOOL, *dims, fill=_some_seen)
    if kind == "float" and dtype is DType.F32:
        return s.arg(DType.F32, *dims, fill=_with_infinities)
    if kind == "keys":
        return s.arg(DType.BOOL, *dims[:-2], 1, dims[-1], fill=_some_seen)
    return None


def settings(s: Sheet) -> dict[str, Any]:
    """Attributes of attention."""
    attrs: dict[str, Any] = {}
    if s.chance(0.4):
        attrs["causal"] = True
    if s.chance(0.25):
        attrs["window"] = s.pick(1, 3, 16, 70)
    if s.chance(0.25):
        attrs["softcap"] = s.pick(0.5, 5.0)
    if s.chance(0.4):
        attrs["scale"] = s.pick(0.1, 0.35)
    return attrs


def rotary(seed: int, count: int) -> Runner:
    """Positions turned into heads, of both styles, whole and partial; then attention over them."""
    s = Sheet("rotary", seed, FUSED, B=(0, 3), T=(1, 70))
    b, t = sym("B"), sym("T")
    for _ in range(count):
        h, d = s.pick(1, 2, 3), s.pick(2, 8, 32, 40, 64)
        turned = d if s.chance() else s.pick(2, 4 if d > 4 else 2)
        dtype = s.pick(DType.F32, DType.F32, DType.BF16)
        x = viewed(s, dtype, b, h, t, d)
        if s.chance():
            x = s.emit("transpose", s.arg(dtype, b, t, h, d), perm=(0, 2, 1, 3))
        shape = s.pick((t, turned), (b, 1, t, turned), (1, 1, t, turned))
        angles = s.arg(DType.F32, *shape)
        cos, sin = (s.emit("cast", s.emit(f, angles), to=dtype) for f in ("cos", "sin"))
        style = s.chance()
        y = s.emit("rotary", x, cos, sin, interleaved=style)
        s.give(f"rotary {dtype} d={d} turned={turned} interleaved={style}", y)
        k, v = s.arg(dtype, b, h, t, d), s.arg(dtype, b, h, t, d)
        s.give(f"{dtype} d={d} attention", s.emit("attention", y, k, v, causal=True), ulps=ULPS)
    return s.finish()


def caches(seed: int, count: int) -> Runner:
    """States that are read, updated at places that the run tells, and read by attention."""
    s = Sheet("caches", seed, FUSED, T=(1, 5))
    t, room = sym("T"), 24
    at = s.arg(DType.I64, t, fill=_places(room))
    for _ in range(count):
        h, d = s.pick(1, 2), s.pick(4, 8, 24)
        dtype = s.pick(DType.F32, DType.F32, DType.BF16)
        q = s.arg(dtype, 1, h, t, d)
        seen: list[Value] = []
        for _ in "kv":
            state = s.state(dtype, 1, h, room, d)
            new = s.emit("index_put", s.emit("read", state), viewed(s, dtype, 1, h, t, d), at, dims=(2,))
            s.b.emit_op("write", [state, new])
            seen.append(new)
        k, v = seen if s.chance() else [s.emit("read", state) for state in list(s.module.states.values())[-2:]]
        s.give(f"cache {dtype} h={h} d={d}", s.emit("attention", q, k, v), ulps=ULPS)
        # A state that is kept only for its old contents, and one that is never written.
        old, new = s.state(dtype, 6, d), s.arg(dtype, 6, d)
        s.give("old contents", s.emit("add", s.emit("read", old), new))
        s.b.emit_op("write", [old, s.emit("tanh", new)])
        fixed = s.emit("read", s.state(dtype, 7, d))
        row = s.arg(DType.I64, 1, fill=below(7))
        s.give("never written", s.emit("index_put", fixed, s.arg(dtype, 1, d), row, dims=(0,)), fixed)
    return s.finish()


def _places(room: int) -> Any:
    def fill(shape: tuple[int, ...], g: torch.Generator, sizes: Mapping[str, int]) -> torch.Tensor:
        return torch.randperm(room, generator=g)[: shape[0]]

    return fill
