"""The flat program as straight-line Python: one line for each kernel call, one local variable for each live value."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from maiac.ir.dims import Dim, DimLike, Symbol, symbols_of
from maiac.ir.errors import MaiaError, raise_all
from maiac.ir.graph import Weight
from maiac.ir.opdef import get_op
from maiac.ir.ops.values import TORCH
from maiac.ir.types import TensorType

from .comm import AXIS_ATTR, Communicator, part_of
from .kernels import Kernel, Provider, find_kernel
from .placement import no_communicator
from .plan import NativeCall, Program, Region, Slot, Source, Step, SymbolBinding, escaping
from .signature import SymbolNames, inverse, range_test

LEAST = -(2**63)  # of an element of an integer tensor


@dataclass(frozen=True, slots=True)
class Line:
    """What a generated line computes, for errors: the step, and the expression of each operand."""

    step: Step
    operands: tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Compiled:
    """A generated function with what each of its lines computes."""

    function: Callable[..., Any]
    text: str
    filename: str
    lines: Mapping[int, Line]


class Space:
    """The names that generated code reads besides its locals: kernels, attributes, constants, weights, states.

    One space serves all variants of a program.
    """

    def __init__(
        self,
        program: Program,
        providers: Sequence[Provider],
        comm: Communicator | None,
        symbols: Iterable[str],
        known: Mapping[str, int],
    ) -> None:
        self.program = program
        self.comm = comm
        self.inputs = tuple(symbols)  # bound before the first step
        self.symbols = SymbolNames([*program.module.symbols])
        self.globals: dict[str, Any] = {self.symbols[s]: n for s, n in known.items()}
        self.kernels: dict[Step, Kernel] = {}
        self.folded: dict[Slot, str] = {}  # constants, computed once
        self.weights: dict[Weight, str] = {}
        self._interned: dict[tuple[type, object], str] = {}
        for weight in (*program.weights, *program.states):
            self.weights[weight] = f"_w{len(self.weights)}"
        self._prepare(program.steps, program.results, {*self.inputs, *known}, providers)

    def _prepare(
        self, steps: Sequence[Step], results: Sequence[Source | None], bound: set[str], providers: Sequence[Provider]
    ) -> None:
        kept = escaping(steps, results)
        faults: list[str] = []
        for step in steps:
            if step.native is not None:
                continue
            missing = {s for v in step.attrs.values() for s in _symbols_in(v)} - bound
            if missing and step.op.name != "bind":
                faults.append(f"{step.op.name} at {step.loc} uses {', '.join(sorted(missing))}")
            for region in step.regions:
                self._prepare(region.steps, region.results, bound | {b.symbol for b in region.binds}, providers)
            bound |= {b.symbol for b in step.binds} | {s for v in _bound_by(step) for s in symbols_of(v)}
            if step.collective:
                if self.comm is None and step.op.name != "shard":
                    raise no_communicator(step.op.name, *self._axis(step))
                continue
            self.kernels[step] = find_kernel(step.op, providers)
            if step.op.name == "constant" and step.results[0] not in kept:
                self.folded[step.results[0]] = self.intern(get_op("constant").reference(**step.attrs), "_k")
        raise_all("MAIA0508", "nothing determines the size that an operation needs", faults)

    def _axis(self, step: Step) -> tuple[str, int]:
        axis = str(step.attrs[AXIS_ATTR[step.op.name]])
        return axis, self.program.placement.size(axis)

    def intern(self, value: Any, prefix: str = "_c") -> str:
        """A global name for an object."""
        key = (type(value), id(value))
        if key not in self._interned:
            name = f"{prefix}{len(self._interned)}"
            self._interned[key] = name
            self.globals[name] = value
        return self._interned[key]

    def attribute(self, value: Any) -> str:
        """An attribute as a Python expression of the symbols."""
        if isinstance(value, Dim):
            return self.symbols.expression(value)
        if isinstance(value, tuple) and any(True for _ in _symbols_in(value)):
            return "(" + "".join(self.attribute(v) + ", " for v in value) + ")"
        if isinstance(value, (bool, int, str)) or value is None or (isinstance(value, float) and math.isfinite(value)):
            return repr(value)
        return self.intern(value)


def _symbols_in(value: Any) -> Iterable[str]:
    if isinstance(value, Dim):
        yield from symbols_of(value)
    elif isinstance(value, tuple):
        for v in value:
            yield from _symbols_in(v)


def _bound_by(step: Step) -> tuple[DimLike, ...]:
    return step.attrs["to"] if step.op.name == "bind" else ()


class Emitter:
    """Writes one variant of a program.

    ``planned`` steps write into memory that is given; ``direct`` reads take a state without a copy; ``observed`` makes
    the function a generator.
    """

    def __init__(
        self,
        space: Space,
        planned: Mapping[Step, int] | None = None,
        direct: Collection[Step] = (),
        *,
        observed: bool = False,
    ) -> None:
        self.space = space
        self.direct = direct
        self.program = space.program
        self.planned = planned or {}
        self.observed = observed
        self.text: list[str] = []
        self.lines: dict[int, Line] = {}
        self.names: dict[Slot, str] = dict(space.folded)
        self.free: list[str] = []
        self.count = 0

    def compile(self, name: str) -> Compiled:
        """The function ``(inputs, sizes, outs) -> results``.

        Where observed, a generator of (step index, results) whose last argument is the list that native calls add their
        kernels' times to, or None.
        """
        program = self.program
        self.emit(f"def main(_in, _sizes, {'_times' if self.observed else '_outs'}):", 0)
        for arg in program.args:
            self.names[arg] = self.fresh()
        self.unpack([self.names[a] for a in program.args], "_in")
        self.unpack([self.space.symbols[s] for s in self.space.inputs], "_sizes")
        self.unpack([f"_o{i}" for i in self.planned.values()], "_outs")
        if self.observed:
            self.emit("yield from ()", 1)  # a generator even where there is no step
        self.block(program.steps, program.results, program.args, 1, top=True)
        self.emit(f"return [{', '.join(self.read(v) for v in program.results)}]", 1)
        text = "\n".join(self.text) + "\n"
        space = self.space.globals
        code = compile(text, name, "exec")
        exec(code, space)  # our own text: names are made here, attributes are literals
        function = space.pop("main")
        return Compiled(function, text, name, self.lines)

    def unpack(self, names: Sequence[str], source: str) -> None:
        """``a, b, = source``"""
        if names:
            self.emit("".join(f"{n}, " for n in names) + f"= {source}", 1)

    def emit(self, line: str, depth: int) -> None:
        """Append a line."""
        self.text.append("    " * depth + line)

    def fresh(self) -> str:
        """A local variable that holds nothing live."""
        if self.free:
            return self.free.pop()
        self.count += 1
        return f"_v{self.count}"

    def read(self, value: Source | None) -> str:
        """The expression of a value."""
        if value is None:
            return "None"
        return self.space.weights[value] if isinstance(value, Weight) else self.names[value]

    # **** blocks ****

    def block(
        self,
        steps: Sequence[Step],
        results: Sequence[Source | None],
        args: Sequence[Slot],
        depth: int,
        top: bool = False,
    ) -> None:
        """The steps of a block, each followed by the release of what nobody reads any more."""
        last: dict[Slot, int] = dict.fromkeys(args, -1)
        for i, step in enumerate(steps):
            last.update(dict.fromkeys(step.results, i))
        own = set(last)
        for i, step in enumerate(steps):
            last.update({v: i for v in step.reads() if v in own})
        for v in results:
            if isinstance(v, Slot):
                last.pop(v, None)
        dying: dict[int, list[Slot]] = {}
        for slot, at in last.items():
            dying.setdefault(at, []).append(slot)
        self.release(dying.get(-1, ()), depth)
        for i, step in enumerate(steps):
            self.step(step, depth)
            if top and self.observed:
                self.emit(f"yield {i}, ({''.join(self.names[r] + ', ' for r in step.results if not r.absent)})", depth)
            self.release(dying.get(i, ()), depth)

    def release(self, slots: Iterable[Slot], depth: int) -> None:
        """Drop the last reference to values."""
        names = [self.names[s] for s in slots if s in self.names and s not in self.space.folded]
        if names:
            self.emit(f"del {', '.join(names)}", depth)
            self.free += names

    def step(self, step: Step, depth: int) -> None:
        """One step: its regions as functions, the call, the symbols that it binds."""
        if any(r in self.space.folded for r in step.results):
            return
        if step.op.name == "bind":
            self.bind(step, depth)
            return
        regions = [self.region(step, r, depth) for r in step.regions]
        operands = tuple(None if v is None else self.read(v) for v in step.operands)
        call = self.call(step, regions)
        for result in step.results:
            self.names[result] = self.fresh()
        targets = [self.names[r] for r in step.results]
        many = len(targets) != 1 or step.native is not None
        many = many or any(t.variadic for t in get_op(step.op.name).signature.results)
        left = "".join(f"{t}, " for t in targets) + "= " if many and targets else f"{targets[0]} = " if targets else ""
        self.emit(left + call, depth)
        self.lines[len(self.text)] = Line(step, operands)
        self.bind_symbols(step, step.binds, targets, depth)
        for c in step.checks:
            actual, wanted = f"{targets[c.result]}.shape[{c.dim}]", self.space.symbols.expression(c.expression)
            refuse = self.space.intern(refuse_dim, "_f")
            self.emit(f"if {actual} != {wanted}: {refuse}({c.dim}, {actual}, {str(c.expression)!r}, {wanted})", depth)
            self.lines[len(self.text)] = Line(step, operands)

    def bind(self, step: Step, depth: int) -> None:
        """``bind``: the elements of a tensor become sizes."""
        names = [self.space.symbols[str(d)] for d in step.attrs["to"]]
        source = self.read(step.operands[0])
        self.emit(f"{''.join(f'{n}, ' for n in names)}= {source}.reshape(-1).tolist()", depth)
        self.lines[len(self.text)] = Line(step, (source,))
        for dim in step.attrs["to"]:
            self.check_range(str(dim), depth, step, LEAST)

    def bind_symbols(self, step: Step, binds: Iterable[SymbolBinding], targets: Sequence[str], depth: int) -> None:
        """Symbols that only the run tells, from the shapes of results or of a region's parameters."""
        for b in binds:
            actual = targets[b.result] + (f".shape[{b.dim}]" if b.dim >= 0 else "")
            expression = inverse(b.expression, b.symbol, actual, self.space.symbols)
            if expression is not None:
                self.emit(f"{self.space.symbols[b.symbol]} = {expression}", depth)
                self.check_range(b.symbol, depth, step, 0 if str(b.expression) == b.symbol else LEAST)

    def check_range(self, symbol: str, depth: int, step: Step, least: int) -> None:
        """Types rely on ranges, so a symbol that the run tells must lie in its own; it is never below ``least``."""
        declared, name = self.program.module.symbols[symbol], self.space.symbols[symbol]
        outside = range_test(declared, name, least)
        if outside:
            refuse = self.space.intern(refuse_size, "_f")
            self.emit(f"if {outside}: {refuse}({self.space.intern(declared)}, {name})", depth)
            self.lines[len(self.text)] = Line(step, ())

    def region(self, step: Step, region: Region, depth: int) -> str:
        """A nested function for a region; its variables are its own, captured ones are the outer function's."""
        for arg in region.args:
            self.names[arg] = self.fresh_nested()
        name = self.fresh_nested("_g")
        self.emit(f"def {name}({', '.join(self.names[a] for a in region.args)}):", depth)
        outer, self.free = self.free, []
        self.bind_symbols(step, region.binds, [self.names[a] for a in region.args], depth + 1)
        self.block(region.steps, region.results, (), depth + 1)
        self.emit(f"return ({''.join(self.read(v) + ', ' for v in region.results)})", depth + 1)
        self.free = outer
        return name

    def fresh_nested(self, prefix: str = "_r") -> str:
        self.count += 1
        return f"{prefix}{self.count}"

    # **** one call ****

    def call(self, step: Step, regions: Sequence[str]) -> str:
        """The call of a kernel."""
        if step.collective:
            return self.collective(step)
        if step.native is not None:
            return self.native(step, step.native)
        if step in self.direct:
            return self.read(step.operands[0])
        if step.op.name == "dim":
            return self.space.attribute(step.attrs["value"])
        kernel = self.space.kernels[step]
        arguments = [self.read(v) for v in step.operands]
        arguments += [f"{k}={v}" for k, v in self.attributes(step, kernel).items()]
        if regions:
            arguments.append(f"regions=({''.join(r + ', ' for r in regions)})")
        if step.op.name == "loop" and step.attrs.get("scans"):
            arguments.append(f"empty=lambda: {self.empty_rows(step)}")
        if step in self.planned:
            arguments.append(f"out=_o{self.planned[step]}")
        return f"{self.space.intern(kernel.fn, '_f')}({', '.join(arguments)})"

    def native(self, step: Step, call: NativeCall) -> str:
        """A call of a segment: its operands, and the sizes that it needs."""
        operands = "".join(f"{self.read(v)}, " for v in step.operands)
        sizes = "".join(f"{self.space.symbols[s]}, " for s in call.symbols)
        times = ", _times" if self.observed else ""
        return f"{self.space.intern(call, '_n')}(({operands}), ({sizes}){times})"

    def empty_rows(self, step: Step) -> str:
        """What a loop of no trips has scanned: nothing, of the declared types. Dims that only rows would tell are 0."""
        untold = {b.symbol for b in step.binds}
        make = self.space.intern(torch.empty, "_f")
        rows: list[str] = []
        for slot in step.results[-int(step.attrs["scans"]) :]:
            assert isinstance(slot.type, TensorType)
            dims = [0, *(0 if symbols_of(d) & untold else d for d in self.program.placement.local(slot.type)[1:])]
            shape = "".join(self.space.symbols.expression(d) + ", " for d in dims)
            rows.append(f"{make}(({shape}), dtype={self.space.intern(TORCH[slot.type.element])}), ")
        return f"({''.join(rows)})"

    def attributes(self, step: Step, kernel: Kernel) -> dict[str, str]:
        """Attributes as expressions; those that hold a split result's dims as this rank's part."""
        definition = get_op(step.op.name)
        values = {k: d for k, (_, d) in definition.attributes.items()} if kernel.spelled else {}
        values |= step.attrs
        for name, result in definition.local.items():
            at = [t.name for t in definition.signature.results].index(result)
            type = step.op.results[at].type
            if isinstance(type, TensorType) and any(type.split):
                values[name] = self.program.placement.local(type)
        return {k: self.space.attribute(v) for k, v in values.items()}

    def collective(self, step: Step) -> str:
        """A call of the communicator; ``shard`` cuts here, as nothing is sent."""
        type = step.op.results[0].type
        x = self.read(step.operands[0]) if step.operands[0] is not None else "None"
        if step.op.name == "shard":
            return self.cut(x, step)
        assert isinstance(type, TensorType)
        shape = "(" + "".join(self.space.symbols.expression(d) + ", " for d in self.program.placement.local(type)) + ")"
        run, dtype = self.space.intern(self.space.comm.run, "_f"), self.space.intern(TORCH[type.element])  # type: ignore[union-attr]
        return f"{run}({step.op.name!r}, {x}, {self.space.intern(step.attrs)}, {shape}, {dtype})"

    def cut(self, x: str, step: Step) -> str:
        """This rank's part of a dim, as a view."""
        axis, dim = str(step.attrs["over"]), int(step.attrs["dim"])
        size, at = self.program.placement.size(axis), self.program.placement.at[axis]
        return f"{self.space.intern(part_of, '_f')}({x}, {dim}, {size}, {at})"


def refuse_size(symbol: Symbol, value: int) -> None:
    """MAIA0511: the run makes a symbol what it was not declared to be."""
    raise MaiaError("MAIA0511", f"{symbol.name} is {value}; expected {str(symbol).removeprefix('sym ')}")


def refuse_dim(dim: int, actual: int, expression: str, wanted: int) -> None:
    """MAIA0511: a result is of another size than its type says."""
    told = expression if expression == str(wanted) else f"{expression} = {wanted}"
    raise MaiaError("MAIA0511", f"dim {dim} of a result is {actual}; its type says {told}")


def step_kernels(space: Space) -> dict[Step, Kernel]:
    """Steps at the top level with one tensor result whose kernel can write into given memory."""
    found: dict[Step, Kernel] = {}
    for step in space.program.steps:
        kernel = space.kernels.get(step)
        if kernel is not None and kernel.into and len(step.results) == 1:
            found[step] = kernel
    return found
