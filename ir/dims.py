"""Symbolic dims: integers, or expressions over named symbols kept in one canonical form.

An expression is a polynomial with integer coefficients over atoms; an atom is a symbol's name or a call of ``//``,
``%``, ``min`` or ``max``. Equal polynomials are equal objects by value, so types compare by value, and ``str(dim)``
is at once the text form and a Python expression. Anything constant is a plain ``int``.
"""

from __future__ import annotations

import math
import operator
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache, reduce
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Symbol:
    """A declared dim: ``sym T in low..high step s``. ``high`` is None where it is unbounded."""

    name: str
    low: int = 0
    high: int | None = None
    step: int = 1

    def __str__(self) -> str:
        step = f" step {self.step}" if self.step != 1 else ""
        return f"sym {self.name} in {self.low}..{'inf' if self.high is None else self.high}{step}"

    def admits(self, value: int) -> bool:
        """Whether a runtime value lies in the range and on the step."""
        inside = value >= self.low and (self.high is None or value <= self.high)
        return inside and value % self.step == 0


@dataclass(frozen=True, slots=True)
class Call:
    """An atom that is not a polynomial: ``//``, ``%``, ``min`` or ``max`` of two dims."""

    fn: str
    args: tuple[DimLike, DimLike]

    def __str__(self) -> str:
        a, b = self.args
        return f"{self.fn}({a}, {b})" if self.fn in ("min", "max") else f"{_wrap(a)}{self.fn}{_wrap(b)}"


Atom: TypeAlias = str | Call
Monomial: TypeAlias = "tuple[Atom, ...]"


def _wrap(dim: DimLike) -> str:
    text = str(dim)
    bare = text.replace("_", "").isalnum() or _is_function(dim)
    return text if bare else f"({text})"


def _is_function(dim: DimLike) -> bool:
    """Whether a dim is one ``min(...)`` or ``max(...)``."""
    atoms = [a for m, c in dim.terms for a in (*m, c)] if isinstance(dim, Dim) else []
    return len(atoms) == 2 and isinstance(atoms[0], Call) and atoms[0].fn in ("min", "max") and atoms[1] == 1


class Dim:
    """A polynomial over symbols; made by arithmetic on ``sym("T")``, never constant."""

    __slots__ = ("_hash", "_text", "terms")

    def __init__(self, terms: tuple[tuple[Monomial, int], ...]) -> None:
        self.terms = terms
        self._hash = hash(terms)
        self._text = ""

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Dim) and self.terms == other.terms)

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"Dim({self})"

    def __reduce__(self):
        # The hash of a string differs between processes, so it must not travel.
        return Dim, (self.terms,)

    def __str__(self) -> str:
        if not self._text:
            self._text = "".join(_term_text(m, c, i == 0) for i, (m, c) in enumerate(self.terms))
        return self._text

    def __add__(self, other: DimLike) -> DimLike:
        return _make(_accumulate(dict(self.terms), other, 1))

    __radd__ = __add__

    def __neg__(self) -> DimLike:
        return self * -1

    def __sub__(self, other: DimLike) -> DimLike:
        return _make(_accumulate(dict(self.terms), other, -1))

    def __rsub__(self, other: DimLike) -> DimLike:
        return -self + other

    def __mul__(self, other: DimLike) -> DimLike:
        out: dict[Monomial, int] = {}
        for m, c in self.terms:
            for n, d in _terms(other):
                key = tuple(sorted(m + n, key=str))
                out[key] = out.get(key, 0) + c * d
        return _make(out)

    __rmul__ = __mul__

    def __floordiv__(self, other: DimLike) -> DimLike:
        return floordiv(self, other)

    def __rfloordiv__(self, other: int) -> DimLike:
        return floordiv(other, self)

    def __mod__(self, other: DimLike) -> DimLike:
        return mod(self, other)

    def __rmod__(self, other: int) -> DimLike:
        return mod(other, self)

    # Ordering and truth of an unknown number are questions for `bounds`, never guessed.
    def __bool__(self) -> bool:
        raise TypeError(f"the dim {self} has no truth value; compare it with ==, or ask bounds()")


DimLike: TypeAlias = int | Dim


def _terms(dim: DimLike) -> tuple[tuple[Monomial, int], ...]:
    if isinstance(dim, Dim):
        return dim.terms
    return (((), int(dim)),) if dim else ()


def _accumulate(into: dict[Monomial, int], dim: DimLike, sign: int) -> dict[Monomial, int]:
    for m, c in _terms(dim):
        into[m] = into.get(m, 0) + sign * c
    return into


def _make(terms: dict[Monomial, int]) -> DimLike:
    kept = {m: c for m, c in terms.items() if c}
    if not kept:
        return 0
    if len(kept) == 1 and () in kept:
        return kept[()]
    return Dim(tuple(sorted(kept.items(), key=_order)))


def _order(term: tuple[Monomial, int]) -> tuple[int, str]:
    return -len(term[0]), "*".join(map(str, term[0]))


def _term_text(monomial: Monomial, coefficient: int, first: bool) -> str:
    if coefficient == 1 and len(monomial) == 1:
        return ("" if first else "+") + str(monomial[0])
    factors = [_factor_text(a) for a in monomial]
    if abs(coefficient) != 1 or not factors:
        factors.insert(0, str(abs(coefficient)))
    return ("-" if coefficient < 0 else "" if first else "+") + "*".join(factors)


def _factor_text(atom: Atom) -> str:
    if isinstance(atom, str):
        return atom
    return str(atom) if atom.fn in ("min", "max") else f"({atom})"


@lru_cache(maxsize=4096)
def sym(name: str) -> Dim:
    """The dim that is just this symbol."""
    return Dim((((name,), 1),))


def _atom(fn: str, a: DimLike, b: DimLike) -> Dim:
    return Dim((((Call(fn, (a, b)),), 1),))


def _quotient(a: DimLike, b: DimLike) -> DimLike | None:
    """``a / b`` where that is a single monomial times a polynomial without remainder; None otherwise."""
    if not isinstance(b, Dim):
        terms = _terms(a)
        exact = b != 0 and all(c % b == 0 for _, c in terms)
        return _make({m: c // b for m, c in terms}) if exact else None
    if len(b.terms) == 1:
        (factor, scale), out = b.terms[0], {}
        for m, c in _terms(a):
            rest = _remove(m, factor)
            if rest is None or c % scale:
                return None
            out[rest] = c // scale
        return _make(out)
    (lead_a, ca), (lead_b, cb) = (_terms(a) or (((), 0),))[0], b.terms[0]
    rest = _remove(lead_a, lead_b)
    if rest is None or ca % cb:
        return None
    quotient = _make({rest: ca // cb})
    return quotient if b * quotient == a else None


def _remove(monomial: Monomial, factor: Monomial) -> Monomial | None:
    left = list(monomial)
    for atom in factor:
        if atom not in left:
            return None
        left.remove(atom)
    return tuple(left)


def floordiv(a: DimLike, b: DimLike) -> DimLike:
    """``a // b`` with Python's rounding; exact where the polynomial divides. ZeroDivisionError where b is 0."""
    if isinstance(a, int) and isinstance(b, int):
        return a // b
    if b == 0:
        raise ZeroDivisionError(f"{a} // 0")
    exact = _quotient(a, b)
    if exact is not None:
        return exact
    common = _common_factor(a, b)
    if common != 1:
        return floordiv(_exactly(a, common), _exactly(b, common))
    if isinstance(b, int) and b > 0 and isinstance(a, Dim):
        # (k*b*X + r) // b == k*X + r // b for every integer X.
        whole = _make({m: c // b for m, c in a.terms if c % b == 0})
        rest = _make({m: c for m, c in a.terms if c % b})
        if whole != 0:
            return whole + floordiv(rest, b)
        nested = _nested_quotient(a)
        if nested is not None:
            inner, by, constant = nested
            return floordiv(inner + constant * by, by * b)
    return _atom("//", a, b)


def _common_factor(a: DimLike, b: DimLike) -> DimLike:
    """What divides every term of both: (f*x) // (f*y) == x // y for every f but 0."""
    terms = [*_terms(a), *_terms(b)]
    shared = reduce(operator.and_, (Counter(monomial) for monomial, _ in terms))
    return _make({tuple(shared.elements()): math.gcd(*(c for _, c in terms))})


def _exactly(a: DimLike, factor: DimLike) -> DimLike:
    quotient = _quotient(a, factor)
    assert quotient is not None
    return quotient


def _nested_quotient(a: Dim) -> tuple[DimLike, int, int] | None:
    """``(x, b, c)`` where a is ``x // b + c`` with numbers b > 0 and c: then a // d == (x + b*c) // (b*d)."""
    (monomial, coefficient), *rest = a.terms
    if coefficient != 1 or len(monomial) != 1 or [m for m, _ in rest if m]:
        return None
    atom = monomial[0]
    if not isinstance(atom, Call) or atom.fn != "//" or not isinstance(atom.args[1], int) or atom.args[1] <= 0:
        return None
    return atom.args[0], atom.args[1], rest[0][1] if rest else 0


def mod(a: DimLike, b: DimLike) -> DimLike:
    """``a % b`` with Python's sign rule. ZeroDivisionError where b is 0."""
    if isinstance(a, int) and isinstance(b, int):
        return a % b
    if b == 0:
        raise ZeroDivisionError(f"{a} % 0")
    if _quotient(a, b) is not None:
        return 0
    if isinstance(b, int) and isinstance(a, Dim):
        rest = _make({m: c for m, c in a.terms if c % b})
        if rest != a:
            return mod(rest, b)
    return _atom("%", a, b)


def ceildiv(a: DimLike, b: int) -> DimLike:
    """``a / b`` rounded up."""
    return floordiv(a + (b - 1), b)


def minimum(a: DimLike, b: DimLike) -> DimLike:
    """The smaller of two dims, folded where one is known to be smaller by a constant."""
    gap = a - b
    if isinstance(gap, int):
        return a if gap <= 0 else b
    return _atom("min", *sorted((a, b), key=str))


def maximum(a: DimLike, b: DimLike) -> DimLike:
    """The larger of two dims, folded where one is known to be larger by a constant."""
    gap = a - b
    if isinstance(gap, int):
        return a if gap >= 0 else b
    return _atom("max", *sorted((a, b), key=str))


def depth(dim: DimLike) -> int:
    """How deep calls stand inside calls: 0 for a polynomial of symbols."""
    if not isinstance(dim, Dim):
        return 0
    calls = (atom for monomial, _ in dim.terms for atom in monomial if isinstance(atom, Call))
    return max((1 + max(map(depth, call.args)) for call in calls), default=0)


def product(dims: Iterable[DimLike]) -> DimLike:
    """The product of dims: the number of elements of a shape."""
    out: DimLike = 1
    for dim in dims:
        out = dim * out
    return out


def symbols_of(dim: DimLike) -> frozenset[str]:
    """The names of the symbols in a dim."""
    if not isinstance(dim, Dim):
        return frozenset()
    found: set[str] = set()
    for monomial, _ in dim.terms:
        for atom in monomial:
            if isinstance(atom, str):
                found.add(atom)
            else:
                found |= symbols_of(atom.args[0]) | symbols_of(atom.args[1])
    return frozenset(found)


_CALLS: dict[str, Callable[[DimLike, DimLike], DimLike]] = {
    "//": floordiv,
    "%": mod,
    "min": minimum,
    "max": maximum,
}


def substitute(dim: DimLike, env: Mapping[str, DimLike]) -> DimLike:
    """Replace symbols by dims or numbers; symbols that ``env`` lacks stay."""
    if not isinstance(dim, Dim):
        return dim
    total: DimLike = 0
    for monomial, coefficient in dim.terms:
        term: DimLike = coefficient
        for atom in monomial:
            if isinstance(atom, str):
                value = env.get(atom, sym(atom))
            else:
                value = _CALLS[atom.fn](substitute(atom.args[0], env), substitute(atom.args[1], env))
            term = value * term
        total = term + total
    return total


def evaluate(dim: DimLike, env: Mapping[str, int]) -> int:
    """The number that a dim stands for; KeyError names a symbol that ``env`` lacks."""
    if not isinstance(dim, Dim):
        return dim
    value = substitute(dim, env)
    if isinstance(value, Dim):
        raise KeyError(", ".join(sorted(symbols_of(value))))
    return value


def solve(dim: DimLike, value: int, known: Mapping[str, int]) -> tuple[str, int] | None:
    """The one unknown symbol that makes ``dim`` equal ``value``, where the dim is linear in it; None otherwise."""
    left = substitute(dim, known)
    if not isinstance(left, Dim):
        return None
    linear = {m: c for m, c in left.terms if m}
    constant = dict(left.terms).get((), 0)
    if len(linear) != 1:
        return None
    (monomial, coefficient), gap = next(iter(linear.items())), value - constant
    if len(monomial) != 1 or not isinstance(monomial[0], str) or gap % coefficient:
        return None
    return monomial[0], gap // coefficient


def bounds(dim: DimLike, symbols: Mapping[str, Symbol]) -> tuple[float, float]:
    """Least and greatest value over the symbols' ranges (interval arithmetic; infinite where unbounded)."""
    if not isinstance(dim, Dim):
        return dim, dim
    low = high = 0  # numbers stay whole, so that great products compare exactly
    for monomial, coefficient in dim.terms:
        corner: tuple[float, float] = (coefficient, coefficient)
        for atom in monomial:
            corner = _interval_product(corner, _atom_bounds(atom, symbols))
        low, high = low + corner[0], high + corner[1]
    return low, high


def _interval_product(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    corners = [x * y if x and y else 0 for x in a for y in b]
    return min(corners), max(corners)


def _atom_bounds(atom: Atom, symbols: Mapping[str, Symbol]) -> tuple[float, float]:
    if isinstance(atom, str):
        s = symbols.get(atom)
        return (-math.inf, math.inf) if s is None else (s.low, math.inf if s.high is None else s.high)
    a, b = (bounds(x, symbols) for x in atom.args)
    if atom.fn == "min":
        return min(a[0], b[0]), min(a[1], b[1])
    if atom.fn == "max":
        return max(a[0], b[0]), max(a[1], b[1])
    if b[0] <= 0:
        return -math.inf, math.inf
    if atom.fn == "%":
        return 0, min(b[1] - 1, a[1]) if a[0] >= 0 else b[1] - 1
    floors = [_interval_quotient(x, y) for x in a for y in b]
    return min(floors), max(floors)


def _interval_quotient(a: float, b: float) -> float:
    """``a // b`` for b > 0, as its limit where one of them is infinite."""
    if math.isinf(b):
        return 0 if a >= 0 else -1
    return a if math.isinf(a) else a // b


def simplify(dim: DimLike, symbols: Mapping[str, Symbol]) -> DimLike:
    """The dim with each ``min``, ``max``, ``//`` and ``%`` folded that the symbols' ranges decide.

    Builder, verifier and frontends all use this form, so types that mean the same under the ranges compare equal.
    """
    if not isinstance(dim, Dim) or not any(isinstance(atom, Call) for monomial, _ in dim.terms for atom in monomial):
        return dim
    total: DimLike = 0
    for monomial, coefficient in dim.terms:
        term: DimLike = coefficient
        for atom in monomial:
            term = (sym(atom) if isinstance(atom, str) else _decided(atom, symbols)) * term
        total = term + total
    return total


def _decided(call: Call, symbols: Mapping[str, Symbol]) -> DimLike:
    """A call of simplified dims: what it is everywhere in the symbols' ranges, if that is one thing."""
    a, b = (simplify(x, symbols) for x in call.args)
    if call.fn in ("min", "max"):
        low, high = bounds(a - b, symbols)
        first, second = (a, b) if call.fn == "min" else (b, a)
        return first if high <= 0 else second if low >= 0 else _CALLS[call.fn](a, b)
    if call.fn == "%" and bounds(a, symbols)[0] >= 0 and bounds(b - a, symbols)[0] >= 1:
        return a
    made = _CALLS[call.fn](a, b) if b != 0 else _atom(call.fn, a, b)
    low, high = bounds(made, symbols)
    return int(low) if low == high else made
