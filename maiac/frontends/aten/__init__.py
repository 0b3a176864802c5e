"""ATen operations by family, each with the function that emits Maia operations for it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module

from .registry import Handler, find, handled

_FAMILIES = (
    "elementwise",
    "python",
    "assertions",
    "reduce",
    "shape",
    "index",
    "storage",
    "histogram",
    "select",
    "create",
    "random",
    "linear",
    "factor",
    "special",
    "norm",
    "conv",
    "image",
    "vision",
    "control",
    "flex",
)


@cache
def handlers() -> Mapping[str, Handler]:
    """The whole table; loading it imports every family once."""
    for family in _FAMILIES:
        import_module(f".{family}", __name__)
    return {key: handler for key in handled() if (handler := find(key)) is not None}
