"""Moves of elements that only the source's eager execution needed: copies, and views that undo each other."""

from __future__ import annotations

import itertools

from maiac.ir import DimLike, Op, Result, State, Value, get_op
from maiac.ir.dims import Dim

from ..analysis import TERMINATORS
from ..pattern import integers, producer
from ..rewrite import Miss, Outcome, Rewriter, Rule, rule
from ..rules.shape import int_tuple, tensor_of

CLEANUP: list[Rule] = []


@rule("copy", table=CLEANUP)
def copy_of_value(op: Op, _: Rewriter) -> Outcome:
    """copy(x) -> x: nothing changes values in place but writes to states; dropout leaves such copies behind."""
    x = op.operand(0)
    if op.result.type != x.type:
        return None
    root = storage_of(x)
    if isinstance(root, State):
        return Miss("it reads a state, whose contents may change before the copy is used", root)
    if not _leaves(op.result):
        return x
    if not isinstance(root, Result):
        return Miss("a result may not share storage with an input or a weight of the caller", root)
    if _leaves(root, skip=op):
        return Miss("two results may not share storage", root)
    return x


def storage_of(value: Value) -> Value:
    """The value whose storage this one may share, through views and copies."""
    while isinstance(value, Result):
        source = _aliased(value.op)
        if source is None:
            return value
        value = source
    return value


def _aliased(op: Op) -> Value | None:
    if op.name in TERMINATORS or op.name == "call":
        return None
    definition = get_op(op.name)
    if not definition.alias:
        return None
    at = [t.name for t in definition.signature.operands].index(definition.alias)
    return op.operands[at]


def _leaves(value: Value, skip: Op | None = None) -> bool:
    """Whether the function or region hands out the value, or a view of it."""
    for user in value.uses:
        if user is skip:
            continue
        if user.name in TERMINATORS or user.regions:
            return True
        if user.name == "call" or (_aliased(user) is value and any(_leaves(r) for r in user.results)):
            return True
    return False


@rule("transpose", table=CLEANUP)
def transposes_around_reshape(op: Op, b: Rewriter) -> Outcome:
    """Two transposes around a reshape that joins or parts dims which stay side by side -> a reshape, one transpose."""
    middle = producer(op.operand(0), "reshape")
    inner = None if middle is None else producer(middle.operand(0), "transpose")
    if middle is None or inner is None or tensor_of(op.result).is_sharded:
        return None
    moved = reshape_first(inner, tensor_of(middle.result).dims)
    if moved is None:
        return Miss("the reshape joins dims that the transpose moved apart", middle.result)
    shape, perm = moved
    both = tuple(perm[p] for p in int_tuple(op.attrs["perm"]))
    y = b.emit("reshape", inner.operand(0), shape=shape)
    return y if list(both) == sorted(both) else b.emit("transpose", y, perm=both)


def reshape_first(turned: Op, want: tuple[DimLike, ...]) -> tuple[tuple[DimLike, ...], tuple[int, ...]] | None:
    """``reshape(transpose(x))`` to ``want`` as a shape for x and a perm after it; None where that cannot be."""
    from maiac.ir.ops.shape import factor_groups  # late: it imports torch

    perm = int_tuple(turned.attrs["perm"])
    have = tensor_of(turned.result).dims
    placed: list[tuple[int, int, DimLike]] = []  # (where in x, where in want, size)
    last = -1
    for sources, targets in factor_groups(have, want):
        real = [perm[i] for i in sources if have[i] != 1]
        if any(q != p + 1 for p, q in itertools.pairwise(real) if not _ones(turned, p, q)):
            return None
        last = real[0] if real else perm[sources[0]] if sources else last
        placed += [(last, j, want[j]) for j in targets]
    if len(placed) != len(want):
        return None
    order = sorted(range(len(placed)), key=lambda n: (placed[n][0], n))
    shape = tuple(placed[n][2] for n in order)
    back = {placed[n][1]: at for at, n in enumerate(order)}
    return shape, tuple(back[j] for j in range(len(want)))


def _ones(turned: Op, p: int, q: int) -> bool:
    """Whether only dims of size 1 stand between two dims of the transpose's operand."""
    dims = tensor_of(turned.operand(0)).dims
    return p < q and all(d == 1 for d in dims[p + 1 : q])


# **** gathers by a range ****


@rule("gather", "embedding", table=CLEANUP)
def gather_of_range(op: Op, b: Rewriter) -> Outcome:
    """Rows a, a + 1, ... of x by a table of positions -> a slice."""
    x, indices = op.operand(0), op.operand(1)
    count, dim = producer(indices, "iota"), int_tuple((op.attrs.get("dim", 0),))[0]
    if count is None or tensor_of(x).is_sharded:
        return None
    start, end, step = count.attrs.get("start", 0), count.attrs["end"], count.attrs.get("step", 1)
    size = tensor_of(x).dims[dim % tensor_of(x).rank]
    if step != 1 or not isinstance(start, int) or start < 0:
        return Miss("the positions do not count up from the front", indices)
    if not isinstance(end, (int, Dim)) or (end != size and not (isinstance(end, int) and isinstance(size, int))):
        return Miss("whether the positions lie within x is known only at run time", indices)
    if isinstance(end, int) and isinstance(size, int) and end > size:
        return Miss("the positions run past the end of x", indices)
    y = b.emit("slice", x, dim=dim, start=start, end=end)
    return y if y.type == op.result.type else Miss("the slice has another type", y)


@rule("expand_to", table=CLEANUP)
def expand_to_constant(op: Op, b: Rewriter) -> Outcome:
    """A broadcast to a shape that is known -> expand."""
    shape, have = integers(op.operand(1)), tensor_of(op.operand(0)).dims
    if shape is None:
        return None
    rank = max(len(shape), len(have))
    mine, other = ((1,) * (rank - len(have)) + have, (1,) * (rank - len(shape)) + shape)
    if any(n not in (1, m) and m != 1 for m, n in zip(mine, other, strict=True)):
        return Miss("the dims differ", op.operand(0))
    return b.emit("expand", op.operand(0), shape=tuple(n if m == 1 else m for m, n in zip(mine, other, strict=True)))
