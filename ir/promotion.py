"""The common dtype of several operands: torch's rule, in which a 0-dim operand widens only to a higher family."""

from __future__ import annotations

from collections.abc import Sequence

from .dtypes import BY_NAME, DType
from .types import TensorType

_FAMILY = {"bool": 0, "uint": 1, "int": 1, "float": 2, "complex": 3}
_WIDTH = {d: i for i, d in enumerate([DType.F16, DType.BF16, DType.F32, DType.F64])}


def promote(types: Sequence[TensorType]) -> DType:
    """The common dtype of operands under torch's promotion rule."""
    dims, zero = [t for t in types if t.rank], [t for t in types if not t.rank]
    winner = _common([t.element for t in dims])
    scalar = _common([t.element for t in zero])
    if winner is None or scalar is None:
        found = winner or scalar
        assert found is not None
        return found
    if _FAMILY[scalar.family] <= _FAMILY[winner.family]:
        return winner
    if winner.is_float and scalar.is_complex:  # the width of the tensor, the family of the scalar
        return DType.C128 if winner is DType.F64 else DType.C64
    return scalar


def _common(dtypes: Sequence[DType]) -> DType | None:
    out: DType | None = None
    for d in dtypes:
        out = d if out is None else _pair(out, d)
    return out


def _pair(a: DType, b: DType) -> DType:
    if a is b:
        return a
    fa, fb = _FAMILY[a.family], _FAMILY[b.family]
    if fa != fb:
        high, low = (a, b) if fa > fb else (b, a)
        return DType.C128 if high is DType.C64 and low is DType.F64 else high
    if a.is_float:
        if {a, b} == {DType.F16, DType.BF16}:
            return DType.F32
        return max(a, b, key=lambda d: _WIDTH.get(d, -1))
    if a.family == b.family:
        return a if a.bits >= b.bits else b
    signed, unsigned = (a, b) if a.family == "int" else (b, a)
    return signed if signed.bits > unsigned.bits else BY_NAME[f"i{min(64, unsigned.bits * 2)}"]
