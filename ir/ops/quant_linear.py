"""ONNX's quantize and dequantize with explicit scale and zero point."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from ..dtypes import DType
from ..errors import TypeFault
from ..opdef import op
from ..types import TensorType, Type
from .lowbit import convert, decode
from .sampling import Sample, Sampler
from .values import to_torch


def _spread(s: Any, x: Any, dim: int, block: int) -> Any:
    """Scales or zero points laid along x: one, one per index of dim, or one per block of dim."""
    if s.numel() == 1 and not block:
        return s.reshape(())
    if block:
        return s.repeat_interleave(block, dim).narrow(dim, 0, x.shape[dim])
    return s.reshape([-1 if i == dim else 1 for i in range(x.ndim)])


def _limits(to: DType) -> tuple[int, int]:
    signed = to.family == "int"
    return (-(2 ** (to.bits - 1)) if signed else 0, 2 ** (to.bits - signed) - 1)


@op("x:real, scale:float, zero? -> y")
def quantize_linear(
    x: Any,
    scale: Any,
    zero: Any = None,
    *,
    to: DType,
    zero_source: DType,
    dim: int = 0,
    block: int = 0,
    precision: DType = DType.F32,
    saturate: bool = True,
) -> Any:
    """round(x / scale) + zero as ``to``, ties to even, saturated (ONNX QuantizeLinear).

    scale: one, one per index of ``dim``, or one per ``block`` elements of it. precision: where x / scale is computed.
    """
    wide = to_torch(precision)
    ratio = x.to(wide) / _spread(decode(scale, _held(scale)).to(wide), x, dim, block)
    offset = None if zero is None else _spread(decode(zero, zero_source).float(), x, dim, block)
    if not to.is_integer:
        return convert.reference(
            ratio.float() if offset is None else ratio.float() + offset, to=to, source=DType.F32, saturate=saturate
        )
    codes = ratio.float().round() if offset is None else ratio.float().round() + offset
    low, high = _limits(to)
    return codes.clamp(low, high).to(torch.int32).to(to_torch(to))


def _held(scale: Any) -> DType:
    return DType.E8M0 if scale.dtype is torch.float8_e8m0fnu else DType.F32


@quantize_linear.infer
def _(x: TensorType, scale: TensorType, zero: Any = None, *, to: DType, dim: int = 0, **_: Any) -> Type:
    if scale.rank > 1 and scale.rank != x.rank:
        raise TypeFault(f"scale is {scale}; expected one, one per index of dim {dim}, or blocks of {x}")
    return TensorType(to, x.dims)


@op("x, scale:float, zero? -> y")
def dequantize_linear(
    x: Any, scale: Any, zero: Any = None, *, to: DType, source: DType, dim: int = 0, block: int = 0
) -> Any:
    """(x - zero) * scale as ``to`` (ONNX DequantizeLinear); scales lie as in quantize_linear."""
    real = decode(x, source)
    real = real.double() if real.dtype == torch.int32 else real.float()
    if zero is not None:
        real = real - _spread(decode(zero, source), x, dim, block).to(real.dtype)
    return (real * _spread(decode(scale, _held(scale)).float(), x, dim, block)).to(to_torch(to))


@dequantize_linear.infer
def _(x: TensorType, scale: TensorType, zero: Any = None, *, to: DType, source: DType, dim: int = 0, **_: Any) -> Type:
    if x.dtype is not source:
        raise TypeFault(f"x is {x}; source says {source}")
    return TensorType(to, x.dims)


@quantize_linear.samples
def _(s: Sampler) -> Iterator[Sample]:
    attrs: dict[str, Any] = {"to": DType.I8, "zero_source": DType.I8}
    scale = s.real(low=0.1, high=1.0, dtype=DType.F32)
    yield (s.real(4, 6), scale), attrs
    yield (s.real(4, 6), s.real(6, low=0.1, high=1.0, dtype=DType.F32), s.ints(6, dtype=DType.I8)), {**attrs, "dim": 1}
    yield (s.real(4, 6), s.real(4, 3, low=0.1, high=1.0, dtype=DType.F32)), {**attrs, "dim": 1, "block": 2}
    yield (s.real(4, 6), scale), {"to": DType.F8E4M3FN, "zero_source": DType.F8E4M3FN}


@dequantize_linear.samples
def _(s: Sampler) -> Iterator[Sample]:
    attrs: dict[str, Any] = {"to": DType.F32, "source": DType.I8}
    codes = s.ints(4, 6, low=-9, high=9, dtype=DType.I8)
    yield (codes, s.real(dtype=DType.F32)), attrs
    yield (codes, s.real(4, dtype=DType.F32), s.ints(4, dtype=DType.I8)), attrs
    yield (codes, s.real(4, 3, dtype=DType.F32)), {**attrs, "dim": 1, "block": 2}
