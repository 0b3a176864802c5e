"""fuse: ops that one kernel computes become a ``fusion`` region.

Three kinds of regions: a product (linear, matmul, conv) with the elementwise ops behind it, done on each tile of sums
while it is in the cache; reductions of rows with the elementwise ops around them; elementwise ops of one shape. Which
ops are elementwise, the definitions' letters say. Code generators for hosts and GPUs read the same regions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import ClassVar

from maiac.ir import Block, Module, Op, Result, TensorType, Value
from maiac.ir.dims import DimLike
from maiac.ir.opdef import get_op

from ..analysis import TERMINATORS, Effects, fresh_symbols
from ..base import Pass, register
from ..rewrite import Miss, explainable, note_miss

explainable("fuse", "Join an elementwise op or a reduction with the ops that make its operands.")

PRODUCTS = frozenset({"linear", "matmul", "conv", "group_norm"})  # what ends in tiles, or in a multiply-add
ROWS = frozenset({"softmax", "log_softmax", "layer_norm", "rms_norm", "sum", "mean", "amax", "amin"})
_NUMBERS = frozenset({"constant", "full"})  # written into a region again where they are one number
_WHOLE = frozenset({"cast", "where", "copy"})
MOST_OPERANDS = 40
MOST_OPS = 64


@lru_cache(maxsize=1024)
def is_elementwise(name: str) -> bool:
    """Whether an op works on each element alone: by its definition, operands and results have the same letters."""
    if name in TERMINATORS or name == "call":
        return False
    definition = get_op(name)
    terms = (*definition.signature.operands, *definition.signature.results)
    letters = {term.letters for term in terms}
    simple = all(t is not None and len(t) == 1 and t[0] in ("*b", "~b") for t in letters)
    return simple and bool(terms) and not definition.effect and not definition.random


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
            fixed = set(fresh_symbols(function))
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
    fixed: set[Op]  # ops that bind symbols, which must stand where the symbols are known
    block: Block
    group_of: dict[Op, _Group] = field(default_factory=dict[Op, _Group])
    index: dict[Op, int] = field(default_factory=dict[Op, int])

    def run(self) -> bool:
        """Group, sort, build; true if there was a region."""
        ops = [op for op in self.block if op.name not in TERMINATORS]
        self.index = {op: i for i, op in enumerate(ops)}
        for op in ops:
            self.consider(op)
        groups = list(dict.fromkeys(g for g in self.group_of.values() if len(g.ops) > 1))
        if not groups:
            return False
        self.sort(ops)
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
        if op.name in PRODUCTS:
            return _Group("product", [op], shape, order=order) if self.options.products else None
        if op.name in ROWS:
            over = _reduced(op)
            x = _shape(op.operand(0))
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
        if self.reaches(new, old):
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

    def reaches(self, new: _Group, old: _Group) -> bool:
        """Whether an op outside both reads ``old`` and is read, however far, by ``new``."""
        low = min(self.index[op] for op in old.ops)
        inside = {*new.ops, *old.ops}
        stack = [v.op for op in new.ops for v in op.operands if isinstance(v, Result) and v.op not in inside]
        seen: set[Op] = set()
        old_ops = set(old.ops)
        while stack:
            op = stack.pop()
            if op in seen or (self.index.get(op, -1) < low and self._latest(op) < low):
                continue
            seen.add(op)
            peers = self.group_of[op].ops if op in self.group_of else [op]
            for peer in peers:
                seen.add(peer)
                for v in self._reads(peer):
                    if v in old_ops:
                        return True
                    if v not in inside:
                        stack.append(v)
        return False

    def _latest(self, op: Op) -> int:
        return self.group_of[op].order if op in self.group_of else self.index.get(op, -1)

    def _reads(self, op: Op) -> Iterator[Op]:
        for inner in op.walk():
            for v in inner.operands:
                if isinstance(v, Result):
                    found = _in_block(v.op, self.block)
                    if found is not None and found is not op:
                        yield found

    # **** building ****

    def sort(self, ops: Sequence[Op]) -> None:
        """Bring the ops of each group together, all else in its old order as far as reads and effects allow."""
        unit: dict[Op, tuple[Op, ...]] = {}
        for op in ops:
            group = self.group_of.get(op)
            unit[op] = tuple(group.ops) if group is not None and len(group.ops) > 1 else (op,)
        placed: set[Op] = set()
        ordered: list[Op] = []
        ordered_effects = [op for op in ops if self._pinned(op)]
        before = dict(zip(ordered_effects[1:], ordered_effects, strict=False))
        for op in ops:
            self.place(op, unit, before, placed, ordered)
        terminator = self.block.terminator
        for op in ordered:
            op.detach()
            self.block.insert(op, terminator)

    def place(
        self, root: Op, unit: dict[Op, tuple[Op, ...]], before: dict[Op, Op], placed: set[Op], ordered: list[Op]
    ) -> None:
        """Append an op's unit after all that it needs."""
        stack = [root]
        while stack:
            op = stack[-1]
            if op in placed:
                stack.pop()
                continue
            own = set(unit[op])
            needs = [m for peer in unit[op] for m in self._reads(peer) if m not in placed and m not in own]
            needs += [before[p] for p in unit[op] if p in before and before[p] not in placed and before[p] not in own]
            if needs:
                stack += needs
                continue
            placed |= own
            ordered += unit[op]
            stack.pop()

    def _pinned(self, op: Op) -> bool:
        facts = self.effects.of(op)
        return op in self.fixed or facts.effect or facts.reads or facts.writes or facts.random

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


def _reduced(op: Op) -> tuple[int, ...]:
    """The dims that a reduction goes over; none where they are not known."""
    type = op.operand(0).type
    assert isinstance(type, TensorType)
    if op.name in ("softmax", "log_softmax"):
        dim = op.attrs.get("dim", -1)
        return (dim % type.rank,) if isinstance(dim, int) and type.rank else ()
    if op.name in ("layer_norm", "rms_norm"):
        count = op.attrs.get("dims", 1)
        return tuple(range(type.rank - count, type.rank)) if isinstance(count, int) else ()
    dims = op.attrs.get("dims")
    if dims is None:
        return tuple(range(type.rank))
    found = [d % type.rank for d in _integers(dims)] if isinstance(dims, tuple) and type.rank else []
    return tuple(sorted(found)) if isinstance(dims, tuple) and len(found) == len(dims) else ()


def _integers(values: Iterable[object]) -> Iterator[int]:
    for v in values:
        if isinstance(v, int):
            yield v


def _location(group: _Group):
    anchor = next((op for op in group.ops if op.name in PRODUCTS or op.name in ROWS), group.ops[-1])
    return anchor.loc
