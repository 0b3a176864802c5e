"""Fourier transforms and mel filters. Complex numbers are a last dim of two: real and imaginary part (ONNX)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from ..dims import DimLike
from ..dtypes import DType
from ..errors import TypeFault
from ..opdef import op, unknown
from ..types import TensorType, Type
from .sampling import Sample, Sampler
from .values import to_torch


@op("x:float, length:int?, axis:int? -> y")
def dft(
    x: Any, length: Any = None, axis: Any = None, *, dim: int = 1, inverse: bool = False, onesided: bool = False
) -> Any:
    """The discrete Fourier transform of x[*s 1] or x[*s 2] along an axis, cut or padded with zeros to a length.

    axis: where given, it stands for ``dim``. onesided: only frequencies up to half; a one-sided inverse is real.
    """
    at = int(axis) if axis is not None else dim
    at = at + x.ndim if at < 0 else at
    size = None if length is None else int(length)
    wide = x if x.dtype in (torch.float32, torch.float64) else x.float()
    signal = torch.view_as_complex(wide.contiguous()) if x.shape[-1] == 2 else wide[..., 0]
    if onesided and not inverse and signal.is_complex():
        signal = signal.real
    made = _transform(("i" if inverse else "") + ("rfft" if onesided else "fft"), signal, size, at)
    return (torch.view_as_real(made) if made.is_complex() else made[..., None]).to(x.dtype)


def _transform(name: str, x: Any, size: int | None, dim: int) -> Any:
    """On the host NumPy's transform: ONNX's own, whose rounding its tests expect. torch's on other devices."""
    if x.device.type != "cpu":
        return getattr(torch.fft, name)(x, size, dim)
    return torch.from_numpy(getattr(np.fft, name)(x.detach().numpy(), size, dim))


@dft.infer
def _(
    x: TensorType, length: Any = None, axis: Any = None, *, dim: int = 1, inverse: bool = False, onesided: bool = False
) -> Type:
    if x.rank < 2 or x.dims[-1] not in (1, 2):
        raise TypeFault(f"x is {x}; its last dim must be 1 (real) or 2 (complex)")
    last = 1 if inverse and onesided else 2
    if axis is not None:
        return TensorType(x.dtype, (*(unknown(i) for i in range(x.rank - 1)), last))
    at = dim % x.rank
    size: DimLike = x.dims[at]
    if length is not None:
        size = unknown(at)
    elif onesided:
        size = (size - 1) * 2 if inverse else size // 2 + 1
    return TensorType(x.dtype, (*(size if i == at else d for i, d in enumerate(x.dims[:-1])), last))


@op("x:float, step:int, window:float?, length:int? -> y")
def stft(x: Any, step: Any, window: Any = None, length: Any = None, *, onesided: bool = True) -> Any:
    """Fourier transforms [n frames bins 2] of windows of x[n t] or x[n t 1|2] that start every ``step`` elements."""
    size = int(length) if length is not None else window.shape[0]
    hop = int(step)
    signal = x if x.ndim == 2 else torch.view_as_complex(x.contiguous()) if x.shape[-1] == 2 else x[..., 0]
    frames = signal.unfold(1, size, hop)
    if window is not None:
        frames = frames * window
    made = torch.fft.rfft(frames) if onesided and not frames.is_complex() else torch.fft.fft(frames)
    if onesided and frames.is_complex():
        made = made[..., : size // 2 + 1]
    return torch.view_as_real(made).to(x.dtype)


@stft.infer
def _(x: TensorType, *rest: Any, onesided: bool = True) -> Type:
    return TensorType(x.dtype, (x.dims[0], unknown(0), unknown(1), 2))


@op("bins:int, size:int, rate:int, low:float, high:float -> y")
def mel_weights(bins: Any, size: Any, rate: Any, low: Any, high: Any, *, dtype: DType = DType.F32) -> Any:
    """[size // 2 + 1, bins]: triangular filters evenly spaced in mel (ONNX MelWeightMatrix)."""
    count, spectrum = int(bins), int(size) // 2 + 1
    edges = [2595 * torch.log10(1 + f.double() / 700) for f in (low, high)]
    mels = edges[0] + torch.arange(count + 2).double() * (edges[1] - edges[0]) / (count + 2)
    at = ((700 * (10 ** (mels / 2595) - 1)) * (int(size) + 1) / int(rate)).floor().long()
    out = torch.zeros(spectrum, count, dtype=torch.float64)
    for i in range(count):
        first, middle, last = (int(v) for v in at[i : i + 3])
        if middle == first:
            out[middle, i] = 1
        else:
            out[first : middle + 1, i] = (torch.arange(first, middle + 1) - first) / (middle - first)
        if last != middle:
            out[middle:last, i] = (last - torch.arange(middle, last)) / (last - middle)
    return out.to(to_torch(dtype))


@mel_weights.infer
def _(*operands: TensorType, dtype: DType = DType.F32) -> Type:
    return TensorType(dtype, (unknown(0), unknown(1)))


@dft.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield (s.real(2, 8, 1, dtype=DType.F32),), {"dim": 1, "onesided": True}
    yield (s.real(2, 8, 2, dtype=DType.F32),), {"dim": -2, "inverse": True}
    yield (s.real(2, 5, 2, dtype=DType.F32),), {"dim": 1, "inverse": True, "onesided": True}
    yield (s.real(2, 8, 1, dtype=DType.F64), torch.tensor(6), torch.tensor(1)), {}


@stft.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield (s.real(2, 16, 1, dtype=DType.F32), torch.tensor(4), s.real(8, dtype=DType.F32)), {}
    yield (s.real(2, 16, dtype=DType.F32), torch.tensor(4), None, torch.tensor(8)), {"onesided": False}


@mel_weights.samples
def _(s: Sampler) -> Iterator[Sample]:
    yield (torch.tensor(4), torch.tensor(16), torch.tensor(8000), torch.tensor(0.0), torch.tensor(4000.0)), {}
