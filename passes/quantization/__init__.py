"""Quantization: weights to types of fewer bits.

Read ``weights`` (what is quantized, and what became of each weight); the lazy contents are in ``passes/weights.py``.
``qdq`` folds weights that the source quantized into types. ``kv_cache`` holds caches against the dtype asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from maiac.ir import Module

from ..base import Pass, note, register
from .kv_cache import require_kv_dtype
from .qdq import fold_qdq
from .weights import SCHEMES, Entry, QuantizeReport, quantize_weights

__all__ = ["SCHEMES", "Entry", "FoldQdq", "KvCache", "QuantizeReport", "QuantizeWeights", "quantize_weights"]


@register
@dataclass(frozen=True)
class QuantizeWeights(Pass):
    """Quantize weights, one scale for each output channel.

    ``scheme``: fp8 (e4m3fn) or int8. ``skip``: shell patterns, separated by spaces, of weight or layer names to leave.
    """

    name: ClassVar[str] = "quantize"
    scheme: str = "fp8"
    skip: str = ""

    def run(self, module: Module) -> bool:
        """True where a weight was quantized."""
        report = quantize_weights(module, self.scheme, self.skip.split())
        note(str(report))
        return any(e.quantized for e in report.entries)


@register
@dataclass(frozen=True)
class KvCache(Pass):
    """Require that KV caches hold ``dtype``: nothing converts them, so another one is an error, never ignored."""

    name: ClassVar[str] = "kv_cache"
    dtype: str = "f8e4m3fn"

    def run(self, module: Module) -> bool:
        """False: the module stays as it is. MAIA0322 where it is not what was asked for."""
        require_kv_dtype(module, self.dtype)
        return False


@register
@dataclass(frozen=True)
class FoldQdq(Pass):
    """Weights that arrive as i8 codes with dequantize_linear become weights of quantized types."""

    name: ClassVar[str] = "qdq"

    def run(self, module: Module) -> bool:
        """True where there was one."""
        made = fold_qdq(module)
        if made:
            note(f"{len(made)} weights that the source quantized keep their i8 codes")
        return bool(made)
