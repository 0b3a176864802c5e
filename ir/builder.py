"""The builder: appends operations whose result types follow from their definitions."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping, Sequence
from typing import Any

from .dims import DimLike, sym
from .errors import Location, MaiaError, TypeFault
from .graph import Attr, Block, Function, Module, Op, Ref, Value
from .opdef import get_op
from .types import Type, simplify_type, substitute_type, type_symbols


class Builder:
    """Makes ops at a point of a block: at its end, or before a given op.

    ``emit`` returns the only result, ``emit_op`` the op. ``at(loc)`` sets the source location of all that is made
    inside it.
    """

    def __init__(self, module: Module, block: Block, before: Op | None = None, loc: Location | None = None) -> None:
        self.module = module
        self.block = block
        self.before = before
        self.loc = loc or Location()

    @contextlib.contextmanager
    def at(self, loc: Location) -> Generator[None]:
        """Give ops made inside this location."""
        outer, self.loc = self.loc, loc
        try:
            yield
        finally:
            self.loc = outer

    def emit(self, name: str, *operands: Value | None, hint: str = "", **attrs: Any) -> Value:
        """Append an op with one result and return that; ``hint`` names it in the text."""
        op = self.emit_op(name, operands, attrs)
        op.result.name = hint
        return op.result

    def emit_op(
        self,
        name: str,
        operands: Sequence[Value | None] = (),
        attrs: Mapping[str, Any] | None = None,
        regions: Sequence[Block] = (),
    ) -> Op:
        """Append an op; its result types are inferred, unknown dims become fresh symbols."""
        operands = _trim(operands)
        given = normalize_attrs(name, attrs or {})
        types = self.infer(name, [None if v is None else v.type for v in operands], given, regions)
        return self.block.insert(Op(name, operands, given, types, regions, self.loc), self.before)

    def infer(
        self, name: str, types: Sequence[Type | None], attrs: Mapping[str, Attr], regions: Sequence[Block] = ()
    ) -> list[Type]:
        """Result types of an op; a fault becomes a located MaiaError."""
        try:
            found = get_op(name).result_types(types, attrs, regions)
        except TypeFault as fault:
            shown = ", ".join(str(t) if t is not None else "_" for t in types)
            raise MaiaError(fault.code, f"{name}({shown}): {fault}", loc=self.loc) from None
        return [simplify_type(t, self.module.symbols) for t in self._name_unknowns(found)]

    def _name_unknowns(self, types: list[Type]) -> list[Type]:
        env: dict[str, DimLike] = {}
        for symbol in sorted(s for t in types for s in type_symbols(t) if s.startswith("?")):
            if symbol not in env:
                env[symbol] = sym(self.module.fresh_symbol().name)
        return [substitute_type(t, env) for t in types] if env else types

    def call(self, function: Function, operands: Sequence[Value]) -> Op:
        """Append a call; the result types are the function's."""
        op = Op("call", operands, {"callee": Ref(function.name)}, function.result_types, (), self.loc)
        return self.block.insert(op, self.before)

    def ret(self, values: Sequence[Value]) -> Op:
        """Append ``return`` and set the function's result types."""
        function = self.block.parent
        assert isinstance(function, Function)
        function.result_types = tuple(v.type for v in values)
        return self.block.insert(Op("return", values, loc=self.loc), self.before)

    def yield_(self, values: Sequence[Value]) -> Op:
        """Append ``yield``, which ends a region."""
        return self.block.insert(Op("yield", values, loc=self.loc), self.before)


def _trim(operands: Sequence[Value | None]) -> tuple[Value | None, ...]:
    """Drop absent operands at the end: ``linear x, w, _`` is ``linear x, w``."""
    kept = list(operands)
    while kept and kept[-1] is None:
        kept.pop()
    return tuple(kept)


def normalize_attrs(name: str, attrs: Mapping[str, Any]) -> dict[str, Attr]:
    """The canonical attributes: lists become tuples, values equal to the default are left out."""
    known = get_op(name).attributes
    out: dict[str, Attr] = {}
    for key, value in attrs.items():
        value = _freeze(value)
        default = known[key][1] if key in known else None
        if key in known and type(value) is type(default) and value == default:
            continue
        out[key] = value
    return out


def _freeze(value: Any) -> Attr:
    return tuple(_freeze(v) for v in value) if isinstance(value, (list, tuple)) else value
