"""Masks of attention: what of them is causal, a window, or hides nothing, and what is left.

A mask is read as a conjunction. Bounds on ``i`` (the query's position) and ``j`` (the key's) that the op has
attributes for become those; what is provably true goes; the rest stays a mask.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from maiac.ir import BlockArg, DimLike, DType, Module, Op, Result, TensorType, Value

from ..pattern import producer, splat
from ..rewrite import Miss, Outcome, Rewriter, rule
from ..rules.shape import tensor_of
from .attention import ATTENTION, HIDDEN
from .positions import VIEWS, Affine, Positions, composed, contents, same, selection


@dataclass(frozen=True, slots=True)
class Term:
    """A part of a conjunction: ``bound <= 0``, or a truth, or neither: whatever ``value`` says."""

    value: Value
    bound: Affine | None = None
    known: bool | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What the op's attributes can say."""

    causal: bool = False
    back: int | None = None  # i - j < back
    ahead: int | None = None  # j - i < ahead


class MaskReader(Positions):
    """Reads masks; what it found is remembered as long as it lives."""

    def __init__(self, module: Module) -> None:
        super().__init__(module)
        self._read_terms: dict[Value, list[Term]] = {}

    def terms(self, value: Value) -> list[Term]:
        """A bool mask as a conjunction."""
        if value not in self._read_terms:
            found = self._terms(value)
            self._read_terms[value] = [Term(value)] if found is None else found
        return self._read_terms[value]

    def _terms(self, value: Value) -> list[Term] | None:
        """None where nothing is known of it."""
        if not isinstance(value, Result):
            return self._of_contents(value)
        op, dims = value.op, tensor_of(value).dims
        match op.name:
            case "constant" | "full":
                number = splat(value)
                return self._of_contents(value) if number is None else [Term(value, known=bool(number))]
            case "logical_and" | "bitwise_and":
                return [t for v in op.operands if v is not None for t in self.terms(v)]
            case "logical_or" | "bitwise_or":
                return self._either(op)
            case "logical_not" | "bitwise_not":
                return self._not(value, op.operand(0))
            case "le" | "lt" | "ge" | "gt" | "eq" | "ne":
                return self._compared(op)
            case "cast":
                return self._cast_to_bool(op)
            case "tril" | "triu":
                return self._triangle(op, dims)
            case "index" | "gather" | "gather_nd":
                return self._indexed(op)
            case _:
                return self._viewed(op) if op.name in VIEWS else None

    def _of_contents(self, value: Value) -> list[Term] | None:
        type = tensor_of(value)
        tensor = contents(value) if type.element is DType.BOOL else None
        return None if tensor is None else self.of_tensor(value, tensor)

    def of_tensor(self, value: Value, tensor: Any) -> list[Term] | None:
        """What a constant mask says; ``tensor`` is true where positions take part."""
        import torch

        if bool(tensor.all()):
            return [Term(value, known=True)]
        if tensor.ndim < 2:
            return None
        t, s = tensor.shape[-2:]
        flat = tensor.reshape(-1, t, s)
        if not bool((flat == flat[0]).all()):
            return None
        some, rows = flat[0].any(-1), torch.arange(t)
        if not bool(some.any()):
            return None
        # How far each row sees back (i - j) at least and at most; then the mask must be all that lies between.
        first, last = flat[0].byte().argmax(-1), s - 1 - flat[0].flip(-1).byte().argmax(-1)
        low, high = int((rows - last)[some].min()), int((rows - first)[some].max())
        if not torch.equal(torch.ones_like(flat[0]).tril(-low).triu(-high), flat[0]):
            return None
        dims, out = tensor_of(value).dims, list[Term]()
        if low > 1 - s:
            out.append(Term(value, _on_diagonal(dims, -1, low)))  # low - (i - j) <= 0
        if high < t - 1:
            out.append(Term(value, _on_diagonal(dims, 1, -high)))
        return out

    def _either(self, op: Op) -> list[Term] | None:
        sides = [self.terms(op.operand(i)) for i in (0, 1)]
        truths = [all(t.known for t in side) for side in sides]
        if any(truths):
            return [Term(op.result, known=True)]
        falsities = [any(t.known is False for t in side) for side in sides]
        if falsities[0] or falsities[1]:
            kept, side = op.operand(0 if falsities[1] else 1), sides[0 if falsities[1] else 1]
            return side if tensor_of(kept).dims == tensor_of(op.result).dims else None
        return None

    def _not(self, value: Value, x: Value) -> list[Term] | None:
        either = producer(x, "logical_or", "bitwise_or")
        if either is not None:
            parts = [self._not(v, v) for v in either.operands if v is not None]
            return None if any(p is None for p in parts) else [replace(t, value=value) for p in parts for t in p or ()]
        terms = self.terms(x)
        if len(terms) != 1:
            return None
        (term,) = terms
        if term.known is not None:
            return [Term(value, known=not term.known)]
        flipped = None if term.bound is None else term.bound.times(-1).plus(same(1, ()))
        return None if flipped is None else self._bounded(value, flipped)

    def _bounded(self, value: Value, bound: Affine) -> list[Term]:
        if bound.greatest(self.module) <= 0:
            return [Term(value, known=True)]
        if bound.times(-1).greatest(self.module) < 0:
            return [Term(value, known=False)]
        return [Term(value, bound)]

    def _compared(self, op: Op) -> list[Term] | None:
        apart = producer(op.operand(0), "abs")
        x, y = self.of(op.operand(0) if apart is None else apart.operand(0)), self.of(op.operand(1))
        if apart is not None:
            return self._near(op, x, None if y is None else y.number)
        gap = None if x is None or y is None else x.plus(y, -1)
        if gap is None:
            return None
        if op.name in ("eq", "ne"):
            return None if gap.number is None else [Term(op.result, known=(gap.number == 0) == (op.name == "eq"))]
        signed = gap.times(-1) if op.name in ("ge", "gt") else gap
        bound = signed.plus(same(1, ())) if op.name in ("lt", "gt") else signed
        return None if bound is None else self._bounded(op.result, bound)

    def _near(self, op: Op, x: Affine | None, limit: int | None) -> list[Term] | None:
        """|x| <= limit."""
        if x is None or limit is None or op.name not in ("le", "lt"):
            return None
        most = same(limit - (op.name == "lt"), ())
        sides = [side.plus(most, -1) for side in (x, x.times(-1))]
        return [t for side in sides if side is not None for t in self._bounded(op.result, side)]

    def of(self, value: Value | None) -> Affine | None:
        """Numbers, also those that bools of known truth are cast to."""
        op = producer(value, "cast")
        if op is not None and tensor_of(op.operand(0)).element is DType.BOOL:
            terms = self.terms(op.operand(0))
            if all(t.known is not None for t in terms):
                return same(int(all(t.known for t in terms)), tensor_of(op.result).dims)
            return None
        return super().of(value)

    def _cast_to_bool(self, op: Op) -> list[Term] | None:
        x = op.operand(0)
        if tensor_of(x).element is DType.BOOL:
            return self._terms(x)
        number = self.of(x)
        if tensor_of(op.result).element is not DType.BOOL or number is None or number.number is None:
            return None
        return [Term(op.result, known=bool(number.number))]

    def _triangle(self, op: Op, dims: tuple[DimLike, ...]) -> list[Term] | None:
        inner = self.terms(op.operand(0))
        diagonal = op.attrs.get("diagonal", 0)
        if not all(t.known for t in inner) or not isinstance(diagonal, int):
            return None
        lower = op.name == "tril"
        return self._bounded(op.result, _on_diagonal(dims, -1 if lower else 1, -diagonal if lower else diagonal))

    def _viewed(self, op: Op) -> list[Term] | None:
        inner = self._terms(op.operand(0))
        return None if inner is None else self._each(op, inner, lambda x: self.moved(x, op))

    def _indexed(self, op: Op) -> list[Term] | None:
        inner = self._terms(op.operand(0))
        indices, dims = selection(self, op)
        return None if inner is None else self._each(op, inner, lambda x: composed(x, indices, dims))

    def _each(self, op: Op, inner: Sequence[Term], move: Callable[[Affine], Affine | None]) -> list[Term] | None:
        out: list[Term] = []
        for term in inner:
            if term.known is not None:
                out.append(Term(op.result, known=term.known))
                continue
            bound = None if term.bound is None else move(term.bound)
            if bound is None:
                return None
            out += self._bounded(op.result, bound)
        return out


def _on_diagonal(dims: tuple[DimLike, ...], sign: int, const: int) -> Affine:
    """``sign * (i - j) + const`` over the last two dims."""
    return Affine(const, (*(0,) * (len(dims) - 2), sign, -sign), dims)


# **** limits ****


def _limit(term: Term, limits: Limits, rows: DimLike, columns: DimLike) -> Limits | None:
    """The limits with a bound on i and j taken in; None where no attribute says it."""
    bound = term.bound
    if bound is None or not isinstance(bound.const, int) or len(bound.dims) < 2:
        return None
    if any(bound.coefs[:-2]) or bound.dims[-2:] != (rows, columns):
        return None
    sign, other = bound.coefs[-2:]
    if (sign, other) == (-1, 1):  # j - i + c <= 0
        if bound.const == 0:
            return replace(limits, causal=True)
        ahead = 1 - bound.const
        return None if ahead < 1 else replace(limits, ahead=min(ahead, limits.ahead or ahead))
    if (sign, other) == (1, -1):  # i - j + c <= 0
        back = 1 - bound.const
        return None if back < 1 else replace(limits, back=min(back, limits.back or back))
    return None


@dataclass(frozen=True, slots=True)
class Reading:
    """What a mask comes to: attributes, and the values that stay. ``changed``: less stays than there was."""

    causal: bool
    window: int
    rest: list[Value]
    changed: bool


def read_terms(terms: Sequence[Term], rows: DimLike, columns: DimLike) -> Reading:
    """Sort a conjunction into attributes and the rest."""
    limits, rest, bounded = Limits(), list[Value](), list[Value]()
    for term in terms:
        taken = limits if term.known else _limit(term, limits, rows, columns)
        if taken is None:
            rest += [term.value] if term.value not in rest else []
        elif not term.known:
            bounded.append(term.value)
            limits = taken
    dropped = any(term.known for term in terms)
    if limits.back is not None and (limits.causal or limits.back == limits.ahead):
        return Reading(limits.causal, limits.back, rest, True)
    if limits.causal:
        return Reading(True, 0, rest, True)
    rest += [v for v in dict.fromkeys(bounded) if v not in rest]
    return Reading(False, 0, rest, dropped)


# **** the rule ****


@rule("attention", table=ATTENTION)
def mask_of_attention(op: Op, b: Rewriter) -> Outcome:
    """attention(q, k, v, mask) -> attention {causal, window}, without a mask where that says all of it."""
    mask = op.operands[3] if len(op.operands) > 3 else None
    if mask is None or not isinstance(mask.type, TensorType) or mask.type.is_sharded:
        return None
    if op.attrs.get("causal", False) or op.attrs.get("window", 0):
        return None
    reader = MaskReader(b.module)
    rows, columns = tensor_of(op.operand(0)).dims[-2], tensor_of(op.operand(1)).dims[-2]
    bools = tensor_of(mask).element is DType.BOOL
    reading = _read_bools(reader, mask, rows, columns) if bools else _read_sum(reader, mask, rows, columns)
    if isinstance(reading, Miss):
        return reading
    if not reading.changed:
        return Miss("the mask is none that is known at compile time", mask)
    rest = _joined(b, "logical_and" if bools else "add", reading.rest, tensor_of(mask).element)
    attrs = {**op.attrs, "causal": reading.causal, "window": reading.window}
    return b.emit_op("attention", (*op.operands[:3], rest), attrs).result


def _joined(b: Rewriter, name: str, values: Sequence[Value], dtype: DType) -> Value | None:
    """What is left of a mask, in its dtype."""
    out: Value | None = None
    for value in values:
        out = value if out is None else b.emit(name, out, value)
    return out if out is None or tensor_of(out).dtype == dtype else b.emit("cast", out, to=dtype)


def _bare(value: Value) -> Value:
    """A mask before it is spread over heads or batches: the op broadcasts by itself."""
    while (spread := producer(value, "expand")) is not None and tensor_of(spread.operand(0)).rank >= 2:
        value = spread.operand(0)
    return value


def _read_bools(reader: MaskReader, mask: Value, rows: DimLike, columns: DimLike) -> Reading:
    bare = _bare(mask)
    reading = read_terms(reader.terms(bare), rows, columns)
    return replace(reading, rest=[mask]) if reading.rest == [bare] else reading


@dataclass(frozen=True, slots=True)
class Addend:
    """A part of a mask that is added: ``bias`` where ``shown`` holds, hidden elsewhere; or whatever ``value`` says.

    finite: what hides is no infinity, so that all of a row which sees nothing takes part.
    """

    value: Value
    shown: list[Term] | None = None
    bias: Value | None = None
    finite: bool = True


def _read_sum(reader: MaskReader, mask: Value, rows: DimLike, columns: DimLike) -> Reading | Miss:
    """A mask that is added: each addend hides, or is a bias."""
    causal, changed, finite, window, rest = False, False, False, 0, list[Value]()
    seeing: list[Value] = []  # what stays although it hides: each row sees something
    miss: Miss | None = None
    for addend in _addends(reader, _bare(mask)):
        found = None if addend.shown is None else read_terms(addend.shown, rows, columns)
        if found is None:
            rest.append(addend.value)
            if _hides_future(addend.value, rows, columns):
                causal, finite, seeing = True, True, [*seeing, addend.value]
            continue
        if found.rest or (found.window and rows != columns):
            miss = Miss(_BLIND, addend.value)
            rest.append(addend.value)
            continue
        finite = finite or (addend.finite and bool(found.causal or found.window))
        rest += [] if addend.bias is None else [addend.bias]
        changed, causal = True, causal or found.causal
        window = min(found.window or window, window or found.window)
    if not changed and not causal:
        return miss or Miss("the mask is none that is known at compile time", mask)
    if finite and any(_may_hide(value) for value in rest if value not in seeing):
        return Miss(_BLIND, mask)
    return Reading(causal, window, rest if changed else [mask], True)


_BLIND = "a row might see nothing, which the source gives the mean of all positions"


def _may_hide(value: Value, most: int = 64) -> bool:
    """Whether what is added might hide positions: the caller gives it, or a number that hides is somewhere in it."""
    seen, queue = set[Value](), [value]
    while queue and len(seen) < most:
        value = queue.pop()
        number = splat(value)
        if value in seen or not isinstance(value.type, TensorType) or not value.type.element.is_float:
            continue
        seen.add(value)
        if isinstance(value, BlockArg) or (number is not None and not abs(number) < -HIDDEN):
            return True
        tensor = contents(value) if number is None else None
        if tensor is not None and not bool((tensor.abs() < -HIDDEN).all()):
            return True
        queue += [v for v in value.op.operands if v is not None] if isinstance(value, Result) else []
    return bool(queue)


def _addends(reader: MaskReader, value: Value) -> list[Addend]:
    op = producer(value, "add", "expand", "where", "cast", "triu")
    if op is None:
        return [_constant(reader, value)]
    match op.name:
        case "add":
            return [a for v in op.operands if v is not None for a in _addends(reader, v)]
        case "expand" if tensor_of(op.operand(0)).rank >= 2:
            return _addends(reader, op.operand(0))
        case "where":
            return [_chosen(reader, op)]
        case "cast":
            inner = _addends(reader, op.operand(0))
            return inner if all(a.shown is not None and a.bias is None for a in inner) else [Addend(value)]
        case "triu":
            filled, diagonal = splat(op.operand(0)), op.attrs.get("diagonal", 0)
            if filled is not None and filled <= HIDDEN and isinstance(diagonal, int):
                shown = [Term(value, _on_diagonal(tensor_of(value).dims, -1, 1 - diagonal))]
                return [Addend(value, shown, finite=filled > float("-inf"))]
        case _:
            pass
    return [_constant(reader, value)]


def _chosen(reader: MaskReader, op: Op) -> Addend:
    shown, hidden = splat(op.operand(1)), splat(op.operand(2))
    if hidden is None or not hidden <= HIDDEN:
        return Addend(op.result)
    return Addend(op.result, reader.terms(op.operand(0)), None if shown == 0 else op.operand(1), hidden > float("-inf"))


def _constant(reader: MaskReader, value: Value) -> Addend:
    """Where a constant is 0, if it hides everything else and each row sees something."""
    tensor = contents(value)
    if tensor is None or tensor.ndim < 2:
        return Addend(value, [Term(value, known=True)] if splat(value) == 0 else None)
    shown = tensor == 0
    if not bool((shown | (tensor <= HIDDEN)).all()) or not bool(shown.any(-1).all()):
        return Addend(value)
    return Addend(value, reader.of_tensor(value, shown), finite=not bool((shown | tensor.isinf()).all()))


def _hides_future(value: Value, rows: DimLike, columns: DimLike) -> bool:
    """Whether a constant bias hides all that is ahead, so that the op need not look there."""
    tensor = contents(value)
    if tensor is None or tensor.ndim < 2 or not tensor.shape[-2] == tensor.shape[-1] == rows == columns:
        return False
    import torch

    size = tensor.shape[-1]
    ahead = torch.ones(size, size, dtype=torch.bool).triu(1)
    flat = tensor.reshape(-1, size, size)
    return bool((flat[:, ahead] <= HIDDEN).all()) and bool((flat.diagonal(dim1=-2, dim2=-1) > HIDDEN).all())
