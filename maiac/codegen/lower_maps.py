"""Elementwise operations, alone or as a group that one nest of loops computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from maiac.ir.dims import DimLike
from maiac.ir.dtypes import DType
from maiac.runtime.plan import Slot, Source, Step

from .expr import is_elementwise, plain
from .kernel import Writer
from .loops import Body, Compute, Group, Place, Splat, attributes, element_cost, map_kernel
from .lowering import Context, lowering
from .views import View, estimate, loop_order

TILE = 8  # elements in a row that make copying by tiles worth while


def lower_map(ctx: Context, group: Group) -> None:
    """One nest for a group of elementwise steps whose results have one shape."""
    shape = plain(group.results[0].type).dims
    order = _order(ctx, group, len(shape))
    outputs = {slot: ctx.result(slot, order) for slot in group.results}

    def steps(body: Body) -> None:
        for step in group.steps:
            body.step(step)

    name = "_".join(dict.fromkeys(s.op.name for s in group.steps))[:40]
    emit_map(ctx, name, group.places, outputs, steps, element_cost(group.steps), ctx.flops)


def emit_map(
    ctx: Context,
    name: str,
    places: Mapping[Source, Place],
    outputs: Mapping[Slot, View],
    compute: Compute,
    each: int,
    flops: DimLike,
) -> None:
    """An elementwise kernel. each: what a vector of it costs."""
    places = {v: _along(ctx, p, next(iter(outputs.values()))) for v, p in places.items()}
    w = Writer()
    map_kernel(w, places, outputs, compute, each, ctx.likely)
    ctx.add(w.kernel(name, ctx.loc, flops))


def _along(ctx: Context, place: Place, target: View) -> Place:
    """An operand that lies across the result, copied into its order: copies go by tiles, loops by single elements."""
    if not isinstance(place, View) or place.dims != target.dims:
        return place
    order = loop_order([target], target.rank, ctx.likely)
    inner = next((i for i in reversed(order) if target.dims[i] != 1), None)
    if inner is None or place.strides[inner] in (0, 1):
        return place
    lies = loop_order([place], place.rank, ctx.likely)
    first = next(i for i in reversed(lies) if place.dims[i] != 1)
    across = place.strides[first] == 1 and estimate(place.dims[first], ctx.likely) >= TILE
    return ctx.ordered(place, order) if across else place


def _order(ctx: Context, group: Group, rank: int) -> Sequence[int]:
    """The order in memory of the largest operand that has all dims, so that the nest walks it in steps of 1."""
    shape = plain(group.results[0].type).dims
    whole = [p for p in group.places.values() if isinstance(p, View) and p.dims == shape]
    return loop_order(whole, rank, ctx.likely) if whole else range(rank)


def group_of(ctx: Context, steps: Sequence[Step], results: Sequence[Slot], made: Sequence[Slot] = ()) -> Group:
    """Steps with where their operands from outside lie; ``made`` are values that the kernel has of itself."""
    own = {*made, *(r for s in steps for r in s.results)}
    outside = dict.fromkeys(v for s in steps for v in s.operands if v is not None and v not in own)
    return Group(steps, {v: ctx.place(v) for v in outside}, results)


def single(ctx: Context, step: Step) -> None:
    """An elementwise step of its own."""
    lower_map(ctx, group_of(ctx, [step], [step.results[0]]))


def elementwise(name: str) -> bool:
    """Whether a step of this name is elementwise."""
    return is_elementwise(name)


@lowering("constant")
def constant(ctx: Context, step: Step) -> None:
    """A number in the text; several elements become a weight of the segment."""
    from .expr import Unsupported

    a, type = attributes(step), plain(step.results[0].type)
    value = a["value"]
    if isinstance(value, tuple):
        if len(set(value)) != 1 or any(v != v for v in value):
            raise Unsupported("a constant of several elements")
        value = value[0]
    ctx.places[step.results[0]] = Splat(value, type.element, type.dims)


@lowering("full")
def full(ctx: Context, step: Step) -> None:
    """A number in the text."""
    type = plain(step.results[0].type)
    ctx.places[step.results[0]] = Splat(attributes(step)["value"], type.element, type.dims)


@lowering("dim_tensor")
def dim_tensor(ctx: Context, step: Step) -> None:
    """A size."""
    type = plain(step.results[0].type)
    ctx.places[step.results[0]] = Splat(attributes(step)["value"], type.element, type.dims)


@lowering("iota")
def iota(ctx: Context, step: Step) -> None:
    """Numbers in a row."""
    from .expr import C_TYPE, Unsupported

    a, slot = attributes(step), step.results[0]
    type = plain(slot.type)
    if type.element in (DType.BF16, DType.F16, DType.BOOL):
        raise Unsupported(f"iota of {type.element}")
    w = Writer()
    target = w.pointer(ctx.result(slot), writes=True)
    first, by = w.size(a["start"]), w.size(a["step"])
    c = C_TYPE[type.element]
    w.emit(f"for (int64_t i = 0, n = {w.size(type.dims[0])}; i < n; i++) {target}[i] = ({c})({first} + i * {by});")
    ctx.add(w.kernel("iota", ctx.loc))
