"""What turns out to be known of symbols: put it in its place, in every type and attribute."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from maiac.ir import (
    Block,
    Dim,
    DimLike,
    MaiaError,
    Module,
    Op,
    OptionalType,
    SequenceType,
    TensorType,
    Type,
    Value,
    get_op,
)
from maiac.ir.dims import simplify, substitute, symbols_of
from maiac.ir.errors import TypeFault
from maiac.ir.types import DimType, map_dims

from .analysis import TERMINATORS, argument_symbols

DimFn: TypeAlias = Callable[[DimLike], DimLike]


def refine(module: Module, known: Mapping[str, DimLike]) -> None:
    """Replace symbols that only the run told by what they are known to be, and follow what that tells of others."""
    fixed = argument_symbols(module)
    assert not fixed & known.keys(), "a caller chooses these symbols"
    while known:
        substitute_symbols(module, known)
        known = _learned(module, fixed)


def substitute_symbols(module: Module, env: Mapping[str, DimLike]) -> None:
    """Replace symbols everywhere in a module, and drop their declarations."""
    _map_module(module, lambda dim: substitute(dim, env))
    for name in env:
        module.symbols.pop(name, None)


def simplify_dims(module: Module) -> bool:
    """Fold what the symbols' ranges decide, in every type and attribute; true where something did."""
    return _map_module(module, lambda dim: simplify(dim, module.symbols))


def _map_module(module: Module, fn: DimFn) -> bool:
    changed = False
    for function in module.functions.values():
        before, function.result_types = function.result_types, tuple(map_dims(t, fn) for t in function.result_types)
        changed |= before != function.result_types
        changed |= _map_block(function.body, fn)
    return changed


def _map_block(block: Block, fn: DimFn) -> bool:
    changed = _map_values(block.args, fn)
    for op in block:
        changed |= _map_values(op.results, fn)
        before, op.attrs = op.attrs, {k: _map_attr(v, fn) for k, v in op.attrs.items()}
        changed |= before != op.attrs
        for region in op.regions:
            changed |= _map_block(region, fn)
    return changed


def _map_values(values: Sequence[Value], fn: DimFn) -> bool:
    before = [v.type for v in values]
    for value in values:
        value.type = map_dims(value.type, fn)
    return before != [v.type for v in values]


def _map_attr(value: Any, fn: DimFn) -> Any:
    if isinstance(value, tuple):
        return tuple(_map_attr(v, fn) for v in value)
    return fn(value) if isinstance(value, Dim) else value


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
        return {} if general == special else None
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
