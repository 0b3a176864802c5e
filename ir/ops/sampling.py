"""Inputs for the generated tests of operations: what ``.samples`` rules draw from, and how letters give the shapes.

A rule is ``rule(s: Sampler) -> iterator of (operands, attributes)``; each pair is one call of the reference. Sizes that
a mesh axis might split should be even. Operations whose shapes follow from letters and that have no required
attributes need no rule.
"""

from __future__ import annotations

import inspect
import itertools
import random
from collections.abc import Iterator
from typing import Any

import torch

from ..dtypes import BY_NAME, DType
from ..opdef import OpDef
from ..signature import FAMILIES, Term
from ..types import DimType, OptionalType, SequenceType, TensorType, Type
from .values import FROM_TORCH, QTensor, to_torch

Sample = tuple[tuple[Any, ...], dict[str, Any]]

SIZES = (2, 4, 6)
FLOATS = (DType.F32, DType.F64, DType.BF16)
FAMILY_DTYPES: dict[str, tuple[DType, ...]] = {
    "float": FLOATS,
    "int": (DType.I64, DType.I32, DType.I8),
    "uint": (DType.U8,),
    "bool": (DType.BOOL,),
    "complex": (DType.C64, DType.C128),
}


class Sampler:
    """Random tensors that repeat with their seed; ``real`` ones are of ``dtype``."""

    def __init__(self, seed: int = 0, dtype: DType = DType.F32) -> None:
        self.random = random.Random(seed)
        self.generator = torch.Generator().manual_seed(seed)
        self.dtype = dtype

    def real(self, *shape: int, low: float = -2.0, high: float = 2.0, dtype: DType | None = None) -> torch.Tensor:
        """Uniform numbers in [low, high), as float or complex."""
        target = to_torch(dtype or self.dtype)
        uniform = torch.rand(shape, generator=self.generator, dtype=torch.float64) * (high - low) + low
        if target.is_complex:
            uniform = torch.complex(uniform, torch.rand(shape, generator=self.generator, dtype=torch.float64))
        return uniform.to(target)

    def ints(self, *shape: int, low: int = 0, high: int = 5, dtype: DType = DType.I64) -> torch.Tensor:
        """Uniform integers in [low, high)."""
        return torch.randint(low, high, shape, generator=self.generator).to(to_torch(dtype))

    def bools(self, *shape: int) -> torch.Tensor:
        """Fair coins."""
        return self.ints(*shape, high=2).bool()

    def of(self, dtype: DType, *shape: int, domain: tuple[float, float] | None = None) -> torch.Tensor:
        """Elements of any dtype, within the domain of an op where it has one."""
        low, high = domain or (-2.0, 2.0)
        if dtype is DType.BOOL:
            return self.bools(*shape)
        if dtype.is_integer:
            least = max(round(low), 0) if dtype.family == "uint" or domain else round(low)
            return self.ints(
                *shape, low=max(least, 1) if domain and low > 0 else least, high=round(high) + 1, dtype=dtype
            )
        return self.real(*shape, low=low, high=high, dtype=dtype)

    def size(self) -> int:
        """An even size."""
        return self.random.choice(SIZES)


def needs_rule(definition: OpDef) -> bool:
    """Whether letters do not say enough: an operand or result without them, or an attribute without default."""
    required = any(d is inspect.Parameter.empty for _, d in definition.attributes.values())
    return required or not definition.signature.has_letters


def is_excused(definition: OpDef) -> bool:
    """Operations that mean nothing alone: they act on states, other ranks or symbols, or hold regions."""
    return bool(definition.effect or definition.regions)


def samples(definition: OpDef, s: Sampler) -> Iterator[Sample]:
    """Inputs for an op: those of its rule, or drawn by its letters."""
    if definition.sample_rule is not None:
        yield from definition.sample_rule(s)
        return
    optional = [t for t in definition.signature.operands if t.optional]
    for count in range(len(optional) + 1):
        for given in itertools.combinations(optional, count):
            for rank in (0, 1, 2):
                yield _drawn(definition, s, {t.name for t in given}, rank), {}


def _drawn(definition: OpDef, s: Sampler, given: set[str], rank: int) -> tuple[Any, ...]:
    sizes: dict[str, int] = {}
    operands: list[Any] = []
    shared = _shared(definition, s)
    for term in definition.signature.operands:
        if term.optional and term.name not in given:
            operands.append(None)
            continue
        dtype = shared if term.takes(shared) else _dtype(term, s)
        shape = _shape(term, s, sizes, rank)
        operands.append(s.of(dtype, *shape, domain=definition.domain))
    while operands and operands[-1] is None:
        operands.pop()
    return tuple(operands)


def _shared(definition: OpDef, s: Sampler) -> DType:
    """One dtype for all operands that take floats, mostly the sampler's own."""
    terms = [t for t in definition.signature.operands if t.takes(s.dtype)]
    every = [d for dtypes in FAMILY_DTYPES.values() for d in dtypes if all(t.takes(d) for t in terms)]
    return s.random.choice(every) if every and s.random.random() < 0.3 else s.dtype


def _dtype(term: Term, s: Sampler) -> DType:
    if term.family in BY_NAME:
        return BY_NAME[term.family]
    return s.random.choice([d for f in FAMILIES[term.family] for d in FAMILY_DTYPES.get(f, ())])


def _shape(term: Term, s: Sampler, sizes: dict[str, int], rank: int) -> list[int]:
    shape: list[int] = []
    for letter in term.letters or ():
        if letter.isdigit():
            shape.append(int(letter))
        elif letter[0] == "*":
            shape += [sizes.setdefault(f"{letter}{i}", s.size()) for i in range(rank)]
        elif letter[0] == "~":
            own = rank if not shape and not sizes else s.random.randint(0, rank)
            full = [sizes.setdefault(f"{letter}{i}", s.size()) for i in reversed(range(own))]
            shape += [1 if s.random.random() < 0.2 else n for n in full]
        else:
            shape.append(sizes.setdefault(letter, s.size()))
    return shape


def type_of(value: Any) -> Type:
    """The type of a runtime value; sub-byte integers are seen as the bytes that hold them."""
    if isinstance(value, QTensor):
        return TensorType(value.type, tuple(value.shape))
    if isinstance(value, torch.Tensor):
        return TensorType(FROM_TORCH[value.dtype], tuple(value.shape))
    if isinstance(value, list):
        return SequenceType(type_of(value[0]))  # pyright: ignore[reportUnknownArgumentType]
    if value is None:
        return OptionalType(TensorType(DType.F32))
    assert isinstance(value, int)
    return DimType(value)
