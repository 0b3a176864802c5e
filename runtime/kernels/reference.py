"""The provider of last resort: each operation's reference body, or the torch function that it stands for."""

from __future__ import annotations

from maiac.ir.graph import Op
from maiac.ir.opdef import get_op

from .registry import Kernel


class Reference:
    """Every operation's definition."""

    name = "reference"

    def find(self, op: Op) -> Kernel | None:
        """The torch function with ``out=`` where the definition names one (it saves a Python call), else the body."""
        definition = get_op(op.name)
        if definition.into is not None:
            return Kernel(definition.into, into=True, spelled=True, provider=self.name)
        return Kernel(definition.reference, provider=self.name)
