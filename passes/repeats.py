"""Finding repeats: ops as codes that are equal where ops are alike, and the runs in which a stretch of codes recurs."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from maiac.ir import Block, Function, Op, Result, State, Value

from .analysis import TERMINATORS, fresh_symbols
from .cse import attr_key

# Ops that are cheaper to make anew inside a function than to pass to it: they do not count as part of a stretch.
TRANSPARENT = frozenset({"constant", "full", "iota", "dim_tensor"})


@dataclass(frozen=True, slots=True)
class Run:
    """``repeats`` windows of ``period`` ops from ``start``; they may as well start up to ``slack`` ops later.

    One window alone means that another one may stand beside it with more ops among its own.
    """

    start: int
    period: int
    repeats: int
    slack: int

    @property
    def saved(self) -> int:
        """Ops that go when all windows become calls."""
        return max(self.repeats - 1, 1) * self.period - max(self.repeats, 2)


@dataclass(frozen=True, slots=True)
class Line:
    """The ops of a function's body in order, without terminator and transparent ones, and their codes."""

    function: Function
    ops: list[Op]
    codes: np.ndarray[Any, np.dtype[np.int64]]


class Coder:
    """Gives ops codes: equal for ops of one name, attributes, regions, operand and result types."""

    def __init__(self) -> None:
        self.known: dict[Hashable, int] = {}

    def line(self, function: Function) -> Line:
        """The codes of a function's body."""
        fresh = fresh_symbols(function)
        ops = [op for op in function.body if op.name not in TRANSPARENT and op.name not in TERMINATORS]
        codes = [self.code(op, any(inner in fresh for inner in op.walk())) for op in ops]
        return Line(function, ops, np.array(codes, dtype=np.int64))

    def code(self, op: Op, unlike: bool) -> int:
        """The code of an op; one of its own where it binds symbols, which must not happen twice."""
        key = (id(op), "unlike") if unlike else op_shape(op)
        return self.known.setdefault(key, len(self.known))


def op_shape(op: Op) -> Hashable:
    """What ops that are alike have in common."""
    regions = tuple(_region_shape(region) for region in op.regions)
    attrs = tuple(sorted((k, attr_key(v)) for k, v in op.attrs.items()))
    return op.name, attrs, tuple(map(_operand_shape, op.operands)), tuple(r.type for r in op.results), regions


def _region_shape(region: Block) -> Hashable:
    return tuple(a.type for a in region.args), tuple(op_shape(op) for op in region)


def _operand_shape(value: Value | None) -> Hashable:
    if value is None:
        return None
    if isinstance(value, Result) and value.op.name in TRANSPARENT:
        return op_shape(value.op)
    return isinstance(value, State), value.type


def find_runs(codes: np.ndarray[Any, Any], least: int) -> list[Run]:
    """Every run of windows of at least ``least`` codes that follow each other, the most saving first.

    Where two stretches end alike, but did not begin alike, the second is a run of one: the first may hold more.
    """
    found: list[Run] = []
    for period in range(least, len(codes) // 2 + 1):
        same = np.flatnonzero(np.diff(np.concatenate(([0], codes[:-period] == codes[period:], [0]))))
        for start, end in zip(same[::2].tolist(), same[1::2].tolist(), strict=True):
            length = end - start
            if length >= period:
                repeats = length // period + 1
                found.append(Run(start, period, repeats, length - (repeats - 1) * period))
            elif 2 * length >= period and length >= least:
                spare = length - (period + 1) // 2
                found.append(Run(end - spare, period, 1, spare))
    found = [r for r in found if r.saved > 0 and is_primitive(codes[r.start : r.start + r.period])]
    return sorted(found, key=lambda r: (-r.saved, r.period, r.start))


def is_primitive(codes: np.ndarray[Any, Any]) -> bool:
    """Whether a window is not itself one shorter stretch over and over."""
    width = len(codes)
    parts = (d for d in range(1, width // 2 + 1) if width % d == 0)
    return not any(np.array_equal(codes[d:], codes[:-d]) for d in parts)


def occurrences(line: Line, pattern: np.ndarray[Any, Any], taken: set[Op]) -> Iterator[list[Op]]:
    """Windows with these codes that touch no op that is taken."""
    at, width = 0, len(pattern)
    starts = np.flatnonzero(line.codes == pattern[0]).tolist()
    for start in starts:
        if start < at or not np.array_equal(line.codes[start : start + width], pattern):
            continue
        window = line.ops[start : start + width]
        if taken.isdisjoint(window):
            at = start + width
            yield window


def loose_window(line: Line, pattern: Sequence[int], edge: int, step: int) -> list[Op] | None:
    """A window that ends before (step -1) or starts at (step 1) an index, with other ops in between, if there is one.

    The layer that comes first often holds what all layers share, and so has more ops than the others.
    """
    wanted = list(pattern[::step])
    found: list[Op] = []
    at, skipped = (edge - 1 if step < 0 else edge), 0
    while wanted and 0 <= at < len(line.ops) and skipped <= len(pattern):
        if line.codes[at] == wanted[0]:
            found.append(line.ops[at])
            wanted.pop(0)
        else:
            skipped += 1
        at += step
    return None if wanted else found[::step]
