"""States in place: which reads may look at a state's own memory, because nothing is read after it has changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from maiac.ir.graph import State
from maiac.runtime.arena import written
from maiac.runtime.plan import Slot, Source, Step

UPDATES = frozenset({"index_put"})  # steps that can change their first operand in place


def direct_reads(steps: Sequence[Step]) -> set[Slot]:
    """Results of reads that need no copy.

    Either the state does not change while the value is needed, or the value is only read by an update whose result
    becomes the state's next contents, and that is all that happens to the state.
    """
    users: dict[Source, list[int]] = {}
    writes: dict[State, list[int]] = {}
    for i, step in enumerate(steps):
        for value in step.reads():
            users.setdefault(value, []).append(i)
        for state in written(step):
            writes.setdefault(state, []).append(i)
    found: set[Slot] = set()
    for i, step in enumerate(steps):
        state = step.operands[0] if step.operands else None
        if step.op.name != "read" or not isinstance(state, State):
            continue
        slot, changes = step.results[0], writes.get(state, [])
        if not changes or _updated(steps, i, users, changes):
            found.add(slot)
    return found


def _updated(steps: Sequence[Step], read: int, users: Mapping[Source, Sequence[int]], changes: Sequence[int]) -> bool:
    """Whether a read value only becomes, through updates, what the state's one write stores."""
    if len(changes) != 1 or steps[changes[0]].op.name != "write":
        return False
    end = steps[changes[0]].operands[1]
    value: Slot = steps[read].results[0]
    while value is not end:
        if len(users.get(value, ())) != 1:
            return False
        step = steps[users[value][0]]
        if step.op.name not in UPDATES or step.operands[0] is not value or step.operands[1] is value:
            return False
        value = step.results[0]
    return True
