"""A region: what must change around some weights that are split, found by asking each op's definition.

Splits flow forward from pinned operands. ``result_types`` says what an op makes of them; where it refuses, cheap
repairs are tried: every rank keeps its part of an operand that it holds whole (``shard``, nothing is sent), a sum that
is owed is added up (``all_reduce``), the bias of a row-split product is added after the sum. A region that no repair
saves is given up as a whole, with the reason.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, islice, product

from maiac.ir import Block, Op, State, TensorType, Type, Value, get_op
from maiac.ir.errors import TypeFault

MOST_REPAIRS = 400  # alternatives tried for one op before it counts as refusing


class Refused(Exception):
    """An op cannot take what the region brings it."""

    def __init__(self, op: Op, reason: str) -> None:
        super().__init__(reason)
        self.op = op
        reason = reason.removeprefix(f"{op.name}: ")
        self.reason = f"{op.name} at {op.loc.name}: {reason}" if op.loc.name else f"{op.name}: {reason}"


class _StateSplit(Exception):
    """A state must be split as well; the region starts again with it."""

    def __init__(self, state: State, type: TensorType) -> None:
        super().__init__(state.name)
        self.state = state
        self.type = type


@dataclass(frozen=True, slots=True)
class Move:
    """A collective on one operand: ``shard`` or ``all_gather`` along ``dim``, or ``all_reduce``."""

    kind: str
    dim: int = 0


@dataclass(slots=True)
class Region:
    """New types of values, collectives on operands, and other edits; nothing is written to the graph yet."""

    types: dict[Value, TensorType] = field(default_factory=dict[Value, TensorType])
    moves: dict[tuple[Op, int], tuple[Move, ...]] = field(default_factory=dict["tuple[Op, int]", "tuple[Move, ...]"])
    late_bias: dict[Op, TensorType] = field(default_factory=dict[Op, TensorType])  # op -> its type without bias
    dropped: list[Op] = field(default_factory=list[Op])  # shards of values that come split now
    states: dict[State, TensorType] = field(default_factory=dict[State, TensorType])

    def type_of(self, value: Value) -> Type:
        """The type of a value in the region."""
        return self.types.get(value, value.type)


def number(block: Block) -> dict[Op, int]:
    """The position of each op of a block."""
    return {op: i for i, op in enumerate(block)}


def grow(pins: Mapping[tuple[Op, int], Move], axis: str, size: int, order: Mapping[Op, int]) -> Region:
    """The region around pinned operands; Refused where an op can take it in no way.

    ``size`` is the number of ranks that every split dim must divide by.
    """
    states: dict[State, TensorType] = {}
    while True:
        try:
            return _Growth(pins, axis, size, order, states).run()
        except _StateSplit as restart:
            states[restart.state] = restart.type


class _Growth:
    """Visits ops in program order, so that each sees all its operands' final types."""

    def __init__(
        self,
        pins: Mapping[tuple[Op, int], Move],
        axis: str,
        size: int,
        order: Mapping[Op, int],
        states: Mapping[State, TensorType],
    ) -> None:
        self.pins = pins
        self.axis = axis
        self.size = size
        self.order = order
        self.region = Region(types={**states}, states={**states})
        self.queue = [(order[op], op) for op, _ in pins]
        self.queued = {op for op, _ in pins}
        heapq.heapify(self.queue)
        for state in states:
            self.visit_users(state, None)

    def run(self) -> Region:
        """Grow until no op is left to visit."""
        while self.queue:
            _, op = heapq.heappop(self.queue)
            self.visit(op)
        return self.region

    def visit_users(self, value: Value, reader: Op | None) -> None:
        """Queue the ops that read a value whose type changed."""
        for user in value.uses:
            if user not in self.order:
                holder = user.block.parent if user.block is not None else None
                raise Refused(reader or user, f"its result is used inside the body of {getattr(holder, 'name', '?')}")
            if user not in self.queued:
                self.queued.add(user)
                heapq.heappush(self.queue, (self.order[user], user))

    def visit(self, op: Op) -> None:
        """Give an op's results their types, repairing its operands where needed."""
        types = [None if v is None else self.region.type_of(v) for v in op.operands]
        if op.name == "return":
            self.finish(op, types)
            return
        if op.name == "call":
            raise Refused(op, "calls are not looked into")
        if op.name == "shard" and self.comes_split(op, types[0]):
            return
        first: TypeFault | None = None
        for repair in self.repairs(op, types):
            changed = [t if i not in repair else self.moved(t, repair[i]) for i, t in enumerate(types)]
            try:
                results = self.checked(op, changed)
            except TypeFault as fault:
                first = first or fault
                continue
            self.accept(op, repair, results)
            return
        if self.bias_after_sum(op, types):
            return
        self.ask_for_state(op, types)
        raise Refused(op, str(first) if first is not None else "it takes no split operand")

    def checked(self, op: Op, types: Sequence[Type | None]) -> list[Type]:
        """Result types; TypeFault also where a dim does not divide."""
        results = get_op(op.name).result_types(types, op.attrs, op.regions)
        for type in [*types, *results]:
            self.check_divides(type)
        # An unknown dim is inferred as a placeholder: the declared dims stay.
        return [
            r.type.with_split(t.split, t.owed) if isinstance(t, TensorType) and isinstance(r.type, TensorType) else t
            for r, t in zip(op.results, results, strict=True)
        ]

    def check_divides(self, type: Type | None) -> None:
        """Every split dim is a number that the ranks divide."""
        if not isinstance(type, TensorType):
            return
        for i, (dim, axes) in enumerate(zip(type.dims, type.split, strict=True)):
            if self.axis in axes and (not isinstance(dim, int) or dim % self.size):
                raise TypeFault(f"dim {i} of {type.whole()} does not divide by {self.size}", "MAIA0108")

    def accept(self, op: Op, repair: Mapping[int, tuple[Move, ...]], results: Sequence[Type]) -> None:
        """Keep the repairs and pass the results' types on."""
        for at, moves in repair.items():
            self.region.moves[op, at] = moves
        for result, type in zip(op.results, results, strict=True):
            if isinstance(type, TensorType) and type != result.type:
                self.region.types[result] = type
                self.visit_users(result, op)

    # **** repairs ****

    def repairs(self, op: Op, types: Sequence[Type | None]) -> Iterator[dict[int, tuple[Move, ...]]]:
        """Ways to change the operands, the least change first."""
        pinned = {at: (move,) for (o, at), move in self.pins.items() if o is op}
        yield pinned
        reduced = {i: (Move("all_reduce"),) for i, t in enumerate(types) if self.owes(t)}
        if reduced:
            yield {**pinned, **reduced}
        base = {**pinned, **reduced}
        if pinned or any(self.is_split(t) for t in types):
            kept = {**pinned, **{i: () for i, v in enumerate(op.operands) if isinstance(v, State)}}
            for cuts in islice(self.cuts(types, kept), MOST_REPAIRS):
                yield {**base, **cuts}

    def cuts(self, types: Sequence[Type | None], fixed: Mapping[int, object]) -> Iterator[dict[int, tuple[Move, ...]]]:
        """Ways for each rank to keep its part of operands that are whole: one operand, all alike, two, three."""
        choices = {i: self.dims_to_cut(t) for i, t in enumerate(types) if i not in fixed}
        free = [i for i, dims in choices.items() if dims]
        for at in free:
            yield from ({at: (Move("shard", d),)} for d in choices[at])
        for back in range(1, 1 + max((t.rank for t in types if isinstance(t, TensorType)), default=0)):
            alike = {i: d for i in free if (d := self.rank(types[i]) - back) in choices[i]}
            if len(alike) > 1:
                yield {i: (Move("shard", d),) for i, d in alike.items()}
        for count in (2, 3):
            for some in combinations(free, count):
                for dims in product(*(choices[i] for i in some)):
                    yield {i: (Move("shard", d),) for i, d in zip(some, dims, strict=True)}

    def dims_to_cut(self, type: Type | None) -> list[int]:
        """The dims of a whole operand that the ranks divide."""
        if not isinstance(type, TensorType) or type.is_sharded:
            return []
        return [i for i, d in enumerate(type.dims) if isinstance(d, int) and d > 1 and d % self.size == 0]

    def moved(self, type: Type | None, moves: Sequence[Move]) -> Type | None:
        """The type of an operand after its collectives."""
        for move in moves:
            attrs = {"over": self.axis} if move.kind == "all_reduce" else {"over": self.axis, "dim": move.dim}
            (type,) = get_op(move.kind).result_types([type], attrs)
        return type

    def bias_after_sum(self, op: Op, types: Sequence[Type | None]) -> bool:
        """A product whose summed dim arrives split: sum it first, then add the bias."""
        if op.name != "linear" or len(types) < 3:
            return False
        for cuts in ({}, *self.cuts(types[:2], {})):
            changed = [t if i not in cuts else self.moved(t, cuts[i]) for i, t in enumerate(types[:2])]
            try:
                (result,) = self.checked(op, changed)
            except TypeFault:
                continue
            if isinstance(result, TensorType) and result.owed == (self.axis,) and not any(result.split):
                self.region.late_bias[op] = result
                self.region.moves.update(((op, at), moves) for at, moves in cuts.items())
                return True
        return False

    def comes_split(self, op: Op, type: Type | None) -> bool:
        """A shard whose operand is split that way by now falls away."""
        result = op.result.type
        if not isinstance(type, TensorType) or type != result:
            return False
        self.region.dropped.append(op)
        return True

    def ask_for_state(self, op: Op, types: Sequence[Type | None]) -> None:
        """A state that is written with split contents is split alike."""
        if op.name != "write" or not isinstance(op.operands[0], State):
            return
        state, given, wanted = op.operands[0], types[0], types[1]
        assert isinstance(given, TensorType) and isinstance(wanted, TensorType)
        if not given.is_sharded and not wanted.owed:
            raise _StateSplit(state, given.with_split(wanted.split))

    def finish(self, op: Op, types: Sequence[Type | None]) -> None:
        """What the program returns is whole again."""
        for i, type in enumerate(types):
            moves = [Move("all_reduce")] if self.owes(type) else []
            if isinstance(type, TensorType):
                moves += [Move("all_gather", d) for d, axes in enumerate(type.split) if self.axis in axes]
            if moves:
                self.region.moves[op, i] = tuple(moves)

    def owes(self, type: Type | None) -> bool:
        """Whether a sum over the axis is owed."""
        return isinstance(type, TensorType) and self.axis in type.owed

    def is_split(self, type: Type | None) -> bool:
        """Whether the axis splits a dim."""
        return isinstance(type, TensorType) and any(self.axis in axes for axes in type.split)

    def rank(self, type: Type | None) -> int:
        """The rank of a tensor type."""
        return type.rank if isinstance(type, TensorType) else 0
