"""The table of handlers: domain and operator name, by the opset version from which each one holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from .context import NodeContext

Handler: TypeAlias = "Callable[[NodeContext], Any]"

_TABLE: dict[tuple[str, str], list[tuple[int, Handler]]] = {}
_ALIASES = {"ai.onnx": ""}


def onnx_op(*names: str, since: int = 1, domain: str = "") -> Callable[[Handler], Handler]:
    """Register a handler for operators of a domain from an opset version on, until a later one takes over."""

    def register(handler: Handler) -> Handler:
        for name in names:
            entries = _TABLE.setdefault((domain, name), [])
            assert all(v != since for v, _ in entries), f"{domain}.{name} since {since} is registered twice"
            entries.append((since, handler))
            entries.sort(key=lambda e: e[0])
        return handler

    return register


def plain_domain(domain: str) -> str:
    """The domain with its alternative spelling resolved: ``ai.onnx`` is the empty one."""
    return _ALIASES.get(domain, domain)


def find_handler(domain: str, name: str, version: int) -> Handler | None:
    """The handler that holds at an opset version."""
    found = None
    for since, handler in _TABLE.get((plain_domain(domain), name), ()):
        if since <= version:
            found = handler
    return found


def handled_ops() -> list[tuple[str, str]]:
    """(domain, operator) of all handlers, sorted."""
    return sorted(_TABLE)
