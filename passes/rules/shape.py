"""Moves of elements that do nothing, undo each other, or make one."""

from __future__ import annotations

from collections.abc import Sequence

from maiac.ir import DimLike, Op, TensorType, Value
from maiac.ir.dims import product

from ..pattern import producer
from ..rewrite import Miss, Outcome, Rewriter, Rule, rule

SHAPE: list[Rule] = []

_BROADCASTING = (
    "add", "sub", "mul", "div", "maximum", "minimum", "eq", "ne", "lt", "le", "gt", "ge",
    "logical_and", "logical_or", "logical_xor", "where",
)  # fmt: skip


def tensor_of(value: Value | None) -> TensorType:
    """The type of a value that must be a tensor."""
    assert value is not None and isinstance(value.type, TensorType)
    return value.type


def axis_of(op: Op, x: Value) -> int:
    """The ``dim`` attribute counted from the front."""
    dim = op.attrs["dim"]
    assert isinstance(dim, int)
    return dim % max(tensor_of(x).rank, 1)


def int_tuple(value: object) -> tuple[int, ...]:
    """An attribute that is a list of numbers."""
    assert isinstance(value, tuple)
    return tuple(int(v) for v in value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


@rule("reshape", "expand", "tile", "pad", "flip", "slice", "transpose", table=SHAPE)
def moves_nothing(op: Op, _: Rewriter) -> Outcome:
    """A reshape, expand, tile, pad, flip, slice or transpose to what x is already -> x."""
    x, name = op.operand(0), op.name
    if x.type != op.result.type:
        return None
    if name in ("reshape", "expand"):
        return x
    if name == "tile":
        return x if all(n == 1 for n in int_dims(op.attrs["repeats"])) else None
    if name == "pad":
        return x if all(n == 0 for n in int_dims(op.attrs["pads"])) else None
    if name == "flip":
        dims = tensor_of(x).dims
        return x if not dims or all(dims[d] == 1 for d in int_tuple(op.attrs["dims"])) else None
    if name == "slice":
        return x if op.attrs.get("start", 0) == 0 and op.attrs.get("step", 1) == 1 else None
    perm = int_tuple(op.attrs["perm"])
    return x if list(perm) == sorted(perm) else None


def int_dims(value: object) -> tuple[DimLike, ...]:
    """An attribute that is a list of dims."""
    assert isinstance(value, tuple)
    return value  # pyright: ignore[reportUnknownVariableType]


@rule("transpose", table=SHAPE)
def transpose_of_transpose(op: Op, b: Rewriter) -> Outcome:
    """Two transposes -> one."""
    inner = producer(op.operand(0), "transpose")
    if inner is None:
        return None
    first, second = int_tuple(inner.attrs["perm"]), int_tuple(op.attrs["perm"])
    return b.emit("transpose", inner.operand(0), perm=tuple(first[p] for p in second))


@rule("reshape", table=SHAPE)
def reshape_of_reshape(op: Op, b: Rewriter) -> Outcome:
    """Two reshapes -> one."""
    inner = producer(op.operand(0), "reshape")
    if inner is None:
        return None
    if tensor_of(op.result).is_sharded:
        return Miss("x is sharded: the dims between say which part is split", op.operand(0))
    return b.emit("reshape", inner.operand(0), shape=op.attrs["shape"])


@rule("reshape", table=SHAPE)
def transpose_under_joined_dims(op: Op, b: Rewriter) -> Outcome:
    """Leading dims joined, the others transposed, and the leading ones parted again -> one transpose."""
    turned = producer(op.operand(0), "transpose")
    joined = None if turned is None else producer(turned.operand(0), "reshape")
    if turned is None or joined is None or tensor_of(op.result).is_sharded:
        return None
    x, perm = joined.operand(0), int_tuple(turned.attrs["perm"])
    have, flat, want = tensor_of(x).dims, tensor_of(joined.result).dims, tensor_of(op.result).dims
    lead = len(have) - len(flat) + 1
    if not perm or lead < 2 or perm[0] != 0 or have[lead:] != flat[1:] or product(have[:lead]) != flat[0]:
        return None
    kept = len(want) - len(flat) + 1
    if kept < 1 or want[kept:] != tuple(flat[p] for p in perm[1:]) or product(want[:kept]) != flat[0]:
        return Miss("it mixes leading dims with others", op.operand(0))
    # The leading dims may be parted into others than before, which is what keys repeated for groups of queries come to.
    moved = b.emit("transpose", x, perm=(*range(lead), *(p + lead - 1 for p in perm[1:])))
    return moved if want[:kept] == have[:lead] else b.emit("reshape", moved, shape=want)


@rule("expand", table=SHAPE)
def expand_of_expand(op: Op, b: Rewriter) -> Outcome:
    """Two expands -> one."""
    inner = producer(op.operand(0), "expand")
    return None if inner is None else b.emit("expand", inner.operand(0), shape=op.attrs["shape"])


@rule("flip", table=SHAPE)
def flip_of_flip(op: Op, _: Rewriter) -> Outcome:
    """Flipped back -> x."""
    inner = producer(op.operand(0), "flip")
    if inner is None:
        return None
    rank = max(tensor_of(op.result).rank, 1)
    here, there = ({d % rank for d in int_tuple(o.attrs["dims"])} for o in (op, inner))
    return inner.operand(0) if here == there else Miss("it flips other dims", op.operand(0))


@rule(*_BROADCASTING, table=SHAPE)
def expand_into_broadcast(op: Op, b: Rewriter) -> Outcome:
    """An expand before an op that broadcasts by itself goes, where the result keeps its type."""
    given = list(op.operands)
    bare = [producer(v, "expand") for v in given]
    if not any(bare) or tensor_of(op.result).is_sharded:
        return None
    for i, inner in enumerate(bare):
        if inner is None:
            continue
        trial = [*given[:i], inner.operand(0), *given[i + 1 :]]
        if not _mixes_ranks(trial) and b.emit_op(op.name, trial, op.attrs).result.type == op.result.type:
            return b.made[-1].result
    return Miss("the expand decides the result's shape or dtype", op.operand(0))


def _mixes_ranks(values: Sequence[Value | None]) -> bool:
    # Of operands of two dtypes, torch computes in another dtype when one of them has rank 0.
    types = [tensor_of(v) for v in values if v is not None and tensor_of(v).element.family != "bool"]
    return len({t.dtype for t in types}) > 1 and any(not t.rank for t in types)


@rule("slice", table=SHAPE)
def slice_of_slice(op: Op, b: Rewriter) -> Outcome:
    """Two slices of one dim by numbers from its front -> one."""
    inner = producer(op.operand(0), "slice")
    if inner is None or axis_of(op, op.operand(0)) != axis_of(inner, inner.operand(0)):
        return None
    at = axis_of(op, op.operand(0))
    numbers = [o.attrs.get(k, d) for o in (inner, op) for k, d in (("start", 0), ("step", 1))]
    size, middle = tensor_of(inner.operand(0)).dims[at], tensor_of(inner.result).dims[at]
    length = tensor_of(op.result).dims[at]
    if not all(isinstance(n, int) and n >= 0 for n in numbers) or not isinstance(size, int):
        return Miss("a start, step or size is not a number from the front", op.operand(0))
    assert isinstance(middle, int) and isinstance(length, int)
    start, step, then, stride = (int(n) for n in numbers if isinstance(n, int))
    if not length:
        return Miss("nothing is left", op.operand(0))
    first = min(start, size) + min(then, middle) * step
    last = first + (length - 1) * step * stride
    return b.emit("slice", inner.operand(0), dim=at, start=first, end=last + 1, step=step * stride)


# **** joins and cuts ****


@rule("concat", table=SHAPE)
def concat_one(op: Op, _: Rewriter) -> Outcome:
    """A concat of one tensor -> that."""
    return op.operand(0) if len(op.operands) == 1 else None


@rule("concat", table=SHAPE)
def concat_nothing(op: Op, b: Rewriter) -> Outcome:
    """Tensors that have no elements leave a concat."""
    at = axis_of(op, op.operand(0))
    kept = [v for v in op.operands if tensor_of(v).dims[at] != 0]
    return b.like(op, kept) if 0 < len(kept) < len(op.operands) else None


@rule("concat", table=SHAPE)
def concat_of_concat(op: Op, b: Rewriter) -> Outcome:
    """A concat of concats along one dim -> one concat."""
    at, flat = axis_of(op, op.operand(0)), list[Value | None]()
    for value in op.operands:
        inner = producer(value, "concat")
        flatten = inner is not None and len(inner.result.uses) == 1 and axis_of(inner, inner.operand(0)) == at
        flat += inner.operands if inner is not None and flatten else [value]
    return b.like(op, flat) if len(flat) > len(op.operands) else None


@rule("split", table=SHAPE)
def split_one(op: Op, _: Rewriter) -> Outcome:
    """A split into one part -> x."""
    if len(op.results) != 1 or op.result.type != op.operand(0).type:
        return None
    return [op.operand(0)]


@rule("concat", table=SHAPE)
def concat_of_split(op: Op, _: Rewriter) -> Outcome:
    """The parts of a split joined in order -> x."""
    cut = producer(op.operand(0), "split")
    if cut is None or list(op.operands) != list(cut.results):
        return None
    if axis_of(op, op.operand(0)) != axis_of(cut, cut.operand(0)):
        return Miss("it joins along another dim", op.operand(0))
    return cut.operand(0) if cut.operand(0).type == op.result.type else None


# **** reductions and products over moves ****


@rule("sum", "mean", "amax", "amin", "any", "all", table=SHAPE)
def reduce_nothing(op: Op, _: Rewriter) -> Outcome:
    """A reduction over no dims -> x."""
    return op.operand(0) if op.attrs.get("dims", None) == () and op.operand(0).type == op.result.type else None


@rule("matmul", table=SHAPE)
def matmul_of_transposed_weight(op: Op, b: Rewriter) -> Outcome:
    """x @ w.T -> linear x, w, for a weight matrix."""
    turned = producer(op.operand(1), "transpose")
    if turned is None or tensor_of(turned.result).rank != 2 or tensor_of(op.operand(0)).rank < 2:
        return None
    if int_tuple(turned.attrs["perm"]) != (1, 0) or tensor_of(op.result).is_sharded:
        return None
    return b.emit("linear", op.operand(0), turned.operand(0))
