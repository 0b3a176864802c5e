"""Types: tensors with symbolic dims, quantization and sharding; sequences, optionals and dims as values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from .dims import Dim, DimLike, Symbol, product, simplify, substitute, symbols_of
from .dtypes import DType
from .errors import TypeFault

Axes: TypeAlias = tuple[str, ...]

# Granularities of a quantized type and the number of integers that say where they lie.
#   tensor: one scale; channel d: one per index of dim d; token: one per row (all dims but the last);
#   group n: one per n elements of the last dim; block n m: one per n x m tile of the last two dims;
#   mx: one e8m0 scale per 32 elements of the last dim (OCP MX 1.0).
GRANULARITIES: dict[str, int] = {"tensor": 0, "channel": 1, "token": 0, "group": 1, "block": 2, "mx": 0}
MX_BLOCK = 32


@dataclass(frozen=True, slots=True)
class Quantized:
    """An element type that stands for real numbers through scales: ``channel<i8, 0, f32>``.

    ``storage`` is the dtype of the codes, ``per`` the granularity, ``at`` its integers (see GRANULARITIES), ``scale``
    the dtype of the scales, ``zero_point`` whether codes are offset. A runtime value is (codes, scales[, zero points]).
    """

    storage: DType
    per: str
    at: tuple[int, ...] = ()
    scale: DType = DType.F32
    zero_point: bool = False

    def __post_init__(self) -> None:
        if self.per not in GRANULARITIES:
            raise TypeFault(f"{self.per} is no granularity; expected one of {', '.join(GRANULARITIES)}", "MAIA0107")
        if len(self.at) != GRANULARITIES[self.per]:
            raise TypeFault(f"{self.per} takes {GRANULARITIES[self.per]} integers, but has {len(self.at)}", "MAIA0107")
        if any(n < (0 if self.per == "channel" else 1) for n in self.at):
            raise TypeFault(f"{self.per} cannot lie at {', '.join(map(str, self.at))}", "MAIA0107")
        if not (self.storage.is_float or self.storage.is_integer) or not self.scale.is_float:
            raise TypeFault(f"codes of {self.storage} with scales of {self.scale} stand for no numbers", "MAIA0107")

    def __str__(self) -> str:
        parts = [str(self.storage), *map(str, self.at)]
        if self.scale is not (DType.E8M0 if self.per == "mx" else DType.F32):
            parts.append(str(self.scale))
        if self.zero_point:
            parts.append("asym")
        return f"{self.per}<{', '.join(parts)}>"

    @property
    def min_rank(self) -> int:
        """The least rank that a tensor of this element type has."""
        return {"tensor": 0, "channel": self.at[0] + 1 if self.at else 0, "block": 2}.get(self.per, 1)

    def scale_shape(self, dims: tuple[DimLike, ...]) -> tuple[DimLike, ...]:
        """The shape of the scales of a tensor with these dims; broadcastable dims are kept as 1."""
        ones: list[DimLike] = [1] * len(dims)
        if self.per == "channel":
            ones[self.at[0]] = dims[self.at[0]]
        if self.per == "token":
            return (*dims[:-1], 1)
        if self.per in ("group", "mx"):
            width = self.at[0] if self.per == "group" else MX_BLOCK
            return (*dims[:-1], -(-dims[-1] // width))
        if self.per == "block":
            return (*dims[:-2], -(-dims[-2] // self.at[0]), -(-dims[-1] // self.at[1]))
        return tuple(ones)


@dataclass(frozen=True, slots=True)
class TensorType:
    """A tensor: ``bf16[T, 4096/tp]+dp``.

    ``dims`` are whole (global) sizes. ``split`` names, for each dim, the mesh axes that hold it split (major first).
    ``owed`` names mesh axes over which a sum is still owed.
    """

    dtype: DType | Quantized
    dims: tuple[DimLike, ...] = ()
    split: tuple[Axes, ...] = ()
    owed: Axes = ()

    def __post_init__(self) -> None:
        if len(self.split) != len(self.dims):
            assert not self.split, "split has one entry for each dim"
            object.__setattr__(self, "split", ((),) * len(self.dims))
        if len(self.owed) > 1:  # sums commute, so their order says nothing
            object.__setattr__(self, "owed", tuple(sorted(set(self.owed))))

    def __str__(self) -> str:
        dims = ", ".join(
            f"{d}/{'.'.join(axes)}" if axes else str(d) for d, axes in zip(self.dims, self.split, strict=True)
        )
        return f"{self.dtype}[{dims}]" + ("+" + ".".join(self.owed) if self.owed else "")

    @property
    def rank(self) -> int:
        """Number of dims."""
        return len(self.dims)

    @property
    def element(self) -> DType:
        """The dtype of the stored elements: the codes of a quantized type."""
        return self.dtype.storage if isinstance(self.dtype, Quantized) else self.dtype

    @property
    def is_sharded(self) -> bool:
        """Whether any mesh axis splits a dim or is owed a sum."""
        return bool(self.owed) or any(self.split)

    @property
    def axes(self) -> list[str]:
        """All mesh axes that split a dim or are owed a sum; one that is named twice stands here twice."""
        return [*(a for axes in self.split for a in axes), *self.owed]

    @property
    def is_static(self) -> bool:
        """Whether every dim is a number."""
        return not any(d.__class__ is Dim for d in self.dims)

    def whole(self) -> TensorType:
        """The same type on one device: nothing split, nothing owed."""
        return replace(self, split=(), owed=())

    def with_dims(self, dims: Iterable[DimLike]) -> TensorType:
        """An unsharded type of other dims."""
        return TensorType(self.dtype, tuple(dims))

    def with_dtype(self, dtype: DType | Quantized) -> TensorType:
        """The same dims and sharding, another element type."""
        return replace(self, dtype=dtype)

    def with_split(self, split: Iterable[Axes], owed: Iterable[str] = ()) -> TensorType:
        """The same dims, sharded otherwise."""
        return TensorType(self.dtype, self.dims, tuple(split), tuple(owed))

    def local(self, mesh: Mapping[str, int]) -> tuple[DimLike, ...]:
        """The dims that one rank of a mesh holds; the caller has checked that they divide."""
        out: list[DimLike] = []
        for dim, axes in zip(self.dims, self.split, strict=True):
            for axis in axes:
                dim = dim // mesh.get(axis, 1)
            out.append(dim)
        return tuple(out)

    def elements(self) -> DimLike:
        """Number of elements of the whole tensor."""
        return product(self.dims)


@dataclass(frozen=True, slots=True)
class UnrankedType:
    """A tensor of any number of dims: ``f32[...]``. Members of a sequence may be such (ONNX); operations take none."""

    dtype: DType

    def __str__(self) -> str:
        return f"{self.dtype}[...]"


@dataclass(frozen=True, slots=True)
class SequenceType:
    """A list of values of one type, of a length known only at run time (ONNX)."""

    element: Type

    def __str__(self) -> str:
        return f"seq<{self.element}>"


@dataclass(frozen=True, slots=True)
class OptionalType:
    """A value that may be absent (ONNX)."""

    element: Type

    def __str__(self) -> str:
        return f"opt<{self.element}>"


@dataclass(frozen=True, slots=True)
class DimType:
    """A Python integer that is a dim: an argument that binds a symbol, or a size handed back to the caller."""

    value: DimLike

    def __str__(self) -> str:
        return f"dim<{self.value}>"


Type: TypeAlias = TensorType | UnrankedType | SequenceType | OptionalType | DimType


def tensor(dtype: DType | Quantized, *dims: DimLike) -> TensorType:
    """Short form of TensorType for unsharded tensors."""
    return TensorType(dtype, dims)


def map_dims(type: Type, fn: Callable[[DimLike], DimLike]) -> Type:
    """The type with ``fn`` applied to each of its dims; the type itself where that changes none."""
    match type:
        case TensorType():
            dims = tuple(map(fn, type.dims))
            return type if dims == type.dims else replace(type, dims=dims)
        case UnrankedType():
            return type
        case SequenceType():
            return SequenceType(map_dims(type.element, fn))
        case OptionalType():
            return OptionalType(map_dims(type.element, fn))
        case DimType():
            return DimType(fn(type.value))


def substitute_type(type: Type, env: Mapping[str, DimLike]) -> Type:
    """Replace symbols in all dims of a type."""
    return map_dims(type, lambda dim: substitute(dim, env))


def simplify_type(type: Type, symbols: Mapping[str, Symbol]) -> Type:
    """All dims of a type in the form that the symbols' ranges give them."""
    return map_dims(type, lambda dim: simplify(dim, symbols))


def inner_types(type: Type) -> Iterator[TensorType]:
    """The tensor types in a type: itself, or what its sequences and optionals hold."""
    while isinstance(type, (SequenceType, OptionalType)):
        type = type.element
    if isinstance(type, TensorType):
        yield type


_NONE: frozenset[str] = frozenset()


def type_symbols(type: Type) -> frozenset[str]:
    """The names of all symbols in a type."""
    match type:
        case TensorType():
            return _NONE if type.is_static else frozenset().union(*map(symbols_of, type.dims))
        case UnrankedType():
            return _NONE
        case SequenceType() | OptionalType():
            return type_symbols(type.element)
        case DimType():
            return symbols_of(type.value)
