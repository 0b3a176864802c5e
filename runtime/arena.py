"""From one recorded run to memory that later runs of the same sizes reuse.

A recorded run tells, for each step's results, shape, strides and which operands they share storage with. Values that
kernels can write in place, and that nobody outside sees, get a place in one arena; all others stay with torch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import torch

from maiac.ir.dims import symbols_of
from maiac.ir.errors import raise_all
from maiac.ir.graph import State
from maiac.ir.opdef import get_op
from maiac.ir.types import TensorType

from .memory import ALIGNMENT, Buffer, Layout, assign, lower_bound
from .memory_check import Move, faults
from .memory_timeline import PlanOverTime, plan_over_time
from .plan import Program, Slot, Step, aliases

# Values below this stay with torch: its allocator hands small blocks back at once. From here on the arena gains, up to
# tenfold where memory would be fetched from the system and its pages touched anew; `out=` itself costs nothing that
# can be measured (benchmarks/executor_overhead.py).
SMALLEST = 4096  # bytes
MOST_VIEWS = 64  # plans whose tensors an arena keeps


@dataclass(frozen=True, slots=True)
class Place:
    """A tensor in the arena: byte offset, and what it is there."""

    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    def view(self, arena: torch.Tensor) -> torch.Tensor:
        """The tensor over the arena's bytes."""
        return arena[self.offset : self.offset + self.bytes].view(self.dtype).as_strided(self.shape, self.stride)

    @property
    def bytes(self) -> int:
        """Bytes from the first element to the last."""
        return extent(self.shape, self.stride) * self.dtype.itemsize


def extent(shape: Sequence[int], stride: Sequence[int]) -> int:
    """Elements from the first to the last of a strided tensor."""
    if 0 in shape:
        return 0
    return 1 + sum((n - 1) * s for n, s in zip(shape, stride, strict=True))


@dataclass(frozen=True)
class MemoryReport:
    """What one run needs. plans: each arena, ``torch`` for values between kernels that are called one by one.

    outside: the peak of live values, in bytes, that torch allocates during the run.
    """

    plans: dict[str, PlanOverTime]
    outside: int
    values_in_arena: int
    values_outside: int

    @property
    def arena(self) -> int:
        """Bytes of all arenas."""
        return sum(p.arena for p in self.plans.values())

    @property
    def lower_bound(self) -> int:
        """The peaks of live values in the arenas: no plans of them are smaller."""
        return sum(p.bound for p in self.plans.values())

    @staticmethod
    def from_json(value: dict[str, Any]) -> MemoryReport:
        """From what ``dataclasses.asdict`` makes of it."""
        plans = {n: PlanOverTime.from_json(p) for n, p in value["plans"].items()}
        return MemoryReport(plans, value["outside"], value["values_in_arena"], value["values_outside"])


@dataclass(frozen=True, eq=False)
class ArenaPlan:
    """Places for the results of steps, and reads of states that need no copy."""

    steps: dict[Step, int]  # step -> index among the places
    places: list[Place]
    direct: frozenset[Step]  # reads whose value nobody needs any more when the state is next written
    buffers: Sequence[Buffer]
    layout: Layout

    @property
    def size(self) -> int:
        """Bytes of the arena."""
        return self.layout.size


class Arena:
    """A block of memory, with the tensors that plans have in it."""

    def __init__(self, size: int) -> None:
        block = torch.empty(size + ALIGNMENT, dtype=torch.uint8)
        skip = -block.data_ptr() % ALIGNMENT
        self.size = size
        self.memory = block[skip : skip + size]
        self.views: dict[ArenaPlan, tuple[torch.Tensor, ...]] = {}

    def outs(self, plan: ArenaPlan) -> tuple[torch.Tensor, ...]:
        """The plan's tensors, in order."""
        found = self.views.get(plan)
        if found is None:
            if len(self.views) >= MOST_VIEWS:
                self.views.clear()
            found = self.views[plan] = tuple(place.view(self.memory) for place in plan.places)
        return found


class ArenaPool:
    """The arenas of one executor: as many as there are runs at one time, each as large as the largest plan."""

    def __init__(self) -> None:
        self.idle: deque[Arena] = deque()

    def take(self, plan: ArenaPlan) -> Arena:
        """An arena that no other run uses; ``give`` it back."""
        try:
            arena = self.idle.pop()
        except IndexError:
            return Arena(plan.size)
        return arena if arena.size >= plan.size else Arena(plan.size)

    def give(self, arena: Arena) -> None:
        """The run is over, and nothing holds on to its values."""
        self.idle.append(arena)


@dataclass(frozen=True, slots=True)
class Seen:
    """A result as the recorded run made it; ``storage`` tells which values share memory."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    storage: int


def seen(value: Any) -> Seen | None:
    """What is to know of a plain tensor; None of anything else."""
    if not isinstance(value, torch.Tensor) or value.layout is not torch.strided:
        return None
    return Seen(tuple(value.shape), value.stride(), value.dtype, value.untyped_storage().data_ptr())


def written(step: Step) -> Iterator[State]:
    """The states that a step may change: those that any operation with an effect but ``read`` takes."""
    if step.native is not None:
        yield from step.native.writes
        return
    if step.op.name != "read" and get_op(step.op.name).effect:
        yield from (v for v in step.operands if isinstance(v, State))
    for region in step.regions:
        for inner in region.steps:
            yield from written(inner)


class Recording:
    """One observed run, from which a plan follows."""

    def __init__(self, program: Program, inputs: Iterable[Any]) -> None:
        self.program = program
        self.seen: dict[Slot, Seen] = {}
        self.bases: list[list[tuple[Slot, Slot]]] = [[] for _ in program.steps]  # new value, older one, by step
        self.views: set[Slot] = set()  # results that may have an operand's storage
        for slot, value in zip(program.args, inputs, strict=True):
            self.note(slot, value)

    def note(self, slot: Slot, value: Any) -> None:
        """Remember a value."""
        found = seen(value)
        if found is not None:
            self.seen[slot] = found

    def step(self, index: int, results: Sequence[Any]) -> None:
        """Remember a step's results, and which of its operands they share storage with."""
        step = self.program.steps[index]
        present = [r for r in step.results if not r.absent]
        for slot, value in zip(present, results, strict=True):
            self.note(slot, value)
        read = [v for v in dict.fromkeys(step.reads()) if v in self.seen]
        declared = [(step.results[i], base) for i, base in aliases(step) if isinstance(base, Slot)]
        made = [r for r in present if r in self.seen]
        observed = [(r, v) for r in made for v in read if self.seen[r].storage == self.seen[v].storage]
        self.bases[index] = list(dict.fromkeys(declared + observed))
        self.views |= {new for new, _ in self.bases[index]}

    # **** the plan ****

    def plan(self, able: Iterable[Step], fixed: Set[str], smallest: int = SMALLEST) -> ArenaPlan:
        """Places for the results of ``able`` steps whose sizes follow from the symbols in ``fixed``.

        MAIA0509 where the independent check refuses the plan.
        """
        shows = self.shown()
        returned = {base for v in self.program.results if isinstance(v, Slot) for base in shows.get(v, {v})}
        last = self.last_reads(shows)
        able = set(able)
        chosen: list[tuple[int, Step]] = []
        buffers: list[Buffer] = []
        for i, step in enumerate(self.program.steps):
            if step not in able or not self.fits(step, fixed, smallest) or step.results[0] in returned:
                continue
            chosen.append((i, step))
            buffers.append(Buffer(self.bytes(step.results[0]), i, last.get(step.results[0], i)))
        layout = assign(buffers)
        places = [self.place(step.results[0], at) for (_, step), at in zip(chosen, layout.offsets, strict=True)]
        self.check(chosen, buffers, layout)
        direct = self.direct_reads(last, returned)
        return ArenaPlan({step: n for n, (_, step) in enumerate(chosen)}, places, direct, buffers, layout)

    def report(self, plan: ArenaPlan) -> MemoryReport:
        """What one run needs by this plan."""
        taken = {step.results[0] for step in plan.steps}
        outside = self.outside(taken, self.last_reads(self.shown()))
        arena = plan_over_time(plan.buffers, plan.layout)
        return MemoryReport({"torch": arena}, lower_bound(outside), len(taken), len(outside))

    def live(self) -> int:
        """The peak of the bytes of all values that are alive at one step."""
        return lower_bound(self.outside(set(), self.last_reads(self.shown())))

    def fits(self, step: Step, fixed: Set[str], smallest: int) -> bool:
        """Whether a step's result has a size known before the run, elements in one piece, and enough of them."""
        slot = step.results[0]
        type, found = slot.type, self.seen.get(slot)
        if found is None or not isinstance(type, TensorType):
            return False
        if any(not symbols_of(d) <= fixed for d in type.dims) or slot in self.views:
            return False
        elements = 1
        for n in found.shape:
            elements *= n
        return extent(found.shape, found.stride) == elements and elements * found.dtype.itemsize >= max(smallest, 1)

    def shown(self) -> dict[Slot, set[Slot]]:
        """For each value, all values whose bytes it may show, itself included."""
        shows: dict[Slot, set[Slot]] = {}
        for step, bases in zip(self.program.steps, self.bases, strict=True):
            for result in step.results:
                shows[result] = {result}
            for new, base in bases:
                shows[new] |= shows.get(base, {base})
        return shows

    def last_reads(self, shows: Mapping[Slot, set[Slot]]) -> dict[Slot, int]:
        """The last step that reads each value, itself or through a view."""
        last: dict[Slot, int] = {}
        for i, step in enumerate(self.program.steps):
            for value in step.reads():
                last.update(dict.fromkeys(shows.get(value, {value}), i))
        return last

    def direct_reads(self, last: Mapping[Slot, int], returned: set[Slot]) -> frozenset[Step]:
        """Reads of states whose values are not returned, and are dead before the state changes."""
        writes: dict[State, list[int]] = {}
        for i, step in enumerate(self.program.steps):
            for state in written(step):
                writes.setdefault(state, []).append(i)
        found: set[Step] = set()
        for i, step in enumerate(self.program.steps):
            if step.op.name != "read" or step.results[0] in returned:
                continue
            state, end = step.operands[0], last.get(step.results[0], i)
            if isinstance(state, State) and all(at < i or at > end for at in writes.get(state, ())):
                found.add(step)
        return frozenset(found)

    def bytes(self, slot: Slot) -> int:
        """Bytes of a recorded value."""
        found = self.seen[slot]
        return extent(found.shape, found.stride) * found.dtype.itemsize

    def place(self, slot: Slot, offset: int) -> Place:
        """A value's place at an offset."""
        found = self.seen[slot]
        return Place(offset, found.shape, found.stride, found.dtype)

    def outside(self, taken: set[Slot], last: Mapping[Slot, int]) -> list[Buffer]:
        """The lifetimes of values that torch allocates."""
        end = len(self.program.steps)
        returned = {v for v in self.program.results if isinstance(v, Slot)}
        return [
            Buffer(self.bytes(slot), i, end if slot in returned else last.get(slot, i))
            for i, step in enumerate(self.program.steps)
            for slot in step.results
            if slot in self.seen and slot not in taken and slot not in self.views
        ]

    def check(self, chosen: Sequence[tuple[int, Step]], buffers: Sequence[Buffer], layout: Layout) -> None:
        """Ask the independent checker; a plan that it refuses is never used."""
        moves = [
            Move(f"step {i} ({step.op.name})", tuple(step.reads()), step.results, tuple(bases))
            for i, (step, bases) in enumerate(zip(self.program.steps, self.bases, strict=True))
        ]
        ranges: dict[Hashable, tuple[int, int]] = {
            step.results[0]: (at, b.size) for (_, step), at, b in zip(chosen, layout.offsets, buffers, strict=True)
        }
        found = faults(moves, ranges, [v for v in self.program.results if isinstance(v, Slot)], layout.size, ALIGNMENT)
        raise_all("MAIA0509", "the memory plan is not valid", found)
