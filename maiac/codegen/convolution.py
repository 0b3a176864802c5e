"""Convolutions as the kernel library sees them: nineteen numbers, an algorithm, and the memory that it borrows."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from maiac.ir.dims import DimLike, evaluate

from .library import library
from .lowering import Packing

KINDS = ("direct", "depthwise", "winograd2", "winograd4", "lean2", "lean4")  # as in conv.h


@dataclass(frozen=True)
class Convolution:
    """The fields of ``maia::Conv`` in order, and the algorithm."""

    fields: tuple[DimLike, ...]
    kind: str

    @staticmethod
    def choose(fields: Sequence[DimLike], likely: Mapping[str, int]) -> Convolution:
        """The algorithm that should be fastest at the likely sizes."""
        numbers = [evaluate(f, likely) for f in fields]
        return Convolution(tuple(fields), KINDS[_ask("choose")(_array(numbers))])

    def workspace(self, numbers: Sequence[int]) -> int:
        """Bytes that a call borrows, once the fields are numbers."""
        return _ask("workspace")(ctypes.c_int64(KINDS.index(self.kind)), _array(numbers))

    def packing(self, numbers: Sequence[int]) -> Packing:
        """How the weights are laid out; of the fields, those of the weights matter."""
        body = (
            "    Conv geometry;\n"
            "    memcpy(&geometry, s, sizeof geometry);\n"
            f"    if (!p) return conv_packed_bytes(ConvKind::{self.kind}, geometry);\n"
            f"    conv_pack(ConvKind::{self.kind}, geometry, (const float*)p[0], p[3]);\n"
            "    return 0;\n"
        )
        return Packing("conv", body, tuple(numbers), ("conv",))


def _array(numbers: Sequence[int]) -> ctypes.Array[ctypes.c_int64]:
    return (ctypes.c_int64 * len(numbers))(*numbers)


@functools.cache
def _ask(what: str) -> Callable[..., int]:
    """A function of conv.cpp that gives a number."""
    function: Any = getattr(library("conv"), f"maia_conv_{what}")
    function.restype = ctypes.c_int64
    return function
