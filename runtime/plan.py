"""A module as one flat list of steps for one rank: calls and fusions inlined, other ranks' stages left out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from maiac.ir.dims import Dim, DimLike, symbols_of
from maiac.ir.errors import Location, MaiaError
from maiac.ir.graph import Block, Function, Module, Op, Ref, State, Value, Weight
from maiac.ir.opdef import get_op, mentions_unknown
from maiac.ir.types import DimType, TensorType, Type, type_symbols

from .comm import AXIS_ATTR
from .memory_timeline import PlanOverTime
from .placement import Placement

if TYPE_CHECKING:
    from .profiling import StepTime

CONTROL = frozenset({"if", "while", "loop", "fusion"})


@dataclass(eq=False, slots=True)
class Slot:
    """A value of the flat program. ``absent``: it lives on other ranks only."""

    name: str
    type: Type
    absent: bool = False


Source: TypeAlias = "Slot | Weight"


@dataclass(frozen=True, slots=True)
class SymbolBinding:
    """A symbol that a step's result determines: ``dim`` (that position of the result's shape) equals ``expression``."""

    symbol: str
    result: int
    dim: int
    expression: DimLike


@dataclass(frozen=True, slots=True)
class DimCheck:
    """A dim that a result's type names and its operation cannot tell: the run has to agree."""

    result: int
    dim: int
    expression: DimLike


@dataclass(eq=False, slots=True)
class Region:
    """A block that a control-flow step runs: its steps read their own values and ``captured`` ones."""

    args: list[Slot]
    steps: list[Step]
    results: list[Source | None]
    binds: list[SymbolBinding]
    captured: list[Slot]


class NativeCall(Protocol):
    """Several steps as one call of machine code."""

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights that it holds or maps."""
        ...

    @property
    def symbols(self) -> Sequence[str]:
        """The symbols whose values a call passes."""
        ...

    @property
    def aliases(self) -> Sequence[tuple[int, int]]:
        """Pairs (result, operand) that share storage."""
        ...

    @property
    def writes(self) -> Sequence[State]:
        """The states that it changes."""
        ...

    def memory(self, sizes: tuple[int, ...]) -> PlanOverTime:
        """The plan of its arena at these sizes of ``symbols``, kernel by kernel."""
        ...

    def __call__(
        self, operands: tuple[Any, ...], sizes: tuple[int, ...], times: list[StepTime] | None = None
    ) -> tuple[Any, ...]:
        """The results; what each kernel took is added to ``times``."""
        ...


@dataclass(eq=False, slots=True)
class Step:
    """One kernel call. ``attrs`` may differ from the operation's: stages have become owners."""

    op: Op
    operands: tuple[Source | None, ...]
    results: tuple[Slot, ...]
    loc: Location
    attrs: Mapping[str, Any]
    regions: tuple[Region, ...] = ()
    binds: tuple[SymbolBinding, ...] = ()
    checks: tuple[DimCheck, ...] = ()
    collective: bool = False
    native: NativeCall | None = None

    def reads(self) -> Iterator[Slot]:
        """Every value that the step needs, those that its regions capture included."""
        for value in self.operands:
            if isinstance(value, Slot):
                yield value
        for region in self.regions:
            yield from region.captured


@dataclass
class Program:
    """The flat program of one rank."""

    module: Module
    placement: Placement
    args: list[Slot]
    steps: list[Step]
    results: list[Source]
    weights: list[Weight] = field(default_factory=list[Weight])
    states: list[State] = field(default_factory=list[State])


def flatten(module: Module, placement: Placement, inline_fusion: bool = True) -> Program:
    """Inline everything that this rank runs. MAIA0506 where a result of the program lives on other ranks only."""
    main = module.main
    args = [Slot(a.name, a.type) for a in main.args]
    flattener = _Flattener(module, placement, inline_fusion)
    scope = _Scope(dict(zip(main.args, args, strict=True)), _no_move, "", _arg_symbols(main.body))
    steps: list[Step] = []
    values = flattener.block(main.body, scope, steps)
    results = [v for v in values if v is not None]
    missing = [i for i, v in enumerate(values) if v is None or (isinstance(v, Slot) and v.absent)]
    if missing:
        where = ", ".join(f"{a} = {n}" for a, n in placement.at.items())
        raise MaiaError("MAIA0506", f"results {missing} of @main do not reach the rank at {where}")
    found = list(dict.fromkeys(globals_of(steps, results)))
    return Program(
        module,
        placement,
        args,
        steps,
        results,
        [w for w in found if not isinstance(w, State)],
        [s for s in found if isinstance(s, State)],
    )


def globals_of(steps: Iterable[Step], results: Iterable[Source | None]) -> Iterator[Weight]:
    """The weights and states that steps read, regions included; one that is read twice comes twice."""
    for step in steps:
        yield from (v for v in step.operands if isinstance(v, Weight))
        for region in step.regions:
            yield from globals_of(region.steps, region.results)
    yield from (v for v in results if isinstance(v, Weight))


class _Move:
    """How locations inside an inlined function read: the callee's module path becomes the call's."""

    def __init__(self, old: str, new: str, outer: _Move | None) -> None:
        self.old, self.new, self.outer = old, new, outer

    def __call__(self, loc: Location) -> Location:
        if self.old and self.new and (loc.name == self.old or loc.name.startswith(self.old + ".")):
            loc = replace(loc, name=self.new + loc.name[len(self.old) :])
        return loc if self.outer is None else self.outer(loc)


_no_move = _Move("", "", None)


@dataclass
class _Scope:
    """What the values of the function being inlined stand for, and the symbols bound so far."""

    values: dict[Value, Source | None]
    move: _Move
    prefix: str
    bound: set[str]

    def get(self, value: Value | None) -> Source | None:
        return value if value is None or isinstance(value, Weight) else self.values[value]


def _arg_symbols(block: Block) -> set[str]:
    """The symbols that arguments tell; the elements of a container tell none."""
    return {s for a in block.args if isinstance(a.type, (TensorType, DimType)) for s in type_symbols(a.type)}


class _Flattener:
    def __init__(self, module: Module, placement: Placement, inline_fusion: bool) -> None:
        self.module = module
        self.placement = placement
        self.inline_fusion = inline_fusion
        self.calls: dict[str, int] = {}

    def block(self, block: Block, scope: _Scope, out: list[Step]) -> list[Source | None]:
        """Append the steps of a block; the values that it returns or yields."""
        for op in block:
            if op.name in ("return", "yield"):
                return [scope.get(v) for v in op.operands]
            values = self.op(op, scope, out)
            scope.values.update(zip(op.results, values, strict=True))
        return []

    def op(self, op: Op, scope: _Scope, out: list[Step]) -> Sequence[Source | None]:
        """Append what one operation becomes; its results."""
        if op.name == "call":
            return self.call(op, scope, out)
        if op.name in AXIS_ATTR:
            return [self.collective(op, scope, out)]
        operands = [scope.get(v) for v in op.operands]
        if op.name == "fusion" and self.inline_fusion:
            body = op.regions[0]
            scope.values.update(zip(body.args, operands, strict=True))
            return self.block(body, scope, out)
        if any(isinstance(v, Slot) and v.absent for v in operands):
            return [Slot(r.name, r.type, absent=True) for r in op.results]
        step = self.step(op, scope, tuple(operands), dict(op.attrs))
        out.append(step)
        return step.results

    def call(self, op: Op, scope: _Scope, out: list[Step]) -> Sequence[Source | None]:
        """Inline a call, unless its stage runs elsewhere."""
        ref = op.attrs["callee"]
        assert isinstance(ref, Ref)
        callee = self.module.functions[ref.name]
        operands = [scope.get(v) for v in op.operands]
        if not self.placement.owns(callee.stage):
            return [Slot(r.name, r.type, absent=True) for r in op.results]
        inner = _Scope(
            dict(zip(callee.args, operands, strict=True)),
            _Move(callee.loc.name, op.loc.name, scope.move),
            self.prefix(callee, scope),
            _arg_symbols(callee.body),
        )
        return self.block(callee.body, inner, out)

    def prefix(self, callee: Function, scope: _Scope) -> str:
        """``layer.3/``: the fourth time that @layer is inlined."""
        n = self.calls.get(callee.name, 0)
        self.calls[callee.name] = n + 1
        return f"{scope.prefix}{callee.name}.{n}/"

    def step(self, op: Op, scope: _Scope, operands: tuple[Source | None, ...], attrs: dict[str, Any]) -> Step:
        """A step with fresh results, its regions flattened inside."""
        results = tuple(Slot(f"{scope.prefix}{r.name}" if r.name else "", r.type) for r in op.results)
        regions = tuple(self.region(region, scope) for region in op.regions)
        checks = tuple(_left_open(op, scope.bound))
        binds = _new_symbols([r.type for r in op.results], scope.bound, self.placement)
        if op.name == "bind":
            scope.bound |= {str(d) for d in op.attrs["to"] if isinstance(d, Dim)}  # type: ignore[union-attr]
        return Step(op, operands, results, scope.move(op.loc), attrs, regions, tuple(binds), checks)

    def region(self, block: Block, scope: _Scope) -> Region:
        """A region: symbols that it binds are its own."""
        args = [Slot(a.name, a.type) for a in block.args]
        bound = set(scope.bound)
        binds = _new_symbols([a.type for a in args], bound, self.placement)
        inner = _Scope({**scope.values, **dict(zip(block.args, args, strict=True))}, scope.move, scope.prefix, bound)
        steps: list[Step] = []
        results = self.block(block, inner, steps)
        return Region(args, steps, results, binds, _captured(args, steps, results))

    def collective(self, op: Op, scope: _Scope, out: list[Step]) -> Source | None:
        """A collective over one rank is its operand; stages become the coordinates of their owners."""
        operand = scope.get(op.operands[0])
        attrs = dict(op.attrs)
        axis = str(attrs[AXIS_ATTR[op.name]])
        absent = isinstance(operand, Slot) and operand.absent
        if self.placement.size(axis) == 1:
            return operand
        for end in ("source", "target"):
            if end in attrs:
                attrs[end] = self.placement.owner(axis, int(attrs[end]))  # type: ignore[arg-type]
        here = self.placement.at[axis]
        if op.name == "send_recv":
            if attrs["source"] == attrs["target"]:
                return operand
            if here not in (attrs["source"], attrs["target"]):
                return Slot(op.result.name, op.result.type, absent=True)
        elif absent and op.name != "broadcast":
            return Slot(op.result.name, op.result.type, absent=True)
        step = self.step(op, scope, (None if absent else operand,), attrs)
        step.collective = True
        out.append(step)
        if op.name == "send_recv" and here == attrs["source"]:
            step.results[0].absent = True
        return step.results[0]


def _left_open(op: Op, bound: set[str]) -> Iterator[DimCheck]:
    """Dims of an op's results in terms of ``bound`` symbols, where the definition leaves open what they are."""
    operands = [None if v is None else v.type for v in op.operands]
    if op.regions or not any(t is not None and type_symbols(t) for t in operands):
        return
    told = get_op(op.name).result_types(operands, op.attrs)
    for i, (result, inferred) in enumerate(zip(op.results, told, strict=True)):
        if not isinstance(result.type, TensorType) or not isinstance(inferred, TensorType):
            continue
        for at, (dim, open_) in enumerate(zip(result.type.dims, inferred.dims, strict=True)):
            if mentions_unknown(open_) and symbols_of(dim) <= bound and not result.type.split[at]:
                yield DimCheck(i, at, dim)


def _captured(args: list[Slot], steps: list[Step], results: list[Source | None]) -> list[Slot]:
    """Values from outside that a region reads."""
    own = {*args, *(r for s in steps for r in s.results)}
    read = [v for s in steps for v in s.reads()] + [v for v in results if isinstance(v, Slot)]
    return list(dict.fromkeys(v for v in read if v not in own))


def _new_symbols(types: Sequence[Type], bound: set[str], placement: Placement) -> list[SymbolBinding]:
    """The symbols that values of these types bind for the first time; adds them to ``bound``."""
    found: list[SymbolBinding] = []
    for index, type in enumerate(types):
        if isinstance(type, DimType):
            dims: Sequence[DimLike] = (type.value,)
        elif isinstance(type, TensorType):
            dims = type.dims
        else:
            continue
        for at, dim in enumerate(dims):
            fresh = symbols_of(dim) - bound
            pieces = placement.pieces(type, at) if isinstance(type, TensorType) else 1
            if len(fresh) == 1 and pieces == 1:
                found.append(SymbolBinding(min(fresh), index, -1 if isinstance(type, DimType) else at, dim))
                bound |= fresh
    return found


# **** which values share storage ****


def aliases(step: Step) -> list[tuple[int, Source]]:
    """Pairs (result, operand) that may share storage, by declaration; everything with everything for control flow."""
    if step.native is not None:
        found = ((i, step.operands[j]) for i, j in step.native.aliases)
        return [(i, v) for i, v in found if v is not None]
    if step.collective or step.op.name in CONTROL or not _only_tensors(step):
        read = [*dict.fromkeys(step.reads())]
        return [(i, v) for i in range(len(step.results)) for v in read]
    definition = get_op(step.op.name)
    if not definition.alias:
        return []
    at = [t.name for t in definition.signature.operands].index(definition.alias)
    base = step.operands[at] if at < len(step.operands) else None
    return [] if base is None else [(i, base) for i in range(len(step.results))]


def _only_tensors(step: Step) -> bool:
    """Whether no operand or result is a container, which would hold on to tensors put into it."""
    values = [*step.results, *(v for v in step.operands if v is not None)]
    return all(isinstance(v.type, (TensorType, DimType)) for v in values)


def escaping(steps: Sequence[Step], results: Iterable[Source | None]) -> set[Source]:
    """The values whose storage may be that of a result."""
    out = {v for v in results if v is not None}
    for step in reversed(steps):
        out |= {base for i, base in aliases(step) if step.results[i] in out}
    return out
