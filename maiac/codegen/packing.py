"""How weights become panels: the text of packing functions, from the type of the weight."""

from __future__ import annotations

from maiac.ir.dtypes import DType
from maiac.ir.types import Quantized, TensorType

from .expr import Unsupported
from .lowering import Packing, numbers

# The dtype of codes or elements -> (how panels hold them, what the library calls them in memory).
_PLAIN = {DType.F32: ("f32", "f32"), DType.BF16: ("bf16", "bf16"), DType.F16: ("f16", "f16")}
_CODES = {
    DType.I8: ("i8", "i8"),
    DType.U8: ("u8", "u8"),
    DType.I4: ("i4", "i4"),
    DType.U4: ("i4", "u4"),
    DType.F8E4M3FN: ("f8e4m3", "f8e4m3"),
    DType.F8E5M2: ("f8e5m2", "f8e5m2"),
    DType.F4E2M1: ("f4e2m1", "f4e2m1"),
}


def matrix(type: TensorType, flipped: bool) -> tuple[Packing, str, int, int, int]:
    """Panels of a matrix [n, k] (or [k, n], flipped): the packing, the panels' kind, n, k and the group of scales."""
    if type.rank != 2 or type.is_sharded:
        raise Unsupported(f"a weight of {type}")
    rows, columns = numbers(type.dims)
    n, k, steps = (columns, rows, (1, columns)) if flipped else (rows, columns, (columns, 1))
    if not isinstance(type.dtype, Quantized):
        if type.dtype not in _PLAIN:
            raise Unsupported(f"a weight of {type}")
        kind, memory = _PLAIN[type.dtype]
        source = f"{{Type::{memory}, p[0], s[2], s[3], nullptr, 0, 0, nullptr, 0, 0}}"
        return Packing("matrix", _body(kind, source), (n, k, *steps, 0), ("weights",)), kind, n, k, 0
    scheme = type.dtype
    if scheme.storage not in _CODES or flipped:
        raise Unsupported(f"a weight of {type}")
    kind, memory = _CODES[scheme.storage]
    group, by = _scales(scheme, k)
    kind = "u8" if scheme.zero_point and kind == "i8" else kind
    if scheme.zero_point and kind not in ("u8", "i4"):
        raise Unsupported(f"a weight of {type}")
    zeros = "p[2], s[5], s[6]" if scheme.zero_point else "nullptr, 0, 0"
    source = f"{{Type::{memory}, p[0], s[2], s[3], (const float*)p[1], s[5], s[6], {zeros}}}"
    return Packing("matrix", _body(kind, source), (n, k, *steps, group, *by), ("weights",)), kind, n, k, group


def _scales(scheme: Quantized, k: int) -> tuple[int, tuple[int, int]]:
    """How many k share a scale (0: all), and the scales' strides over n and over groups."""
    if scheme.per == "tensor":
        return 0, (0, 0)
    if scheme.per == "channel" and scheme.at == (0,):
        return 0, (1, 0)
    if scheme.per in ("group", "mx"):
        group = scheme.at[0] if scheme.per == "group" else 32
        if k % group == 0 and group % 2 == 0:
            return group, (k // group, 1)
    raise Unsupported(f"scales per {scheme.per}")


def _body(kind: str, source: str) -> str:
    """The packing function's statements; without pointers it only tells the size."""
    return (
        f"    if (!p) return packed_bytes(Weight::{kind}, s[0], s[1], s[4]);\n"
        f"    pack(Weight::{kind}, s[0], s[1], s[4], {source}, p[3]);\n"
        "    return 0;\n"
    )
