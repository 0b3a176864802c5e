"""What passes ask of ops: effects, and which symbols they bind and read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from maiac.ir import Block, Function, Module, Op, get_op
from maiac.ir.dims import Dim, symbols_of
from maiac.ir.graph import Attr, Ref
from maiac.ir.types import type_symbols

TERMINATORS = frozenset({"return", "yield"})


@dataclass(frozen=True, slots=True)
class Facts:
    """What running an op does besides making its results."""

    effect: bool = False  # it must run, and once
    writes: bool = False  # some state may change
    reads: bool = False  # its results depend on states
    random: bool = False  # its results differ from run to run

    def __or__(self, other: Facts) -> Facts:
        return Facts(
            self.effect or other.effect,
            self.writes or other.writes,
            self.reads or other.reads,
            self.random or other.random,
        )


NOTHING = Facts()
_STATE = {"read": Facts(reads=True), "write": Facts(effect=True, writes=True)}


class Effects:
    """The facts of ops, through regions and calls; functions are looked at once."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self._functions: dict[str, Facts] = {}

    def of(self, op: Op) -> Facts:
        """The facts of one op."""
        if op.name in TERMINATORS:
            return Facts(effect=True)
        if op.name == "call":
            return self._of_function(op)
        facts = _STATE.get(op.name)
        if facts is None:
            definition = get_op(op.name)
            facts = Facts(effect=definition.effect, random=definition.random)
        for region in op.regions:
            for inner in region:
                if inner.name not in TERMINATORS:
                    facts = facts | self.of(inner)
        return facts

    def _of_function(self, op: Op) -> Facts:
        ref = op.attrs.get("callee")
        function = self.module.functions.get(ref.name) if isinstance(ref, Ref) else None
        if function is None:
            return Facts(True, True, True, True)
        if function.name not in self._functions:
            facts = NOTHING
            for inner in function.body:
                if inner.name not in TERMINATORS:
                    facts = facts | self.of(inner)
            self._functions[function.name] = facts
        return self._functions[function.name]

    def removable(self, op: Op) -> bool:
        """Whether the op may go when nobody uses its results (symbols that it binds are the caller's concern)."""
        return not self.of(op).effect

    def mergeable(self, op: Op) -> bool:
        """Whether two such ops with equal operands and attributes give equal results."""
        facts = self.of(op)
        return not (facts.effect or facts.random or facts.reads)


def fresh_symbols(function: Function) -> dict[Op, frozenset[str]]:
    """For each op that is the first to mention symbols: those that only running it tells."""
    bound = {s for a in function.args for s in type_symbols(a.type)}
    out: dict[Op, frozenset[str]] = {}
    _fresh_in(function.body, bound, out)
    return out


def _fresh_in(block: Block, bound: set[str], out: dict[Op, frozenset[str]]) -> None:
    for op in block:
        for region in op.regions:
            bound |= {s for a in region.args for s in type_symbols(a.type)}
            _fresh_in(region, bound, out)
        new = bound_symbols(op) - bound
        if new:
            out[op] = frozenset(new)
            bound |= new


def bound_symbols(op: Op) -> set[str]:
    """The symbols that are known after an op: those of its results' types, and those that ``bind`` names."""
    return {s for r in op.results for s in type_symbols(r.type)} | _bound_by_attr(op)


def _binding_attr(op: Op) -> str:
    """The name of the attribute that binds symbols; empty where the op has none."""
    return "" if op.name in TERMINATORS or op.name == "call" else get_op(op.name).binds


def _bound_by_attr(op: Op) -> set[str]:
    return set(_symbols_in(op.attrs.get(_binding_attr(op))))


def _symbols_in(value: Attr) -> Iterator[str]:
    if isinstance(value, tuple):
        for v in value:
            yield from _symbols_in(v)
    elif isinstance(value, Dim):
        yield from symbols_of(value)


def read_symbols(op: Op) -> set[str]:
    """The symbols that an op's attributes read."""
    binds = _binding_attr(op)
    return {s for name, v in op.attrs.items() if name != binds for s in _symbols_in(v)}


def mentioned_symbols(op: Op) -> set[str]:
    """The symbols that an op's attributes, result types and region parameters mention (``bind`` only binds)."""
    found = read_symbols(op) | {s for r in op.results for s in type_symbols(r.type)}
    return found | {s for region in op.regions for a in region.args for s in type_symbols(a.type)}


def argument_symbols(module: Module) -> set[str]:
    """The symbols that parameters of functions bind: what a caller chooses."""
    return {s for f in module.functions.values() for a in f.args for s in type_symbols(a.type)}


def calls(module: Module) -> Iterator[tuple[Op, Function]]:
    """Every call with the function that it calls."""
    for op in module.walk():
        ref = op.attrs.get("callee") if op.name == "call" else None
        if isinstance(ref, Ref) and ref.name in module.functions:
            yield op, module.functions[ref.name]
