"""Which samples of an operation's definition this machine's torch can run."""

from __future__ import annotations

from typing import Any

from maiac.ir.opdef import OpDef


def is_implemented(definition: OpDef, operands: tuple[Any, ...], attrs: dict[str, Any]) -> bool:
    """Whether torch has the reference's kernel for these dtypes."""
    try:
        definition.reference(*operands, **attrs)
    except RuntimeError as error:  # anything else that a reference raises is a fault of ours
        if "not implemented" not in str(error):
            raise
        return False
    return True
