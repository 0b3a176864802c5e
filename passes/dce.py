"""dce: everything that no result and no effect needs goes: ops, functions, parameters, weights, states, symbols."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from maiac.ir import Block, Function, Module, Op, Value, Weight
from maiac.ir.graph import Ref
from maiac.ir.types import type_symbols

from .analysis import TERMINATORS, Effects, bound_symbols, calls, fresh_symbols, mentioned_symbols
from .base import Pass, register


@register
@dataclass(frozen=True)
class Dce(Pass):
    """Remove what nobody needs."""

    name: ClassVar[str] = "dce"

    def run(self, module: Module) -> bool:
        """Remove until nothing more falls: a parameter that goes may free an op in the caller."""
        changed = remove_functions(module)
        while remove_once(module):
            changed = True
        return remove_globals(module) | changed


def remove_once(module: Module) -> bool:
    """One round over ops, results and parameters of functions."""
    effects = Effects(module)
    changed = False
    for function in module.functions.values():
        changed |= _Sweep(effects, function).run()
    for function in list(module.functions.values()):
        if function.name != "main":
            changed |= trim(module, function)
    return remove_functions(module) | changed


class _Sweep:
    """Removes dead ops of one function, last to first."""

    def __init__(self, effects: Effects, function: Function) -> None:
        self.effects = effects
        self.function = function
        self.fresh = fresh_symbols(function)
        self.needed = {s for t in function.result_types for s in type_symbols(t)} if self.fresh else set[str]()
        self.changed = False

    def run(self) -> bool:
        """True if an op went."""
        self.block(self.function.body)
        return self.changed

    def block(self, block: Block) -> None:
        """The ops of a block, and of the regions of those that stay."""
        for op in reversed(block):
            if self.is_dead(op):
                op.erase()
                self.changed = True
                continue
            if self.fresh:
                self.need(op)
            for region in op.regions:
                self.block(region)

    def need(self, op: Op) -> None:
        """Remember the symbols that an op which stays reads, besides those it binds itself."""
        own = self.fresh.get(op, frozenset[str]())
        self.needed |= mentioned_symbols(op) - own
        for inner in (i for region in op.regions for i in region.walk()):
            self.needed |= mentioned_symbols(inner)

    def is_dead(self, op: Op) -> bool:
        """Whether an op's results, effects and symbols are all unneeded."""
        if op.name in TERMINATORS or any(r.uses for r in op.results):
            return False
        binds = self.fresh.get(op, frozenset[str]())
        if binds & self.needed:
            return False
        return op.name == "bind" or self.effects.removable(op)


def trim(module: Module, function: Function) -> bool:
    """Drop parameters that a function does not use, and results that no caller uses."""
    sites = [op for op, callee in calls(module) if callee is function]
    bound_by = [type_symbols(a.type) for a in function.args]
    unused = [i for i, a in enumerate(function.args) if not a.uses]
    binding = set[str]().union(*(b for j, b in enumerate(bound_by) if j not in unused))
    idle = [i for i in unused if bound_by[i] <= binding]
    dead = [i for i in range(len(function.result_types)) if sites and not any(s.results[i].uses for s in sites)]
    for i in reversed(idle):
        function.body.remove_arg(i)
    if dead:
        ret = function.body.terminator
        ret.set_operands(_without(ret.operands, dead))
        function.result_types = tuple(_without(function.result_types, dead))
    for site in sites:
        site.set_operands(_without(site.operands, idle))
        site.results = _without(site.results, dead)
        for i, result in enumerate(site.results):
            result.index = i
    return bool(idle or dead)


def _without(items: Sequence[Any], indices: Sequence[int]) -> list[Any]:
    gone = set(indices)
    return [item for i, item in enumerate(items) if i not in gone]


def remove_functions(module: Module) -> bool:
    """Remove functions that main does not reach; modules without a main keep all."""
    if "main" not in module.functions:
        return False
    reached, stack = {"main"}, ["main"]
    while stack:
        for op in module.functions[stack.pop()].body.walk():
            for name in (a.name for a in op.attrs.values() if isinstance(a, Ref)):
                if name in module.functions and name not in reached:
                    reached.add(name)
                    stack.append(name)
    gone = module.functions.keys() - reached
    for name in gone:
        for op in reversed(list(module.functions[name].body)):
            op.erase()
        del module.functions[name]
    return bool(gone)


def remove_globals(module: Module) -> bool:
    """Remove weights, states and symbols that nothing mentions."""
    used: set[Value] = {v for op in module.walk() for v in op.operands if isinstance(v, Weight)}
    weights = [n for n, w in module.weights.items() if w not in used]
    states = [n for n, s in module.states.items() if s not in used]
    for name in weights:
        del module.weights[name]
    for name in states:
        del module.states[name]
    kept = {s for w in (*module.weights.values(), *module.states.values()) for s in type_symbols(w.type)}
    for function in module.functions.values():
        kept |= {s for t in (*function.result_types, *(a.type for a in function.args)) for s in type_symbols(t)}
        kept |= {s for op in function.body.walk() for s in mentioned_symbols(op) | bound_symbols(op)}
    idle = [s for s in module.symbols if s not in kept]
    for name in idle:
        del module.symbols[name]
    return bool(weights or states or idle)
