"""Sequences and optionals (ONNX): Python lists, and values that may be None, at run time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from ..dtypes import DType
from ..errors import TypeFault
from ..opdef import mentions_unknown, op, unknown
from ..types import OptionalType, SequenceType, TensorType, Type, UnrankedType
from .sampling import Sample, Sampler


def joined(a: Type, b: Type) -> Type:
    """The type that covers two members: dims that differ are unknown, and the rank where that differs."""
    if a == b:
        return a
    if isinstance(a, (TensorType, UnrankedType)) and isinstance(b, (TensorType, UnrankedType)) and a.dtype == b.dtype:
        if isinstance(a, UnrankedType) or isinstance(b, UnrankedType) or a.rank != b.rank:
            assert isinstance(a.dtype, DType), "members of sequences are never quantized"
            return UnrankedType(a.dtype)
        dims = (x if x == y else unknown(i) for i, (x, y) in enumerate(zip(a.dims, b.dims, strict=True)))
        return TensorType(a.dtype, tuple(dims))
    raise TypeFault(f"a sequence cannot hold {a} and {b}")


def _element(s: Type) -> Type:
    if not isinstance(s, SequenceType):
        raise TypeFault(f"the operand is {s}; expected a sequence")
    return s.element


def fresh(type: Type) -> Type:
    """A member's type: dims that vary between members are unknown for each one taken out."""
    if not isinstance(type, TensorType):
        return type
    return TensorType(type.dtype, tuple(d if isinstance(d, int) else unknown(i) for i, d in enumerate(type.dims)))


@op("xs:value* -> s")
def sequence_construct(*xs: Any) -> Any:
    """A sequence of these values."""
    return list(xs)


@sequence_construct.infer
def _(*xs: Type) -> Type:
    if not xs:
        raise TypeFault("an empty sequence needs sequence_empty, which says its element type")
    element = xs[0]
    for x in xs[1:]:
        element = joined(element, x)
    return SequenceType(element)


@op("-> s")
def sequence_empty(*, dtype: DType, rank: int | None = None) -> Any:
    """A sequence without members. rank: of those to come; any where None."""
    return []


@sequence_empty.infer
def _(*, dtype: DType, rank: int | None = None) -> Type:
    if rank is None:
        return SequenceType(UnrankedType(dtype))
    return SequenceType(TensorType(dtype, tuple(unknown(i) for i in range(rank))))


@op("s:value, i:int -> y")
def sequence_at(s: Any, i: Any, *, rank: int | None = None) -> Any:
    """The member at a position; negative counts from the end. rank: its number of dims where the type does not tell."""
    return s[int(i)]


@sequence_at.infer
def _(s: Type, i: TensorType, *, rank: int | None = None) -> Type:
    element = _element(s)
    if isinstance(element, UnrankedType) and rank is not None:
        return TensorType(element.dtype, tuple(unknown(i) for i in range(rank)))
    return fresh(element)


@op("s:value -> n")
def sequence_length(s: Any) -> Any:
    """The number of members, as i64[]."""
    return torch.tensor(len(s))


@sequence_length.infer
def _(s: Type) -> Type:
    _element(s)
    return TensorType(DType.I64)


@op("s:value, x:value, i:int? -> r")
def sequence_insert(s: Any, x: Any, i: Any = None) -> Any:
    """The sequence with x before a position, or at the end."""
    at = len(s) if i is None else int(i)
    return [*s[:at], x, *s[at:]]


@sequence_insert.infer
def _(s: Type, x: Type, i: TensorType | None = None) -> Type:
    return SequenceType(joined(_element(s), x))


@op("s:value, i:int? -> r")
def sequence_erase(s: Any, i: Any = None) -> Any:
    """The sequence without the member at a position, or without the last."""
    at = (len(s) - 1 if i is None else int(i)) % len(s)
    return [*s[:at], *s[at + 1 :]]


@sequence_erase.infer
def _(s: Type, i: TensorType | None = None) -> Type:
    return SequenceType(_element(s))


@op("s:value -> y")
def concat_from_sequence(s: Any, *, dim: int, new_axis: bool = False) -> Any:
    """All members joined along a dim, or stacked along a new one."""
    return torch.stack(s, dim) if new_axis else torch.cat(s, dim)


@concat_from_sequence.infer
def _(s: Type, *, dim: int, new_axis: bool = False) -> Type:
    element = _element(s)
    if not isinstance(element, TensorType):
        raise TypeFault(f"the operand is {s}; expected a sequence of tensors")
    dims = list(element.dims)
    at = dim % (len(dims) + new_axis)
    dims[at : at + (not new_axis)] = [unknown(at)]
    return TensorType(
        element.dtype,
        tuple(d if isinstance(d, int) or mentions_unknown(d) else unknown(10 + i) for i, d in enumerate(dims)),
    )


@op("x, parts:int? -> s")
def split_to_sequence(x: Any, parts: Any = None, *, dim: int, keepdim: bool = True) -> Any:
    """x cut along a dim into members of given sizes, of one size (the last may be smaller), or of size 1."""
    if parts is None:
        return [p if keepdim else p.squeeze(dim) for p in x.split(1, dim)]
    return list(x.split(int(parts) if parts.ndim == 0 else parts.tolist(), dim))


@split_to_sequence.infer
def _(x: TensorType, parts: TensorType | None = None, *, dim: int, keepdim: bool = True) -> Type:
    at = dim % x.rank
    dims = list(x.dims)
    dims[at] = 1 if parts is None else unknown(at)
    if parts is None and not keepdim:
        del dims[at]
    return SequenceType(TensorType(x.dtype, tuple(dims)))


@op("x:value? -> o")
def optional(x: Any = None) -> Any:
    """A value as an optional."""
    return x


@optional.infer
def _(x: Type | None = None) -> Type:
    if x is None:
        raise TypeFault("an optional without contents needs optional_none, which says its type")
    return OptionalType(x)


@op("-> o")
def optional_none(*, dtype: DType, rank: int, sequence: bool = False) -> Any:
    """An optional without contents."""
    return None


@optional_none.infer
def _(*, dtype: DType, rank: int, sequence: bool = False) -> Type:
    element = TensorType(dtype, tuple(unknown(i) for i in range(rank)))
    return OptionalType(SequenceType(element) if sequence else element)


@op("o:value -> x")
def optional_get(o: Any) -> Any:
    """The contents of an optional; fails where there are none."""
    if o is None:
        raise ValueError("the optional is empty")
    return o


@optional_get.infer
def _(o: Type) -> Type:
    return o.element if isinstance(o, OptionalType) else o


@op("o:value -> c")
def optional_has(o: Any) -> Any:
    """Whether an optional has contents, as bool[]."""
    return torch.tensor(o is not None)


@optional_has.infer
def _(o: Type) -> Type:
    return TensorType(DType.BOOL)


@sequence_construct.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield (s.real(4), s.real(4)), {}
    yield (s.real(4), s.real(6)), {}
    yield (s.real(4), s.real(6, 4)), {}


@sequence_empty.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield (), {"dtype": s.dtype, "rank": 1}
    yield (), {"dtype": s.dtype}


@sequence_at.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield ([s.real(4), s.real(4)], torch.tensor(-1)), {}


@sequence_length.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield ([s.real(4), s.real(4)],), {}


@sequence_insert.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield ([s.real(4)], s.real(4)), {}
    yield ([s.real(4)], s.real(4), torch.tensor(0)), {}


@sequence_erase.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield ([s.real(4), s.real(4)],), {}
    yield ([s.real(4), s.real(4)], torch.tensor(0)), {}


@concat_from_sequence.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield ([s.real(4, 6), s.real(4, 6)],), {"dim": 1}
    yield ([s.real(4, 6), s.real(4, 6)],), {"dim": -1, "new_axis": True}


@split_to_sequence.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield (s.real(4, 6),), {"dim": 1, "keepdim": False}
    yield (s.real(4, 6), torch.tensor(2)), {"dim": 0}
    yield (s.real(4, 6), torch.tensor([2, 4])), {"dim": -1}


@optional.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield (s.real(4),), {}


@optional_none.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield (), {"dtype": s.dtype, "rank": 1}
    yield (), {"dtype": s.dtype, "rank": 1, "sequence": True}


@optional_get.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield (s.real(4),), {}


@optional_has.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield (s.real(4),), {}
