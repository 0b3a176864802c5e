"""Quantization: weights to types of fewer bits.

Read ``weights`` (what is quantized, and what became of each weight); the lazy contents are in ``passes/weights.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from maiac.ir import Module

from ..base import Pass, note, register
from .weights import SCHEMES, Entry, QuantizeReport, quantize_weights

__all__ = ["SCHEMES", "Entry", "QuantizeReport", "QuantizeWeights", "quantize_weights"]


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
