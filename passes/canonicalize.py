"""canonicalize: one form for what can be written in several; the tables of rules/, applied until none applies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from maiac.ir import Module

from .base import Pass, register
from .refine import simplify_dims
from .rewrite import rewrite
from .rules import ARITHMETIC, CONTROL, DIMS, SHAPE


@register
@dataclass(frozen=True)
class Canonicalize(Pass):
    """Simplify without changing any result by a bit."""

    name: ClassVar[str] = "canonicalize"

    def run(self, module: Module) -> bool:
        """Fold dims by the ranges of symbols, then apply all tables."""
        simplified = simplify_dims(module)
        return rewrite(module, (*DIMS, *CONTROL, *SHAPE, *ARITHMETIC)) or simplified
