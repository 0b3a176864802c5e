"""Pipeline parallelism: @main becomes one function a stage, and the calls and messages between them.

What follows from the inputs by cheap elementwise work alone (masks, positions, rotary angles) is computed in every
stage that needs it; all else that crosses a cut is sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from maiac.ir import (
    BlockArg,
    Builder,
    Function,
    MaiaError,
    Module,
    Op,
    Result,
    State,
    TensorType,
    Value,
    Weight,
    get_op,
)
from maiac.ir.dims import evaluate
from maiac.ir.opdef import bytes_of
from maiac.ir.types import type_symbols

from ..analysis import bound_symbols, fresh_symbols, mentioned_symbols
from ..clone import clone_op
from .balance import FLOPS_PER_WEIGHT_BYTE, Cuts, balanced_cuts, flops_of, nominal_sizes

SMALL_WEIGHT = 1 << 14  # elements of a weight that every stage may hold
CHEAP = 4  # floating-point operations per element that is read or made


@dataclass(slots=True)
class StageReport:
    """The stages that were cut."""

    axis: str
    balance: float = 1.0
    stages: list[str] = field(default_factory=list[str])

    def __str__(self) -> str:
        head = f"{self.axis} = {len(self.stages)}: balance {self.balance:.1%} (mean over greatest cost)"
        return "\n".join([head, *(f"  {stage}" for stage in self.stages)])


def cut_stages(module: Module, axis: str, count: int) -> StageReport:
    """Cut @main into ``count`` stages along a mesh axis; MAIA0340 where it has too few places for that."""
    return _Cutter(module, axis, count).run()


class _Cutter:
    """Cuts one module."""

    def __init__(self, module: Module, axis: str, count: int) -> None:
        self.module = module
        self.axis = axis
        self.count = count
        self.sizes = nominal_sizes(module)
        self.returned = [v for v in module.main.body.terminator.operands if v is not None]
        self.free = self.find_free()
        self.ops = [op for op in module.main.body if op not in self.free and op.name != "return"]
        self.stage_of: dict[Op, int] = {}

    def run(self) -> StageReport:
        """Choose the cuts, make the functions, rewrite @main."""
        transfers = self.transfers()
        cuts = balanced_cuts([self.cost(op) for op in self.ops], transfers, self.count)
        if cuts is None:
            places = sum(t is not None for t in transfers[1:-1]) + 1
            raise MaiaError("MAIA0340", f"the program can be cut into at most {places} stages, not {self.count}")
        bounds = [*cuts.starts, len(self.ops)]
        for stage, (low, high) in enumerate(pairwise(bounds)):
            self.stage_of.update((op, stage) for op in self.ops[low:high])
        wanted = [self.results_of(stage) for stage in range(self.count)]
        report = self.report(cuts)
        self.rebuild(wanted)
        return report

    # **** what each op costs, and what a cut would send ****

    def flops(self, op: Op) -> float:
        """Floating-point operations at nominal sizes."""
        return flops_of(self.module, op, self.sizes)

    def cost(self, op: Op) -> float:
        """The time that an op takes, in flops: its own, or those that could be done while its weights are read."""
        read = sum(bytes_of(w.type, self.sizes) for w in set(op.operands) if isinstance(w, Weight))
        flops = self.flops(op)
        return max(flops, FLOPS_PER_WEIGHT_BYTE * read) if flops else 0.0

    def find_free(self) -> set[Op]:
        """Ops that every stage may do for itself."""
        fresh = fresh_symbols(self.module.main)
        free: set[Op] = set()
        for op in self.module.main.body:
            if op in fresh or op.regions or op.name in ("return", "call"):
                continue
            definition = get_op(op.name)
            if (definition.effect and op.name != "shard") or definition.random or definition.quant is not None:
                continue
            if all(self.everywhere(v, free) for v in op.operands if v is not None) and self.is_cheap(op):
                free.add(op)
        return free

    def everywhere(self, value: Value, free: set[Op]) -> bool:
        """Whether every stage has the value or can make it."""
        if isinstance(value, Weight):
            small = isinstance(value.type, TensorType) and evaluate(value.type.elements(), self.sizes) <= SMALL_WEIGHT
            return small and not isinstance(value, State)
        return isinstance(value, BlockArg) or (isinstance(value, Result) and value.op in free)

    def is_cheap(self, op: Op) -> bool:
        """A few operations for each element that is read or made."""
        types = [v.type for v in (*op.operands, *op.results) if v is not None]
        elements = sum(evaluate(t.elements(), self.sizes) for t in types if isinstance(t, TensorType))
        return self.flops(op) <= CHEAP * elements

    def transfers(self) -> list[float | None]:
        """The bytes that a cut before each position sends; None where none is allowed: a state would be torn, say."""
        position = {op: i for i, op in enumerate(self.ops)}
        size = len(self.ops)
        sent, barred = [0.0] * (size + 1), [False] * (size + 1)
        for i, op in enumerate(self.ops):
            for result in op.results:
                last = max((position.get(self.outermost(user), i) for user in result.uses), default=i)
                type = result.type
                sendable = isinstance(type, TensorType) and not type.owed
                for at in range(i + 1, last + 1):
                    sent[at] += bytes_of(type, self.sizes)
                    barred[at] |= not sendable
        whole = [[position[self.outermost(user)] for user in state.uses] for state in self.module.states.values()]
        for at in [*whole, *self.fresh_ranges()]:
            for i in range(min(at, default=0) + 1, max(at, default=0) + 1):
                barred[i] = True
        return [None if no else cost for no, cost in zip(barred, sent, strict=True)]

    def fresh_ranges(self) -> list[list[int]]:
        """Where each symbol that only running tells is made and read: a stage that did not run it cannot know it."""
        fresh = set().union(*fresh_symbols(self.module.main).values())
        ranges: dict[str, list[int]] = {symbol: [] for symbol in fresh}
        for i, op in enumerate(self.ops):
            read = {s for v in op.operands if v is not None for s in type_symbols(v.type)}
            for symbol in fresh & (read | mentioned_symbols(op) | bound_symbols(op)):
                ranges[symbol].append(i)
        return list(ranges.values())

    def outermost(self, op: Op) -> Op:
        """The op of @main's own block that holds an op."""
        while op.block is not None and isinstance(op.block.parent, Op):
            op = op.block.parent
        return op

    # **** functions and calls ****

    def results_of(self, stage: int) -> list[Value]:
        """Values that a stage makes for later ones or for the caller."""
        found: list[Value] = []
        for op in self.ops:
            if self.stage_of[op] != stage:
                continue
            for result in op.results:
                later = any(self.stage_of.get(self.outermost(u), -1) > stage for u in result.uses)
                if later or result in self.returned:
                    found.append(result)
        return found

    def rebuild(self, wanted: Sequence[Sequence[Value]]) -> None:
        """Move the ops into functions; @main keeps the calls, the messages, and what it returns."""
        main, ret = self.module.main, self.module.main.body.terminator
        builder = Builder(self.module, main.body, ret)
        here: dict[tuple[Value, int], Value] = {}  # (value, stage) -> the value in @main that the stage may read
        made: dict[Value, Value] = {}
        for stage in range(self.count):
            function, inputs = self.make_function(stage, wanted[stage])
            call = builder.call(function, [v if isinstance(v, BlockArg) else here[v, stage] for v in inputs])
            for value, result in zip(wanted[stage], call.results, strict=True):
                result.name, made[value] = value.name, result
                for target in self.targets(value, stage):
                    attrs = {"along": self.axis, "source": stage, "target": target}
                    here[value, target] = builder.emit("send_recv", result, hint=value.name, **attrs)
        for i, value in enumerate(ret.operands):
            if value in made:
                stage = self.stage_of[value.op]  # type: ignore[union-attr]
                whole = builder.emit("broadcast", made[value], hint=value.name, along=self.axis, source=stage)
                ret.set_operand(i, whole)
        for op in reversed([op for op in main.body if op in self.free]):
            if not any(r.uses for r in op.results):
                op.erase()

    def targets(self, value: Value, stage: int) -> list[int]:
        """The later stages that read a value."""
        return sorted({s for u in value.uses if (s := self.readers_stage(u)) > stage})

    def readers_stage(self, user: Op) -> int:
        """The stage that an op belongs to; -1 for those of @main."""
        return self.stage_of.get(self.outermost(user), -1)

    def make_function(self, stage: int, results: Sequence[Value]) -> tuple[Function, list[Value]]:
        """A stage's function with its ops moved in, and the values of @main that it takes."""
        ops = [op for op in self.ops if self.stage_of[op] == stage]
        copied = self.free_needed(ops)
        inputs = self.inputs_of([*copied, *ops])
        name = f"stage{stage}"
        assert name not in self.module.functions, f"@{name} exists"
        function = Function(name, [v.type for v in inputs], stage=(self.axis, stage))
        self.module.add_function(function)
        mapping: dict[Value, Value] = {}
        for value, arg in zip(inputs, function.args, strict=True):
            arg.name, mapping[value] = value.name, arg
        for op in copied:
            function.body.append(clone_op(op, mapping))
        for op in ops:
            for inner in op.walk():
                inner.set_operands([None if v is None else mapping.get(v, v) for v in inner.operands])
            op.detach()
            function.body.append(op)
        Builder(self.module, function.body).ret(results)
        return function, inputs

    def free_needed(self, ops: Iterable[Op]) -> list[Op]:
        """The free ops that these need, in program order."""
        needed: set[Op] = set()
        work = list(ops)
        while work:
            op = work.pop()
            for value in (v for inner in op.walk() for v in inner.operands):
                if isinstance(value, Result) and value.op in self.free and value.op not in needed:
                    needed.add(value.op)
                    work.append(value.op)
        return [op for op in self.module.main.body if op in needed]

    def inputs_of(self, ops: Sequence[Op]) -> list[Value]:
        """Parameters of @main and results of earlier stages that ops read, and those that bind their symbols."""
        inside = {r for op in ops for o in op.walk() for r in o.results} | {
            a for op in ops for o in op.walk() for region in o.regions for a in region.args
        }
        read = [v for op in ops for o in op.walk() for v in o.operands if v is not None and v not in inside]
        inputs = list(dict.fromkeys(v for v in read if not isinstance(v, Weight)))
        bound = {s for v in inputs for s in type_symbols(v.type)}
        for op in ops:
            for symbol in sorted(mentioned_symbols(op) - bound):
                holder = next((a for a in self.module.main.args if symbol in type_symbols(a.type)), None)
                if holder is not None:  # else the op itself binds it
                    inputs.append(holder)
                    bound |= type_symbols(holder.type)
        return inputs

    def report(self, cuts: Cuts) -> StageReport:
        """What each stage holds."""
        report = StageReport(self.axis, cuts.balance)
        for stage, cost in enumerate(cuts.costs):
            weights = {w for op in self.ops if self.stage_of[op] == stage for w in op.operands if isinstance(w, Weight)}
            held = sum(bytes_of(w.type, self.sizes) for w in weights)
            ops = [op for op, s in self.stage_of.items() if s == stage]
            share = cost / (sum(cuts.costs) or 1.0)
            flops = sum(self.flops(op) for op in ops)
            work = f"{share:.1%} of the cost, {flops / 1e9:.3g} GFLOP, {held / 2**20:.1f} MiB of weights"
            report.stages.append(f"stage {stage}: {len(ops)} ops, {work}")
        return report
