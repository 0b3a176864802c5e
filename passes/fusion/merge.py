"""Products that read one value become one product of their weights joined, whose result is cut into views."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from maiac.ir import Block, Builder, Module, Op, Quantized, State, TensorType, Value, Weight
from maiac.ir.kinds import is_elementwise

from ..pattern import only_user
from ..rewrite import Miss, explainable, note_miss
from ..rules.shape import tensor_of
from ..weights import CutData
from .derived import JoinedData, ZeroData, constant_weight, drop_read

explainable("merge_products", "Join products of one value with constant weights into one product.")

_PRODUCTS = ("linear", "conv")


@dataclass(frozen=True, slots=True)
class Group:
    """Products that are joined, in program order."""

    ops: tuple[Op, ...]

    @property
    def weights(self) -> list[Weight]:
        """Their weights."""
        return [w for op in self.ops if (w := constant_weight(op.operand(1))) is not None]


def separate_products(module: Module) -> int:
    """Cut a product whose parts meet in one elementwise op (``a * gelu(b)``) into products; how many were cut.

    The op is then the epilogue of the last of them, and nothing lies in memory but what it reads and gives.
    """
    found = [op for op in module.walk() if op.name == "linear" and _obstacle(op) is None]
    cut = [(op, user) for op in found if (user := only_user(op.result)) is not None and _parts_meet(op, user)]
    for op, user in cut:
        _separate(module, op, user)
    return len(cut)


def _parts_meet(op: Op, user: Op) -> bool:
    rank = tensor_of(op.result).rank
    dim = user.attrs.get("dim") if user.name == "split" else None
    if not isinstance(dim, int) or dim % rank != rank - 1 or len(user.results) != 2:
        return False
    first, second = (_meeting(part) for part in user.results)
    weight = constant_weight(op.operand(1))
    plain = weight is not None and isinstance(weight.type, TensorType) and not isinstance(weight.type.dtype, Quantized)
    return plain and first is not None and first is second


def _separate(module: Module, op: Op, user: Op) -> None:
    given = [None if v is None else constant_weight(v) for v in (*op.operands[1:], None)][:2]
    assert op.block is not None
    builder = Builder(module, op.block, user, op.loc)
    made: list[Value] = []
    at = 0
    for i, part in enumerate(user.results):
        size = tensor_of(part).dims[-1]
        assert isinstance(size, int)
        pieces = [None if w is None else _piece(module, w, i, at, at + size) for w in given]
        made.append(builder.emit("linear", op.operand(0), *pieces))
        at += size
    user.replace(made)
    op.erase()
    drop_read(module, given)


def _piece(module: Module, weight: Weight, index: int, start: int, stop: int) -> Weight:
    """Rows of a weight as one of its own: a view of the same memory."""
    type = weight.type
    assert isinstance(type, TensorType)
    data = None if weight.data is None else CutData(weight.data, 0, start, stop)
    return module.add_weight(f"{weight.name}.{index}", TensorType(type.dtype, (stop - start, *type.dims[1:])), data)


def merge_products(module: Module, widest: int) -> int:
    """Join products of one value; ``widest``: rows that a joined weight may have. How many products went."""
    merged = 0
    for block in _blocks(module):
        for group in _groups(block, widest):
            _merge(module, group)
            merged += len(group.ops)
    return merged


def _blocks(module: Module) -> Iterator[Block]:
    for function in module.functions.values():
        yield function.body
        for op in function.body.walk():
            yield from op.regions


def _groups(block: Block, widest: int) -> list[Group]:
    """What can be joined in a block."""
    found: dict[Any, list[Op]] = {}
    for op in block:
        if op.name not in _PRODUCTS:
            continue
        miss = _obstacle(op)
        if miss is None:
            found.setdefault(_key(op), []).append(op)
        elif sum(user.name == op.name for user in op.operand(0).uses) > 1:
            note_miss("merge_products", op, miss)
    groups: list[Group] = []
    for ops in found.values():
        groups += _within(_apart(ops), widest)
    return groups


def _apart(ops: Sequence[Op]) -> list[Op]:
    """Products whose results do not meet in one elementwise op: ``silu(gate) * up`` is an epilogue of the one product.

    Joined, it would be a loop of its own over halves of a larger result.
    """
    meet = [_meeting(op.result) for op in ops]
    for op, user in zip(ops, meet, strict=True):
        if user is not None and meet.count(user) > 1:
            note_miss("merge_products", op, Miss("its result meets another's: that is an epilogue", op.result))
    return [op for op, user in zip(ops, meet, strict=True) if user is None or meet.count(user) == 1]


def _meeting(value: Value) -> Op | None:
    """The elementwise op of several operands that a value comes to, through others of one operand."""
    user = only_user(value)
    while _is_unary(user):
        user = only_user(user.result)
    joins = user is not None and len(user.operands) > 1 and is_elementwise(user.name)
    return user if joins else None


def _within(ops: Sequence[Op], widest: int) -> Iterator[Group]:
    """Groups of at most so many rows, in order."""
    run: list[Op] = []
    for op in ops:
        if run and sum(map(_rows, run)) + _rows(op) > widest:
            miss = Miss(f"joined with those before, its weight would have more than {widest} rows", op.operand(1))
            note_miss("merge_products", op, miss)
            yield from _fitting(run)
            run = []
        run.append(op)
    yield from _fitting(run)


def _fitting(ops: Sequence[Op]) -> Iterator[Group]:
    if len(ops) < 2:
        return
    if ops[0].name == "conv" and not _one_activation(ops):
        note_miss("merge_products", ops[0], Miss("what follows the convolutions differs", ops[0].operand(0)))
        return
    yield Group(tuple(ops))


def _rows(op: Op) -> int:
    rows = tensor_of(op.operand(1)).dims[0]
    assert isinstance(rows, int)
    return rows


def _obstacle(op: Op) -> Miss | None:
    """Why a product cannot be joined with others."""
    weight, bias = constant_weight(op.operand(1)), op.operands[2] if len(op.operands) > 2 else None
    if weight is None or (bias is not None and constant_weight(bias) is None):
        return Miss("its weight is not constant", op.operand(1))
    type = weight.type
    if not isinstance(type, TensorType) or type.is_sharded or not type.is_static:
        return Miss("a mesh axis splits its weight", weight)
    if isinstance(type.dtype, Quantized) and (type.dtype.per != "channel" or type.dtype.at != (0,)):
        return Miss(f"weights of {type.dtype} are not joined", weight)
    if op.name == "conv" and op.attrs.get("groups", 1) != 1:
        return Miss("a convolution in groups reads other channels for each", weight)
    if len(weight.uses) > 1 or isinstance(op.operand(0), (Weight, State)):
        return Miss("others read its weight, too", weight)
    return None


def _key(op: Op) -> Any:
    """Products of equal keys are joined."""
    weight = constant_weight(op.operand(1))
    assert weight is not None and isinstance(weight.type, TensorType)
    attrs = tuple(sorted((k, repr(v)) for k, v in op.attrs.items()))
    return op.name, op.operand(0), weight.type.dtype, weight.type.dims[1:], attrs, weight.data is None


def _one_activation(ops: Sequence[Op]) -> bool:
    """Whether one elementwise op follows each, so that it can follow them joined."""
    users = [only_user(op.result) for op in ops]
    return all(_is_unary(u) and _same(u, users[0]) for u in users)


def _is_unary(op: Op | None) -> TypeGuard[Op]:
    return op is not None and len(op.operands) == 1 and is_elementwise(op.name)


def _same(a: Op | None, b: Op | None) -> bool:
    return a is not None and b is not None and (a.name, a.attrs) == (b.name, b.attrs)


# **** joining ****


def _merge(module: Module, group: Group) -> None:
    first = group.ops[0]
    assert first.block is not None
    weights, biases = group.weights, [op.operands[2] if len(op.operands) > 2 else None for op in group.ops]
    sizes = tuple(_rows(op) for op in group.ops)
    weight = _joined_weight(module, weights, sizes)
    bias = _joined_bias(module, weights, biases, sizes)
    activation = only_user(first.result) if first.name == "conv" else None
    builder = Builder(module, first.block, first, first.loc)
    whole = builder.emit_op(first.name, (first.operand(0), weight, bias), first.attrs).result
    if activation is not None:
        whole = builder.emit_op(activation.name, (whole,), activation.attrs).result
    dim = 1 if first.name == "conv" else tensor_of(whole).rank - 1
    parts = builder.emit_op("split", (whole,), {"dim": dim, "parts": sizes}).results
    for op, part in zip(group.ops, parts, strict=True):
        user = only_user(op.result) if activation is not None else None
        if user is not None:
            user.replace([part])
            op.erase()
        else:
            op.replace([part])
    drop_read(module, [*weights, *(constant_weight(v) for v in biases)])


def _joined_weight(module: Module, weights: Sequence[Weight], sizes: tuple[int, ...]) -> Weight:
    first = weights[0]
    assert isinstance(first.type, TensorType)
    data = [w.data for w in weights if w.data is not None]
    made = JoinedData(tuple(data), sizes) if len(data) == len(weights) else None
    type = TensorType(first.type.dtype, (sum(sizes), *first.type.dims[1:]))
    return module.add_weight(joined_name([w.name for w in weights]), type, made, **first.attrs)


def _joined_bias(
    module: Module, weights: Sequence[Weight], biases: Sequence[Value | None], sizes: tuple[int, ...]
) -> Weight | None:
    given = [constant_weight(v) for v in biases]
    some = next((w for w in given if w is not None), None)
    if some is None:
        return None
    assert isinstance(some.type, TensorType)
    data = [
        None if some.data is None else ZeroData((n,), some.data) if w is None else w.data
        for w, n in zip(given, sizes, strict=True)
    ]
    whole = [d for d in data if d is not None]
    made = JoinedData(tuple(whole), sizes) if len(whole) == len(data) else None
    names = [
        f"{v.name.removesuffix('.weight')}.bias" if w is None else w.name for w, v in zip(given, weights, strict=True)
    ]
    return module.add_weight(joined_name(names), TensorType(some.type.dtype, (sum(sizes),)), made)


def joined_name(names: Sequence[str]) -> str:
    """``attn.q.weight``, ``attn.k.weight`` -> ``attn.q_k.weight``."""
    parts = [n.split(".") for n in names]
    if len({len(p) for p in parts}) > 1:
        return f"{names[0]}.joined"
    out: list[str] = []
    for each in zip(*parts, strict=True):
        out.append(each[0] if len(set(each)) == 1 else "_".join(dict.fromkeys(each)))
    return ".".join(out)
