"""What is known at compile time of tensors of positions: numbers that grow evenly along dims, and tests of them.

Exporters compute masks at run time where a length is dynamic: ranges, shifted, compared, indexed. Read symbolically,
such a tensor is ``c + sum of a_d * (index along dim d)``, and a comparison of two of them says where a mask is true.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from maiac.ir import DimLike, DType, Module, Op, Result, State, TensorType, Value, Weight
from maiac.ir.dims import Dim, bounds

from ..pattern import producer
from ..rules.shape import axis_of, int_tuple, tensor_of

READ = 1 << 24  # elements up to which constants are looked into
_EXACT = (DType.I64, DType.I32, DType.F64, DType.F32)
_COUNTING = ("iota", "add", "sub", "mul", "neg", "cumsum")


@dataclass(frozen=True, slots=True)
class Affine:
    """``const + sum(coefs[d] * index along d)``; ``dims`` are the sizes."""

    const: DimLike
    coefs: tuple[int, ...]
    dims: tuple[DimLike, ...]

    @property
    def number(self) -> int | None:
        """The number that all elements are; None where they differ or a symbol is in it."""
        return self.const if isinstance(self.const, int) and not any(self.coefs) else None

    def plus(self, other: Affine, sign: int = 1) -> Affine | None:
        """The sum, broadcast."""
        rank = max(len(self.dims), len(other.dims))
        a, b = (_padded(x, rank) for x in (self, other))
        dims: list[DimLike] = []
        for m, n in zip(a.dims, b.dims, strict=True):
            if m != n and 1 not in (m, n):
                return None
            dims.append(n if m == 1 else m)
        coefs = tuple(p + sign * q for p, q in zip(a.coefs, b.coefs, strict=True))
        return Affine(a.const + b.const * sign, coefs, tuple(dims))

    def times(self, n: int) -> Affine:
        """Every element times a number."""
        return Affine(self.const * n, tuple(c * n for c in self.coefs), self.dims)

    def greatest(self, module: Module) -> float:
        """No element is greater than this."""
        total = bounds(self.const, module.symbols)[1]
        for coef, dim in zip(self.coefs, self.dims, strict=True):
            if coef > 0:
                total += coef * (bounds(dim, module.symbols)[1] - 1)
        return total


def _padded(x: Affine, rank: int) -> Affine:
    extra = rank - len(x.dims)
    return Affine(x.const, (*(0,) * extra, *x.coefs), (*(1,) * extra, *x.dims))


def same(value: int, dims: tuple[DimLike, ...]) -> Affine:
    """One number everywhere."""
    return Affine(value, (0,) * len(dims), dims)


def contents(value: Value, most: int = READ) -> Any:
    """The tensor that a constant of at most so many elements holds; None otherwise."""
    if isinstance(value, Weight) and not isinstance(value, State) and value.data is not None:
        type = value.type
        if isinstance(type, TensorType) and type.is_static and not type.is_sharded:
            count = type.elements()
            tensor = value.data.load() if isinstance(count, int) and count <= most else None
            return None if tensor is None or hasattr(tensor, "codes") or tensor.is_meta else tensor
        return None
    op = producer(value, "constant")
    if op is None:
        return None
    from maiac.ir import get_op

    return get_op("constant").reference(**op.attrs)


# **** numbers ****


class Positions:
    """Reads values of one module; what it found is remembered as long as it lives."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self._known: dict[Value, Affine | None] = {}

    def of(self, value: Value | None) -> Affine | None:
        """The value as numbers that grow evenly; None where that is not known."""
        if value is None or not isinstance(value.type, TensorType):
            return None
        if value not in self._known:
            self._known[value] = None
            self._known[value] = self._read(value)
        return self._known[value]

    def _read(self, value: Value) -> Affine | None:
        if not isinstance(value, Result):
            return self._fit(value)
        handler, element = _HANDLERS.get(value.op.name), tensor_of(value).element
        exact = element in _EXACT or value.op.name not in _COUNTING  # no number wraps or is rounded on the way
        return handler(self, value.op) if handler is not None and exact else None

    def _fit(self, value: Value) -> Affine | None:
        """The numbers of a constant."""
        type = tensor_of(value)
        tensor = contents(value, 1 << 20) if type.element.is_integer or type.element.is_float else None
        if tensor is None or not tensor.numel():
            return None
        import torch

        wide = tensor.double()
        if not bool(torch.isfinite(wide).all()):
            return None
        first = wide[(0,) * wide.ndim]
        found = first.expand(wide.shape)
        coefs: list[int] = []
        for d, size in enumerate(wide.shape):
            step = wide[tuple(int(i == d) for i in range(wide.ndim))] - first if size > 1 else first * 0
            ramp = torch.arange(size, dtype=wide.dtype).reshape([-1 if i == d else 1 for i in range(wide.ndim)])
            found = found + step * ramp
            if not float(step).is_integer():
                return None
            coefs.append(int(step))
        even = torch.equal(found, wide) and float(first).is_integer()
        return Affine(int(first), tuple(coefs), tuple(tensor_of(value).dims)) if even else None

    def moved(self, x: Affine, op: Op) -> Affine | None:
        """The numbers after a view of them."""
        dims = tensor_of(op.result).dims
        if not any(x.coefs):
            return replace(x, coefs=(0,) * len(dims), dims=dims)
        return _VIEWS[op.name](x, op, dims)


def _reshaped(x: Affine, op: Op, dims: tuple[DimLike, ...]) -> Affine | None:
    have = [(n, c) for n, c in zip(x.dims, x.coefs, strict=True) if n != 1]
    if [n for n, _ in have] != [n for n in dims if n != 1]:
        return None
    left = iter(have)
    return Affine(x.const, tuple(0 if n == 1 else next(left)[1] for n in dims), dims)


def _transposed(x: Affine, op: Op, dims: tuple[DimLike, ...]) -> Affine | None:
    return Affine(x.const, tuple(x.coefs[p] for p in int_tuple(op.attrs["perm"])), dims)


def _expanded(x: Affine, op: Op, dims: tuple[DimLike, ...]) -> Affine | None:
    wide = _padded(x, len(dims))
    return Affine(x.const, tuple(0 if n == 1 else c for n, c in zip(wide.dims, wide.coefs, strict=True)), dims)


def _sliced(x: Affine, op: Op, dims: tuple[DimLike, ...]) -> Affine | None:
    at, start, step = axis_of(op, op.operand(0)), op.attrs.get("start", 0), op.attrs.get("step", 1)
    if not isinstance(step, int) or step < 1 or not isinstance(start, int):
        return None
    size = x.dims[at]
    if start < 0 and not isinstance(size, int):
        return None
    first = start if start >= 0 else max(start + size, 0) if isinstance(size, int) else 0
    coefs = tuple(c * step if d == at else c for d, c in enumerate(x.coefs))
    return Affine(x.const + first * x.coefs[at], coefs, dims)


def _same(x: Affine, op: Op, dims: tuple[DimLike, ...]) -> Affine | None:
    return x


def _refined(x: Affine, op: Op, dims: tuple[DimLike, ...]) -> Affine | None:
    return replace(x, dims=dims) if len(dims) == len(x.dims) else None


_VIEWS: dict[str, Callable[[Affine, Op, tuple[DimLike, ...]], Affine | None]] = {
    "reshape": _reshaped,
    "transpose": _transposed,
    "expand": _expanded,
    "slice": _sliced,
    "copy": _same,
    "refine": _refined,
}
VIEWS = frozenset(_VIEWS)


def _view(p: Positions, op: Op) -> Affine | None:
    x = p.of(op.operand(0))
    return None if x is None else p.moved(x, op)


def _iota(p: Positions, op: Op) -> Affine | None:
    start, step = op.attrs.get("start", 0), op.attrs.get("step", 1)
    if not isinstance(start, (int, Dim)) or not isinstance(step, int):
        return None
    return Affine(start, (step,), tensor_of(op.result).dims)


def _constant(p: Positions, op: Op) -> Affine | None:
    number, dims = op.attrs["value"], tensor_of(op.result).dims
    if isinstance(number, tuple):
        return p._fit(op.result)  # pyright: ignore[reportPrivateUsage]
    return same(int(number), dims) if isinstance(number, (int, float)) and float(number).is_integer() else None


def _dim_tensor(p: Positions, op: Op) -> Affine | None:
    size = op.attrs["value"]
    return Affine(size, (), ()) if isinstance(size, (int, Dim)) else None


def _cast(p: Positions, op: Op) -> Affine | None:
    to = op.attrs["to"]
    x = p.of(op.operand(0))
    return x if x is not None and to is not None and tensor_of(op.result).element.bits >= 32 else None


def _add(p: Positions, op: Op) -> Affine | None:
    x, y = p.of(op.operand(0)), p.of(op.operand(1))
    return None if x is None or y is None else x.plus(y, 1 if op.name == "add" else -1)


def _mul(p: Positions, op: Op) -> Affine | None:
    x, y = p.of(op.operand(0)), p.of(op.operand(1))
    if x is None or y is None:
        return None
    by, other = (y.number, x) if y.number is not None else (x.number, y)
    spread = None if by is None else other.times(by).plus(same(0, tensor_of(op.result).dims))
    return spread


def _neg(p: Positions, op: Op) -> Affine | None:
    x = p.of(op.operand(0))
    return None if x is None else x.times(-1)


def _cumsum(p: Positions, op: Op) -> Affine | None:
    x = p.of(op.operand(0))
    number, at = None if x is None else x.number, axis_of(op, op.operand(0))
    if x is None or number is None or "exclusive" in op.attrs or "reverse" in op.attrs:
        return None
    return Affine(number, tuple(number if d == at else 0 for d in range(len(x.dims))), x.dims)


def _concat(p: Positions, op: Op) -> Affine | None:
    """Pieces that go on evenly: [p[0] - 1] and p."""
    at = axis_of(op, op.operand(0))
    pieces = [p.of(v) for v in op.operands]
    whole: Affine | None = None
    offsets: list[DimLike] = []
    offset: DimLike = 0
    for x in pieces:
        if x is None:
            return None
        offsets.append(offset)
        if x.dims[at] != 1 and whole is None:
            whole = Affine(x.const - offset * x.coefs[at], x.coefs, tensor_of(op.result).dims)
        offset = x.dims[at] + offset
    if whole is None:
        return None
    for x, start in zip(pieces, offsets, strict=True):
        assert x is not None
        alike = all(a == b for d, (a, b) in enumerate(zip(x.coefs, whole.coefs, strict=True)) if d != at)
        slope = x.dims[at] == 1 or x.coefs[at] == whole.coefs[at]
        if not alike or not slope or x.const != whole.const + start * whole.coefs[at]:
            return None
    return whole


def composed(x: Affine, indices: Sequence[Affine | None], dims: Sequence[int]) -> Affine | None:
    """x at indices that count up from 0 or more, one for each of its dims."""
    if sorted(d % max(len(x.dims), 1) for d in dims) != list(range(len(x.dims))) or len(indices) != len(dims):
        return None
    total: Affine | None = same(0, ())
    for i, d in zip(indices, dims, strict=True):
        low = None if i is None else i.const
        if i is None or total is None or not isinstance(low, int) or low < 0 or any(c < 0 for c in i.coefs):
            return None
        total = total.plus(i.times(x.coefs[d]))
    return None if total is None else replace(total, const=total.const + x.const)


def selection(p: Positions, op: Op) -> tuple[list[Affine | None], Sequence[int]]:
    """The indices that an op reads its first operand at, and along which dims."""
    if op.name == "gather":
        return [p.of(op.operand(1))], int_tuple((op.attrs["dim"],))
    if op.name == "index":
        return [p.of(v) for v in op.operands[1:]], int_tuple(op.attrs["dims"])
    joined = producer(op.operand(1), "concat")
    if (
        joined is None
        or op.attrs.get("batch_dims", 0)
        or axis_of(joined, joined.operand(0)) != tensor_of(joined.result).rank - 1
    ):
        return [], ()
    columns = [p.of(v) for v in joined.operands]
    if any(x is None or x.dims[-1] != 1 for x in columns):
        return [], ()
    return [x and Affine(x.const, x.coefs[:-1], x.dims[:-1]) for x in columns], range(len(columns))


def _index(p: Positions, op: Op) -> Affine | None:
    x = p.of(op.operand(0))
    if x is None:
        return None
    return same(x.number, tensor_of(op.result).dims) if x.number is not None else composed(x, *selection(p, op))


_HANDLERS: dict[str, Callable[[Positions, Op], Affine | None]] = {
    **dict.fromkeys(_VIEWS, _view),
    "iota": _iota,
    "constant": _constant,
    "full": _constant,
    "dim_tensor": _dim_tensor,
    "cast": _cast,
    "add": _add,
    "sub": _add,
    "mul": _mul,
    "neg": _neg,
    "cumsum": _cumsum,
    "concat": _concat,
    "index": _index,
    "gather": _index,
    "gather_nd": _index,
}
