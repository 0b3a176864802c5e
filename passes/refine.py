"""Symbols that turn out to be known: put what they are in their place, in every type and attribute."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from maiac.ir import Block, Dim, DimLike, MaiaError, Module, Op, OptionalType, SequenceType, TensorType, Type, get_op
from maiac.ir.dims import substitute, symbols_of
from maiac.ir.errors import TypeFault
from maiac.ir.types import DimType, substitute_type

from .analysis import TERMINATORS, argument_symbols


def refine(module: Module, known: Mapping[str, DimLike]) -> None:
    """Replace symbols that only the run told by what they are known to be, and follow what that tells of others."""
    fixed = argument_symbols(module)
    assert not fixed & known.keys(), "a caller chooses these symbols"
    while known:
        substitute_symbols(module, known)
        known = _learned(module, fixed)


def substitute_symbols(module: Module, env: Mapping[str, DimLike]) -> None:
    """Replace symbols everywhere in a module, and drop their declarations."""
    for function in module.functions.values():
        function.result_types = tuple(substitute_type(t, env) for t in function.result_types)
        _substitute_block(function.body, env)
    for name in env:
        module.symbols.pop(name, None)


def _substitute_block(block: Block, env: Mapping[str, DimLike]) -> None:
    for arg in block.args:
        arg.type = substitute_type(arg.type, env)
    for op in block:
        for result in op.results:
            result.type = substitute_type(result.type, env)
        op.attrs = {k: _substitute_attr(v, env) for k, v in op.attrs.items()}
        for region in op.regions:
            _substitute_block(region, env)


def _substitute_attr(value: Any, env: Mapping[str, DimLike]) -> Any:
    if isinstance(value, tuple):
        return tuple(_substitute_attr(v, env) for v in value)
    return substitute(value, env) if isinstance(value, Dim) else value


def _learned(module: Module, fixed: set[str]) -> dict[str, DimLike]:
    """Symbols for which inference, now that others are known, gives something better."""
    out: dict[str, DimLike] = {}
    for op in module.walk():
        for declared, inferred in zip([r.type for r in op.results], _inferred(op), strict=False):
            for name, dim in (solve_types(declared, inferred) or {}).items():
                if name not in fixed and not symbols_of(dim) & out.keys():
                    out.setdefault(name, dim)
    return out


def _inferred(op: Op) -> list[Type]:
    if op.name in TERMINATORS or op.name == "call":
        return []
    try:
        return get_op(op.name).result_types([None if v is None else v.type for v in op.operands], op.attrs, op.regions)
    except (TypeFault, MaiaError):
        return []  # the verifier reports it


def solve_types(general: Type, special: Type) -> dict[str, DimLike] | None:
    """What single symbols of the first type must be for it to equal the second; None where no such choice is."""
    if isinstance(general, DimType) and isinstance(special, DimType):
        return _solve_dims((general.value,), (special.value,))
    if isinstance(general, SequenceType) and isinstance(special, SequenceType):
        return solve_types(general.element, special.element)
    if isinstance(general, OptionalType) and isinstance(special, OptionalType):
        return solve_types(general.element, special.element)
    if not isinstance(general, TensorType) or not isinstance(special, TensorType):
        return None
    if general.dtype != special.dtype or general.rank != special.rank:
        return None
    if (general.split, general.owed) != (special.split, special.owed):
        return None
    return _solve_dims(general.dims, special.dims)


def _solve_dims(general: tuple[DimLike, ...], special: tuple[DimLike, ...]) -> dict[str, DimLike] | None:
    out: dict[str, DimLike] = {}
    for a, b in zip(general, special, strict=True):
        inside = symbols_of(b)
        if a == b or any(s.startswith("?") for s in inside):
            continue  # equal, or only the run tells
        name = single_symbol(a)
        if name is None or name in inside or out.get(name, b) != b:
            return None
        out[name] = b
    return out


def single_symbol(dim: DimLike) -> str | None:
    """The symbol's name where a dim is just one."""
    names = symbols_of(dim)
    return str(dim) if len(names) == 1 and str(dim) in names else None
