"""Attribute kinds: what an annotation of a reference's keyword parameter lets the text hold."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import NoneType
from typing import Any, Literal, NewType, get_args, get_origin, get_type_hints

from .dims import Dim

# A string that names an axis of the module's mesh; the verifier checks that it is declared.
MeshAxis = NewType("MeshAxis", str)

# Keyword parameters of a reference that the executor fills, and no attribute: see ops/control.py.
GIVEN = frozenset({"regions", "empty"})

Attributes = dict[str, tuple[Any, Any]]


def attributes_of(reference: Callable[..., Any]) -> Attributes:
    """Attribute name -> (annotated kind, default); the default is ``inspect.Parameter.empty`` where required."""
    hints = get_type_hints(reference)
    found: Attributes = {}
    for parameter in inspect.signature(reference).parameters.values():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and parameter.name not in GIVEN:
            found[parameter.name] = (hints.get(parameter.name, Any), parameter.default)
    return found


def numbers_only(rule: Callable[..., Any] | None) -> frozenset[str]:
    """The attributes that an infer rule annotates as plain ``int``: a symbolic dim cannot stand there."""
    if rule is None:
        return frozenset()
    return frozenset(name for name, hint in get_type_hints(rule).items() if _is_plain(hint))


def _is_plain(hint: Any) -> bool:
    args = [a for a in get_args(hint) if a not in (..., NoneType)]
    return all(map(_is_plain, args)) if args else hint in (int, bool)


def holds_dim(value: Any) -> bool:
    """Whether a symbolic dim stands anywhere in an attribute's value."""
    return isinstance(value, Dim) or (isinstance(value, tuple) and any(map(holds_dim, value)))  # type: ignore[reportUnknownArgumentType]


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of an annotated kind; ``int`` takes symbolic dims, ``float`` takes integers."""
    if hint is Any:
        return True
    if hint is None or hint is NoneType:
        return value is None
    if isinstance(hint, NewType):
        return fits(value, hint.__supertype__)
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        return value in args
    if origin is tuple:
        return isinstance(value, tuple) and all(fits(v, args[0]) for v in value)  # type: ignore[reportUnknownVariableType]
    if args:
        return any(fits(value, a) for a in args)
    if hint is int or hint is Dim:
        return isinstance(value, (int, Dim)) and not isinstance(value, bool)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, hint)


def kind_text(hint: Any) -> str:
    """An annotation as ``maiac ops`` and messages show it: ``int``, ``list of int``, ``none, add or mul``."""
    if hint is None or hint is NoneType:
        return "none"
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        return " or ".join(map(str, args))
    if origin is tuple:
        return f"list of {kind_text(args[0])}"
    if args:
        return " or ".join(map(kind_text, args))
    name = str(getattr(hint, "__name__", hint))
    return {"str": "string", "Any": "value", "DType": "dtype", "MeshAxis": "mesh axis"}.get(name, name)
