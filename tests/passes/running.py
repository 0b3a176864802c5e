"""Running modules before and after a pass."""

from __future__ import annotations

from typing import Any

import torch

from maiac.ir import Module, Quantized, TensorType, Type, Weight
from maiac.ir.dims import evaluate
from maiac.ir.ops.values import QTensor, to_torch
from maiac.ir.types import DimType
from maiac.passes.clone import clone_module
from maiac.runtime import Executor
from maiac.runtime.weights import HeldTensor


def sizes_for(module: Module) -> dict[str, int]:
    """A size for each symbol, within its range."""
    return {s.name: min(s.low + 2, s.high if s.high is not None else s.low + 2) for s in module.symbols.values()}


def make(type: Type, sizes: dict[str, int], generator: torch.Generator) -> Any:
    """Small whole numbers of a type: sums and products of them are exact in any order."""
    if isinstance(type, DimType):
        return evaluate(type.value, sizes)
    assert isinstance(type, TensorType)
    shape = [evaluate(d, sizes) for d in type.dims]
    if isinstance(type.dtype, Quantized):
        codes = make(TensorType(type.element, type.dims), sizes, generator)
        scales = [evaluate(d, {}) for d in type.dtype.scale_shape(tuple(shape))]
        return QTensor(codes, torch.full(scales, 0.5), None, type.dtype)
    dtype = to_torch(type.element)
    if dtype is torch.bool:
        return torch.rand(shape, generator=generator) < 0.5
    low = 0 if dtype is torch.uint8 else -3
    return torch.randint(low, 4, shape, generator=generator).to(dtype)


def fill(module: Module, seed: int = 0) -> None:
    """Give contents to weights and states that have none."""
    generator = torch.Generator().manual_seed(seed)
    for value in (*module.weights.values(), *module.states.values()):
        assert isinstance(value, Weight)
        if value.data is None:
            value.data = HeldTensor(make(value.type, {}, generator))


def inputs_for(module: Module, seed: int = 1) -> list[Any]:
    """Inputs of main."""
    generator = torch.Generator().manual_seed(seed)
    sizes = sizes_for(module)
    return [make(a.type, sizes, generator) for a in module.main.args]


def run(module: Module, inputs: list[Any]) -> list[Any]:
    """Results of main, twice: what a first call leaves in the states shows in the second."""
    executor = Executor(clone_module(module))
    first = [_copy(r) for r in executor.run([_copy(i) for i in inputs])]
    return [*first, *(_copy(r) for r in executor.run([_copy(i) for i in inputs]))]


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, torch.Tensor) else value


def same_bits(a: list[Any], b: list[Any]) -> bool:
    """Whether two lists of results are equal to the bit; NaN equals NaN."""
    return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))


def _same(x: Any, y: Any) -> bool:
    if not isinstance(x, torch.Tensor):
        return x == y
    if x.dtype != y.dtype or x.shape != y.shape:
        return False
    if not x.dtype.is_floating_point:
        return torch.equal(x, y)
    nan = torch.isnan(x) & torch.isnan(y)
    return bool((nan | ((x == y) & (torch.signbit(x) == torch.signbit(y)))).all())


def close(a: list[Any], b: list[Any]) -> bool:
    """Whether two lists of results are equal up to the rounding of their dtypes; NaN equals NaN."""
    return len(a) == len(b) and all(_close(x, y) for x, y in zip(a, b, strict=True))


def _close(x: Any, y: Any) -> bool:
    if not isinstance(x, torch.Tensor) or not x.dtype.is_floating_point:
        return _same(x, y)
    if x.dtype != y.dtype or x.shape != y.shape:
        return False
    return ulps_off(x, y) <= (2.0 if x.dtype.itemsize < 4 else 4.0)


def ulps_off(want: torch.Tensor, got: torch.Tensor, scale: float = 0.0, eps: float = 0.0) -> float:
    """How far results of one shape are apart, in units in the last place of the largest element.

    NaN and infinities must be the same ones; otherwise the distance is infinite. scale: the size of the terms that
    results are summed from, where these may cancel to something smaller; eps: the unit of a narrower dtype that values
    were rounded to on the way.
    """
    a, b = want.double(), got.double()
    finite = a.isfinite()
    strange = ~finite
    if not torch.equal(finite, b.isfinite()) or not torch.equal(a[strange].nan_to_num(0.0), b[strange].nan_to_num(0.0)):
        return float("inf")
    a, b = a[finite], b[finite]
    if torch.equal(a, b):
        return 0.0
    largest = max(a.abs().max().item(), scale, torch.finfo(want.dtype).tiny)
    return (a - b).abs().max().item() / (max(eps, torch.finfo(want.dtype).eps) * largest)


__all__ = ["close", "fill", "inputs_for", "make", "run", "same_bits", "sizes_for", "ulps_off"]
