"""``fusion`` regions: a product with its epilogue, a group with reductions, or an elementwise group."""

from __future__ import annotations

from dataclasses import replace

from maiac.ir.kinds import PRODUCTS
from maiac.runtime.plan import Slot, Source, Step

from .expr import Unsupported, is_elementwise
from .lower_images import lower_group_norm
from .lower_maps import group_of, lower_map
from .lower_products import lower_product
from .lower_rows import lower_rows
from .lowering import HANDLERS, Context
from .rows import is_row_op, may_join


def lower_fusion(ctx: Context, step: Step) -> None:
    """One kernel for a region; constants in it become numbers in its text."""
    region = step.regions[0]
    given: dict[Source, Source | None] = dict(zip(region.args, step.operands, strict=True))
    steps = [replace(s, operands=tuple(given.get(v, v) if v else v for v in s.operands)) for s in region.steps]
    for inner in list(steps):
        if inner.op.name in ("constant", "full", "dim_tensor"):
            HANDLERS[inner.op.name](ctx, inner)
            steps.remove(inner)
    yielded = [v for v in region.results if isinstance(v, Slot)]
    if len(yielded) < len(step.results):
        raise Unsupported("a region that yields a weight")
    # The region's own values take the place of the step's results, so that a joined tensor can be their home.
    for inner_slot, slot in zip(yielded, step.results, strict=True):
        home = ctx.homes.get(slot)
        if home is not None:
            ctx.homes[inner_slot] = lambda s, order, home=home, slot=slot: home(slot, order)
    _lower(ctx, steps, list(dict.fromkeys(yielded)))
    for inner_slot, slot in zip(yielded, step.results, strict=True):
        ctx.places[slot] = ctx.places[inner_slot]


def _lower(ctx: Context, steps: list[Step], results: list[Slot]) -> None:
    products = [s for s in steps if s.op.name in PRODUCTS or s.op.name == "group_norm"]
    if products:
        rest = [s for s in steps if s not in products]
        if len(products) > 1 or not all(is_elementwise(s.op.name) for s in rest):
            raise Unsupported("a region of several products")
        lower = lower_group_norm if products[0].op.name == "group_norm" else lower_product
        lower(ctx, products[0], group_of(ctx, rest, results, products[0].results))
        return
    if not all(may_join(s) for s in steps):
        raise Unsupported("a region of " + ", ".join(s.op.name for s in steps if not may_join(s)))
    group = group_of(ctx, steps, results)
    if any(is_row_op(s) for s in steps):
        lower_rows(ctx, group)
    else:
        lower_map(ctx, group)
