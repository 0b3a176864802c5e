"""Windows: stretches of ops that may become calls of one function, and what goes in and out of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from maiac.ir import Op, Result, Value, Weight

from .analysis import Effects
from .repeats import TRANSPARENT

Slot: TypeAlias = tuple[Value, ...]  # a value for each window
Moves: TypeAlias = tuple[list[Op], list[Op]]  # ops to put before a window, and after it


@dataclass(frozen=True)
class Window:
    """Ops of one block in order, not necessarily next to each other."""

    ops: list[Op]

    @cached_property
    def flat(self) -> list[Op]:
        """The ops with those of their regions."""
        return [inner for op in self.ops for inner in op.walk()]

    @cached_property
    def inside(self) -> dict[Value, tuple[int, int, int]]:
        """Where each value that the window defines comes from: op, region (or -1) and index."""
        out: dict[Value, tuple[int, int, int]] = {}
        for i, op in enumerate(self.flat):
            out.update((r, (i, -1, j)) for j, r in enumerate(op.results))
            out.update((a, (i, k, j)) for k, region in enumerate(op.regions) for j, a in enumerate(region.args))
        return out

    @cached_property
    def outside(self) -> list[Value]:
        """The values read from outside, one for each operand slot, transparent ops' results left out."""
        return [v for op in self.flat for v in op.operands if v is not None and not self.own(v)]

    def own(self, value: Value) -> bool:
        """Whether the function defines a value itself."""
        return value in self.inside or (isinstance(value, Result) and value.op.name in TRANSPARENT)

    @cached_property
    def wiring(self) -> Hashable:
        """Which operand slots read which places of the window; None for those that read from outside."""
        return tuple(self.inside.get(v) for op in self.flat for v in op.operands if v is not None)

    @cached_property
    def escaping(self) -> set[tuple[int, int]]:
        """Results (op, index) that somebody outside uses."""
        members = set(self.flat)
        return {
            (i, j)
            for i, op in enumerate(self.ops)
            for j, r in enumerate(op.results)
            if any(user not in members for user in r.uses)
        }

    def constants(self) -> list[Op]:
        """The transparent ops that the window reads, outside it."""
        found = (v.op for op in self.flat for v in op.operands if isinstance(v, Result) and v not in self.inside)
        return list(dict.fromkeys(op for op in found if op.name in TRANSPARENT))

    def place(self) -> str:
        """The place in the source that all ops share."""
        names = [op.loc.name for op in self.flat if op.loc.name]
        shared = _common_start(names)
        while shared and not all(n == shared or n[len(shared) :][:1] in (".", "/") for n in names):
            shared = shared[: max(shared.rfind("."), shared.rfind("/"), 0)]
        return shared


@dataclass(frozen=True, slots=True)
class Interface:
    """What goes in and out of windows that are alike."""

    params: list[Slot]
    sources: list[int | None]  # for each slot that reads from outside: the parameter, or None for a shared weight
    results: list[tuple[int, int]]


def _common_start(names: Sequence[str]) -> str:
    low, high = min(names, default=""), max(names, default="")
    length = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    return low[:length]


def majority(windows: Sequence[Window]) -> list[Window]:
    """The windows whose ops read each other in the same way, of the way that most have."""
    groups: defaultdict[Hashable, list[Window]] = defaultdict(list)
    for window in windows:
        groups[window.wiring].append(window)
    return max(groups.values(), key=len, default=[])


def interface(windows: Sequence[Window]) -> Interface:
    """Parameters: each distinct row of values that some slot reads from outside, but no weight that all share."""
    rows = list(zip(*(w.outside for w in windows), strict=True))
    params = [r for r in dict.fromkeys(rows) if not (isinstance(r[0], Weight) and all(v is r[0] for v in r))]
    numbers = {row: i for i, row in enumerate(params)}
    results = sorted(set[tuple[int, int]]().union(*(w.escaping for w in windows)))
    return Interface(params, [numbers.get(row) for row in rows], results)


def isolate(window: Window, effects: Effects) -> Moves | None:
    """The ops in between a window's ops that must move before or after it; None where they cannot."""
    members, before, after = set(window.ops), list[Op](), list[Op]()
    late: set[Op] = set()  # ops that need a result of the window
    op: Op | None = window.ops[0]
    last = window.ops[-1]
    while op is not None:
        needs = {v.op for inner in op.walk() for v in inner.operands if isinstance(v, Result)}
        if op in members:
            if needs & late:
                return None
        elif op.name in TRANSPARENT:
            before.append(op)
        elif not effects.mergeable(op):
            return None
        elif needs & (late | members):
            late.add(op)
            after.append(op)
        else:
            before.append(op)
        if op is last:
            return before, after
        op = op.next
    return None


def move_apart(window: Window, moves: Moves) -> None:
    """Move the ops in between out of a window, in their order."""
    first, last = window.ops[0], window.ops[-1]
    block = first.block
    assert block is not None
    for op in moves[0]:
        block.insert(op.detach(), first)
    following = last.next
    for op in moves[1]:
        block.insert(op.detach(), following)
