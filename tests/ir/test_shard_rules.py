"""Sharding rules that letters cannot say: what they let through, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest

from maiac.ir import DType, TensorType, get_op, tensor
from maiac.ir.errors import TypeFault

F32 = DType.F32


def split(*dims: Any, owed: bool = False, dtype: DType = F32) -> TensorType:
    """A type; a dim given as a tuple of one number is split over tp."""
    sizes = [d[0] if isinstance(d, tuple) else d for d in dims]
    axes = [("tp",) if isinstance(d, tuple) else () for d in dims]
    return tensor(dtype, *sizes).with_split(axes, ("tp",) if owed else ())


def given(name: str, *operands: TensorType | None, **attrs: Any) -> str:
    """The first result's type."""
    return str(get_op(name).result_types(operands, attrs)[0])


GOES = [
    (given, ("mean", split((4,), 6)), {"dims": (1,)}, "f32[4/tp]"),
    (given, ("mean", split(4, 6, owed=True)), {"dims": (1,)}, "f32[4]+tp"),
    (given, ("sum", split((4,), 6)), {"dims": (0,)}, "f32[6]+tp"),
    (given, ("cast", split(4, owed=True)), {"to": DType.BF16}, "bf16[4]+tp"),
    (given, ("cast", split((4,))), {"to": DType.I32}, "i32[4/tp]"),
    (given, ("pad", split((4,), 6)), {"pads": (0, 0, 1, 1)}, "f32[4/tp, 8]"),
    (given, ("reshape", split(1, 5, (8,))), {"shape": (1, 5, 2, 4)}, "f32[1, 5, 2/tp, 4]"),
    (given, ("reshape", split(1, (2,), 3, 5, 4)), {"shape": (1, 6, 5, 4)}, "f32[1, 6/tp, 5, 4]"),
    (given, ("expand", split(1, (2,), 1, 5, 4)), {"shape": (1, 2, 3, 5, 4)}, "f32[1, 2/tp, 3, 5, 4]"),
    (given, ("attention", *[split(1, (4,), 6, 8)] * 3), {}, "f32[1, 4/tp, 6, 8]"),
    (given, ("attention", split(1, (4,), 6, 8), *[split(1, 1, 6, 8)] * 2), {}, "f32[1, 4/tp, 6, 8]"),
]

STOPS = [
    ("mean", (split((4,), 6),), {"dims": (0,)}, "must be whole"),
    ("amax", (split(4, owed=True),), {}, "must be whole"),
    ("cast", (split(4, owed=True),), {"to": DType.I32}, "cannot be rounded"),
    ("pad", (split(4, owed=True),), {"pads": (1, 1)}, "must be whole"),
    ("pad", (split((4,)),), {"pads": (1, 1)}, "must be whole"),
    ("reshape", (split(4, (6,)),), {"shape": (24,)}, "major part"),
    ("layer_norm", (split(3, 4), split((4,))), {}, "must be whole"),
    ("attention", tuple([split(1, 4, (6,), 8)] + [split(1, 4, 6, 8)] * 2), {"causal": True}, "causal positions"),
    ("attention", (split(1, (4,), 6, 8), *[split(1, 2, 6, 8)] * 2), {}, "split differently"),
    ("attention", (*[split(1, 4, 6, 8)] * 3, split(6, 6, owed=True)), {}, "mask"),
]


@pytest.mark.parametrize(("call", "operands", "attrs", "wanted"), GOES)
def test_goes_through(call: Any, operands: Any, attrs: dict[str, Any], wanted: str):
    assert call(*operands, **attrs) == wanted


@pytest.mark.parametrize(("name", "operands", "attrs", "said"), STOPS)
def test_is_refused(name: str, operands: Any, attrs: dict[str, Any], said: str):
    with pytest.raises(TypeFault, match=said) as fault:
        given(name, *operands, **attrs)
    assert fault.value.code == "MAIA0108"
