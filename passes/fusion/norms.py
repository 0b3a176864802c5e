"""Normalisations written out of primitives become the op that they are.

``rms_norm``: x times one over the root of the mean of its squares, in whichever spelling; where x was centered before,
it is a ``layer_norm``. Weights and biases after it join it. Casts around stay: they are where the source rounds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from maiac.ir import DType, Op, Result, TensorType, Value
from maiac.ir.dims import product

from ..pattern import both_orders, only_user, producer, splat
from ..rewrite import Miss, Outcome, Rewriter, Rule, rule
from ..rules.shape import int_tuple, tensor_of

NORMS: list[Rule] = []


@dataclass(frozen=True, slots=True)
class Deviation:
    """mean(x * x) + eps over one dim; ``centered``: of x less its mean, which is its variance."""

    x: Value
    dim: int
    eps: float
    centered: bool = False


# **** matching ****


def _squared(value: Value) -> Value | None:
    """x of x * x, in the spellings of exporters."""
    op = producer(value, "square", "pow", "mul")
    if op is None:
        return None
    x = op.operand(0)
    if op.name == "square":
        return x
    if op.name == "mul":
        return x if op.operand(1) is x else None
    return x if splat(op.operand(1)) == 2 else None


def _mean(value: Value) -> tuple[Value, int] | None:
    """x and the dim of its mean over one dim, kept with size 1: ``mean``, or a sum over the number of elements."""
    op = producer(value, "mean", "reshape", "div", "mul")
    if op is None:
        return None
    if op.name == "reshape":
        return _kept(op)
    if op.name == "mean":
        return _over(op) if op.attrs.get("keepdim", False) else None
    total, count = producer(op.operand(0), "sum"), splat(op.operand(1))
    found = None if total is None or not total.attrs.get("keepdim", False) else _over(total)
    if found is None or count is None or isinstance(count, bool):
        return None
    size = tensor_of(found[0]).dims[found[1]]
    right = isinstance(size, int) and (count == size if op.name == "div" else abs(count * size - 1) < 1e-6)
    return found if right else None


def _over(op: Op) -> tuple[Value, int] | None:
    dims, x = op.attrs.get("dims"), op.operand(0)
    if dims is None or len(int_tuple(dims)) != 1:
        return None
    return x, int_tuple(dims)[0] % tensor_of(x).rank


def _kept(op: Op) -> tuple[Value, int] | None:
    """A mean without its dim, put back by a reshape."""
    inner = producer(op.operand(0), "mean")
    found = None if inner is None or inner.attrs.get("keepdim", False) else _over(inner)
    if found is None:
        return None
    dims = [*tensor_of(found[0]).dims]
    dims[found[1]] = 1
    return found if tensor_of(op.result).dims == tuple(dims) else None


def _moment(value: Value) -> Deviation | None:
    """mean(x * x) + eps."""
    op, eps = producer(value, "add"), 0.0
    if op is not None:
        for inner, small in both_orders(op):
            number = splat(small)
            if number is not None:
                value, eps = inner, float(number)
                break
        else:
            return None
    if not 0 <= eps < 1:
        return None
    spread = producer(value, "var")
    if spread is not None and spread.attrs.get("keepdim", False) and spread.attrs.get("correction", 1) == 0:
        over = _over(spread)
        return None if over is None else Deviation(*over, eps, True)
    mean = _mean(value)
    x = None if mean is None else _squared(mean[0])
    return None if mean is None or x is None else Deviation(x, mean[1], eps)


def _inverse_root(value: Value) -> Deviation | None:
    """One over the root of mean(x * x) + eps."""
    op = producer(value, "rsqrt", "reciprocal", "pow", "div")
    if op is None:
        return None
    if op.name == "rsqrt":
        return _moment(op.operand(0))
    if op.name == "reciprocal":
        return _root(op.operand(0))
    if op.name == "pow":
        return _moment(op.operand(0)) if splat(op.operand(1)) == -0.5 else None
    return _root(op.operand(1)) if splat(op.operand(0)) == 1 else None


def _root(value: Value) -> Deviation | None:
    op = producer(value, "sqrt", "pow")
    if op is None or (op.name == "pow" and splat(op.operand(1)) != 0.5):
        return None
    return _moment(op.operand(0))


def _normalized(op: Op) -> tuple[Value, Deviation] | None:
    """What ``op`` normalises, as it is read there, and by what."""
    if op.name == "div":
        found = _root(op.operand(1))
        return None if found is None else (op.operand(0), found)
    for x, factor in both_orders(op):
        found = _inverse_root(factor)
        if found is not None:
            return x, found
    return None


# **** rms_norm and layer_norm ****


@rule("mul", "div", table=NORMS)
def rms_norm_of_parts(op: Op, b: Rewriter) -> Outcome:
    """x / sqrt(mean(x * x) + eps) -> rms_norm x, or layer_norm of what was centered to x."""
    found = _normalized(op)
    if found is None:
        return None
    x, by = found
    if by.centered:
        source = _centered(x, by.dim)
        if source is not by.x and not (by.x is x and isinstance(source, Value)):
            return Miss("it divides by the deviation of another value, or of one whose mean stays in it", by.x)
        by = Deviation(x, by.dim, by.eps)
    widened = producer(by.x, "cast")
    if by.x is not x and not (widened is not None and widened.operand(0) is x):
        return Miss("it divides by the root mean square of another value", by.x)
    type = tensor_of(by.x)
    if not isinstance(type.dtype, DType) or type != op.result.type:
        return Miss(f"the result is {op.result.type}: a cast or broadcast is hidden in it", by.x)
    centered = _centered(by.x, by.dim)
    name, source = ("layer_norm", centered) if isinstance(centered, Value) else ("rms_norm", by.x)
    return along_last(b, source, by.dim, lambda y: b.emit(name, y, eps=by.eps))


def along_last(b: Rewriter, x: Value, dim: int, make: Callable[[Value], Result]) -> Result:
    """An op over the last dim, applied over dim ``dim``: between transposes where that is another one."""
    rank = tensor_of(x).rank
    if dim == rank - 1:
        return make(x)
    there = (*range(dim), *range(dim + 1, rank), dim)
    y = make(b.emit("transpose", x, perm=there))
    return b.emit("transpose", y, perm=tuple(there.index(d) for d in range(rank)))


def _centered(x: Value, dim: int) -> Value | Miss | None:
    """The value whose mean over a dim was taken away to make x."""
    op = producer(x, "sub")
    if op is None:
        return None
    source, mean = op.operand(0), _mean(op.operand(1))
    if mean is None or mean[0] is not source:
        return Miss("what is taken away is not the mean of the same value", op.operand(1))
    if mean[1] != dim:
        return Miss("the mean is taken over another dim than the squares", op.operand(1))
    return source if tensor_of(source) == tensor_of(x) else Miss("x is broadcast or cast when it is centered", source)


@rule("rms_norm", table=NORMS)
def layer_norm_of_centered(op: Op, b: Rewriter) -> Outcome:
    """rms_norm(x - mean(x)) -> layer_norm x."""
    x, g = op.operand(0), op.operands[1] if len(op.operands) > 1 else None
    source = _centered(x, tensor_of(x).rank - 1)
    return b.emit("layer_norm", source, g, eps=op.attrs.get("eps", 1e-6)) if isinstance(source, Value) else source


# **** weights and biases ****


def _norm_under(value: Value, *names: str) -> tuple[Op, Op | None] | None:
    """A norm that makes a value, with the transpose between."""
    turned = producer(value, "transpose")
    norm = producer(value if turned is None else turned.operand(0), *names)
    return None if norm is None else (norm, turned)


def _row(value: Value, like: TensorType, dim: int, b: Rewriter) -> Value | None:
    """A value that is one number for each index of a dim of ``like``, as a row of that dim; None where it is not."""
    while (spread := producer(value, "expand")) is not None:
        value = spread.operand(0)
    type = tensor_of(value)
    if type.is_sharded or type.dtype != like.dtype or type.rank > like.rank or not type.rank:
        return None
    size = like.dims[dim]
    at = dim - like.rank
    others = [d for i, d in enumerate(type.dims, -type.rank) if i != at]
    if type.rank < -at or type.dims[at] != size or any(d != 1 for d in others):
        return None
    return value if type.rank == 1 else b.emit("reshape", value, shape=(size,))


@rule("mul", table=NORMS)
def norm_weight(op: Op, b: Rewriter) -> Outcome:
    """norm(x) * g -> norm x, g, for a row g."""
    for value, factor in both_orders(op):
        found = _norm_under(value, "rms_norm", "layer_norm")
        if found is None or value.type != op.result.type:
            continue
        norm, turned = found
        type, dims = tensor_of(value), norm.attrs.get("dims", 1)
        if any(v is not None for v in norm.operands[1:]) or dims != 1:
            return Miss("the norm has a weight already", value)
        dim = type.rank - 1 if turned is None else int_tuple(turned.attrs["perm"]).index(type.rank - 1)
        if only_user(value) is not op or (turned is not None and only_user(norm.result) is not turned):
            return Miss("the norm without weight is read elsewhere, too", value)
        g = _row(factor, type, dim, b)
        if g is None:
            return Miss(f"the factor is not a row of {type.dtype} of the normalised dim", factor)
        y = b.emit_op(norm.name, (norm.operand(0), g), norm.attrs).result
        return y if turned is None else b.emit("transpose", y, perm=turned.attrs["perm"])
    return None


@rule("add", table=NORMS)
def norm_bias(op: Op, b: Rewriter) -> Outcome:
    """layer_norm(x, g) + b -> layer_norm x, g, b, for a row b."""
    for value, shift in both_orders(op):
        found = _norm_under(value, "layer_norm")
        if found is None or value.type != op.result.type:
            continue
        norm, turned = found
        type = tensor_of(value)
        if len(norm.operands) > 2 and norm.operands[2] is not None:
            return Miss("the norm has a bias already", value)
        dim = type.rank - 1 if turned is None else int_tuple(turned.attrs["perm"]).index(type.rank - 1)
        if norm.attrs.get("dims", 1) != 1 or only_user(value) is not op:
            return Miss("the norm without bias is read elsewhere, too", value)
        row = _row(shift, type, dim, b)
        if row is None:
            return None  # a residual
        g = norm.operands[1] if len(norm.operands) > 1 else None
        y = b.emit_op("layer_norm", (norm.operand(0), g, row), norm.attrs).result
        return y if turned is None else b.emit("transpose", y, perm=turned.attrs["perm"])
    return None


# **** group_norm ****


@rule("reshape", table=NORMS)
def group_norm_of_groups(op: Op, b: Rewriter) -> Outcome:
    """Channels parted into groups, each normalised whole, and joined again -> group_norm."""
    norm = producer(op.operand(0), "group_norm", "layer_norm", "instance_norm")
    parted = None if norm is None else producer(norm.operand(0), "reshape")
    if norm is None or parted is None or norm.name == "instance_norm":
        return None
    x = parted.operand(0)
    type, inside = tensor_of(x), tensor_of(parted.result)
    if type != op.result.type or type.rank < 3 or type.is_sharded:
        return None
    if norm.name == "group_norm":
        groups = inside.dims[1]
        fits = inside.rank == 3 and inside.dims[0] == type.dims[0] and norm.attrs["groups"] == groups
    else:
        groups = inside.dims[1] if inside.rank > 2 else 0
        fits = inside.rank > 2 and inside.dims[0] == type.dims[0] and norm.attrs.get("dims", 1) == inside.rank - 2
    channels = type.dims[1]
    if not fits or not isinstance(groups, int) or not isinstance(channels, int) or channels % max(groups, 1):
        return None
    if product(inside.dims[2:]) != product((channels // groups, *type.dims[2:])):
        return Miss("the groups are no runs of channels", parted.result)
    if any(v is not None for v in norm.operands[1:]) and not _ones_and_zeros(norm):
        return Miss("the norm of the groups has weights of its own", norm.result)
    eps = norm.attrs.get("eps", 1e-5)
    return b.emit("group_norm", x, groups=groups, eps=eps)


def _ones_and_zeros(norm: Op) -> bool:
    g, shift = (*norm.operands[1:], None, None)[:2]
    return (g is None or splat(g) == 1) and (shift is None or splat(shift) == 0)


@rule("mul", "add", table=NORMS)
def group_norm_affine(op: Op, b: Rewriter) -> Outcome:
    """group_norm(x) * g + b -> group_norm x, g, b, for a number g and b for each channel."""
    for value, other in both_orders(op):
        norm = producer(value, "group_norm")
        if norm is None or value.type != op.result.type:
            continue
        g, shift = (*norm.operands[1:], None, None)[:2]
        if (op.name == "mul" and (g is not None or shift is not None)) or shift is not None:
            return Miss("the norm has weights already", value)
        row = _row(other, tensor_of(value), 1, b)
        if row is None:
            return None  # a residual, or scales that come from the input
        if only_user(value) is not op:
            return Miss("the norm without weights is read elsewhere, too", value)
        pair = (row, None) if op.name == "mul" else (g, row)
        return b.emit_op("group_norm", (norm.operand(0), *pair), norm.attrs).result
    return None
