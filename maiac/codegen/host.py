"""Cutting a program into segments: what has a native form runs in one call, the rest by reference kernels between."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from maiac.ir.dims import DimLike, Symbol, bounds, symbols_of
from maiac.ir.graph import Op, State, Weight
from maiac.ir.types import TensorType
from maiac.runtime.memory_timeline import PlanOverTime
from maiac.runtime.plan import Program, Slot, Source, Step, globals_of
from maiac.runtime.profiling import StepTime, flops_of

from . import (
    lower_attention,
    lower_images,
    lower_index,
    lower_maps,
    lower_products,
    lower_rotary,
    lower_rows,
    lower_views,
)
from .expr import Unsupported, is_elementwise, plain
from .homes import homes_of
from .loops import Splat
from .lower_fusion import lower_fusion
from .lower_maps import single as lower_elementwise
from .lowering import HANDLERS, Context
from .planning import Output
from .segment import Segment
from .states import direct_reads
from .store import PackStore
from .views import Buffer, View, dense

# Importing them enters their lowerings into the table.
FAMILIES = (
    lower_attention,
    lower_images,
    lower_index,
    lower_maps,
    lower_products,
    lower_rotary,
    lower_rows,
    lower_views,
)
LIKELY = 64  # what a symbol is taken for where only speed depends on it


@dataclass
class Refusal:
    """A step that stays with the reference kernels, and why."""

    step: Step
    reason: str


@dataclass
class Native:
    """A program whose native parts are segments, and what was left out."""

    program: Program
    segments: list[Segment] = field(default_factory=list[Segment])
    refusals: list[Refusal] = field(default_factory=list[Refusal])


def nativize(program: Program, store: PackStore | None = None) -> Program:
    """The same program with every run of steps that has a native form in one call; code built, weights packed.

    ``store`` keeps packed weights for other processes.
    """
    native = cut(program)
    for segment in native.segments:
        segment.prepare(store)
    return native.program


def cut(program: Program) -> Native:
    """The segments of a program, not yet built."""
    if any(n > 1 for n in program.placement.mesh.values()):
        return Native(program)
    return _Cutter(program).cut()


class _Cutter:
    """Lowers steps in order; what cannot be lowered ends a segment."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.declared: Mapping[str, Symbol] = program.module.symbols
        likely = {n: max(s.low, min(LIKELY, s.high or LIKELY)) for n, s in self.declared.items()}
        self.ctx = Context(likely, declared=self.declared)
        self.result = Native(program)
        self.steps: list[Step] = []
        self.pending: list[Step] = []
        self.inside: set[Slot] = set()  # values of the segment that is being made
        self.users: dict[Source, list[int]] = {}
        self.index: dict[Step, int] = {}
        for i, step in enumerate(program.steps):
            self.index[step] = i
            for value in step.reads():
                self.users.setdefault(value, []).append(i)
        self.ctx.homes = homes_of(program.steps, {v for v in program.results if isinstance(v, Slot)}, self.ctx)
        self.ctx.direct, self.ctx.updates = direct_reads(program.steps)
        for arg in program.args:
            self.outside(arg)

    def cut(self) -> Native:
        """All segments."""
        for step in self.program.steps:
            self.ctx.loc, self.ctx.flops = step.loc, flops_of(step)
            reason = self.lower(step)
            if reason is None:
                self.pending.append(step)
                self.inside.update(step.results)
                continue
            self.result.refusals.append(Refusal(step, reason))
            self.flush()
            self.steps.append(step)
            for slot in step.results:
                self.outside(slot)
        self.flush()
        found = dict.fromkeys(globals_of(self.steps, self.program.results))
        weights = [w for w in found if not isinstance(w, State)]
        self.result.program = replace(self.program, steps=self.steps, weights=weights)
        return self.result

    def outside(self, slot: Slot) -> None:
        """A value that comes to segments as a tensor in row-major order."""
        if slot.absent or not isinstance(slot.type, TensorType):
            return
        try:
            type = plain(slot.type)
        except Unsupported:
            return
        buffer = Buffer("input", type.element, 1, slot.name)
        self.ctx.places[slot] = View(buffer, type.dims, dense(type.dims))

    def lower(self, step: Step) -> str | None:
        """Lower one step; why it cannot be, if so. What it left behind is taken back then."""
        ctx = self.ctx
        kernels, copies = len(ctx.kernels), len(ctx.copies)
        places = {v: ctx.places[v] for v in step.operands if v in ctx.places}
        try:
            self.checked(step)
            return None
        except Unsupported as error:
            del ctx.kernels[kernels:]
            ctx.places.update(places)  # a number may have been put into memory
            while len(ctx.copies) > copies:
                ctx.copies.popitem()
            for slot in step.results:
                ctx.places.pop(slot, None)
            return str(error)

    def checked(self, step: Step) -> None:
        """Lower one step. Unsupported where it has no native form."""
        if step.collective or step.binds:
            raise Unsupported("it talks to other ranks, or its result has a size that only the run tells")
        for value in step.operands:
            if isinstance(value, Slot) and value not in self.ctx.places:
                raise Unsupported(f"values of {value.type}")
        if step.op.name == "fusion":
            lower_fusion(self.ctx, step)
        elif step.op.name in HANDLERS:
            HANDLERS[step.op.name](self.ctx, step)
        elif is_elementwise(step.op.name):
            lower_elementwise(self.ctx, step)
        else:
            raise Unsupported("no native form")

    # **** ending a segment ****

    def flush(self) -> None:
        """Make a segment of what has been lowered since the last one."""
        pending, self.pending = self.pending, []
        if not pending:
            return
        end = self.index[pending[-1]]
        needed = list(self.leaving(pending, end))
        if not self.ctx.kernels:
            self.steps += pending  # only views: torch makes them as quickly
            self.forget(pending)
            return
        outputs = {slot: self.output(slot) for slot in needed}
        operands = self.operands(outputs.values())
        listed = [self.as_output(v, operands) for v in outputs.values()]
        segment = Segment(
            f"segment {len(self.result.segments)}", self.ctx.kernels, operands, listed, self.program.placement
        )
        self.result.segments.append(segment)
        self.steps.append(self.step(segment, [v for v, _ in operands], needed, pending))
        self.ctx.kernels = []
        self.forget(pending)
        for slot, view in outputs.items():
            self.ctx.places[slot] = View(Buffer("input", view.dtype, 1, slot.name), view.dims, view.strides)

    def leaving(self, pending: Sequence[Step], end: int) -> list[Slot]:
        """Values of these steps that others need later."""
        made = [r for s in pending for r in s.results]
        results = {v for v in self.program.results if isinstance(v, Slot)}
        return [r for r in made if r in results or any(i > end for i in self.users.get(r, ()))]

    def output(self, slot: Slot) -> View:
        """Where a value that leaves the segment lies: results of the program in row-major order, none backwards."""
        place = self.ctx.places[slot]
        view = self.ctx.filled(place) if isinstance(place, Splat) else place
        backwards = any(bounds(stride, self.declared)[0] < 0 for stride in view.strides)  # which torch cannot say
        if backwards or (slot in self.program.results and not view.is_contiguous()):
            view = self.ctx.contiguous(view)
        if view.buffer.kind in ("state", "weight"):
            copy = self.ctx.new(view.dtype, view.dims)
            self.ctx.copy(view, copy)
            view = copy
        if view.buffer.kind == "arena":
            view.buffer.kind = "output"
        return view

    def operands(self, outputs: Iterable[View]) -> list[tuple[Source, View]]:
        """Values from outside that kernels read, or that results are views of."""
        buffers = {p.view.buffer for k in self.ctx.kernels for p in k.pointers} | {v.buffer for v in outputs}
        found: list[tuple[Source, View]] = []
        for value, place in self.ctx.places.items():
            if not isinstance(place, View) or place.buffer not in buffers:
                continue
            if (place.buffer.kind == "input" and value not in self.inside) or (
                place.buffer.kind == "state" and isinstance(value, State)
            ):
                found.append((value, place))
        return found

    def as_output(self, view: View, operands: Sequence[tuple[Source, View]]) -> Output:
        """A result: memory of its own, or a view of an operand."""
        for i, (_, place) in enumerate(operands):
            if place.buffer is view.buffer:
                return Output(view, i)
        assert view.buffer.kind == "output", f"a result in {view.buffer.kind}"
        return Output(view)

    def forget(self, pending: Sequence[Step]) -> None:
        """Views of a segment's memory mean nothing to the next one."""
        for step in pending:
            for slot in step.results:
                self.ctx.places.pop(slot, None)
        self.inside = set()
        self.ctx.copies = {}
        self.ctx.targets = {}
        for step in pending:
            for slot in step.results:
                if self.users.get(slot) or slot in self.program.results:
                    self.outside(slot)

    def step(
        self, segment: Segment, operands: Sequence[Source], results: Sequence[Slot], pending: Sequence[Step]
    ) -> Step:
        """The step that calls a segment."""
        op = Op("fusion", (), {}, [r.type for r in results], (), pending[0].loc)
        aliases = tuple((i, out.alias) for i, out in enumerate(segment.outputs) if out.alias >= 0)
        changed = {p.view.buffer for k in segment.kernels for p in k.pointers if p.writes}
        written = tuple(v for v in operands if isinstance(v, State) and self.buffer_of(v) in changed)
        return Step(
            op, tuple(operands), tuple(results), pending[0].loc, {}, native=NativeCall(segment, aliases, written)
        )

    def buffer_of(self, value: Source) -> Any:
        """The buffer of a weight or state."""
        place = self.ctx.places.get(value)
        return place.buffer if isinstance(place, View) else None


@dataclass(eq=False)
class NativeCall:
    """What the executor knows of a segment."""

    segment: Segment
    aliases: tuple[tuple[int, int], ...]  # (result, operand) that share storage
    writes: tuple[State, ...]

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights that the segment holds or maps."""
        return self.segment.weight_bytes()

    def memory(self, sizes: tuple[int, ...]) -> PlanOverTime:
        """The plan of its arena, kernel by kernel."""
        return self.segment.memory(sizes)

    @property
    def symbols(self) -> Sequence[str]:
        """The sizes that a call passes, after the operands."""
        return self.segment.symbols

    def __call__(
        self, operands: tuple[Any, ...], sizes: tuple[int, ...], times: list[StepTime] | None = None
    ) -> tuple[Any, ...]:
        if times is None:
            return self.segment(operands, sizes)
        results, found = self.segment.timed(operands, sizes)
        times += found
        return results


__all__ = ["DimLike", "Native", "NativeCall", "Refusal", "Weight", "nativize", "symbols_of"]
