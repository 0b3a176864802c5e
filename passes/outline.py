"""outline: layers that are alike become one function that is called many times.

Alike means by structure, not by name: a stretch of ops recurs with the same attributes and types, each op reading the
same places of its own stretch. Whatever differs between the stretches (weights, the value that is carried along)
becomes a parameter; constants are made anew inside; a weight that all share is named directly.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from maiac.ir import Builder, Function, Location, Module, Op, Value, Weight
from maiac.ir.dims import sym
from maiac.ir.types import DimType, type_symbols

from .analysis import Effects, read_symbols
from .base import Pass, register
from .clone import clone_op
from .repeats import Coder, Line, Run, find_runs, loose_window, occurrences
from .rewrite import Miss, explainable, note_miss
from .window import Interface, Window, interface, isolate, majority, move_apart

explainable("outline", "Make one function of layers that are alike.")

TRIES = 24  # runs that are looked at before a function is left as it is
OFFSETS = 128  # places at which a run's first window may start
LOOK = 3  # windows looked at to choose among those places


@register
@dataclass(frozen=True)
class Outline(Pass):
    """Write each repeated layer once.

    min_ops: the fewest ops that a function is made for. min_repeats: the fewest times that they must recur.
    """

    name: ClassVar[str] = "outline"
    min_ops: int = 8
    min_repeats: int = 2

    def run(self, module: Module) -> bool:
        """Outline until nothing recurs, in functions just made as well."""
        outliner = _Outliner(module, self.min_ops, self.min_repeats)
        changed = False
        pending = list(module.functions.values())
        while pending:
            function = pending.pop(0)
            made = outliner.best(function)
            if made is not None:
                changed = True
                pending = [function, *pending, made]
        return changed


class _Outliner:
    """Finds and makes functions in one module."""

    def __init__(self, module: Module, min_ops: int, min_repeats: int) -> None:
        self.module = module
        self.min_ops = min_ops
        self.min_repeats = min_repeats
        self.coder = Coder()
        self.effects = Effects(module)

    def best(self, function: Function) -> Function | None:
        """Outline the run of a function that saves most; None where there is none."""
        line = self.coder.line(function)
        for run in find_runs(line.codes, self.min_ops)[:TRIES]:
            made = self.attempt(line, run)
            if isinstance(made, Function):
                return made
            note_miss("outline", line.ops[run.start], made)
        return None

    def attempt(self, line: Line, run: Run) -> Function | Miss:
        """Outline one run, with all other places where its ops recur."""
        last = run.start + run.slack
        start = min(range(max(run.start, last - OFFSETS), last + 1), key=lambda s: self.rank(line, run, s))
        windows = majority(self.windows(line, run, start))
        if len(windows) < self.min_repeats:
            return Miss(f"{run.period} ops recur, but do not read each other in the same way")
        met = interface(windows)
        carried = sum(1 for slot in met.params if not all(isinstance(v, Weight) for v in slot)) + len(met.results)
        if carried > run.period:
            return Miss(f"{run.period} ops recur, but {carried} values go in and out of them")
        return self.make(line.function, windows, met)

    def rank(self, line: Line, run: Run, start: int) -> tuple[int, int, int]:
        """How good a first window is here: few values in and out, then a place deep in the source."""
        cut = [Window(line.ops[s : s + run.period]) for s in self.starts(run, start)[:LOOK]]
        if run.repeats == 1:
            pattern = line.codes[start : start + run.period].tolist()
            cut += [Window(ops) for ops in self.loose(line, pattern, start, start + run.period)]
        kept = majority(cut)
        if len(kept) < 2:
            return (1 << 30, 0, start)
        met = interface(kept)
        return len(met.params) + len(met.results), -len(components(kept[-1].place())), start

    def starts(self, run: Run, start: int) -> list[int]:
        """Where the windows of a run start."""
        return [start + i * run.period for i in range(run.repeats)]

    def windows(self, line: Line, run: Run, start: int) -> list[Window]:
        """The windows of a run, those at its ends that hold more, and those elsewhere."""
        pattern = line.codes[start : start + run.period]
        strict = [line.ops[s : s + run.period] for s in self.starts(run, start)]
        taken = {op for ops in strict for op in ops}
        loose = self.loose(line, pattern.tolist(), start, start + run.repeats * run.period)
        found = [Window(ops) for ops in [*loose, *strict]]
        taken |= {op for ops in loose for op in ops}
        for function in self.module.functions.values():
            if function.stage == line.function.stage:
                here = line if function is line.function else self.coder.line(function)
                found += [Window(ops) for ops in occurrences(here, pattern, taken)]
        return [w for w in found if isolate(w, self.effects) is not None]

    def loose(self, line: Line, pattern: Sequence[int], first: int, end: int) -> list[list[Op]]:
        """Windows before and after a run that have other ops among theirs."""
        found: list[list[Op]] = []
        for edge, step in ((first, -1), (end, 1)):
            ops = loose_window(line, pattern, edge, step)
            if ops is not None:
                found.append(ops)
        return found

    def make(self, caller: Function, windows: Sequence[Window], met: Interface) -> Function:
        """Write the function and put calls in place of the windows."""
        first = windows[0]
        place = Location(first.place())
        name = self.free_name(stem(place.name))
        function = Function(name, [slot[0].type for slot in met.params], stage=caller.stage, loc=place)
        for arg, slot in zip(function.args, met.params, strict=True):
            arg.name = short_name(slot[0], place.name)
        symbols = self.missing_symbols(first, function)
        for symbol in symbols:
            function.body.add_arg(DimType(sym(symbol)), symbol)
        self.fill(function, first, met)
        self.module.add_function(function)
        now: dict[Value, Value] = {}  # results of windows before -> results of their calls
        for i, window in enumerate(windows):
            self.call(function, window, [now.get(slot[i], slot[i]) for slot in met.params], met, symbols, now)
        return function

    def fill(self, function: Function, first: Window, met: Interface) -> None:
        """The body: the first window's ops, with the constants that they read."""
        mapping: dict[Value, Value] = {}
        for op in first.constants():
            function.body.append(clone_op(op, mapping))
        copies = [function.body.append(clone_op(op, mapping)) for op in first.ops]
        # By slot, not by value: two parameters may be one value in the first window and differ in others.
        sources = iter(met.sources)
        for old, new in zip(first.flat, (inner for op in copies for inner in op.walk()), strict=True):
            for i, value in enumerate(old.operands):
                if value is None or first.own(value):
                    continue
                source = next(sources)
                if source is not None:
                    new.set_operand(i, function.args[source])
        results = [mapping[first.ops[i].results[j]] for i, j in met.results]
        Builder(self.module, function.body).ret(results)

    def missing_symbols(self, window: Window, function: Function) -> list[str]:
        """Symbols that attributes read but no parameter binds; they become parameters of their own."""
        bound = {s for a in function.args for s in type_symbols(a.type)}
        ops = [*window.constants(), *window.flat]
        return sorted({s for op in ops for s in read_symbols(op)} - bound)

    def call(
        self,
        function: Function,
        window: Window,
        operands: Sequence[Value],
        met: Interface,
        symbols: Sequence[str],
        now: dict[Value, Value],
    ) -> None:
        """Replace one window by a call."""
        moves = isolate(window, self.effects)
        assert moves is not None
        move_apart(window, moves)
        first = window.ops[0]
        assert first.block is not None
        b = Builder(self.module, first.block, first, Location(window.place()))
        dims = [b.emit("dim", value=sym(s), hint=s) for s in symbols]
        call = b.call(function, [*operands, *dims])
        for result, (i, j) in zip(call.results, met.results, strict=True):
            old = window.ops[i].results[j]
            result.name = old.name
            old.replace_all_uses(result)
            now[old] = result
        constants = window.constants()
        for op in reversed(window.ops):
            op.erase()
        for op in constants:
            if not op.result.uses:
                op.erase()

    def free_name(self, name: str) -> str:
        """The name itself, or with the first number that makes it new."""
        unique, n = name, 0
        while unique in self.module.functions:
            n += 1
            unique = f"{name}_{n}"
        return unique


def components(place: str) -> list[str]:
    """The parts of a module path or node name."""
    return [part for part in re.split(r"[./]", place) if part]


def stem(place: str) -> str:
    """A function's name from a place: model.layers.3 -> layer."""
    parts = components(place)
    named = [i for i, part in enumerate(parts) if not part.isdigit()]
    if not named:
        return "block"
    last = parts[named[-1]]
    numbered = named[-1] < len(parts) - 1
    last = last[:-1] if numbered and last.endswith("s") and len(last) > 2 else last
    last = re.sub(r"\W+", "_", last).strip("_")
    return f"block_{last}" if last[:1].isdigit() or last in ("main", "") else last


def short_name(value: Value, place: str) -> str:
    """A parameter's name: a weight's without the place it lies in."""
    return value.name.removeprefix(place).lstrip("./") if place else value.name
