"""Reductions over rows, alone or in a group."""

from __future__ import annotations

from maiac.ir.kinds import ROWS
from maiac.runtime.plan import Step

from .expr import plain
from .kernel import Writer
from .loops import Group
from .lower_maps import group_of
from .lowering import Context, lowering
from .row_kernel import row_kernel
from .rows import Rows, analyse
from .views import loop_order


def lower_rows(ctx: Context, group: Group) -> None:
    """One kernel for a group with reductions."""
    rows = analyse(group)
    whole = [
        n.view for n in rows.nodes.values() if n.view is not None and all(n.view.strides[i] != 0 for i in rows.over)
    ]
    order = loop_order(whole, len(rows.shape), ctx.likely) if whole else list(range(len(rows.shape)))
    outputs = {slot: ctx.result(slot, _order(rows, order, len(plain(slot.type).dims))) for slot in group.results}
    w = Writer()
    row_kernel(w, group, rows, outputs, ctx.likely)
    name = "_".join(dict.fromkeys(s.op.name for s in group.steps))[:40]
    ctx.add(w.kernel(name, ctx.loc, ctx.flops))


def _order(rows: Rows, order: list[int], rank: int) -> list[int]:
    """The order of a result's dims in memory: that of the rows, less what is gone."""
    if rank == len(rows.shape):
        return order
    kept = [i for i in range(len(rows.shape)) if i not in rows.over]
    return [kept.index(i) for i in order if i in kept]


@lowering(*sorted(ROWS))
def single(ctx: Context, step: Step) -> None:
    """A reduction of its own."""
    lower_rows(ctx, group_of(ctx, [step], [step.results[0]]))
