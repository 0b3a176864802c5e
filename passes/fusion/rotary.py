"""Rotary positions written out of slices, negations and products become the op ``rotary``."""

from __future__ import annotations

from dataclasses import dataclass

from maiac.ir import Op, Result, Value

from ..pattern import both_orders, producer, splat
from ..rewrite import Miss, Outcome, Rewriter, Rule, rule
from ..rules.shape import axis_of, int_dims, tensor_of

ROTARY: list[Rule] = []


@dataclass(frozen=True, slots=True)
class Run:
    """Elements ``start, start + step, ...`` of a value's last dim."""

    base: Value
    start: int
    step: int
    count: int


def run_of(value: Value) -> Run | None:
    """The elements that a value is of another's last dim; of itself where it is no part. None without a known size."""
    size = tensor_of(value).dims[-1] if tensor_of(value).rank else None
    if not isinstance(size, int):
        return None
    whole = Run(value, 0, 1, size)
    if not isinstance(value, Result):
        return whole
    op = value.op
    if op.name == "copy":
        return run_of(op.operand(0))
    if op.name == "reshape":
        part = op.operand(0)
        flat = isinstance(part, Result) and tensor_of(part).dims == (*tensor_of(value).dims, 1)
        return (_column(part) if flat and isinstance(part, Result) else None) or whole
    found = _cut(value)
    inner = None if found is None else run_of(op.operand(0))
    if found is None or inner is None:
        return whole
    start, step = found
    return Run(inner.base, inner.start + start * inner.step, inner.step * step, size)


def _cut(value: Result) -> tuple[int, int] | None:
    """Start and step of a cut along the last dim."""
    op = value.op
    if op.name not in ("slice", "split") or axis_of(op, op.operand(0)) != tensor_of(value).rank - 1:
        return None
    if op.name == "split":
        before = int_dims(op.attrs["parts"])[: value.index]
        return (sum(n for n in before if isinstance(n, int)), 1) if all(isinstance(n, int) for n in before) else None
    start, step, size = op.attrs.get("start", 0), op.attrs.get("step", 1), tensor_of(op.operand(0)).dims[-1]
    if not isinstance(start, int) or not isinstance(step, int) or step < 1 or not isinstance(size, int):
        return None
    return (start if start >= 0 else max(start + size, 0)), step


def _column(part: Result) -> Run | None:
    """One of the two columns [*b n 1] of a value whose last dim was parted into pairs."""
    found = _cut(part)
    parted = None if found is None else producer(part.op.operand(0), "reshape")
    if found is None or parted is None or tensor_of(part).dims[-1] != 1:
        return None
    pairs, source = tensor_of(parted.result).dims, tensor_of(parted.operand(0)).dims
    if pairs[-1] != 2 or pairs[:-2] != source[:-1]:
        return None
    inner, size = run_of(parted.operand(0)), pairs[-2]
    if inner is None or not isinstance(size, int):
        return None
    return Run(inner.base, inner.start + found[0] * inner.step, inner.step * 2, size)


# **** turned pairs ****


def _negated(value: Value) -> Value | None:
    op = producer(value, "neg", "mul", "reshape")
    if op is None or (op.name == "mul" and splat(op.operand(1)) != -1):
        return None
    if op.name == "reshape":
        return _negated(op.operand(0)) if _without_one(value) is not None else None
    return op.operand(0)


def _joined(value: Value) -> tuple[Value, Value, bool] | None:
    """Two values laid side by side along the last dim, or (True) one element of each in turn."""
    op = producer(value, "concat", "reshape", "copy")
    if op is None:
        return None
    if op.name == "copy":
        return _joined(op.operand(0))
    if op.name == "concat":
        last = tensor_of(value).rank - 1
        two = len(op.operands) == 2 and axis_of(op, op.operand(0)) == last
        return (op.operand(0), op.operand(1), False) if two else None
    pairs = producer(op.operand(0), "concat")
    if pairs is None or len(pairs.operands) != 2:
        return None
    dims = tensor_of(pairs.result).dims
    if axis_of(pairs, pairs.operand(0)) != len(dims) - 1 or dims[-1] != 2 or tensor_of(value).dims[:-1] != dims[:-2]:
        return None
    sides = [_without_one(v) or v for v in pairs.operands if v is not None]
    return (sides[0], sides[1], True) if all(tensor_of(v).dims[-1] != 2 for v in sides) else None


def _without_one(value: Value) -> Value | None:
    op = producer(value, "reshape")
    return op.operand(0) if op is not None and tensor_of(value).dims == (*tensor_of(op.operand(0)).dims, 1) else None


def turned(value: Value) -> tuple[Run, bool] | None:
    """What (-b, a) is made of, as the run that holds a and b, and whether they stand in turn."""
    sides = _joined(value)
    b = None if sides is None else _negated(sides[0])
    if sides is None or b is None:
        return None
    return _pairs(_side(sides[1], sides[2]), _side(b, sides[2]), sides[2])


def _side(value: Value, interleaved: bool) -> Run | None:
    """The run of one of two sides; a column of pairs may keep its dim of size 1."""
    column = _column(value) if interleaved and isinstance(value, Result) and tensor_of(value).dims[-1] == 1 else None
    return column or run_of(value)


def _pairs(a: Run | None, b: Run | None, interleaved: bool) -> tuple[Run, bool] | None:
    """The run that two halves are, or that two columns are."""
    if a is None or b is None or a.base is not b.base or a.count != b.count or a.step != b.step:
        return None
    if interleaved:
        fits = a.step == 2 and b.start == a.start + 1
    else:
        fits = a.step == 1 and b.start == a.start + a.count
    return (Run(a.base, a.start, 1, 2 * a.count), interleaved) if fits else None


# **** rules ****


def _bare(value: Value) -> Value:
    op = producer(value, "cast")
    return value if op is None else op.operand(0)


@rule("add", table=ROTARY)
def rotary_of_parts(op: Op, b: Rewriter) -> Outcome:
    """x * cos + (-b, a) * sin, for a and b the halves of x or its pairs -> rotary x, cos, sin."""
    for left, right in both_orders(op):
        first, second = producer(left, "mul"), producer(right, "mul")
        if first is None or second is None:
            return None
        for rotated, sin in both_orders(second):
            found = turned(_bare(rotated))
            if found is None:
                continue
            run, interleaved = found
            for x, cos in both_orders(first):
                if run in (run_of(x), run_of(_bare(x))) and x.type == rotated.type:
                    return _rotary(op, x, cos, sin, interleaved, b)
            return Miss("what is turned is not what is multiplied by the cosine", rotated)
    return None


def _rotary(op: Op, x: Value, cos: Value, sin: Value, interleaved: bool, b: Rewriter) -> Outcome:
    width, c, s = tensor_of(x).dims[-1], tensor_of(cos), tensor_of(sin)
    if not c.rank or not s.rank or c.dims[-1] != width or s.dims[-1] != width or not c.element.is_float:
        return Miss("cosine and sine are not as wide as what they turn", cos)
    if max(c.rank, s.rank) > tensor_of(x).rank or tensor_of(x).split[-1]:
        return Miss("the angles have more dims than what they turn, or it is split over ranks", cos)
    y = b.emit("rotary", x, cos, sin, interleaved=interleaved)
    return y if y.type == op.result.type else Miss(f"the op would give {y.type}", y)


@rule("concat", "reshape", table=ROTARY)
def rotary_of_halves(op: Op, b: Rewriter) -> Outcome:
    """(a * cos - b * sin, b * cos + a * sin) -> rotary x, (cos, cos), (sin, sin), for the halves or pairs a, b of x."""
    sides = _joined(op.result)
    if sides is None:
        return None
    low, high = producer(sides[0], "sub"), producer(sides[1], "add")
    if low is None or high is None:
        return None
    products = [producer(v, "mul") for v in (low.operand(0), low.operand(1))]
    if products[0] is None or products[1] is None:
        return None
    for a, cos in both_orders(products[0]):
        for second, sin in both_orders(products[1]):
            found = _pairs(_side(_bare(a), sides[2]), _side(_bare(second), sides[2]), sides[2])
            if found is None or not _is_sum(high, (second, cos), (a, sin)):
                continue
            run, interleaved = found
            x = _whole(b, run, a)
            if x is None or any(tensor_of(v).dims[-1:] != (run.count // 2,) for v in (cos, sin)):
                return Miss("cosine and sine are not as wide as half of what they turn", cos)
            if tensor_of(a).dtype != tensor_of(second).dtype:
                return Miss("the halves have different dtypes", second)
            wide = [_twice(b, angle, interleaved) for angle in (cos, sin)]
            return _rotary(op, x, wide[0], wide[1], interleaved, b)
    return None


def _is_sum(op: Op, *factors: tuple[Value, Value]) -> bool:
    """Whether an add is the sum of these products."""
    made = [producer(v, "mul") for v in op.operands]
    wanted = [{*pair} for pair in factors]
    have = [set(m.operands) for m in made if m is not None]
    return have in (wanted, wanted[::-1])


def _whole(b: Rewriter, run: Run, like: Value) -> Value | None:
    """The run as a value, in the dtype of its halves."""
    x = run.base
    if tensor_of(x).dims[-1] != run.count:
        x = b.emit("slice", x, dim=-1, start=run.start, end=run.start + run.count)
    dtype = tensor_of(like).element
    return x if tensor_of(x).element == dtype else b.emit("cast", x, to=dtype)


def _twice(b: Rewriter, angle: Value, interleaved: bool) -> Value:
    """Each angle twice: for both halves, or for both elements of a pair (whose dim of size 1 may be there already)."""
    if not interleaved:
        return b.emit("concat", angle, angle, dim=-1)
    dims = tensor_of(angle).dims
    if dims[-1] == 1:
        dims = dims[:-1]
    else:
        angle = b.emit("reshape", angle, shape=(*dims, 1))
    spread = b.emit("expand", angle, shape=(*dims, 2))
    return b.emit("reshape", spread, shape=(*dims[:-1], dims[-1] * 2))


@rule("reshape", table=ROTARY)
def rotary_of_complex(op: Op, b: Rewriter) -> Outcome:
    """Pairs of x as complex numbers, times e^(i angle) -> rotary x, cos, sin {interleaved}."""
    spread = producer(op.operand(0), "view_as_real")
    turned = None if spread is None else producer(spread.operand(0), "mul")
    if turned is None:
        return None
    for numbers, angle in both_orders(turned):
        made = producer(numbers, "view_as_complex")
        parted = None if made is None else producer(made.operand(0), "reshape")
        if parted is None:
            continue
        x = parted.operand(0)
        pairs, width = tensor_of(parted.result).dims, tensor_of(x).dims[-1]
        if pairs[:-2] != tensor_of(x).dims[:-1] or x.type != op.result.type or not tensor_of(angle).rank:
            return Miss("the pairs are no neighbours of the last dim", x)
        if tensor_of(angle).dims[-1] != pairs[-2] or not isinstance(width, int):
            return Miss("there is not one angle for each pair", angle)
        parts = b.emit("view_as_real", angle)
        cos, sin = (b.emit("slice", parts, dim=-1, start=i, end=i + 1) for i in (0, 1))
        return _rotary(op, x, _twice(b, cos, True), _twice(b, sin, True), True, b)
    return None


@rule("concat", table=ROTARY)
def rotary_of_first_part(op: Op, b: Rewriter) -> Outcome:
    """(rotary of the first elements of x, the others of x) -> rotary x, which leaves the others as they are."""
    if len(op.operands) != 2:
        return None
    inner = producer(op.operand(0), "rotary")
    if inner is None or axis_of(op, op.operand(0)) != tensor_of(op.result).rank - 1:
        return None
    first, rest = run_of(inner.operand(0)), run_of(op.operand(1))
    if first is None or rest is None or first.base is not rest.base:
        return Miss("what follows is no part of the same value", op.operand(1))
    width = tensor_of(first.base).dims[-1]
    if (first.start, first.step, rest.start, rest.step) != (0, 1, first.count, 1) or rest.start + rest.count != width:
        return Miss("the parts are not the first elements and all others", op.operand(1))
    if first.base.type != op.result.type:
        return Miss(f"the op would give {first.base.type}", first.base)
    return b.emit("rotary", first.base, *inner.operands[1:], interleaved=inner.attrs.get("interleaved", False))
