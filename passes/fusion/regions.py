"""fuse: ops that one kernel computes become a ``fusion`` region.

Three kinds of regions: a product (linear, matmul, conv) with the elementwise ops behind it, done on each tile of sums
while it is in the cache; reductions of rows with the elementwise ops around them; elementwise ops of one shape. Which
ops are elementwise, the definitions' letters say. Code generators for hosts and GPUs read the same regions.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias

from maiac.ir import Block, Module, Op, Result, TensorType, Value
from maiac.ir.dims import DimLike
from maiac.ir.kinds import PRODUCTS, ROWS, is_elementwise, reduced_dims

from ..analysis import TERMINATORS, Effects, fresh_symbols, mentioned_symbols
from ..base import Pass, register
from ..rewrite import Miss, explainable, note_miss

explainable("fuse", "Join an elementwise op or a reduction with the ops that make its operands.")

TILED = PRODUCTS | {"group_norm"}  # what ends in tiles, or in a multiply-add
_NUMBERS = frozenset({"constant", "full"})  # written into a region again where they are one number
MOST_OPERANDS = 40
MOST_OPS = 64
MOST_BETWEEN = 512  # ops between two that are joined: beyond, nothing of the one is in a cache when the other runs

Unit: TypeAlias = "tuple[Op, ...]"  # ops that stand together


@dataclass(eq=False)
class _Group:
    """Ops that become one region. ``shape``: what its loops go over; ``over``: the dims that its reductions go over."""

    kind: str  # product, rows or map
    ops: list[Op]
    shape: tuple[DimLike, ...]
    over: tuple[int, ...] = ()
    order: int = 0  # of its last op


@register
@dataclass(frozen=True)
class Fuse(Pass):
    """Form regions in every function.

    products, rows: whether elementwise ops join products and reductions, or only one another.
    """

    name: ClassVar[str] = "fuse"
    products: bool = True
    rows: bool = True

    def run(self, module: Module) -> bool:
        """Every block of every function."""
        effects = Effects(module)
        changed = False
        for function in module.functions.values():
            fixed = fresh_symbols(function)
            for block in _blocks(function.body):
                changed |= _Former(self, module, effects, fixed, block).run()
        return changed


def _blocks(block: Block) -> Iterator[Block]:
    yield block
    for op in block:
        if op.name != "fusion":
            for region in op.regions:
                yield from _blocks(region)


def _shape(value: Value) -> tuple[DimLike, ...] | None:
    type = value.type
    if not isinstance(type, TensorType) or type.is_sharded:
        return None
    return type.dims


@dataclass
class _Former:
    """Forms the regions of one block."""

    options: Fuse
    module: Module
    effects: Effects
    fixed: Mapping[Op, frozenset[str]]  # ops that bind symbols, which must stand where the symbols are known
    block: Block
    group_of: dict[Op, _Group] = field(default_factory=dict[Op, _Group])
    index: dict[Op, int] = field(default_factory=dict[Op, int])
    needs: dict[Op, frozenset[Op]] = field(default_factory=dict[Op, frozenset[Op]])
    line: list[Unit] = field(default_factory=list[Unit])  # an order in which everything can run; () where one left
    position: dict[Op, int] = field(default_factory=dict[Op, int])  # in ``line``

    def run(self) -> bool:
        """Group, sort, build; true if there was a region."""
        ops = [op for op in self.block if op.name not in TERMINATORS]
        self.index = {op: i for i, op in enumerate(ops)}
        self.line, self.position = [(op,) for op in ops], dict(self.index)
        self.find_needs(ops)
        for op in ops:
            self.consider(op)
        groups = list(dict.fromkeys(g for g in self.group_of.values() if len(g.ops) > 1))
        if not groups:
            return False
        self.sort()
        for group in groups:
            self.build(group)
        return True

    # **** grouping ****

    def consider(self, op: Op) -> None:
        """Put an op into the group of an operand, or into one of its own that others may join."""
        made = self.alone(op)
        if made is None:
            return
        self.group_of[op] = made
        if made.kind == "product":
            return
        for group in self.candidates(op):
            miss = self.join(self.group_of[op], group)
            if miss is not None:
                note_miss("fuse", op, miss)

    def alone(self, op: Op) -> _Group | None:
        """The group that an op makes by itself; None where nothing may join it."""
        if op in self.fixed or len(op.results) != 1 or op.regions or op.name in _NUMBERS:
            return None
        shape = _shape(op.results[0])
        if shape is None or any(_shape(v) is None for v in op.operands if v is not None):
            return None
        order = self.index[op]
        if op.name in TILED:
            return _Group("product", [op], shape, order=order) if self.options.products else None
        if op.name in ROWS:
            x = _shape(op.operand(0))
            over = None if x is None else reduced_dims(op.name, op.attrs, len(x))
            return _Group("rows", [op], x, over, order) if self.options.rows and over and x is not None else None
        if not is_elementwise(op.name) or not shape:
            return None
        return _Group("map", [op], shape, order=order)

    def candidates(self, op: Op) -> list[_Group]:
        """The groups of operands, those first that gain most: products, then rows; of equals the latest."""
        makers = (v.op for v in op.operands if isinstance(v, Result) and v.op in self.group_of)
        groups = dict.fromkeys(self.group_of[m] for m in makers)
        rank = {"product": 2, "rows": 1, "map": 0}
        return sorted(groups, key=lambda g: (rank[g.kind], g.order), reverse=True)

    def join(self, new: _Group, old: _Group) -> Miss | None:
        """Merge two groups, of which ``new`` reads ``old``; why not, if so."""
        if new is old:
            return None
        merged = self.merged(new, old)
        if isinstance(merged, Miss):
            return merged
        if len(merged.ops) > MOST_OPS or len(self.outside(merged)) > MOST_OPERANDS:
            return Miss("the region would be too large")
        if self.position[new.ops[0]] - self.position[old.ops[0]] > MOST_BETWEEN:
            return Miss("they stand too far apart")
        if not self.meet(merged, new, old):
            return Miss("another op stands between them: it reads the one and is read by the other")
        for op in merged.ops:
            self.group_of[op] = merged
        return None

    def merged(self, new: _Group, old: _Group) -> _Group | Miss:
        """What two groups are together, if the shapes of their loops fit."""
        ops = sorted({*new.ops, *old.ops}, key=lambda o: self.index[o])
        order = max(new.order, old.order)
        kinds = (old.kind, new.kind)
        if kinds in (("map", "map"), ("product", "map")) and old.shape == new.shape:
            return _Group(old.kind, ops, old.shape, (), order)
        if kinds == ("product", "rows"):
            return Miss("a reduction needs whole rows, and a product ends in tiles")
        if new.kind == "product":
            return Miss("a product reads its operands many times")
        if kinds == ("rows", "rows"):
            same = old.shape == new.shape and old.over == new.over
            return _Group("rows", ops, old.shape, old.over, order) if same else Miss("they reduce different dims")
        rows, other = (old, new) if old.kind == "rows" else (new, old)
        kept = tuple(1 if i in rows.over else d for i, d in enumerate(rows.shape))
        if kinds == ("rows", "map") and other.shape == kept and rows.shape != kept:
            return _Group("rows", ops, rows.shape, rows.over, order)
        if other.kind == "map" and rows.kind == "rows" and other.shape == rows.shape:
            return _Group("rows", ops, rows.shape, rows.over, order)
        return Miss(f"their loops go over different shapes, {list(old.shape)} and {list(new.shape)}")

    def outside(self, group: _Group) -> list[Value]:
        """Values that a group reads and does not make, numbers apart."""
        own = {r for op in group.ops for r in op.results}
        read = dict.fromkeys(v for op in group.ops for v in op.operands if v is not None and v not in own)
        return [v for v in read if not _is_number(v)]

    def meet(self, merged: _Group, new: _Group, old: _Group) -> bool:
        """Put ``merged`` where ``new`` stands, and behind it what reads ``old``, however far; false if ``new`` does."""
        low, high = self.position[old.ops[0]], self.position[new.ops[0]]
        behind = set(old.ops)
        early: list[Unit] = []
        late: list[Unit] = []
        for unit in filter(None, self.line[low + 1 : high]):
            if any(need in behind for op in unit for need in self.needs[op]):
                behind |= set(unit)
                late.append(unit)
            else:
                early.append(unit)
        behind -= set(old.ops)
        if any(need in behind for op in new.ops for need in self.needs[op]):
            return False
        whole = [*early, tuple(merged.ops), *late]
        self.line[low : high + 1] = [*whole, *[()] * (high + 1 - low - len(whole))]
        self.position.update((op, low + i) for i, unit in enumerate(whole) for op in unit)
        return True

    # **** order ****

    def find_needs(self, ops: Sequence[Op]) -> None:
        """What must run before each op: what makes its operands and symbols, and the op with effects before it."""
        binders = {s: _in_block(op, self.block) for op, names in self.fixed.items() for s in names}
        last: Op | None = None
        for op in ops:
            needs = {_in_block(v.op, self.block) for o in op.walk() for v in o.operands if isinstance(v, Result)}
            if binders:
                needs |= {binders.get(s) for o in op.walk() for s in mentioned_symbols(o)}
            if self.pinned(op):
                needs.add(last)
                last = op
            self.needs[op] = frozenset(n for n in needs if n is not None and n is not op)

    def pinned(self, op: Op) -> bool:
        """Whether an op keeps its place among those with effects."""
        facts = self.effects.of(op)
        return op in self.fixed or facts.effect or facts.reads or facts.writes or facts.random

    def sort(self) -> None:
        """Bring the ops of each group together."""
        terminator = self.block.terminator
        for op in itertools.chain.from_iterable(self.line):
            op.detach()
            self.block.insert(op, terminator)

    # **** building ****

    def build(self, group: _Group) -> None:
        """One ``fusion`` op in place of a group, which stands together by now."""
        last = group.ops[-1]
        assert last.block is not None
        inside = set(group.ops)
        given = self.outside(group)
        kept = [r for op in group.ops for r in op.results if any(u not in inside for u in r.uses)]
        region = Block([v.type for v in given])
        fusion = Op("fusion", given, {}, [r.type for r in kept], (), _location(group))
        last.block.insert(fusion, last.next)
        fusion.add_region(region)
        for arg, value in zip(region.args, given, strict=True):
            arg.name = value.name
        made: dict[Op, Op] = {}
        arg_of = dict(zip(given, region.args, strict=True))
        for op in group.ops:
            op.detach()
            for i, v in enumerate(op.operands):
                if v in arg_of:
                    op.set_operand(i, arg_of[v])
                elif isinstance(v, Result) and _is_number(v):
                    if v.op not in made:
                        made[v.op] = region.append(Op(v.op.name, (), v.op.attrs, [v.type], (), v.op.loc))
                    op.set_operand(i, made[v.op].result)
            region.append(op)
        for old, new in zip(kept, fusion.results, strict=True):
            new.name = old.name
            for user in list(old.uses):
                if user not in inside:
                    user.replace_operand(old, new)
        region.append(Op("yield", kept))


def _in_block(op: Op, block: Block) -> Op | None:
    """The op of this block that an op is, or stands in."""
    found: Op | None = op
    while found is not None and found.block is not block:
        parent = found.block.parent if found.block is not None else None
        found = parent if isinstance(parent, Op) else None
    return found


def _is_number(value: Value) -> bool:
    """Whether a value is one number, which can be written anew inside a region."""
    if not isinstance(value, Result) or value.op.name not in _NUMBERS:
        return False
    return not isinstance(value.op.attrs.get("value"), tuple)


def _location(group: _Group):
    anchor = next((op for op in group.ops if op.name in TILED or op.name in ROWS), group.ops[-1])
    return anchor.loc
