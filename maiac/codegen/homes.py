"""Where joined tensors are made: operands of a concat are written straight to their place in it."""

from __future__ import annotations

from collections.abc import Sequence

from maiac.ir.dims import DimLike
from maiac.runtime.plan import Slot, Step

from .expr import Unsupported, plain
from .loops import attributes
from .lowering import Context, Home
from .views import View


def homes_of(steps: Sequence[Step], results: set[Slot], ctx: Context) -> dict[Slot, Home]:
    """For each value that one concat reads and nobody gives back: how to find its place there."""
    makers = {r: s for s in steps for r in s.results}
    homes: dict[Slot, Home] = {}
    for step in steps:
        if step.op.name != "concat":
            continue
        for slot, at in _parts(step, makers):
            if slot not in homes and slot not in results:
                homes[slot] = _home(ctx, step, at)
    return homes


def _parts(step: Step, makers: dict[Slot, Step]) -> list[tuple[Slot, DimLike]]:
    """The values that a concat joins, with where each begins; all parts of one split, in order, are its operand."""
    operands = [v for v in step.operands if isinstance(v, Slot)]
    if len(operands) < len(step.operands) or len(set(operands)) < len(operands):
        return []
    try:
        dims = [plain(v.type).dims for v in operands]
    except Unsupported:
        return []
    dim = int(attributes(step)["dim"]) % len(dims[0])
    if len({(*d[:dim], *d[dim + 1 :]) for d in dims}) > 1:
        return []  # sizes that only the run compares
    found: list[tuple[Slot, DimLike]] = []
    at: DimLike = 0
    i = 0
    while i < len(operands):
        maker = makers.get(operands[i])
        count = len(maker.results) if maker is not None else 1
        whole = (
            maker is not None
            and maker.op.name == "split"
            and list(maker.results) == operands[i : i + count]
            and int(attributes(maker)["dim"]) % len(dims[0]) == dim
        )
        source = maker.operands[0] if whole and maker is not None else operands[i]
        if isinstance(source, Slot):
            found.append((source, at))
        for size in dims[i : i + (count if whole else 1)]:
            at = at + size[dim]
        i += count if whole else 1
    return found


def _home(ctx: Context, step: Step, at: DimLike) -> Home:
    def place(slot: Slot, order: Sequence[int] | None) -> View:
        joined, dims = step.results[0], plain(slot.type).dims
        dim = int(attributes(step)["dim"]) % len(dims)
        if joined not in ctx.targets:
            ctx.targets[joined] = ctx.result(joined, order)
        return ctx.targets[joined].slice(dim, at, dims[dim])

    return place
