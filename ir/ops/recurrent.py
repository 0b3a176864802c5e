"""Recurrent layers with the conventions of ONNX: gate order, activations, peepholes, lengths, layout."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F

from ..dims import DimLike, product
from ..errors import TypeFault
from ..opdef import op
from ..types import TensorType, Type
from .sampling import Sample, Sampler

Activation = Callable[[Any], Any]


def _activation(name: str, alpha: float | None, beta: float | None) -> Activation:
    a, b = alpha, beta
    table: dict[str, Activation] = {
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "relu": torch.relu,
        "softsign": F.softsign,
        "softplus": F.softplus,
        "affine": lambda x: x * (1.0 if a is None else a) + (0.0 if b is None else b),
        "leakyrelu": lambda x: F.leaky_relu(x, 0.01 if a is None else a),
        "thresholdedrelu": lambda x: torch.where(x > (1.0 if a is None else a), x, torch.zeros_like(x)),
        "scaledtanh": lambda x: (1.0 if a is None else a) * torch.tanh((1.0 if b is None else b) * x),
        "hardsigmoid": lambda x: ((0.2 if a is None else a) * x + (0.5 if b is None else b)).clamp(0, 1),
        "elu": lambda x: F.elu(x, 1.0 if a is None else a),
    }
    return table[name.lower()]


ACTIVATIONS = frozenset(
    [
        "sigmoid",
        "tanh",
        "relu",
        "softsign",
        "softplus",
        "affine",
        "leakyrelu",
        "thresholdedrelu",
        "scaledtanh",
        "hardsigmoid",
        "elu",
    ]
)
WITH_ALPHA = frozenset(["affine", "leakyrelu", "thresholdedrelu", "scaledtanh", "hardsigmoid", "elu"])
WITH_BETA = frozenset(["affine", "scaledtanh", "hardsigmoid"])


def _activations(names: tuple[str, ...], alphas: tuple[float, ...], betas: tuple[float, ...]) -> list[Activation]:
    """The functions of all directions; alphas and betas are consumed by those that have them."""
    a, b = iter(alphas), iter(betas)
    return [
        _activation(
            n, next(a, None) if n.lower() in WITH_ALPHA else None, next(b, None) if n.lower() in WITH_BETA else None
        )
        for n in names
    ]


def _runs(x: Any, lengths: Any, direction: str, layout: int) -> Iterator[tuple[int, Any, Any]]:
    """(direction index, x[t n i] in the order of that direction, mask[t n 1] of steps that count)."""
    x = x.transpose(0, 1) if layout else x
    steps, batch = x.shape[:2]
    limit = torch.full((batch,), steps) if lengths is None else lengths.long()
    valid = torch.arange(steps)[:, None] < limit
    for i, reverse in enumerate({"forward": [False], "reverse": [True]}.get(direction, [False, True])):
        yield i, _reversed(x, limit) if reverse else x, valid[..., None]


def _reversed(x: Any, lengths: Any) -> Any:
    """Each sequence of x[t n *] back to front within its length."""
    steps = torch.arange(x.shape[0])[:, None]
    source = torch.where(steps < lengths, lengths - 1 - steps, steps)
    return x.gather(0, source.reshape(*source.shape, *[1] * (x.ndim - 2)).expand_as(x))


def _clip(clip: float | None) -> Activation:
    return (lambda v: v.clamp(-clip, clip)) if clip else (lambda v: v)


def _collect(
    ys: list[Any], lasts: list[list[Any]], x: Any, lengths: Any, direction: str, layout: int
) -> tuple[Any, ...]:
    """Directions joined: y[t d n h] and last states [d n h], or batch first with layout 1."""
    steps, batch = (x.shape[1], x.shape[0]) if layout else (x.shape[0], x.shape[1])
    limit = torch.full((batch,), steps) if lengths is None else lengths.long()
    for i, reverse in enumerate({"forward": [False], "reverse": [True]}.get(direction, [False, True])):
        if reverse:
            ys[i] = _reversed(ys[i], limit)
    y = torch.stack(ys, 1)
    finals = [torch.stack(last) for last in lasts]
    if layout:
        return y.permute(2, 0, 1, 3), *(f.transpose(0, 1) for f in finals)
    return y, *finals


def _start(initial: Any, i: int, layout: int, like: Any, hidden: int) -> Any:
    if initial is None:
        return like.new_zeros(like.shape[1], hidden)
    return initial[:, i] if layout else initial[i]


def _types(x: TensorType, w: TensorType, hidden: DimLike, layout: int, states: int) -> list[Type]:
    if x.rank != 3 or w.rank != 3:
        raise TypeFault(f"x is {x} and w is {w}; expected three dims in both")
    d = w.dims[0]
    steps, batch = (x.dims[1], x.dims[0]) if layout else (x.dims[0], x.dims[1])
    last = (batch, d, hidden) if layout else (d, batch, hidden)
    y = (batch, steps, d, hidden) if layout else (steps, d, batch, hidden)
    return [TensorType(x.dtype, y), *[TensorType(x.dtype, last)] * states]


@op("x:float, w:float, r:float, b:float?, lengths:int?, h:float?, c:float?, p:float? -> y, yh, yc")
def lstm(
    x: Any,
    w: Any,
    r: Any,
    b: Any = None,
    lengths: Any = None,
    h: Any = None,
    c: Any = None,
    p: Any = None,
    *,
    hidden: int,
    direction: str = "forward",
    activations: tuple[str, ...] = ("sigmoid", "tanh", "tanh"),
    alphas: tuple[float, ...] = (),
    betas: tuple[float, ...] = (),
    clip: float | None = None,
    couple: bool = False,
    layout: int = 0,
) -> Any:
    """Long short-term memory over x[t n i] (x[n t i] with layout 1); gates in the order i o f c.

    w[d 4h i], r[d 4h h], b[d 8h], p[d 3h] peepholes. Results: y[t d n h], the last h and the last c [d n h].
    """
    acts, limit = _activations(activations, alphas, betas), _clip(clip)
    ys: list[Any] = []
    lasts: list[list[Any]] = [[], []]
    for i, xs, valid in _runs(x, lengths, direction, layout):
        f, g, o = acts[3 * i % len(acts) : 3 * i % len(acts) + 3]
        bias = 0 if b is None else b[i, : 4 * hidden] + b[i, 4 * hidden :]
        pi, po, pf = (0, 0, 0) if p is None else p[i].split(hidden)
        ht, ct, out = _start(h, i, layout, xs, hidden), _start(c, i, layout, xs, hidden), []
        for xt, on in zip(xs @ w[i].T + bias, valid, strict=True):
            gi, go, gf, gc = (xt + ht @ r[i].T).split(hidden, -1)
            it = f(limit(gi + pi * ct))
            ft = 1 - it if couple else f(limit(gf + pf * ct))
            new_c = ft * ct + it * g(limit(gc))
            new_h = f(limit(go + po * new_c)) * o(new_c)
            ht, ct = torch.where(on, new_h, ht), torch.where(on, new_c, ct)
            out.append(torch.where(on, new_h, torch.zeros_like(new_h)))
        ys.append(torch.stack(out))
        lasts[0].append(ht)
        lasts[1].append(ct)
    return _collect(ys, lasts, x, lengths, direction, layout)


@lstm.infer
def _(x: TensorType, w: TensorType, *rest: Any, hidden: DimLike, layout: int = 0, **_: Any) -> list[Type]:
    return _types(x, w, hidden, layout, 2)


@op("x:float, w:float, r:float, b:float?, lengths:int?, h:float? -> y, yh")
def gru(
    x: Any,
    w: Any,
    r: Any,
    b: Any = None,
    lengths: Any = None,
    h: Any = None,
    *,
    hidden: int,
    direction: str = "forward",
    activations: tuple[str, ...] = ("sigmoid", "tanh"),
    alphas: tuple[float, ...] = (),
    betas: tuple[float, ...] = (),
    clip: float | None = None,
    reset_after: bool = False,
    layout: int = 0,
) -> Any:
    """Gated recurrent units; gates in the order z r h. reset_after: the reset gate applies after the product."""
    acts, limit = _activations(activations, alphas, betas), _clip(clip)
    ys: list[Any] = []
    last: list[Any] = []
    for i, xs, valid in _runs(x, lengths, direction, layout):
        f, g = acts[2 * i % len(acts) : 2 * i % len(acts) + 2]
        wb, rb = (w.new_zeros(3 * hidden),) * 2 if b is None else b[i].split(3 * hidden)
        ht, out = _start(h, i, layout, xs, hidden), []
        gates, candidate = r[i][: 2 * hidden].T, r[i][2 * hidden :].T
        for xt, on in zip(xs @ w[i].T + wb, valid, strict=True):
            z, reset = f(limit(xt[:, : 2 * hidden] + ht @ gates + rb[: 2 * hidden])).split(hidden, -1)
            tail = rb[2 * hidden :]
            recurrent = reset * (ht @ candidate + tail) if reset_after else (reset * ht) @ candidate + tail
            new = (1 - z) * g(limit(xt[:, 2 * hidden :] + recurrent)) + z * ht
            ht = torch.where(on, new, ht)
            out.append(torch.where(on, new, torch.zeros_like(new)))
        ys.append(torch.stack(out))
        last.append(ht)
    return _collect(ys, [last], x, lengths, direction, layout)


@gru.infer
def _(x: TensorType, w: TensorType, *rest: Any, hidden: DimLike, layout: int = 0, **_: Any) -> list[Type]:
    return _types(x, w, hidden, layout, 1)


@op("x:float, w:float, r:float, b:float?, lengths:int?, h:float? -> y, yh")
def rnn(
    x: Any,
    w: Any,
    r: Any,
    b: Any = None,
    lengths: Any = None,
    h: Any = None,
    *,
    hidden: int,
    direction: str = "forward",
    activations: tuple[str, ...] = ("tanh",),
    alphas: tuple[float, ...] = (),
    betas: tuple[float, ...] = (),
    clip: float | None = None,
    layout: int = 0,
) -> Any:
    """A plain recurrent layer: h = f(x w^T + h r^T + b)."""
    acts, limit = _activations(activations, alphas, betas), _clip(clip)
    ys: list[Any] = []
    last: list[Any] = []
    for i, xs, valid in _runs(x, lengths, direction, layout):
        bias = 0 if b is None else b[i, :hidden] + b[i, hidden:]
        ht, out = _start(h, i, layout, xs, hidden), []
        for xt, on in zip(xs @ w[i].T + bias, valid, strict=True):
            new = acts[i % len(acts)](limit(xt + ht @ r[i].T))
            ht = torch.where(on, new, ht)
            out.append(torch.where(on, new, torch.zeros_like(new)))
        ys.append(torch.stack(out))
        last.append(ht)
    return _collect(ys, [last], x, lengths, direction, layout)


@rnn.infer
def _(x: TensorType, w: TensorType, *rest: Any, hidden: DimLike, layout: int = 0, **_: Any) -> list[Type]:
    return _types(x, w, hidden, layout, 1)


def _count(results: list[Type], x: TensorType, w: TensorType, r: TensorType, *rest: Any, **_: Any) -> DimLike:
    return x.dims[0] * x.dims[1] * (product(w.dims) + product(r.dims)) * 2


for _definition in (lstm, gru, rnn):
    _definition.flops(_count)


@lstm.samples
def _(s: Sampler) -> Iterator[Sample]:
    x, w, r = s.real(6, 2, 4), s.real(2, 8, 4), s.real(2, 8, 2)
    yield (x, w, r), {"hidden": 2, "direction": "bidirectional"}
    rest = (s.real(1, 16), torch.tensor([6, 3]), s.real(1, 2, 2), s.real(1, 2, 2), s.real(1, 6))
    yield (x, w[:1], r[:1], *rest), {"hidden": 2, "direction": "reverse", "clip": 1.0, "couple": True}
    yield (s.real(2, 6, 4), w[:1], r[:1]), {"hidden": 2, "layout": 1}


@gru.samples
def _(s: Sampler) -> Iterator[Sample]:
    x, w, r = s.real(6, 2, 4), s.real(2, 6, 4), s.real(2, 6, 2)
    yield (x, w, r), {"hidden": 2, "direction": "bidirectional"}
    yield (x, w[:1], r[:1], s.real(1, 12), torch.tensor([6, 3]), s.real(1, 2, 2)), {"hidden": 2, "reset_after": True}


@rnn.samples
def _(s: Sampler) -> Iterator[Sample]:
    x, w, r = s.real(6, 2, 4), s.real(2, 2, 4), s.real(2, 2, 2)
    yield (x, w, r), {"hidden": 2, "direction": "bidirectional"}
    yield (x, w[:1], r[:1], s.real(1, 4), torch.tensor([6, 3]), s.real(1, 2, 2)), {"hidden": 2, "direction": "reverse"}
