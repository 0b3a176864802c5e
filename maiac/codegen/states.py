"""States in place: which reads may look at a state's own memory, and which updates may change it there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from maiac.ir.graph import State
from maiac.runtime.arena import written
from maiac.runtime.plan import Slot, Source, Step

UPDATES = frozenset({"index_put"})  # steps that can change their first operand in place


def direct_reads(steps: Sequence[Step]) -> tuple[set[Slot], set[Slot]]:
    """Results of reads that need no copy, and results of updates that may be made in the state's own memory.

    Either the state does not change at all, or the value is only read by an update whose result becomes the state's
    next contents, and that is all that happens to the state.
    """
    users: dict[Source, list[int]] = {}
    writes: dict[State, list[int]] = {}
    for i, step in enumerate(steps):
        for value in step.reads():
            users.setdefault(value, []).append(i)
        for state in written(step):
            writes.setdefault(state, []).append(i)
    found: set[Slot] = set()
    updates: set[Slot] = set()
    for i, step in enumerate(steps):
        state = step.operands[0] if step.operands else None
        if step.op.name != "read" or not isinstance(state, State):
            continue
        changes = writes.get(state, [])
        if not changes:
            found.add(step.results[0])
            continue
        chain = _updates(steps, i, users, changes)
        # Another read between the first update and the write wants the old contents.
        if chain and not any(_takes(s, state) for s in steps[chain[0] + 1 : changes[0]]):
            found.add(step.results[0])
            updates.update(steps[at].results[0] for at in chain)
    return found, updates


def _updates(
    steps: Sequence[Step], read: int, users: Mapping[Source, Sequence[int]], changes: Sequence[int]
) -> list[int]:
    """The updates through which a read value becomes what the state's one write stores; none if it becomes else."""
    if len(changes) != 1 or steps[changes[0]].op.name != "write":
        return []
    end = steps[changes[0]].operands[1]
    value: Slot = steps[read].results[0]
    chain: list[int] = []
    while value is not end:
        if len(users.get(value, ())) != 1:
            return []
        step = steps[users[value][0]]
        if step.op.name not in UPDATES or step.operands[0] is not value or step.operands[1] is value:
            return []
        chain.append(users[value][0])
        value = step.results[0]
    return chain


def _takes(step: Step, state: State) -> bool:
    """Whether a step, or one inside it, has a state as its operand."""
    return state in step.operands or any(_takes(inner, state) for region in step.regions for inner in region.steps)
