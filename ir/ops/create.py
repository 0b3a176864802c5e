"""Operations that make tensors from nothing but attributes, and those that pass between tensors and dims."""

from __future__ import annotations

from typing import Any

import torch

from ..dims import Dim, DimLike, ceildiv
from ..dtypes import DType
from ..errors import TypeFault
from ..opdef import op, unknown
from ..types import DimType, TensorType, Type
from .values import to_torch

Number = bool | int | float


@op("-> y")
def constant(*, value: bool | int | float | str | tuple[Any, ...], dtype: DType, shape: tuple[int, ...] = ()) -> Any:
    """A small tensor written in the text: one number that fills it, or all its elements in row-major order."""
    if isinstance(value, tuple):
        return torch.tensor(value, dtype=to_torch(dtype)).reshape(shape)
    return torch.full(shape, value, dtype=to_torch(dtype))


@constant.infer
def _(*, value: Any, dtype: DType, shape: tuple[int, ...] = ()) -> Type:
    count = 1
    for n in shape:
        count *= n
    if isinstance(value, tuple) and len(value) != count:  # pyright: ignore[reportUnknownArgumentType]
        raise TypeFault(f"{len(value)} values do not fill {count} elements")  # pyright: ignore[reportUnknownArgumentType]
    return TensorType(dtype, shape)


@op("-> y", local={"shape": "y"})
def full(*, value: bool | int | float, dtype: DType, shape: tuple[int, ...]) -> Any:
    """A tensor of one number, of any (symbolic) shape."""
    return torch.full(shape, value, dtype=to_torch(dtype))


@full.infer
def _(*, value: Number, dtype: DType, shape: tuple[DimLike, ...]) -> Type:
    return TensorType(dtype, shape)


@op("-> y")
def iota(*, start: int = 0, end: int, step: int = 1, dtype: DType = DType.I64) -> Any:
    """start, start + step, ... up to but not including end."""
    return torch.arange(start, end, step, dtype=to_torch(dtype))


@iota.infer
def _(*, start: DimLike = 0, end: DimLike, step: DimLike = 1, dtype: DType = DType.I64) -> Type:
    if isinstance(step, int) and step:
        count = ceildiv(end - start, step) if step > 0 else ceildiv(start - end, -step)
        return TensorType(dtype, (max(count, 0) if isinstance(count, int) else count,))
    return TensorType(dtype, (unknown(),))


@op("-> y")
def dim(*, value: int) -> Any:
    """A dim as a Python integer, to hand a size back to the caller."""
    return value


@dim.infer
def _(*, value: DimLike) -> Type:
    return DimType(value)


@op("-> y")
def dim_tensor(*, value: int, dtype: DType = DType.I64) -> Any:
    """A dim as a tensor of rank 0."""
    return torch.tensor(value, dtype=to_torch(dtype))


@dim_tensor.infer
def _(*, value: DimLike, dtype: DType = DType.I64) -> Type:
    return TensorType(dtype, ())


@op("x:int -> ", effect=True)
def bind(x: Any, *, to: tuple[int, ...]) -> Any:
    """Bind fresh symbols to the elements of an integer tensor of rank 0 or 1, so that later dims may use them.

    The executor stores the numbers; a module's types and attributes after this op may name the symbols in ``to``.
    """
    return x.reshape(-1).tolist()


@bind.infer
def _(x: TensorType, *, to: tuple[DimLike, ...]) -> list[Type]:
    if x.rank > 1 or (x.is_static and x.elements() != len(to)):
        raise TypeFault(f"x is {x}; expected {len(to)} integers")
    if not all(isinstance(d, Dim) for d in to):
        raise TypeFault("to names symbols only")
    return []


def _random(name: str, make: Any, doc: str) -> None:
    def reference(*, shape: tuple[int, ...], dtype: DType = DType.F32, seed: int | None = None) -> Any:
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        return make(shape, generator=generator, dtype=to_torch(dtype))

    def rule(*, shape: tuple[DimLike, ...], dtype: DType = DType.F32, seed: int | None = None) -> Type:
        return TensorType(dtype, shape)

    reference.__doc__ = doc
    op("-> y", name=name, random=True, local={"shape": "y"})(reference).infer(rule)


_random("random_uniform", torch.rand, "Uniform numbers in [0, 1); a seed makes them repeat.")
_random("random_normal", torch.randn, "Normal numbers of mean 0 and deviation 1; a seed makes them repeat.")
