"""Runs a module: flattens it, generates straight-line Python over kernels, plans memory for sizes that come again."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from maiac.ir.dims import solve
from maiac.ir.errors import Location, MaiaError
from maiac.ir.graph import Module
from maiac.ir.types import TensorType, Type

from .arena import ArenaPlan, ArenaPool, MemoryReport, Recording
from .codegen import Compiled, Emitter, Space, step_kernels
from .comm import Communicator
from .failure import explain
from .globals import bytes_held, load_weights, mutable
from .kernels import Provider, default_providers
from .placement import Placement, place
from .plan import Program, Step, flatten
from .profiling import StepTime, work_of
from .signature import InputSignature, Sizes

MOST_PLANS = 64  # concrete sizes whose memory plan is kept

Observer = Callable[[str, Location, Any], None]
Nativizer = Callable[[Program], Program]  # puts calls of machine code in place of steps


@dataclass(frozen=True, slots=True)
class Observation:
    """A result of a step while the program runs."""

    name: str  # the value's name; inlined calls stand in front: "layer.3/q"
    loc: Location
    op: str
    type: Type
    value: Any


@dataclass(slots=True)
class _Known:
    """What is known about one choice of sizes: how often it ran, and its plan from the third run on."""

    runs: int = 0
    used: int = 0
    plan: ArenaPlan | None = None
    run: Compiled | None = None


@dataclass
class _Ready:
    """All that is made before the first run."""

    program: Program
    signature: InputSignature
    space: Space
    plain: Compiled
    able: list[Step]
    initial: list[Any]
    states: list[torch.Tensor]
    observed: Compiled | None = None
    variants: dict[frozenset[Step], Compiled] = field(default_factory=dict[frozenset[Step], Compiled])

    def sizes_by_name(self, sizes: Sizes) -> dict[str, int]:
        """Every symbol that is known before the run."""
        return dict(zip(self.signature.symbols, sizes, strict=True)) | self.signature.known


class Executor:
    """A module on one rank of a mesh, ready to run.

    Weights load at the first run and are shared with every other executor of the same module; states belong to this
    executor. ``run`` may be called from several threads; a program with states runs one call at a time. ``observer`` is
    called with (name, location, value) for each result of each step.
    """

    def __init__(
        self,
        module: Module,
        *,
        mesh: Mapping[str, int] | None = None,
        rank: int = 0,
        comm: Communicator | None = None,
        observer: Observer | None = None,
        providers: Sequence[Provider] | None = None,
        arena: bool | None = None,
        native: Nativizer | None = None,
    ) -> None:
        self.module = module
        self.placement: Placement = place(module, mesh, rank)
        self.program: Program = flatten(module, self.placement)
        self.native = native
        self.comm = comm
        self.observer = observer
        self.providers = default_providers() if providers is None else tuple(providers)
        self.arena = not os.environ.get("MAIAC_NO_ARENA") if arena is None else arena
        self._lock = threading.RLock()
        self._ready: _Ready | None = None
        self._watched: _Ready | None = None
        self._known: dict[Sizes, _Known] = {}
        self._pool = ArenaPool()
        self._clock = itertools.count(1)

    # **** running ****

    def run(self, inputs: Sequence[Any]) -> list[Any]:
        """The results for these inputs, in order: tensors, and Python integers where the program returns dims.

        Inputs are tensors, arrays or numbers as ``main``'s parameters say. MAIA0501 and MAIA0502 where they do not
        fit, MAIA0503 where a kernel fails, MAIA0504 where a weight has no contents.
        """
        if self.observer is not None:
            return self._run_observer(inputs, self.observer)
        ready = self._ready or self.prepare()
        inputs, sizes = ready.signature.bind(inputs)
        if ready.states:
            with self._lock:
                return self._run(ready, inputs, sizes)
        return self._run(ready, inputs, sizes)

    def _run(self, ready: _Ready, inputs: Sequence[Any], sizes: Sizes) -> list[Any]:
        known = self._known.get(sizes)
        if known is None or known.run is None:
            if known is not None and known.runs == 1 and self.arena:
                return self._record(ready, inputs, sizes, known)
            known = known or self._remember(sizes)
            known.runs += 1
            return self._call(ready.plain, inputs, sizes, ())
        known.used = next(self._clock)
        plan = known.plan
        if plan is None:
            return self._call(known.run, inputs, sizes, ())
        arena = self._pool.take(plan)
        results = self._call(known.run, inputs, sizes, arena.outs(plan))
        self._pool.give(arena)  # not after an error: its traceback still holds values
        return results

    def _call(self, compiled: Compiled, inputs: Sequence[Any], sizes: Sizes, outs: Sequence[Any]) -> list[Any]:
        if torch.is_autocast_enabled("cpu"):  # the program's casts are in the program
            with torch.autocast("cpu", enabled=False):
                return self._guarded(compiled, inputs, sizes, outs)
        return self._guarded(compiled, inputs, sizes, outs)

    def _guarded(self, compiled: Compiled, inputs: Sequence[Any], sizes: Sizes, outs: Sequence[Any]) -> list[Any]:
        enabled = torch.is_grad_enabled()
        torch._C._set_grad_enabled(False)  # pyright: ignore[reportPrivateUsage]  (no_grad costs 2 us more)
        try:
            return compiled.function(inputs, sizes, outs)
        except Exception as error:
            raise explain(error, compiled) from error
        finally:
            torch._C._set_grad_enabled(enabled)  # pyright: ignore[reportPrivateUsage]

    def run_observed(self, inputs: Sequence[Any]) -> Iterator[Observation]:
        """Every result of every step, in order, while the program runs; the generator's return value is the results.

        All steps run by reference kernels: machine code has no results in between.
        """
        ready = self._watch()
        inputs, sizes = ready.signature.bind(inputs)
        steps, results = ready.program.steps, self._observe(ready, inputs, sizes)
        while True:
            try:
                index, values = next(results)
            except StopIteration as done:
                return done.value
            step = steps[index]
            present = [r for r in step.results if not r.absent]
            for slot, value in zip(present, values, strict=True):
                yield Observation(slot.name, step.loc, step.op.name, slot.type, value)

    def _observe(
        self, ready: _Ready, inputs: Sequence[Any], sizes: Sizes, times: list[StepTime] | None = None
    ) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """(step, its results) as the program runs; grad mode is off only while it does.

        What kernels of machine code took is added to ``times``.
        """
        with self._lock:
            if ready.observed is None:
                ready.observed = Emitter(ready.space, observed=True).compile(f"<maiac {self.module.name} observed>")
        running = ready.observed.function(inputs, sizes, times)
        while True:
            try:
                with torch.no_grad():
                    step = next(running)
            except StopIteration as done:
                return done.value
            except Exception as error:
                raise explain(error, ready.observed) from error
            yield step

    def _run_observer(self, inputs: Sequence[Any], observer: Observer) -> list[Any]:
        running = self.run_observed(inputs)
        while True:
            try:
                found = next(running)
            except StopIteration as done:
                return done.value
            observer(found.name, found.loc, found.value)

    def profile(self, inputs: Sequence[Any]) -> list[StepTime]:
        """What each step of one run took, in order; those of machine code time themselves."""
        ready = self._ready or self.prepare()
        inputs, sizes = ready.signature.bind(inputs)
        if ready.states:
            with self._lock:
                return self._profiled(ready, inputs, sizes)
        return self._profiled(ready, inputs, sizes)

    def _profiled(self, ready: _Ready, inputs: Sequence[Any], sizes: Sizes) -> list[StepTime]:
        known = ready.sizes_by_name(sizes)
        found: list[StepTime] = []
        native: list[StepTime] = []  # of the step that ran last
        begin = last = time.perf_counter()
        for index, _ in self._observe(ready, inputs, sizes, native):
            step, now = ready.program.steps[index], time.perf_counter()
            if step.native is None:
                flops, traffic = work_of(step, known)
                found.append(StepTime(step.op.name, step.loc, now - last, flops, traffic, "torch", last - begin))
            found += [replace(t, start=t.start - begin) for t in native]
            native.clear()
            last = time.perf_counter()
        return found

    # **** preparing ****

    def prepare(self) -> _Ready:
        """Load weights and generate code, once; ``run`` does it when first called."""
        with self._lock:
            if self._ready is None:
                program = self.program
                if self.native is not None:
                    program = self.native(flatten(self.module, self.placement, inline_fusion=False))
                self._ready = self._prepare(program, self._states())
            return self._ready

    def _watch(self) -> _Ready:
        """The program without machine code, to be observed; it shares the states."""
        if self.native is None:
            return self._ready or self.prepare()
        with self._lock:
            if self._watched is None:
                self._watched = self._prepare(self.program, self._states())
            return self._watched

    def _states(self) -> tuple[list[Any], list[torch.Tensor]]:
        """The states' initial contents, and the tensors that all runs share."""
        made = self._ready or self._watched
        if made is not None:
            return made.initial, made.states
        initial = load_weights(self.program.states, self.placement)
        return initial, mutable(initial)

    def _prepare(self, program: Program, given: tuple[list[Any], list[torch.Tensor]]) -> _Ready:
        initial, states = given
        known = self._sizes_of_states(states)
        by_state = dict(zip(self.program.states, states, strict=True))
        signature = InputSignature(self.module, self.placement, known)
        space = Space(program, self.providers, self.comm, signature.symbols, known)
        values = [*load_weights(program.weights, self.placement), *(by_state[s] for s in program.states)]
        names = [space.weights[w] for w in (*program.weights, *program.states)]
        space.globals.update(zip(names, values, strict=True))
        plain = Emitter(space).compile(f"<maiac {self.module.name}>")
        return _Ready(program, signature, space, plain, list(step_kernels(space)), initial, states)

    def _sizes_of_states(self, states: Sequence[torch.Tensor]) -> dict[str, int]:
        """Symbols that the sizes of states tell."""
        known: dict[str, int] = {}
        for state, tensor in zip(self.program.states, states, strict=True):
            if not isinstance(state.type, TensorType):
                continue
            for i, (dim, size) in enumerate(zip(state.type.dims, tensor.shape, strict=True)):
                found = solve(dim, size * self.placement.pieces(state.type, i), known)
                known |= dict([found]) if found else {}
        return known

    def reset_states(self) -> None:
        """Give every state its initial contents again."""
        ready = self._ready or self.prepare()
        with self._lock:
            for state, initial in zip(ready.states, ready.initial, strict=True):
                state.copy_(initial)

    # **** memory ****

    def _remember(self, sizes: Sizes) -> _Known:
        with self._lock:
            if len(self._known) >= MOST_PLANS:
                del self._known[min(self._known, key=lambda s: self._known[s].used)]
            known = self._known[sizes] = _Known(used=next(self._clock))
            return known

    def _record(self, ready: _Ready, inputs: Sequence[Any], sizes: Sizes, known: _Known) -> list[Any]:
        """Run observed, and plan memory for all runs of these sizes to come."""
        known.runs += 1
        recording, results = self._recorded(ready, inputs, sizes)
        plan = recording.plan(ready.able, ready.sizes_by_name(sizes).keys())
        with self._lock:
            known.plan = plan if plan.places else None
            known.run = self._variant(ready, plan)
        return results

    def _recorded(self, ready: _Ready, inputs: Sequence[Any], sizes: Sizes) -> tuple[Recording, list[Any]]:
        recording = Recording(ready.program, inputs)
        running = self._observe(ready, inputs, sizes)
        while True:
            try:
                recording.step(*next(running))
            except StopIteration as done:
                return recording, done.value

    def _variant(self, ready: _Ready, plan: ArenaPlan) -> Compiled:
        """Generated code in which these steps write into the arena; sizes that place the same steps share it."""
        key = frozenset(plan.steps) | plan.direct
        if not key:
            return ready.plain
        if key not in ready.variants:
            emitter = Emitter(ready.space, plan.steps, plan.direct)
            ready.variants[key] = emitter.compile(f"<maiac {self.module.name} planned {len(ready.variants)}>")
        return ready.variants[key]

    def memory_report(self, inputs: Sequence[Any]) -> MemoryReport:
        """Run once, and tell what memory runs of these sizes need."""
        ready = self._ready or self.prepare()
        recording, known = self._rehearsed(ready, inputs)
        report = recording.report(recording.plan(ready.able, known.keys()))
        calls = [s.native for s in ready.program.steps if s.native is not None]
        native = {
            f"native {i}": call.memory(tuple(known[n] for n in call.symbols))
            for i, call in enumerate(calls)
            if known.keys() >= set(call.symbols)
        }
        return replace(report, plans=report.plans | native)

    def live_bytes(self, inputs: Sequence[Any]) -> int:
        """Run once by reference kernels; the peak of the bytes of all values that are alive at one step.

        Whoever keeps each value in memory needs as much.
        """
        recording, _ = self._rehearsed(self._watch(), inputs)
        return recording.live()

    def _rehearsed(self, ready: _Ready, inputs: Sequence[Any]) -> tuple[Recording, dict[str, int]]:
        """A recorded run that leaves the states as they are, and the sizes of its symbols."""
        inputs, sizes = ready.signature.bind(inputs)
        with self._lock:
            before = [s.clone() for s in ready.states]
            recording, _ = self._recorded(ready, inputs, sizes)
            for state, contents in zip(ready.states, before, strict=True):
                state.copy_(contents)
        return recording, ready.sizes_by_name(sizes)

    def weight_bytes(self) -> int:
        """Bytes of the weights and states that this rank holds or maps."""
        ready = self._ready or self.prepare()
        calls = [s.native for s in ready.program.steps if s.native is not None]
        held = sum(bytes_held(ready.space.globals[name]) for name in ready.space.weights.values())
        return held + sum(call.weight_bytes for call in calls)


def run_module(module: Module, inputs: Sequence[Any] = ()) -> list[Any]:
    """Run a module once, in one process, without planning memory."""
    return Executor(module, arena=False).run(inputs)


__all__ = ["Executor", "MaiaError", "Observation", "run_module"]
