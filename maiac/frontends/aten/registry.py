"""The table from ATen overloads to the functions that emit Maia operations for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Handler = Callable[..., Any]
_F = TypeVar("_F", bound=Handler)

_HANDLERS: dict[str, Handler] = {}


def aten(*overloads: str) -> Callable[[_F], _F]:
    """Register ``handler(context, *args, **kwargs)`` for overloads such as ``add.Tensor``.

    Operands arrive as IR values, sizes as dims, other arguments as Python values; the handler returns the value of
    the node, or a tuple of values (None for an output that nobody may read).
    """

    def register(handler: _F) -> _F:
        for name in overloads:
            key = name if "::" in name else f"aten::{name}"
            assert key not in _HANDLERS, f"{key} has two handlers"
            _HANDLERS[key] = handler
        return handler

    return register


def find(key: str) -> Handler | None:
    """The handler of ``namespace::name.overload``."""
    return _HANDLERS.get(key)


def handled() -> frozenset[str]:
    """Every key that has a handler."""
    return frozenset(_HANDLERS)


class Unsupported(Exception):
    """A use of an operation that has no Maia form; the importer adds where, and lists all of them at once."""
