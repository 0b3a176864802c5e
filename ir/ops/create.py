"""Operations that make tensors from nothing but attributes, and those that pass between tensors and dims."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from ..dims import Dim, DimLike, ceildiv
from ..dtypes import DType
from ..errors import TypeFault
from ..opdef import op, unknown
from ..types import DimType, TensorType, Type
from .sampling import Sample, Sampler
from .values import to_torch

Number = bool | int | float


@op("-> y")
def constant(*, value: Number | tuple[Number, ...], dtype: DType, shape: tuple[int, ...] = ()) -> Any:
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


@constant.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield (), {"value": 2.5, "dtype": DType.F32}
    yield (), {"value": (1, 2, 3, 4), "dtype": DType.I64, "shape": (2, 2)}
    yield (), {"value": True, "dtype": DType.BOOL, "shape": (4,)}


@op("-> y", local={"shape": "y"})
def full(*, value: bool | int | float, dtype: DType, shape: tuple[int, ...]) -> Any:
    """A tensor of one number, of any (symbolic) shape."""
    return torch.full(shape, value, dtype=to_torch(dtype))


@full.infer
def _(*, value: Number, dtype: DType, shape: tuple[DimLike, ...]) -> Type:
    return TensorType(dtype, shape)


@full.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield (), {"value": 0, "dtype": s.dtype, "shape": (4, 6)}
    yield (), {"value": True, "dtype": DType.BOOL, "shape": ()}


@op("-> y")
def iota(*, start: int = 0, end: int, step: int = 1, dtype: DType = DType.I64) -> Any:
    """start, start + step, ... up to but not including end."""
    stop = start if (end - start) * step < 0 else end  # torch refuses what counts away from its end
    return torch.arange(start, stop, step, dtype=to_torch(dtype))


@iota.infer
def _(*, start: DimLike = 0, end: DimLike, step: DimLike = 1, dtype: DType = DType.I64) -> Type:
    if isinstance(step, int) and step:
        count = ceildiv(end - start, step) if step > 0 else ceildiv(start - end, -step)
        return TensorType(dtype, (max(count, 0) if isinstance(count, int) else count,))
    return TensorType(dtype, (unknown(),))


@iota.samples
def _(s: Sampler) -> Iterator[Sample]:
    for start, end, step in [(0, 6, 1), (2, 9, 3), (5, 0, -2), (3, 3, 1), (4, 1, 1)]:
        yield (), {"start": start, "end": end, "step": step}
    yield (), {"end": 4, "dtype": s.dtype}


@op("-> y")
def dim(*, value: int) -> Any:
    """A dim as a Python integer, to hand a size back to the caller."""
    return value


@dim.infer
def _(*, value: DimLike) -> Type:
    return DimType(value)


@dim.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield (), {"value": 7}


@op("-> y")
def dim_tensor(*, value: int, dtype: DType = DType.I64) -> Any:
    """A dim as a tensor of rank 0."""
    return torch.tensor(value, dtype=to_torch(dtype))


@dim_tensor.infer
def _(*, value: DimLike, dtype: DType = DType.I64) -> Type:
    return TensorType(dtype, ())


@dim_tensor.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield (), {"value": 7}
    yield (), {"value": 7, "dtype": DType.I32}


@op("x:int -> ", effect=True, binds="to")
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


def _random(name: str, make: Any, seeded: str, doc: str) -> None:
    def reference(*, shape: tuple[int, ...], dtype: DType = DType.F32, seed: int | None = None) -> Any:
        if seed is None:
            return make(shape, dtype=to_torch(dtype))
        # Only ONNX models hold seeds: the numbers are those of its reference implementation.
        drawn = getattr(np.random.RandomState(seed), seeded)(size=shape)
        return torch.as_tensor(drawn).to(to_torch(dtype))

    def rule(*, shape: tuple[DimLike, ...], dtype: DType = DType.F32, seed: int | None = None) -> Type:
        return TensorType(dtype, shape)

    reference.__doc__ = doc
    definition = op("-> y", name=name, random=True, local={"shape": "y"})(reference)
    definition.infer(rule)
    definition.samples(_shapes)


def _shapes(s: Sampler) -> Iterator[Sample]:
    yield (), {"shape": (4, 6)}
    yield (), {"shape": (), "dtype": DType.F64, "seed": 1}


_random("random_uniform", torch.rand, "random_sample", "Uniform numbers in [0, 1); a seed makes them repeat.")
_random(
    "random_normal",
    torch.randn,
    "standard_normal",
    "Normal numbers of mean 0 and deviation 1; a seed makes them repeat.",
)
