"""Complex numbers as pairs, and Fourier transforms of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from ..dims import DimLike
from ..dtypes import DType
from ..errors import TypeFault
from ..opdef import op
from ..types import TensorType, Type
from .rules import axis
from .sampling import Sample, Sampler

_PAIR = {DType.C64: DType.F32, DType.C128: DType.F64}
_COMPLEX = {real: c for c, real in _PAIR.items()}
_SCALE = {"none": "backward", "ortho": "ortho", "forward": "forward"}  # ours: what this transform divides by
_INVERSE = {"none": "forward", "ortho": "ortho", "forward": "backward"}


@op("x:complex -> y", alias="x")
def view_as_real(x: Any) -> Any:
    """Complex numbers as (real, imaginary) pairs along a new last dim."""
    return torch.view_as_real(x.resolve_conj())


@view_as_real.infer
def _(x: TensorType) -> Type:
    return TensorType(_PAIR[x.element], (*x.dims, 2))


@view_as_real.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield (s.real(2, 3, dtype=DType.C64),), {}
    yield (s.real(dtype=DType.C128),), {}


@op("x:float -> y", alias="x")
def view_as_complex(x: Any) -> Any:
    """(real, imaginary) pairs along the last dim as complex numbers; x is f32 or f64."""
    return torch.view_as_complex(x.contiguous())


@view_as_complex.infer
def _(x: TensorType) -> Type:
    if not x.rank or x.dims[-1] != 2 or x.element not in _COMPLEX:
        raise TypeFault(f"x is {x}; expected f32 or f64 with a last dim of 2")
    return TensorType(_COMPLEX[x.element], x.dims[:-1])


@view_as_complex.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield (s.real(4, 3, 2, dtype=DType.F32),), {}
    yield (s.real(2, dtype=DType.F64),), {}


@op("x:floatc -> y")
def fft(x: Any, *, dims: tuple[int, ...], norm: str = "none", inverse: bool = False, onesided: bool = False) -> Any:
    """The discrete Fourier transform over dims; of real x one-sided: the half of the last dim that the other mirrors.

    norm: none, ortho (by sqrt(n)) or forward (by n): what this transform, whichever direction, is divided by.
    """
    if onesided:
        return torch.fft.rfftn(x, dim=dims, norm=_SCALE[norm])
    if not x.is_complex():
        x = torch.complex(x, torch.zeros_like(x))
    return (
        torch.fft.ifftn(x, dim=dims, norm=_INVERSE[norm]) if inverse else torch.fft.fftn(x, dim=dims, norm=_SCALE[norm])
    )


@fft.infer
def _(
    x: TensorType, *, dims: tuple[int, ...], norm: str = "none", inverse: bool = False, onesided: bool = False
) -> Type:
    if norm not in _SCALE or (onesided and (inverse or x.element.is_complex)):
        raise TypeFault(f"x is {x}; a one-sided transform takes real numbers, and norm is none, ortho or forward")
    if not x.element.is_complex and x.element not in _COMPLEX:
        raise TypeFault(f"x is {x}; expected f32, f64 or complex numbers")
    out = list(x.dims)
    for d in dims:
        axis(x, d)
    if onesided:
        out[dims[-1]] = out[dims[-1]] // 2 + 1
    return TensorType(_COMPLEX.get(x.element, x.element), tuple(out))


@fft.samples
def _(s: Sampler) -> Iterator[Sample]:
    for norm in ("none", "ortho", "forward"):
        yield (s.real(4, 6, dtype=DType.F32),), {"dims": (1,), "norm": norm, "onesided": True}
        yield (s.real(4, 6, dtype=DType.C64),), {"dims": (0, 1), "norm": norm, "inverse": True}
    yield (s.real(4, 5, dtype=DType.F64),), {"dims": (-1,)}


@op("x:complex -> y")
def fft_real(x: Any, *, dims: tuple[int, ...], size: int, norm: str = "none") -> Any:
    """The inverse transform of a one-sided half (see fft), whose last dim becomes ``size`` real numbers."""
    sizes = [x.shape[d] for d in dims[:-1]] + [size]
    return torch.fft.irfftn(x, s=sizes, dim=dims, norm=_INVERSE[norm])


@fft_real.infer
def _(x: TensorType, *, dims: tuple[int, ...], size: DimLike, norm: str = "none") -> Type:
    if norm not in _SCALE:
        raise TypeFault(f"norm {norm!r} is not none, ortho or forward")
    out = list(x.dims)
    out[axis(x, dims[-1])] = size
    return TensorType(_PAIR[x.element], tuple(out))


@fft_real.samples
def _(s: Sampler) -> Iterator[Sample]:
    for norm in ("none", "ortho", "forward"):
        yield (s.real(4, 4, dtype=DType.C64),), {"dims": (1,), "size": 6, "norm": norm}
        yield (s.real(4, 3, dtype=DType.C128),), {"dims": (0, 1), "size": 5, "norm": norm}
