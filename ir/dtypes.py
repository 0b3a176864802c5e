"""Element types: name, width in bits, and family."""

from __future__ import annotations

from enum import Enum


class DType(Enum):
    """An element type. ``str(DType.BF16)`` is its name in text, ``bf16``."""

    F64 = ("f64", 64, "float")
    F32 = ("f32", 32, "float")
    F16 = ("f16", 16, "float")
    BF16 = ("bf16", 16, "float")
    F8E4M3FN = ("f8e4m3fn", 8, "float")
    F8E5M2 = ("f8e5m2", 8, "float")
    F8E4M3FNUZ = ("f8e4m3fnuz", 8, "float")
    F8E5M2FNUZ = ("f8e5m2fnuz", 8, "float")
    F6E3M2 = ("f6e3m2", 6, "float")
    F6E2M3 = ("f6e2m3", 6, "float")
    F4E2M1 = ("f4e2m1", 4, "float")
    E8M0 = ("e8m0", 8, "float")
    I64 = ("i64", 64, "int")
    I32 = ("i32", 32, "int")
    I16 = ("i16", 16, "int")
    I8 = ("i8", 8, "int")
    I4 = ("i4", 4, "int")
    I2 = ("i2", 2, "int")
    U64 = ("u64", 64, "uint")
    U32 = ("u32", 32, "uint")
    U16 = ("u16", 16, "uint")
    U8 = ("u8", 8, "uint")
    U4 = ("u4", 4, "uint")
    U2 = ("u2", 2, "uint")
    BOOL = ("bool", 8, "bool")
    C64 = ("c64", 64, "complex")
    C128 = ("c128", 128, "complex")
    STR = ("str", 0, "string")

    def __init__(self, text: str, bits: int, family: str) -> None:
        self.text = text
        self.bits = bits
        self.family = family

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return self.text

    @property
    def is_float(self) -> bool:
        """A real floating-point type, down to the 4-bit ones."""
        return self.family == "float"

    @property
    def is_integer(self) -> bool:
        """A signed or unsigned integer; bool is neither."""
        return self.family in ("int", "uint")

    @property
    def is_complex(self) -> bool:
        """A pair of floats."""
        return self.family == "complex"

    def bytes_for(self, elements: int) -> int:
        """Bytes that so many elements take when packed."""
        return (elements * self.bits + 7) // 8


BY_NAME: dict[str, DType] = {d.text: d for d in DType}
