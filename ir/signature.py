"""Signatures of operations: index letters, how they bind to types, and how splits follow them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from .dims import DimLike
from .dtypes import BY_NAME, DType
from .errors import TypeFault
from .types import Axes, Quantized, TensorType, Type

_TERM = re.compile(r"(\w+)(?::(\w+))?(?:\[([^\]]*)\])?([?*]?)$")

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
        element = dtype.storage if isinstance(dtype, Quantized) else dtype
        if self.family in BY_NAME:
            return element is BY_NAME[self.family]
        if self.family == "bool":
            return element is DType.BOOL
        return isinstance(dtype, Quantized) or element.family in FAMILIES[self.family]


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

    def group(self, operands: Sequence[Type | None]) -> list[Type | list[Type] | None]:
        """Line operand types up with the terms; a variadic term takes all that the others leave."""
        many = next((i for i, t in enumerate(self.operands) if t.variadic), None)
        given = list(operands)
        if many is None:
            if len(given) > len(self.operands):
                raise TypeFault(f"takes at most {len(self.operands)} operands, but {len(given)} are given")
            terms: list[Type | list[Type] | None] = [*given, *[None] * (len(self.operands) - len(given))]
        else:
            tail = len(self.operands) - many - 1
            end = len(given) - tail
            terms = [*given[:many], [t for t in given[many:end] if t is not None], *given[end:]]
        for term, type in zip(self.operands, terms, strict=True):
            if type is None and not term.optional:
                raise TypeFault(f"operand {term.name} is missing; signature: {self.text}")
        return terms

    def named(self, terms: Sequence[Type | list[Type] | None]) -> list[tuple[str, TensorType]]:
        """Operand name and type, for tensors that are given."""
        out: list[tuple[str, TensorType]] = []
        for term, types in zip(self.operands, terms, strict=True):
            for type in types if isinstance(types, list) else [types]:
                if isinstance(type, TensorType):
                    out.append((term.name, type))
        return out

    def bind(self, terms: Sequence[Type | list[Type] | None]) -> dict[str, DimLike]:
        """The size of each letter; TypeFault where two operands disagree."""
        bound: dict[str, DimLike] = {}
        for term, type in self._tensors(terms):
            if not term.takes(type.dtype):
                raise TypeFault(f"{term.name} is {type}; expected dtype {term.family}")
            if term.letters is None:
                continue
            spread = term.spread(type.rank)
            if spread is None:
                raise TypeFault(f"{term.name} is {type}; expected dims [{' '.join(term.letters)}]")
            for letter, at in spread:
                size = type.dims[at]
                seen = bound.setdefault(letter, size)
                if seen == size or (letter.isdigit() and size == int(letter)):
                    continue
                if letter[0] == "~" and (seen == 1 or size == 1):
                    bound[letter] = size if seen == 1 else seen
                    continue
                raise TypeFault(f"{letter.strip('*~')} is {seen} elsewhere, but {size} in {term.name} = {type}")
        return bound

    def bind_split(
        self, terms: Sequence[Type | list[Type] | None], whole: frozenset[str], op: str
    ) -> dict[str, Axes]:
        """The mesh axes that split each letter; TypeFault where operands disagree or a whole letter is split."""
        bound: dict[str, Axes] = {}
        for term, type in self._tensors(terms):
            if term.letters is None:
                continue
            for letter, at in term.spread(type.rank) or ():
                axes = type.split[at]
                if letter[0] == "~" and type.dims[at] == 1:
                    continue
                if axes and (letter in whole or letter.rstrip("0123456789") in whole):
                    raise TypeFault(
                        f"{op}: dim {letter} of {term.name} must be whole, but {'.'.join(axes)} splits it", "MAIA0108"
                    )
                seen = bound.setdefault(letter, axes)
                if seen != axes:
                    one, two = ".".join(seen) or "nothing", ".".join(axes) or "nothing"
                    raise TypeFault(
                        f"{op}: dim {letter} is split by {one} elsewhere and by {two} in {term.name} = {type}",
                        "MAIA0108",
                    )
        return bound

    def dims_of(self, term: Term, bound: dict[str, DimLike]) -> tuple[DimLike, ...]:
        """The dims of a result from the sizes of its letters."""
        return tuple(bound[x] for x in self._letters_of(term, bound))

    def split_of(self, term: Term, bound: dict[str, Axes]) -> tuple[Axes, ...]:
        """The splits of a result from those of its letters."""
        return tuple(bound.get(x, ()) for x in self._letters_of(term, bound))

    def _letters_of(self, term: Term, bound: dict[str, DimLike] | dict[str, Axes]) -> Iterator[str]:
        for letter in term.letters or ():
            if letter[0] in "*~":
                group = [x for x in bound if x.startswith(letter) and x[len(letter) :].isdigit()]
                yield from sorted(group, key=lambda x: int(x[len(letter) :]), reverse=letter[0] == "~")
            else:
                yield letter

    def _tensors(self, terms: Sequence[Type | list[Type] | None]) -> Iterator[tuple[Term, TensorType]]:
        for term, types in zip(self.operands, terms, strict=True):
            for type in types if isinstance(types, list) else [types]:
                if isinstance(type, TensorType):
                    yield term, type
                elif type is not None and term.letters is not None:
                    raise TypeFault(f"{term.name} is {type}; expected a tensor")


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
