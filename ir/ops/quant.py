"""Moving between real and quantized numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from ..dtypes import DType
from ..errors import TypeFault
from ..opdef import op
from ..types import MX_BLOCK, Quantized, TensorType, Type
from .sampling import Sample, Sampler
from .values import QTensor, to_torch

# Greatest magnitude of each storage dtype; integers are used symmetrically, so -128 stays free.
LARGEST: dict[DType, float] = {
    DType.F8E4M3FN: 448.0,
    DType.F8E5M2: 57344.0,
    DType.I8: 127.0,
    DType.I4: 7.0,
    DType.I2: 1.0,
    DType.U8: 255.0,
    DType.U4: 15.0,
}


def scheme(to: DType, per: str, at: tuple[int, ...], scale: DType) -> Quantized:
    """The quantized element type that the attributes of ``quantize`` name."""
    return Quantized(to, per, at, scale)


def absmax_scale(x: torch.Tensor, dtype: Quantized) -> torch.Tensor:
    """The scales that map the greatest magnitude of each scaled part to the greatest code; 1 for parts of zeros."""
    shape = dtype.scale_shape(tuple(x.shape))
    greatest = x.float().abs()
    for dim, want in enumerate(shape):
        have = greatest.shape[dim]
        assert isinstance(want, int)
        if want == have:
            continue
        each = (
            -(-have // want)
            if want == 1
            else {-1: dtype.at[-1] if dtype.at else MX_BLOCK}.get(dim - x.ndim, dtype.at[0] if dtype.at else 1)
        )
        short = each * want - have
        if short:
            greatest = torch.nn.functional.pad(greatest.movedim(dim, -1), (0, short)).movedim(-1, dim)
        greatest = greatest.unflatten(dim, (want, each)).amax(dim + 1)
    scale = greatest / LARGEST[dtype.storage]
    if dtype.scale is DType.E8M0:
        # OCP MX 1.0 section 6.3: the power of two of the greatest element less that of the greatest code.
        power = torch.floor(torch.log2(greatest)) - torch.floor(torch.log2(torch.tensor(LARGEST[dtype.storage])))
        scale = torch.exp2(power.clamp(-127, 127))
    return torch.where(greatest > 0, scale, torch.ones_like(scale)).to(to_torch(dtype.scale))


def encode(x: torch.Tensor, dtype: Quantized, scale: torch.Tensor) -> QTensor:
    """Codes of x under given scales: divided, rounded to nearest even, clamped."""
    q = QTensor(x, scale, None, dtype)
    ratio = x.float() / q._spread(scale.float())  # pyright: ignore[reportPrivateUsage]
    limit = LARGEST[dtype.storage]
    if dtype.storage.is_integer:
        ratio = ratio.round()
    codes = ratio.clamp(0.0 if dtype.storage.family == "uint" else -limit, limit).to(to_torch(dtype.storage))
    return QTensor(codes, scale, None, dtype)


@op("x:float, scale? -> y")
def quantize(
    x: Any,
    scale: Any = None,
    *,
    to: DType,
    per: str = "tensor",
    at: tuple[int, ...] = (),
    scale_dtype: DType = DType.F32,
) -> Any:
    """x as codes of ``to`` with scales of granularity ``per``; scales from the greatest magnitude where not given."""
    dtype = scheme(to, per, at, scale_dtype)
    return encode(x, dtype, absmax_scale(x, dtype) if scale is None else scale)


@quantize.infer
def _(
    x: TensorType,
    scale: Any = None,
    *,
    to: DType,
    per: str = "tensor",
    at: tuple[int, ...] = (),
    scale_dtype: DType = DType.F32,
) -> Type:
    if to not in LARGEST:
        raise TypeFault(f"cannot quantize to {to}; expected one of {', '.join(map(str, LARGEST))}")
    return TensorType(scheme(to, per, at, scale_dtype), x.dims)


@quantize.shard
def _(
    results: list[Type], x: TensorType, scale: Any = None, *, per: str = "tensor", at: tuple[int, ...] = (), **_: Any
) -> Type:
    dtype = results[0].dtype if isinstance(results[0], TensorType) else None
    assert isinstance(dtype, Quantized) and isinstance(results[0], TensorType)
    scales = dtype.scale_shape(x.dims)
    if x.owed or any(axes and scales[i] == 1 and x.dims[i] != 1 for i, axes in enumerate(x.split)):
        raise TypeFault(f"quantize: one scale would lie on several ranks of {x}", "MAIA0108")
    return results[0].with_split(x.split)


@op("x:quantized -> y")
def dequantize(x: Any, *, to: DType = DType.F32) -> Any:
    """The real numbers that codes and scales stand for."""
    return x.dequantize(to_torch(to))


@dequantize.infer
def _(x: TensorType, *, to: DType = DType.F32) -> Type:
    if not isinstance(x.dtype, Quantized):
        raise TypeFault(f"x is {x}; expected a quantized type")
    return TensorType(to, x.dims)


@dequantize.shard
def _(results: list[Type], x: TensorType, *, to: DType = DType.F32) -> Type:
    assert isinstance(results[0], TensorType)
    return results[0].with_split(x.split, x.owed)


@op("x:float -> y")
def fake_quantize(
    x: Any, *, to: DType, per: str = "tensor", at: tuple[int, ...] = (), scale_dtype: DType = DType.F32
) -> Any:
    """quantize and dequantize in one: x with the rounding of the quantized type, in the dtype of x."""
    dtype = scheme(to, per, at, scale_dtype)
    return encode(x, dtype, absmax_scale(x, dtype)).dequantize(x.dtype)


@fake_quantize.infer
def _(x: TensorType, *, to: DType, **_: Any) -> Type:
    if to not in LARGEST:
        raise TypeFault(f"cannot quantize to {to}; expected one of {', '.join(map(str, LARGEST))}")
    return x.whole()


SCHEMES: tuple[dict[str, Any], ...] = (
    {"to": DType.I8},
    {"to": DType.I8, "per": "channel", "at": (0,)},
    {"to": DType.F8E4M3FN, "per": "token"},
    {"to": DType.I4, "per": "group", "at": (4,)},
    {"to": DType.F8E5M2, "per": "block", "at": (2, 4)},
    {"to": DType.F8E4M3FN, "per": "mx", "scale_dtype": DType.E8M0},
)


@quantize.samples
def _(s: Sampler) -> Iterator[Sample]:
    for attrs in SCHEMES:
        yield (s.real(4, 64 if attrs.get("per") == "mx" else 8),), attrs


@fake_quantize.samples
def _(s: Sampler) -> Iterator[Sample]:
    for attrs in SCHEMES:
        yield (s.real(4, 64 if attrs.get("per") == "mx" else 8),), attrs


@dequantize.samples
def _(s: Sampler) -> Iterator[Sample]:
    for attrs in SCHEMES:
        x = s.real(4, 64 if attrs.get("per") == "mx" else 8)
        yield (quantize.reference(x, **attrs),), {"to": s.dtype}
