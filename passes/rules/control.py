"""Control flow whose course is known before it runs."""

from __future__ import annotations

from maiac.ir import Op, Value

from ..pattern import splat
from ..rewrite import Miss, Outcome, Rewriter, Rule, rule

CONTROL: list[Rule] = []


@rule("if", table=CONTROL)
def if_known(op: Op, b: Rewriter) -> Outcome:
    """An if whose condition is a constant -> what the chosen branch does."""
    known = splat(op.operand(0))
    if known is None:
        return Miss("the condition is known only at run time", op.operand(0))
    return b.inline(op.regions[0 if known else 1], [])


@rule("loop", table=CONTROL)
def loop_never(op: Op, b: Rewriter) -> Outcome:
    """A loop of no trips, or whose condition is false at the start -> the initial values."""
    trips, go = (splat(v) for v in _bounds(op))
    if not (trips is not None and trips <= 0) and go is not False:
        return None
    if op.attrs.get("scans", 0):
        return Miss("it scans values, whose shape is then not known")
    return _initial(op)


@rule("loop", table=CONTROL)
def loop_once(op: Op, b: Rewriter) -> Outcome:
    """A loop of one trip -> its body."""
    trips, go = _bounds(op)
    if splat(trips) != 1:
        return None
    if go is not None and splat(go) is not True:
        return Miss("whether it starts is known only at run time", go)
    if op.attrs.get("scans", 0):
        return Miss("it scans values, which it stacks")
    region = op.regions[0]
    counter = b.constant(0, region.args[0].type.dtype)  # type: ignore[union-attr]
    start = b.constant(True, region.args[1].type.dtype)  # type: ignore[union-attr]
    return b.inline(region, [counter, start, *_initial(op)])[1:]


def _bounds(op: Op) -> tuple[Value | None, Value | None]:
    """How many trips a loop makes at most, and whether it starts; None where the op does not say."""
    trips, go, *_ = (*op.operands, None, None)
    return trips, go


def _initial(op: Op) -> list[Value]:
    return [v for v in op.operands[2:] if v is not None]


@rule("while", table=CONTROL)
def while_never(op: Op, b: Rewriter) -> Outcome:
    """A while whose condition is false from the start -> the initial values."""
    region = op.regions[0]
    if splat(region.terminator.operands[0]) is not False:
        return None
    return [v for v in op.operands if v is not None]
