"""Integers that are computed as tensors but known as dims: shapes that ONNX graphs assemble at run time."""

from __future__ import annotations

from collections.abc import Callable

from maiac.ir import Dim, DimLike, Op, Result, TensorType, Value
from maiac.ir.dims import floordiv, maximum, minimum, mod, product, symbols_of

from ..pattern import integers, splat
from ..refine import single_symbol
from ..rewrite import Miss, Outcome, Rewriter, Rule, rule

DIMS: list[Rule] = []
DEPTH = 64  # how far back a shape computation is followed

_ARITHMETIC: dict[str, Callable[[DimLike, DimLike], DimLike]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "floor_div": floordiv,
    "remainder": mod,
    "maximum": maximum,
    "minimum": minimum,
}


def known_dims(value: Value | None, depth: int = DEPTH) -> tuple[DimLike, ...] | None:
    """The elements of an integer tensor of rank 0 or 1 as dims, where each is known before the run."""
    if not isinstance(value, Result) or not isinstance(value.type, TensorType) or not depth:
        return None
    type = value.type
    count = type.elements()
    if type.rank > 1 or not type.element.is_integer or not isinstance(count, int) or count > 64:
        return None
    written = integers(value)
    if written is not None:
        return written
    found = _followed(value.op, count, depth - 1)
    return found if found is not None and len(found) == count else None


def _followed(op: Op, count: int, depth: int) -> tuple[DimLike, ...] | None:
    """The elements that an op makes, from those of its operands."""
    name = op.name
    if name == "dim_tensor":
        return (op.attrs["value"],)  # type: ignore[return-value]
    if name == "full":
        number = splat(op.result)
        return None if number is None else (int(number),) * count
    if name in _ARITHMETIC:
        x, y = (known_dims(v, depth) for v in op.operands)
        return None if x is None or y is None else _elementwise(_ARITHMETIC[name], x, y)
    if name == "concat":
        parts = [known_dims(v, depth) for v in op.operands]
        return None if None in parts else tuple(d for p in parts for d in p or ())
    if name not in ("reshape", "cast", "expand", "slice", "gather", "copy"):
        return None
    x = known_dims(op.operands[0], depth)
    if x is None or name in ("reshape", "cast", "copy"):
        return x
    if name == "expand":
        return x * count if len(x) == 1 else x
    if name == "gather":
        at = known_dims(op.operands[1], depth)
        picked = [x[i] if isinstance(i, int) and -len(x) <= i < len(x) else None for i in at or ()]
        return None if at is None or None in picked else tuple(d for d in picked if d is not None)
    start, end, step = (op.attrs.get(k, d) for k, d in (("start", 0), ("end", None), ("step", 1)))
    if any(isinstance(n, Dim) for n in (start, end, step)):
        return None
    return x[slice(start, end, step)]  # type: ignore[misc]


def _elementwise(
    fn: Callable[[DimLike, DimLike], DimLike], x: tuple[DimLike, ...], y: tuple[DimLike, ...]
) -> tuple[DimLike, ...] | None:
    count = max(len(x), len(y)) if x and y else 0
    if len(x) not in (1, count) or len(y) not in (1, count):
        return None
    if fn in (_ARITHMETIC["floor_div"], _ARITHMETIC["remainder"]) and any(b == 0 for b in y):
        return None
    return tuple(fn(x[i % len(x)], y[i % len(y)]) for i in range(count))


@rule("bind", table=DIMS)
def bind_known(op: Op, b: Rewriter) -> Outcome:
    """bind of a tensor whose elements are known -> those in place of the symbols."""
    found = known_dims(op.operands[0])
    if found is None:
        return Miss("its elements are known only at run time", op.operands[0])
    names = [single_symbol(d) for d in op.attrs["to"]]  # type: ignore[union-attr]
    if len(names) != len(found) or None in names:
        return Miss("it binds expressions", op.operands[0])
    if any(name in symbols_of(dim) for name in names if name for dim in found):
        return Miss("the elements mention the symbols", op.operands[0])
    for name, dim in zip(names, found, strict=True):
        assert name is not None
        b.solve(name, dim)
    return []


@rule("reshape_to", table=DIMS)
def reshape_to_known(op: Op, b: Rewriter) -> Outcome:
    """reshape_to of a shape whose elements are known -> reshape."""
    x, shape = op.operand(0).type, known_dims(op.operands[1])
    assert isinstance(x, TensorType)
    if shape is None:
        return Miss("the shape is known only at run time", op.operands[1])
    dims = [x.dims[i] if d == 0 and not op.attrs.get("allow_zero", False) else d for i, d in enumerate(shape)]
    if dims.count(-1) == 1:
        at = dims.index(-1)
        rest = product([*dims[:at], *dims[at + 1 :]])
        if rest == 0:
            return Miss("-1 stands beside a dim of 0", op.operands[1])
        dims[at] = floordiv(x.elements(), rest)
    return b.emit("reshape", op.operand(0), shape=tuple(dims))


@rule("cast", "reshape", "concat", "gather", "slice", "expand", *_ARITHMETIC, table=DIMS)
def one_known_dim(op: Op, b: Rewriter) -> Outcome:
    """An integer of rank 0 that is computed from dims -> dim_tensor."""
    type = op.result.type
    if not isinstance(type, TensorType) or type.rank or not type.element.is_integer:
        return None
    found = known_dims(op.result)
    if found is None or not isinstance(found[0], Dim):
        return None
    return b.emit("dim_tensor", value=found[0], dtype=type.element)


@rule("dim_tensor", table=DIMS)
def dim_tensor_of_number(op: Op, b: Rewriter) -> Outcome:
    """dim_tensor of a number -> constant."""
    value, type = op.attrs["value"], op.result.type
    assert isinstance(type, TensorType)
    return b.constant(value, type.element) if isinstance(value, int) else None
