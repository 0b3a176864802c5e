"""Pooling, resampling and group norms of channels-last images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from maiac.ir.dims import DimLike, product
from maiac.ir.dtypes import DType
from maiac.runtime.plan import Slot, Source, Step

from .expr import Term, Unsupported, plain
from .kernel import Writer
from .loops import Body, Group, Place, attributes, element_cost
from .lower_maps import emit_map
from .lowering import CHANNELS_LAST, Context, lowering, numbers
from .views import View


def _channels_last(ctx: Context, x: View) -> View:
    """x with channels of stride 1."""
    if x.dtype is not DType.F32:
        raise Unsupported(f"images of {x.dtype}")
    return x if x.strides[1] == 1 else ctx.ordered(x, CHANNELS_LAST[x.rank])


def _image(w: Writer, x: View) -> str:
    """``maia::Image`` of x[n, c, h, w] or x[n, c, w]."""
    n, c, *spatial = x.dims
    sn, _, *steps = x.strides
    if len(spatial) == 1:
        spatial, steps = [1, *spatial], [0, *steps]
    return f"{{{', '.join(w.size(d) for d in (n, *spatial, c, sn, *steps))}}}"


def _batched(x: View, spatial: int) -> View:
    """x with a batch dim of 1 in front where it has none."""
    if x.rank == spatial + 2:
        return x
    if x.rank != spatial + 1:
        raise Unsupported("a pooled tensor of this rank")
    return x.unsqueeze(0)


@lowering("max_pool", "avg_pool")
def pool(ctx: Context, step: Step) -> None:
    """Windows over two dims."""
    a, slot = attributes(step), step.results[0]
    spatial = len(a["kernel"])
    if spatial != 2:
        raise Unsupported(f"pooling of {spatial} dims")
    x = _channels_last(ctx, _batched(ctx.view(step.operands[0]), spatial))
    out = ctx.result(slot, CHANNELS_LAST[4] if len(plain(slot.type).dims) == 4 else (1, 2, 0))
    y = _batched(out, spatial)
    w = Writer()
    to, of = w.pointer(y, writes=True), w.pointer(x)
    pads = [*a["padding"]]
    before, after = (pads[::2], pads[1::2]) if len(pads) == 4 else (pads, pads)
    geometry: Sequence[DimLike] = [*a["kernel"], *a["stride"], *before, *after, *(a.get("dilation") or (1, 1))]
    last = ""
    if step.op.name == "avg_pool":
        last = f", {int(bool(a['count_include_pad']))}, {w.size(a['divisor'] or 0)}"
    w.emit(f"const Pool2d pool = {{{', '.join(w.size(g) for g in geometry)}{last}}};")
    w.emit(f"const Image from = {_image(w, x)}, into = {_image(w, y)};")
    w.call(f"{step.op.name}(pool, from, into, {of}, {to});", "window")
    ctx.add(w.kernel(step.op.name, ctx.loc, ctx.flops))


@lowering("adaptive_avg_pool")
def adaptive_avg_pool(ctx: Context, step: Step) -> None:
    """The mean of all pixels, or of windows that divide the image evenly."""
    a, slot = attributes(step), step.results[0]
    if len(a["sizes"]) != 2:
        raise Unsupported(f"adaptive pooling of {len(a['sizes'])} dims")
    x = _channels_last(ctx, _batched(ctx.view(step.operands[0]), 2))
    whole = tuple(a["sizes"]) == (1, 1)  # of an image whose size only the run may tell
    windows = [] if whole else _even_windows(numbers(x.dims[2:]), numbers(a["sizes"]))
    out = ctx.result(slot, CHANNELS_LAST[4] if len(plain(slot.type).dims) == 4 else (1, 2, 0))
    y = _batched(out, 2)
    w = Writer()
    to, of = w.pointer(y, writes=True), w.pointer(x)
    w.emit(f"const Image from = {_image(w, x)}, into = {_image(w, y)};")
    if whole:
        w.call(f"global_average(from, {of}, {to}, into.sn);", "window")
    else:
        sizes = ", ".join(w.size(k) for k in (*windows, *windows))
        w.emit(f"const Pool2d pool = {{{sizes}, 0, 0, 0, 0}};")
        w.call(f"avg_pool(pool, from, into, {of}, {to});", "window")
    ctx.add(w.kernel("adaptive_avg_pool", ctx.loc, ctx.flops))


def _even_windows(image: Sequence[int], parts: Sequence[int]) -> list[int]:
    """The size of windows that divide an image into so many parts."""
    if any(size % part for size, part in zip(image, parts, strict=True)):
        raise Unsupported("adaptive pooling by windows of several sizes")
    return [size // part for size, part in zip(image, parts, strict=True)]


@lowering("upsample")
def upsample(ctx: Context, step: Step) -> None:
    """Nearest or linear resampling of two dims."""
    a, slot = attributes(step), step.results[0]
    if len(a["size"]) != 2 or a["mode"] not in ("nearest", "linear"):
        raise Unsupported(f"{a['mode']} resampling of {len(a['size'])} dims")
    x = _channels_last(ctx, ctx.view(step.operands[0]))
    y = ctx.result(slot, CHANNELS_LAST[4])
    w = Writer()
    to, of = w.pointer(y, writes=True), w.pointer(x)
    w.emit(f"const Image from = {_image(w, x)}, into = {_image(w, y)};")
    scales = [repr(float(s)) for s in a["scales"]] or ["0.0", "0.0"]
    w.emit("std::vector<int32_t> tables(2 * (into.h + into.w));")
    w.emit("int32_t *r0 = tables.data(), *r1 = r0 + into.h, *c0 = r1 + into.h, *c1 = c0 + into.w;")
    if a["mode"] == "nearest":
        w.emit(f"nearest_table(from.h, into.h, {scales[0]}, r0);")
        w.emit(f"nearest_table(from.w, into.w, {scales[1]}, c0);")
        w.call(f"resize_nearest(from, into, r0, c0, {of}, {to});", "window")
    else:
        corners = int(bool(a["align_corners"]))
        w.emit("std::vector<float> weights(into.h + into.w);")
        w.emit("float *rw = weights.data(), *cw = rw + into.h;")
        w.emit(f"linear_table(from.h, into.h, {scales[0]}, {corners}, r0, r1, rw);")
        w.emit(f"linear_table(from.w, into.w, {scales[1]}, {corners}, c0, c1, cw);")
        w.call(f"resize_linear(from, into, {{r0, r1, rw}}, {{c0, c1, cw}}, {of}, {to});", "window")
    ctx.add(w.kernel(f"upsample_{a['mode']}", ctx.loc, ctx.flops))


def lower_group_norm(ctx: Context, step: Step, group: Group) -> None:
    """Statistics of each group as one multiply-add a channel, in the nest of what follows."""
    a, slot = attributes(step), step.results[0]
    x = _channels_last(ctx, ctx.view(step.operands[0]))
    if x.rank not in (3, 4):
        raise Unsupported(f"a group norm of rank {x.rank}")
    if x.rank == 4 and x.strides[2] != x.strides[3] * x.dims[3]:
        x = ctx.ordered(x, CHANNELS_LAST[4])
    n, c = x.dims[:2]
    scale, shift = ctx.new(DType.F32, (n, c)), ctx.new(DType.F32, (n, c))
    w = Writer()
    to = [w.pointer(v, writes=True) for v in (scale, shift)]
    of = w.pointer(x)
    affine = [w.pointer(ctx.view(v)) if v is not None else "nullptr" for v in (*step.operands[1:], None, None)][:2]
    w.emit(f"const Image image = {_image(w, x)};")
    eps = f"{float(a['eps'])!r}f"
    w.call(f"group_stats(image, {w.size(a['groups'])}, {of}, {', '.join(affine)}, {eps}, {', '.join(to)});", "window")
    statistics = product(x.dims) * 3  # of the definition's FLOPs: a sum, and a sum of squared differences
    ctx.add(w.kernel("group_stats", ctx.loc, statistics))
    parts = {"x": x, "scale": scale.unsqueeze(2, x.rank - 2), "shift": shift.unsqueeze(2, x.rank - 2)}
    slots = {name: Slot(name, slot.type) for name in parts}
    places: dict[Source, Place] = {slots[name]: view for name, view in parts.items()}
    places |= group.places
    outputs = {s: ctx.result(s, CHANNELS_LAST[x.rank]) for s in group.results}

    def normalise(body: Body) -> None:
        v = {name: body.terms[slots[name]].text for name in parts}
        body.define(slot, Term(f"({v['x']} * {v['scale']} + {v['shift']})", DType.F32))
        for inner in group.steps:
            body.step(inner)

    name = "_".join(["group_norm", *dict.fromkeys(s.op.name for s in group.steps)])[:40]
    emit_map(ctx, name, places, outputs, normalise, element_cost(group.steps) + 1, ctx.flops - statistics)


@lowering("group_norm")
def group_norm(ctx: Context, step: Step) -> None:
    """A group norm of its own."""
    lower_group_norm(ctx, step, Group([], {}, [step.results[0]]))


@lowering("pad")
def pad(ctx: Context, step: Step) -> None:
    """A tensor of one number with x inside; negative amounts crop."""
    a, slot = attributes(step), step.results[0]
    if a["mode"] != "constant":
        raise Unsupported(f"padding by {a['mode']}")
    x, type = ctx.view(step.operands[0]), plain(slot.type)
    pads: list[Any] = [*a["pads"]]
    if any(not isinstance(p, int) for p in pads):
        raise Unsupported("padding that only the run tells")
    from .loops import Splat
    from .lower_views import order_of

    y = ctx.result(slot, order_of(x, ctx))
    emit_map(ctx, "fill", {slot: Splat(a["value"], type.element, type.dims)}, {slot: y}, lambda body: None, 2, 0)
    inside = y
    for dim in range(x.rank):
        before, after = pads[2 * dim], pads[2 * dim + 1]
        cut, grown = (max(0, -before), max(0, -after)), max(0, before)
        size = x.dims[dim] - cut[0] - cut[1]
        x, inside = x.slice(dim, cut[0], size), inside.slice(dim, grown, size)
    ctx.copy(x, inside)


@lowering("flip")
def flip(ctx: Context, step: Step) -> None:
    """Negative strides."""
    x, a = ctx.view(step.operands[0]), attributes(step)
    strides, offset = list(x.strides), x.offset
    for d in a["dims"]:
        at = int(d) % x.rank
        offset = offset + (x.dims[at] - 1) * strides[at]
        strides[at] = strides[at] * -1
    ctx.places[step.results[0]] = View(x.buffer, x.dims, tuple(strides), offset)
