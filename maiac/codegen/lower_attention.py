"""Attention: one kernel, whatever the strides of heads and positions."""

from __future__ import annotations

from typing import Any

from maiac.ir.dims import DimLike
from maiac.ir.dtypes import DType
from maiac.runtime.plan import Step

from .expr import Unsupported, plain
from .kernel import Writer
from .loops import Splat, attributes
from .lowering import Context, lowering
from .views import Loop, View, loop_order, nest, require_equal


@lowering("attention")
def attention(ctx: Context, step: Step) -> None:
    """q[*b, h, t, d], k[*b, g, s, d], v[*b, g, s, e]; leading dims must lie in one run of memory each."""
    a, slot = attributes(step), step.results[0]
    q, k, v, *masks = step.operands
    lies = ctx.view(q)
    q, k, v = (_rows(ctx, ctx.view(value)) for value in (q, k, v))
    if q.dtype is not k.dtype or k.dtype is not v.dtype or q.dtype not in (DType.F32, DType.BF16, DType.F16):
        raise Unsupported(f"attention of {q.dtype}, {k.dtype} and {v.dtype}")
    require_equal(q.dims[-1], k.dims[-1])
    require_equal(k.dims[-2], v.dims[-2])
    type = plain(slot.type)
    mask = masks[0] if masks else None
    if q.rank == 2 or q.rank == 3:  # no heads: what leads is the batch
        q, k, v = (_headed(x) for x in (q, k, v))
    order = loop_order([lies], type.rank, ctx.likely)
    last = type.rank - 1
    out = ctx.result(slot, [*(i for i in order if i != last), last])
    if out.strides[-1] != 1:
        raise Unsupported("a result whose head dim is not innermost")
    o = out if type.rank > 3 else _headed(out)
    lead = o.dims[:-3]
    batched = [x.expand((*lead, *x.dims[-3:])) for x in (q, k, v)]
    batched.append(o)
    mask_kind, bias = 0, None
    if mask is not None:
        bias = _mask(ctx.place(mask), o, k.dims[-2], type.rank > 3)
        mask_kind = 1 if bias.dtype is DType.BOOL else 2
        batched.append(bias)
    loops = nest([View(x.buffer, x.dims[: len(lead)], x.strides[: len(lead)]) for x in batched], range(len(lead)))
    if len(loops) > 1:
        raise Unsupported("attention over batch dims that do not lie in one piece")
    _emit(ctx, step, a, (q, k, v, o), bias, mask_kind, loops[0])


def _emit(
    ctx: Context,
    step: Step,
    a: dict[str, Any],
    qkvo: tuple[View, View, View, View],
    bias: View | None,
    mask_kind: int,
    batch: Loop,
) -> None:
    q, k, v, o = qkvo
    w = Writer()
    h, t, d = q.dims[-3:]
    g, s, e = v.dims[-3:]
    require_equal(g, k.dims[-3])
    if not isinstance(h, int) or not isinstance(g, int):
        require_equal(h, g)
    to = w.pointer(o, writes=True)
    names = [w.pointer(x) for x in (q, k, v)]
    w.emit("Attention a = {};")
    sizes: dict[str, DimLike] = {"batch": batch.count, "heads": h, "kv_heads": g, "t": t, "s": s, "d": d, "e": e}
    for at, (name, view) in enumerate(zip("qkvo", qkvo, strict=True)):
        last = "s" if name in "kv" else "t"
        sizes |= {f"{name}b": batch.steps[at], f"{name}h": view.strides[-3], f"{name}{last}": view.strides[-2]}
    if bias is not None:
        sizes |= {"mb": batch.steps[4], "mh": bias.strides[-3], "mt": bias.strides[-2], "ms": bias.strides[-1]}
    for name, size in sizes.items():
        w.emit(f"a.{name} = {w.size(size)};")
    scale = a["scale"]
    w.emit(f"a.scale = {float(scale)!r}f;" if isinstance(scale, (int, float)) else "a.scale = 1 / sqrtf((float)a.d);")
    w.emit(f"a.causal = {int(bool(a['causal']))};")
    if a["softcap"]:
        w.emit(f"a.softcap = {float(a['softcap'])!r}f;")
    if a["window"]:
        w.emit(f"a.window = {a['window']};")
    if bias is not None:
        w.emit(f"a.mask_kind = {mask_kind};")
        w.emit(f"a.mask = {w.pointer(bias)};")
    types = dict.fromkeys([q.dtype, k.dtype])
    w.call(f"attention(a, {', '.join(names)}, {to});", "attention", "_".join(["attention", *map(str, types)]))
    ctx.add(w.kernel("attention", ctx.loc, ctx.flops))


def _rows(ctx: Context, x: View) -> View:
    """x with a last dim of stride 1."""
    return x if x.strides[-1] == 1 or x.dims[-1] == 1 else ctx.contiguous(x)


def _headed(x: View) -> View:
    """One head: a dim of 1 in front of the positions."""
    return x.unsqueeze(x.rank - 2)


def _mask(place: View | Splat, o: View, s: DimLike, heads: bool) -> View:
    """The mask as a view of [*b, h, t, s]; without heads, all that leads is the batch."""
    if isinstance(place, Splat):
        raise Unsupported("a mask that is one number")
    if place.dtype not in (DType.BOOL, DType.F32):
        raise Unsupported(f"a mask of {place.dtype}")
    if not heads and place.rank > 2:
        place = _headed(place)
    return place.expand((*o.dims[:-1], s))
