"""What IR types are at run time: torch dtypes, and quantized tensors as codes with scales."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import ml_dtypes
import numpy as np
import torch

from ..dtypes import DType
from ..types import Quantized

# Elements of less than a byte live one code to an int8 or uint8 element until a kernel packs them.
TORCH: dict[DType, torch.dtype] = {
    DType.F64: torch.float64,
    DType.F32: torch.float32,
    DType.F16: torch.float16,
    DType.BF16: torch.bfloat16,
    DType.F8E4M3FN: torch.float8_e4m3fn,
    DType.F8E5M2: torch.float8_e5m2,
    DType.F8E4M3FNUZ: torch.float8_e4m3fnuz,
    DType.F8E5M2FNUZ: torch.float8_e5m2fnuz,
    DType.E8M0: torch.float8_e8m0fnu,
    DType.F6E3M2: torch.uint8,
    DType.F6E2M3: torch.uint8,
    DType.F4E2M1: torch.uint8,
    DType.I64: torch.int64,
    DType.I32: torch.int32,
    DType.I16: torch.int16,
    DType.I8: torch.int8,
    DType.I4: torch.int8,
    DType.I2: torch.int8,
    DType.U64: torch.uint64,
    DType.U32: torch.uint32,
    DType.U16: torch.uint16,
    DType.U8: torch.uint8,
    DType.U4: torch.uint8,
    DType.U2: torch.uint8,
    DType.BOOL: torch.bool,
    DType.C64: torch.complex64,
    DType.C128: torch.complex128,
}
FROM_TORCH: dict[torch.dtype, DType] = {t: d for d, t in TORCH.items() if d.bits >= 8}


def to_torch(dtype: DType) -> torch.dtype:
    """The torch dtype that holds elements of an IR dtype."""
    return TORCH[dtype]


# Floats under a byte, by their names in ml_dtypes, which knows what each code stands for (OCP MX 1.0, section 5.3).
_SMALL_FLOATS = {
    DType.F6E3M2: "float6_e3m2fn",
    DType.F6E2M3: "float6_e2m3fn",
    DType.F4E2M1: "float4_e2m1fn",
}


@lru_cache(maxsize=8)
def small_floats(dtype: DType) -> np.ndarray:
    """The f32 number of each code of a float type under a byte, by code.

    No tensor: one that was made while torch.compile traces would be fake, and stay so in the cache.
    """
    codes = np.arange(2**dtype.bits, dtype=np.uint8)
    return codes.view(getattr(ml_dtypes, _SMALL_FLOATS[dtype])).astype(np.float32)


def numbers(codes: torch.Tensor, storage: DType) -> torch.Tensor:
    """Codes of a storage type as numbers that torch computes with: itself, but for floats under a byte."""
    if storage not in _SMALL_FLOATS:
        return codes
    return torch.from_numpy(small_floats(storage))[codes.long() & (2**storage.bits - 1)]


@dataclass(slots=True)
class QTensor:
    """A quantized tensor: real = (codes - zero_point) * scale, scales laid out as ``Quantized.scale_shape`` says."""

    codes: torch.Tensor
    scale: torch.Tensor
    zero_point: torch.Tensor | None
    type: Quantized

    @property
    def shape(self) -> torch.Size:
        """The shape of the codes."""
        return self.codes.shape

    @property
    def ndim(self) -> int:
        """The rank of the codes."""
        return self.codes.ndim

    def numbers(self) -> torch.Tensor:
        """The codes as numbers, without scales and zero points."""
        return numbers(self.codes, self.type.storage)

    def dequantize(self, dtype: torch.dtype) -> torch.Tensor:
        """The real values, rounded to ``dtype``."""
        scale, zero = self._spread(self.scale).float(), self.zero_point
        real = self.numbers().float()
        if zero is not None:
            real = real - self._spread(zero).float()
        return (real * scale).to(dtype)

    def part(self, slices: tuple[slice, ...]) -> QTensor:
        """The part of the tensor that slices of step 1 select, in storage of its own; cuts fall on block edges."""
        full = (*slices, *[slice(None)] * (self.ndim - len(slices)))
        scales: list[slice] = []
        for dim, (cut, size) in enumerate(zip(full, self.shape, strict=True)):
            start, stop, _ = cut.indices(size)
            each = size if self.scale.shape[dim] == 1 else block_of(self.type, dim - self.ndim)
            assert self.scale.shape[dim] == 1 or start % each == 0, f"a cut at {start} divides a block of {each}"
            scales.append(slice(None) if self.scale.shape[dim] == 1 else slice(start // each, -(-stop // each)))
        zero = None if self.zero_point is None else self.zero_point[tuple(scales)].clone()
        return QTensor(self.codes[full].clone(), self.scale[tuple(scales)].clone(), zero, self.type)

    def _spread(self, scale: torch.Tensor) -> torch.Tensor:
        """Repeat scales along blocked dims to the codes' size."""
        for dim, (have, want) in enumerate(zip(scale.shape, self.codes.shape, strict=True)):
            if have not in (1, want):
                each = block_of(self.type, dim - self.codes.ndim)
                scale = scale.repeat_interleave(each, dim).narrow(dim, 0, want)
        return scale


def block_of(type: Quantized, dim: int) -> int:
    """Elements per scale along a dim counted from the end (-1 is the last)."""
    if type.per in ("group", "mx"):
        return (type.at[0] if type.per == "group" else 32) if dim == -1 else 1
    if type.per == "block" and dim >= -2:
        return type.at[dim]
    return 1


def part(x: torch.Tensor | QTensor, slices: tuple[slice, ...]) -> torch.Tensor | QTensor:
    """A part of a plain or quantized tensor in storage of its own, so that the whole may be let go."""
    return x.part(slices) if isinstance(x, QTensor) else x[slices].clone()


def real(x: torch.Tensor | QTensor, like: torch.Tensor) -> torch.Tensor:
    """The operand as real numbers in the dtype of ``like``; a plain tensor as it is."""
    return x.dequantize(like.dtype) if isinstance(x, QTensor) else x
