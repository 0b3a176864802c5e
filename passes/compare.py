"""Whether two modules are the same program: equal up to names of values, places, and the order of independent ops."""

from __future__ import annotations

from maiac.ir import Block, Location, Module, Op, Result, print_module

from .analysis import Effects
from .clone import clone_module


def structurally_equal(a: Module, b: Module, *, ordered: bool = False) -> bool:
    """Whether two modules have the same structural text."""
    return structural_text(a, ordered=ordered) == structural_text(b, ordered=ordered)


def structural_text(module: Module, *, ordered: bool = False, locations: bool = False) -> str:
    """The text of a module in which values are numbered, globals and functions sorted, and places left out.

    Ops stand where they are first needed (dead ones not at all); ``ordered`` keeps their order as it is.
    """
    copy = clone_module(module)
    copy.symbols = dict(sorted(copy.symbols.items()))
    copy.weights = dict(sorted(copy.weights.items()))
    copy.states = dict(sorted(copy.states.items()))
    copy.functions = dict(sorted(copy.functions.items()))
    effects = Effects(copy)
    for function in copy.functions.values():
        if not locations:
            function.loc = Location()
        if not ordered:
            _order(function.body, effects)
        for arg in function.args:
            arg.name = ""
        for op in function.body.walk():
            _strip(op, locations)
    return print_module(copy)


def _strip(op: Op, locations: bool) -> None:
    if not locations:
        op.loc = Location()
    for value in (*op.results, *(a for region in op.regions for a in region.args)):
        value.name = ""
    op.attrs = dict(sorted(op.attrs.items()))


def _order(block: Block, effects: Effects) -> None:
    """Put ops in the order in which effects and the terminator ask for them."""
    ops = list(block)
    placed: set[Op] = set()
    wanted: list[Op] = []
    for root in ops:
        facts = effects.of(root)
        if facts.effect or facts.reads:
            _place(root, block, placed, wanted)
    for op in reversed(ops):
        op.detach()
        if op not in placed:
            op.erase()
    for op in wanted:
        block.append(op)
        for region in op.regions:
            _order(region, effects)


def _place(root: Op, block: Block, placed: set[Op], wanted: list[Op]) -> None:
    """Append an op after the ops of this block that it needs, regions included (iteratively: graphs are deep)."""
    stack = [(root, False)]
    while stack:
        op, ready = stack.pop()
        if ready:
            wanted.append(op)
            continue
        if op in placed:
            continue
        placed.add(op)
        stack.append((op, True))
        needs = [v.op for inner in op.walk() for v in inner.operands if isinstance(v, Result) and v.op.block is block]
        stack += [(n, False) for n in reversed(needs) if n not in placed]
