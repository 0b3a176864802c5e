"""What only moves elements: arithmetic on strides wherever possible."""

from __future__ import annotations

from maiac.ir.dims import DimLike, bounds
from maiac.ir.types import TensorType
from maiac.runtime.plan import Slot, Step

from .expr import Unsupported, plain
from .loops import Splat, attributes
from .lowering import Context, lowering
from .views import View


def _type(slot: Slot) -> TensorType:
    return plain(slot.type)


@lowering("reshape", "refine")
def reshape(ctx: Context, step: Step) -> None:
    """A view where strides allow, else a view of a copy."""
    x, shape = ctx.place(step.operands[0]), _type(step.results[0]).dims
    if isinstance(x, Splat):
        ctx.places[step.results[0]] = Splat(x.value, x.dtype, shape)
        return
    view = x.reshape(shape)
    if view is None:
        view = ctx.contiguous(x).reshape(shape)
    if view is None:
        raise Unsupported("a reshape whose sizes only the run relates")
    ctx.places[step.results[0]] = view


@lowering("transpose")
def transpose(ctx: Context, step: Step) -> None:
    """Strides in another order."""
    x, perm = ctx.place(step.operands[0]), [int(p) for p in attributes(step)["perm"]]
    if isinstance(x, Splat):
        ctx.places[step.results[0]] = Splat(x.value, x.dtype, _type(step.results[0]).dims)
        return
    ctx.places[step.results[0]] = x.transpose([p % x.rank for p in perm])


@lowering("expand")
def expand(ctx: Context, step: Step) -> None:
    """Strides of 0."""
    x, shape = ctx.place(step.operands[0]), _type(step.results[0]).dims
    if isinstance(x, Splat):
        ctx.places[step.results[0]] = Splat(x.value, x.dtype, shape)
        return
    ctx.places[step.results[0]] = x.expand(shape)


@lowering("slice")
def slice_(ctx: Context, step: Step) -> None:
    """An offset, where it is known from which end the numbers count."""
    x, a, type = ctx.view(step.operands[0]), attributes(step), _type(step.results[0])
    dim, start, by = int(a["dim"]) % x.rank, a["start"], a["step"]
    if not isinstance(by, int) or by < 1:
        raise Unsupported("a slice that steps backwards")
    if bounds(start, ctx.declared)[1] < 0:
        start = x.dims[dim] + start
    if bounds(start, ctx.declared)[0] < 0:
        raise Unsupported("a slice whose start may lie on either side of 0")
    ctx.places[step.results[0]] = x.slice(dim, start, type.dims[dim], by)


@lowering("split")
def split(ctx: Context, step: Step) -> None:
    """Offsets one after the other."""
    x, a = ctx.view(step.operands[0]), attributes(step)
    dim, start = int(a["dim"]) % x.rank, 0
    for slot, size in zip(step.results, a["parts"], strict=True):
        ctx.places[slot] = x.slice(dim, start, size)
        start = start + size


@lowering("read")
def read(ctx: Context, step: Step) -> None:
    """The contents of a state as they are now: its own memory where nothing shows the difference, else a copy."""
    x = ctx.view(step.operands[0])
    if step.results[0] in ctx.direct:
        ctx.places[step.results[0]] = x
        return
    ctx.copy(x, ctx.result(step.results[0]))


@lowering("write")
def write(ctx: Context, step: Step) -> None:
    """New contents of a state, unless they were made there."""
    state, x = ctx.view(step.operands[0]), ctx.view(step.operands[1])
    if x != state:
        ctx.copy(x, state)


@lowering("concat")
def concat(ctx: Context, step: Step) -> None:
    """Each operand to its place, unless it was made there."""
    slot = step.results[0]
    target = ctx.targets.get(slot)
    parts = [ctx.view(v) for v in step.operands]
    dim = int(attributes(step)["dim"]) % parts[0].rank
    if target is None:
        target = ctx.result(slot, order_of(parts[0], ctx))
    at: DimLike = 0
    for part in parts:
        here = target.slice(dim, at, part.dims[dim])
        at = at + part.dims[dim]
        if part != here:
            ctx.copy(part, here)
    ctx.places[slot] = target


def order_of(view: View, ctx: Context) -> list[int]:
    """The order of a view's dims in memory, outermost first."""
    from .views import loop_order

    return loop_order([view], view.rank, ctx.likely)
