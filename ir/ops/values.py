"""What IR types are at run time: torch dtypes, and quantized tensors as codes with scales."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..dtypes import DType
from ..types import Quantized

# Sub-byte integers live one code to an int8 or uint8 element until a kernel packs them.
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
FROM_TORCH: dict[torch.dtype, DType] = {
    t: d for d, t in reversed(TORCH.items()) if d not in (DType.I4, DType.I2, DType.U4, DType.U2)
}


def to_torch(dtype: DType) -> torch.dtype:
    """The torch dtype that holds elements of an IR dtype."""
    return TORCH[dtype]


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

    def dequantize(self, dtype: torch.dtype) -> torch.Tensor:
        """The real values, rounded to ``dtype``."""
        scale, zero = self._spread(self.scale).float(), self.zero_point
        real = self.codes.float()
        if zero is not None:
            real = real - self._spread(zero).float()
        return (real * scale).to(dtype)

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


def real(x: torch.Tensor | QTensor, like: torch.Tensor) -> torch.Tensor:
    """The operand as real numbers in the dtype of ``like``; a plain tensor as it is."""
    return x.dequantize(like.dtype) if isinstance(x, QTensor) else x
