"""Runtime: everything that executes a compiled artifact."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if __name__ != "maiac.runtime":
    raise ImportError(
        f"this package is maiac.runtime; importing it as {__name__!r} would make a second copy of every class"
    )

if TYPE_CHECKING:
    from .executor import Executor, Observation, run_module

__all__ = ["Executor", "Observation", "run_module"]


def __getattr__(name: str) -> Any:
    # The executor imports torch, which reading a manifest need not wait for.
    if name not in __all__:
        raise AttributeError(f"module 'maiac.runtime' has no attribute {name!r}")
    return getattr(importlib.import_module(".executor", __name__), name)
