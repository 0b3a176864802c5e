"""cse: equal ops of equal operands are computed once; reads of a state between writes are one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

from maiac.ir import Block, Module, Op, Value

from .analysis import TERMINATORS, Effects
from .base import Pass, register

Key: TypeAlias = tuple[Any, ...]


@register
@dataclass(frozen=True)
class Cse(Pass):
    """Merge equal ops. Random ops and those with effects stay; a value is seen only where it is defined."""

    name: ClassVar[str] = "cse"

    def run(self, module: Module) -> bool:
        """Each function by itself."""
        effects = Effects(module)
        merged = 0
        for function in module.functions.values():
            walk = _Walk(effects)
            walk.block(function.body, _Scope())
            merged += walk.merged
        return merged > 0


@dataclass
class _Scope:
    """What is known at a place: values by key, and the contents of states."""

    values: dict[Key, list[Value]] = field(default_factory=dict[Key, "list[Value]"])
    outer: _Scope | None = None
    states: dict[Value, Value] = field(default_factory=dict[Value, Value])

    def find(self, key: Key) -> list[Value] | None:
        """Values of this key defined here or around."""
        scope: _Scope | None = self
        while scope is not None:
            if key in scope.values:
                return scope.values[key]
            scope = scope.outer
        return None


class _Walk:
    """Walks blocks in order."""

    def __init__(self, effects: Effects) -> None:
        self.effects = effects
        self.merged = 0

    def block(self, block: Block, scope: _Scope) -> None:
        """Merge the ops of a block into what is known."""
        for op in block:
            if op.name in TERMINATORS:
                continue
            if op.name in ("read", "write"):
                self.state(op, scope)
                continue
            facts = self.effects.of(op)
            if facts.writes:
                scope.states.clear()
            for region in op.regions:
                self.block(region, self.inner(op, scope, facts.writes))
            if not op.regions and op.results and self.effects.mergeable(op):
                self.merge(op, scope)

    def inner(self, op: Op, scope: _Scope, writes: bool) -> _Scope:
        """What is known at the beginning of a region: nothing in a fusion, whose operands are all that it reads."""
        if op.name == "fusion":
            return _Scope()
        return _Scope({}, scope, {} if writes else dict(scope.states))

    def merge(self, op: Op, scope: _Scope) -> None:
        """Take the values of an equal op, or let later ones take these."""
        key = op_key(op)
        known = scope.find(key)
        if known is None:
            scope.values[key] = list(op.results)
            return
        op.replace(known)
        self.merged += 1

    def state(self, op: Op, scope: _Scope) -> None:
        """A read gives what was read or written last; a write makes what is known of other states doubtful."""
        place = op.operand(0)
        if op.name == "write":
            # Parameters of a function may name one state twice, so a write through one may change all.
            scope.states.clear()
            scope.states[place] = op.operand(1)
            return
        known = scope.states.get(place)
        if known is None or known.type != op.result.type:
            scope.states[place] = op.result
            return
        op.replace([known])
        self.merged += 1


def op_key(op: Op) -> Key:
    """Equal for ops that compute the same from the same values."""
    attrs = tuple(sorted((k, attr_key(v)) for k, v in op.attrs.items()))
    return op.name, tuple(map(id, op.operands)), attrs, tuple(r.type for r in op.results)


def attr_key(value: Any) -> Any:
    """An attribute as something that compares as the text does: 1, 1.0 and true differ, and so do 0.0 and -0.0."""
    if isinstance(value, tuple):
        return ("list", *map(attr_key, value))  # pyright: ignore[reportUnknownArgumentType]
    return type(value).__name__, str(value)
