"""Conversions to and from element types that torch holds as codes, or rounds otherwise than ONNX asks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from ..dtypes import DType
from ..errors import TypeFault
from ..opdef import op
from ..types import TensorType, Type
from .rules import keep_split
from .sampling import Sample, Sampler
from .values import numbers, small_floats, to_torch

F4_MAGNITUDES: list[float] = small_floats(DType.F4E2M1)[:8].tolist()  # by code
_F8_LARGEST = {DType.F8E4M3FN: 448.0, DType.F8E5M2: 57344.0, DType.F8E4M3FNUZ: 240.0, DType.F8E5M2FNUZ: 57344.0}
_NARROW = (DType.I4, DType.U4, DType.I2, DType.U2)


@op("x -> y", linear="")
def convert(x: Any, *, to: DType, source: DType, saturate: bool = True, rounding: str = "up") -> Any:
    """Elements of ``source`` as ``to``, where either is f8, f4e2m1, e8m0 or an integer under 8 bits.

    saturate: what is too large for an f8 or e8m0 becomes the greatest one, else NaN or infinity. rounding of e8m0: up,
    down or nearest. f4e2m1 always saturates and rounds to nearest even. Integers under 8 bits wrap.
    """
    plain = decode(x, source)
    if to is DType.BOOL:
        return plain != 0
    if to in _F8_LARGEST:
        return _to_f8(plain.float(), to, saturate)
    if to is DType.F4E2M1:
        return f4_codes(plain.float())
    if to is DType.E8M0:
        return _to_e8m0(plain.float(), saturate, rounding)
    if to in _NARROW:
        return wrap(plain.to(torch.int64), to)
    return plain.to(to_torch(to))


@convert.infer
def _(x: TensorType, *, to: DType, source: DType, saturate: bool = True, rounding: str = "up") -> Type:
    if x.dtype is not source:
        raise TypeFault(f"x is {x}; source says {source}")
    if rounding not in ("up", "down", "nearest"):
        raise TypeFault(f"rounding {rounding!r} is not up, down or nearest")
    return TensorType(to, x.dims)


@convert.shard
def _(results: list[Type], x: TensorType, **_: Any) -> Type:
    if x.owed:
        raise TypeFault(f"convert: the parts of a sum that is owed cannot be rounded: {x}", "MAIA0108")
    return keep_split(results[0], x.split, ())


def decode(x: Any, source: DType) -> Any:
    """Codes as numbers that torch computes with; other types as they are."""
    if source in _F8_LARGEST:
        return x.float()
    if source is DType.E8M0:
        codes = x.view(torch.uint8)
        return torch.where(codes == 255, torch.nan, torch.exp2(codes.double() - 127)).float()
    return numbers(x, source)


def wrap(x: Any, to: DType) -> Any:
    """The low bits of integers, sign-extended for signed types, one to a byte."""
    low = x & (2**to.bits - 1)
    if to.family == "int":
        low = torch.where(low >= 2 ** (to.bits - 1), low - 2**to.bits, low)
    return low.to(to_torch(to))


def _to_f8(x: Any, to: DType, saturate: bool) -> Any:
    limit = _F8_LARGEST[to]
    near = x.clamp(-limit, limit).to(to_torch(to))  # NaN passes through clamp
    if saturate:
        return near
    # What rounds past the greatest code: halfway to the next one, which a tie reaches where that code is odd.
    half = {DType.F8E4M3FN: 464.0, DType.F8E4M3FNUZ: 248.0}.get(to, 61440.0)
    beyond = x.abs() > half if to is DType.F8E4M3FN else x.abs() >= half
    over = torch.full_like(x, float("inf") if to is DType.F8E5M2 else float("nan")).copysign(x)
    return torch.where(beyond, over.to(to_torch(to)).view(torch.uint8), near.view(torch.uint8)).view(to_torch(to))


def f4_codes(x: Any) -> Any:
    """Codes of f4e2m1 nearest to x, ties to even, one to a byte."""
    magnitude = x.abs()
    code = torch.zeros_like(x, dtype=torch.uint8)
    for i, (low, high) in enumerate(itertools.pairwise(F4_MAGNITUDES)):
        middle = (low + high) / 2
        code += (magnitude >= middle) if i % 2 else (magnitude > middle)
    signed = code | (torch.signbit(x).to(torch.uint8) << 3)
    return torch.where(x.isnan(), 8, signed).to(torch.uint8)  # f4e2m1 has no NaN; ONNX gives -0


def _to_e8m0(x: Any, saturate: bool, rounding: str) -> Any:
    mantissa, exponent = torch.frexp(x.abs())
    code = exponent.to(torch.int64) + 126
    if rounding == "up":
        code = code + (mantissa > 0.5)
    if rounding == "nearest":
        code = code + (mantissa >= 0.75)
    code = torch.where(x == 0, -1, torch.where(x.isinf(), 255, code))
    outside = (code > 254) | (code < 0)
    code = code.clamp(0, 254) if saturate else torch.where(outside, 255, code)
    return torch.where(x.isnan(), 255, code).to(torch.uint8).view(torch.float8_e8m0fnu)


@convert.samples
def _(s: Sampler) -> Iterator[Sample]:
    for to in (DType.F8E4M3FN, DType.F8E5M2, DType.F4E2M1, DType.E8M0, DType.I4, DType.U2):
        yield (s.real(4, 6, dtype=DType.F32),), {"to": to, "source": DType.F32}
    yield (s.real(4, 6, dtype=DType.F8E4M3FN),), {"to": DType.F16, "source": DType.F8E4M3FN, "saturate": False}


@op("x -> y", linear="")
def bit_cast(x: Any, *, to: DType) -> Any:
    """The same bits as another element type of the same width."""
    return x.view(to_torch(to))


@bit_cast.infer
def _(x: TensorType, *, to: DType) -> Type:
    if x.element.bits != to.bits or to.bits < 8:
        raise TypeFault(f"x is {x}, whose elements have {x.element.bits} bits; {to} has {to.bits}")
    return TensorType(to, x.dims)


@bit_cast.shard
def _(results: list[Type], x: TensorType, *, to: DType) -> Type:
    if x.owed:
        raise TypeFault(f"bit_cast: the bits of a sum that is owed are not there yet: {x}", "MAIA0108")
    return keep_split(results[0], x.split, ())


@bit_cast.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield (s.real(4, 6, dtype=DType.F32),), {"to": DType.I32}
    yield (s.ints(4, 6),), {"to": DType.F64}


@op("x:u64[~b], y:u64[~b] -> z[~b]", dtype="u64", domain=(1, 9))
def unsigned_div(x: Any, y: Any) -> Any:
    """x / y rounded down, of 64-bit unsigned integers, which torch's own kernels do not divide."""
    return torch.from_numpy(np.asarray(x.numpy() // y.numpy()))
