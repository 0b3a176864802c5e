"""Signatures of operations: index letters, how they bind to types, and how splits follow them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from .dims import Dim, DimLike, sym, symbols_of
from .dtypes import BY_NAME, DType
from .errors import TypeFault
from .types import Axes, Quantized, TensorType, Type

# By operand term: one type, the list of a variadic term, or None where an optional operand is absent.
Terms: TypeAlias = "list[Type | list[Type] | None]"

_TERM = re.compile(r"(\w+)(?::(\w+))?(?:\[([^\]]*)\])?([?*]?)$")

# What an operand may be. ``value`` is anything that a value can be, quantized types, sequences and optionals included.
FAMILIES: dict[str, tuple[str, ...]] = {
    "any": ("float", "int", "uint", "bool", "complex", "string"),
    "num": ("float", "int", "uint", "complex"),
    "real": ("float", "int", "uint"),
    "float": ("float",),
    "floatc": ("float", "complex"),
    "int": ("int", "uint"),
    "intb": ("int", "uint", "bool"),
    "complex": ("complex",),
}


def unknown(index: int | str = 0) -> Dim:
    """A result dim that only the run tells; the builder puts a fresh symbol in its place."""
    return sym(f"?{index}")


def mentions_unknown(dim: DimLike) -> bool:
    """Whether a dim is, or is computed from, an ``unknown`` placeholder."""
    return isinstance(dim, Dim) and any(name.startswith("?") for name in symbols_of(dim))


def same_dim(a: DimLike, b: DimLike) -> DimLike | None:
    """The size of two dims that must be equal; None where they cannot be. A number is preferred to a symbol.

    Symbols whose relation is not known may be equal at run time, so they pass; the kernels check them.
    """
    if a == b:
        return a
    gap = a - b
    if isinstance(gap, int):
        return None
    return b if isinstance(b, int) else a


def broadcast_dim(a: DimLike, b: DimLike, name: str = "0") -> DimLike | None:
    """The size of two dims after NumPy's broadcast; None where they cannot be. Unknown for two unrelated symbols."""
    if a == b or b == 1:
        return a
    if a == 1:
        return b
    if isinstance(a - b, int):
        return None
    if isinstance(a, Dim) and isinstance(b, Dim):
        return unknown(name)
    return b if isinstance(b, int) else a


@dataclass(frozen=True, slots=True)
class Term:
    """One operand or result: name, letters (None: any shape), dtype family, optional or variadic."""

    name: str
    letters: tuple[str, ...] | None
    family: str
    optional: bool
    variadic: bool

    def spread(self, rank: int) -> list[tuple[str, int]] | None:
        """A letter for each dim, groups numbered (``*b0``; broadcast groups count from the right); None if misfit."""
        assert self.letters is not None
        group = [x for x in self.letters if x[0] in "*~"]
        spare = rank - (len(self.letters) - len(group))
        if spare < 0 or (spare and not group):
            return None
        out: list[tuple[str, int]] = []
        for letter in self.letters:
            if letter[0] == "*":
                out += [(f"{letter}{i}", len(out) + i) for i in range(spare)]
            elif letter[0] == "~":
                out += [(f"{letter}{spare - 1 - i}", len(out) + i) for i in range(spare)]
            else:
                out.append((letter, len(out)))
        return out

    def takes(self, dtype: DType | Quantized) -> bool:
        """Whether the operand's dtype family admits this dtype."""
        if self.family == "value":
            return True
        if isinstance(dtype, Quantized) or self.family == "quantized":
            return isinstance(dtype, Quantized) and self.family == "quantized"
        if self.family in BY_NAME:
            return dtype is BY_NAME[self.family]
        return dtype.family in FAMILIES[self.family]


@dataclass(frozen=True)
class Signature:
    """Operands and results of an operation with their letters."""

    text: str
    operands: tuple[Term, ...]
    results: tuple[Term, ...]

    @cached_property
    def has_letters(self) -> bool:
        """Whether every term has letters, so that types and splits follow from them."""
        return all(t.letters is not None for t in (*self.operands, *self.results))

    def group(self, operands: Sequence[Type | None]) -> Terms:
        """Line operand types up with the terms; a variadic term takes all that the others leave."""
        many = next((i for i, t in enumerate(self.operands) if t.variadic), None)
        least = len(self.operands) - (many is not None)
        given = [*operands, *[None] * (least - len(operands))]
        terms: Terms = list(given)
        if many is not None:
            end = many + len(given) - least
            spread = given[many:end]
            if None in spread:
                raise TypeFault(f"operand {spread.index(None)} of {self.operands[many].name} is missing")
            terms[many:end] = [[t for t in spread if t is not None]]
        elif len(given) > least:
            raise TypeFault(f"takes at most {least} operands, but {len(given)} are given")
        for term, type in zip(self.operands, terms, strict=True):
            if type is None and not term.optional:
                raise TypeFault(f"operand {term.name} is missing; signature: {self.text}")
        return terms

    def named(self, terms: Terms) -> list[tuple[str, TensorType]]:
        """Operand name and type, for tensors that are given."""
        out: list[tuple[str, TensorType]] = []
        for term, types in zip(self.operands, terms, strict=True):
            for type in types if isinstance(types, list) else [types]:
                if isinstance(type, TensorType):
                    out.append((term.name, type))
        return out

    def check(self, terms: Terms, quantized: str) -> None:
        """TypeFault where an operand's dtype does not fit; the operand named ``quantized`` may be quantized."""
        for term, types in zip(self.operands, terms, strict=True):
            for type in types if isinstance(types, list) else [types]:
                if type is None or term.family == "value":
                    continue
                if not isinstance(type, TensorType):
                    raise TypeFault(f"{term.name} is {type}; expected a tensor")
                if isinstance(type.dtype, Quantized) and term.name == quantized:
                    continue
                if not term.takes(type.dtype):
                    raise TypeFault(f"{term.name} is {type}; expected dtype {term.family}")

    def bind(self, terms: Terms) -> dict[str, DimLike]:
        """The size of each letter; TypeFault where two operands disagree."""
        bound: dict[str, DimLike] = {}
        for term, type in self._tensors(terms):
            spread = term.spread(type.rank)
            if spread is None:
                raise TypeFault(f"{term.name} is {type}; expected dims [{' '.join(term.letters or ())}]")
            for letter, at in spread:
                seen, size = bound.get(letter, type.dims[at]), type.dims[at]
                found = broadcast_dim(seen, size, letter) if letter[0] == "~" else same_dim(seen, size)
                if found is None:
                    raise TypeFault(f"{letter.strip('*~')} is {seen} elsewhere, but {size} in {term.name} = {type}")
                bound[letter] = found
        return bound

    def bind_split(self, terms: Terms, whole: frozenset[str]) -> dict[str, Axes]:
        """The mesh axes that split each letter; TypeFault where operands disagree or a whole letter is split."""
        bound: dict[str, Axes] = {}
        for term, type in self._tensors(terms):
            for letter, at in term.spread(type.rank) or ():
                axes = type.split[at]
                if letter[0] == "~" and type.dims[at] == 1 and not axes:
                    continue
                if axes and (letter in whole or letter.rstrip("0123456789") in whole):
                    raise TypeFault(
                        f"dim {letter} of {term.name} must be whole, but {'.'.join(axes)} splits it", "MAIA0108"
                    )
                seen = bound.setdefault(letter, axes)
                if seen != axes:
                    one, two = ".".join(seen) or "nothing", ".".join(axes) or "nothing"
                    raise TypeFault(
                        f"dim {letter} is split by {one} elsewhere and by {two} in {term.name} = {type}", "MAIA0108"
                    )
        return bound

    def letters_of(self, term: Term, bound: dict[str, DimLike]) -> list[str]:
        """The letters of a result, one for each dim: groups numbered as ``bind`` numbered them."""
        out: list[str] = []
        for letter in term.letters or ():
            if letter[0] in "*~":
                group = [x for x in bound if x.startswith(letter) and x[len(letter) :].isdigit()]
                out += sorted(group, key=lambda x: int(x[len(letter) :]), reverse=letter[0] == "~")
            else:
                out.append(letter)
        return out

    def _tensors(self, terms: Terms) -> Iterator[tuple[Term, TensorType]]:
        """The operands that have letters, with their types."""
        for term, types in zip(self.operands, terms, strict=True):
            for type in types if isinstance(types, list) else [types]:
                if isinstance(type, TensorType) and term.letters is not None:
                    yield term, type


def parse_signature(text: str) -> Signature:
    """Read ``x[*b k], w[n k] -> y[*b n]``."""
    left, right = text.split("->")
    return Signature(text, tuple(_terms(left)), tuple(_terms(right)))


def _terms(side: str) -> Iterator[Term]:
    for part in re.split(r",(?![^\[]*\])", side):
        if not part.strip():
            continue
        match = _TERM.match(part.strip())
        assert match, f"bad term {part!r} in a signature"
        name, family, letters, mark = match.groups()
        split = None if letters is None else tuple(letters.split())
        yield Term(name, split, family or "any", mark == "?", mark == "*")
