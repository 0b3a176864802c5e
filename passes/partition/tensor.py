"""Tensor parallelism: which weights to split, decided by trying and keeping what the types allow.

Products that share an input (query, key and value; gate and up) are split by columns together. What follows from that,
row splits and sums among it, is the region's affair; a group that some op refuses is tried one by one, then left whole.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from maiac.ir import Module, Op, Result, TensorType, Value, Weight, get_op

from .apply import apply_region, settle_weights
from .balance import flops_of, nominal_sizes
from .fused import unfuse
from .region import Move, Refused, grow, number


@dataclass(frozen=True, slots=True)
class Pin:
    """A product with a weight: which operand is the weight, its column and row dims, and the operand it multiplies."""

    op: Op
    at: int
    columns: int
    rows: int
    source: int


@dataclass(slots=True)
class TensorReport:
    """What was split and what was not."""

    axis: str
    size: int
    split: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])  # layer, how its weight is split
    whole: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])  # layer, why not

    def __str__(self) -> str:
        lines = [f"{self.axis} = {self.size}: {len(self.split)} weights split, {len(self.whole)} whole"]
        lines += [f"  {layer}: {how}" for layer, how in self.split]
        lines += [f"  {layer}: whole: {why}" for layer, why in self.whole]
        return "\n".join(lines)


def split_tensors(module: Module, axis: str, size: int) -> TensorReport:
    """Split the weights of @main's products over ``axis``; every split dim divides by ``size``."""
    refused: dict[Op, str] = {}
    groups = deque(_groups(module))
    while groups:
        group = [pin for pin in groups.popleft() if pin.op.block is not None and _is_open(pin)]
        if not group or _attempt(module, group, axis, size, refused):
            continue
        for pin in group:
            if not _is_open(pin) or (len(group) > 1 and _attempt(module, [pin], axis, size, refused)):
                continue
            parts = [find_pin(op) for op in unfuse(module, pin.op, pin.columns, size)]
            groups.appendleft([part for part in parts if part is not None])
    settle_weights(module, axis)
    return _report(module, axis, size, refused)


def _attempt(module: Module, group: list[Pin], axis: str, size: int, refused: dict[Op, str]) -> bool:
    """Split a group by columns; false, with the reasons noted, where that cannot be."""
    order = number(module.main.body)
    pins = {(pin.op, pin.at): Move("shard", pin.columns) for pin in group}
    try:
        region = grow(pins, axis, size, order)
    except Refused as fault:
        refused.update((pin.op, fault.reason) for pin in group)
        return False
    apply_region(module, region, axis, order)
    return True


def _groups(module: Module) -> list[list[Pin]]:
    """Products that share an input; those that compute most come first, so that small ones bend to them."""
    found: dict[Value, list[Pin]] = {}
    for op in module.main.body:
        pin = find_pin(op)
        if pin is not None:
            found.setdefault(_root(op.operand(pin.source)), []).append(pin)
    sizes = nominal_sizes(module)
    return sorted(found.values(), key=lambda group: -sum(flops_of(module, pin.op, sizes) for pin in group))


def find_pin(op: Op) -> Pin | None:
    """The op as a product with a constant matrix, or one for each expert, read from its definition's letters."""
    definition = get_op(op.name) if op.name not in ("return", "yield", "call") else None
    if definition is None or definition.quant is None or not definition.signature.has_letters:
        return None
    terms, fact = definition.signature.operands, definition.quant
    at = next(i for i, term in enumerate(terms) if term.name == fact.operand)
    letters = terms[at].letters or ()
    columns = [i for i, letter in enumerate(letters) if letter != fact.along and letter not in definition.whole]
    source = next(i for i, term in enumerate(terms) if i != at and fact.along in (term.letters or ()))
    weight = op.operands[at]
    constant = isinstance(weight, Weight) or (isinstance(weight, Result) and weight.op.name == "shard")
    return Pin(op, at, columns[0], letters.index(fact.along), source) if constant and len(columns) == 1 else None


def _is_cut(pin: Pin) -> bool:
    """Whether the weight is split already."""
    type = pin.op.operand(pin.at).type
    return isinstance(type, TensorType) and type.is_sharded


def _is_open(pin: Pin) -> bool:
    """Whether the weight and what it multiplies are whole still."""
    types = (pin.op.operand(pin.at).type, pin.op.operand(pin.source).type)
    return not any(isinstance(t, TensorType) and t.is_sharded for t in types)


def _root(value: Value) -> Value:
    """The value under views and casts, so that products of one input are found though each reshapes it."""
    while isinstance(value, Result) and value.op.name != "call" and len(value.op.results) == 1:
        if value.op.name != "cast" and not get_op(value.op.name).alias:
            break
        value = value.op.operand(0)
    return value


def _report(module: Module, axis: str, size: int, refused: Mapping[Op, str]) -> TensorReport:
    report = TensorReport(axis, size)
    for op in module.main.body:
        pin = find_pin(op)
        if pin is None:
            continue
        weight = op.operand(pin.at)
        layer = op.loc.name or f"{op.name} @{weight.name}"
        if _is_cut(pin):
            assert isinstance(weight.type, TensorType)
            how = "columns" if axis in weight.type.split[pin.columns] else "rows"
            shared = "" if isinstance(weight, Weight) else "; other readers need the weight whole"
            report.split.append((layer, f"{how} of {weight.type}{shared}"))
        else:
            report.whole.append((layer, refused.get(op, "its input is split otherwise")))
    return report
