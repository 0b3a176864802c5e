"""Rotary positions: the two halves of each head as views, turned together."""

from __future__ import annotations

from dataclasses import replace

from maiac.runtime.plan import Slot, Source, Step

from .expr import Term, Unsupported, compute, convert, plain
from .loops import Body, Splat, attributes
from .lower_maps import emit_map
from .lowering import Context, lowering
from .views import View, loop_order


@lowering("rotary")
def rotary(ctx: Context, step: Step) -> None:
    """(a, b) becomes (a cos - b sin, b cos + a sin), each with the angle of its own place."""
    slot, interleaved = step.results[0], bool(attributes(step)["interleaved"])
    x, cos, sin = (ctx.view(v) for v in step.operands)
    type = plain(slot.type)
    turned = cos.dims[-1]
    if not isinstance(turned, int):
        raise Unsupported("angles of a size that only the run tells")
    y = ctx.result(slot, loop_order([x], x.rank, ctx.likely))
    lead = type.dims[:-1]
    parts: dict[str, View] = {}
    for name, view in (("x", x), ("c", cos), ("s", sin), ("y", y)):
        whole = view.expand((*lead, view.dims[-1]))
        parts[f"{name}0"], parts[f"{name}1"] = _halves(whole, turned, interleaved)
    slots: dict[str, Slot] = {n: Slot(n, replace(type, dims=v.dims)) for n, v in parts.items()}
    places: dict[Source, View | Splat] = {slots[n]: v for n, v in parts.items() if n[0] != "y"}
    outputs = {slots["y0"]: parts["y0"], slots["y1"]: parts["y1"]}
    dtype = compute(type.element)

    def turn(body: Body) -> None:
        t = {n: convert(body.terms[slots[n]], dtype).text for n in parts if n[0] != "y"}
        body.define(slots["y0"], Term(f"({t['x0']} * {t['c0']} - {t['x1']} * {t['s0']})", dtype))
        body.define(slots["y1"], Term(f"({t['x1']} * {t['c1']} + {t['x0']} * {t['s1']})", dtype))

    emit_map(ctx, "rotary", places, outputs, turn, 6, ctx.flops)
    rest = x.dims[-1] - turned
    if rest != 0:
        if x.dtype is not y.dtype:
            raise Unsupported("a partial turn that changes the dtype")
        ctx.copy(x.slice(x.rank - 1, turned, rest), y.slice(y.rank - 1, turned, rest))


def _halves(view: View, size: int, interleaved: bool) -> tuple[View, View]:
    """The first and second elements of all pairs."""
    last = view.rank - 1
    if interleaved:
        return view.slice(last, 0, size // 2, 2), view.slice(last, 1, size // 2, 2)
    return view.slice(last, 0, size // 2), view.slice(last, size // 2, size // 2)
