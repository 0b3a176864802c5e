"""Rules about parts of a module that stand alone: names, types, attributes, globals, the call graph."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from .dims import Dim, Symbol
from .dtypes import BY_NAME, DType
from .graph import Attr, Function, Module, Ref, State, TypedData, Weight
from .printer import KEYWORDS
from .types import Quantized, TensorType, Type, inner_types, type_symbols

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")


def name_fault(name: str, what: str) -> Iterator[str]:
    """A name that the text cannot carry."""
    if not _IDENTIFIER.fullmatch(name):
        yield f"{what} {name!r} is not made of letters, digits and underscores"


def attr_faults(attrs: Mapping[str, Attr]) -> Iterator[str]:
    """Attributes that the text cannot carry."""
    for name, value in attrs.items():
        yield from name_fault(name, "the attribute")
        if not printable(value):
            yield f"the attribute {name} = {value!r} is of {type(value).__name__}, which no attribute can be"


def printable(value: object) -> bool:
    """Whether a value is of a kind that attributes have."""
    if isinstance(value, tuple):
        return all(map(printable, value))  # type: ignore[reportUnknownArgumentType]
    return value is None or isinstance(value, (bool, int, float, str, DType, Ref, Dim))


def type_faults(type: Type, module: Module) -> Iterator[str]:
    """Symbols and mesh axes that are not declared, axes used twice or on dims they cannot split, ranks too small."""
    for name in sorted(type_symbols(type) - module.symbols.keys()):
        yield f"the symbol {name} is not declared"
    for tensor in inner_types(type):
        yield from _tensor_faults(tensor, module.mesh)


def _tensor_faults(type: TensorType, mesh: Mapping[str, int | None]) -> Iterator[str]:
    if isinstance(type.dtype, Quantized) and type.rank < type.dtype.min_rank:
        yield f"{type} has too few dims for its scales"
    for dim in type.dims:
        if isinstance(dim, int) and dim < 0:
            yield f"{type} has a negative dim"
    if not type.is_sharded:
        return
    axes = type.axes
    for axis in sorted(set(axes) - mesh.keys()):
        yield f"the mesh has no axis {axis}"
    if len(set(axes)) < len(axes):
        yield f"{type} names one mesh axis twice"
    for dim, split in zip(type.dims, type.split, strict=True):
        ways = 1
        for axis in split:
            ways *= mesh.get(axis) or 1
        if isinstance(dim, int) and dim % ways:
            yield f"{type} cannot be cut: {'.'.join(split)} has {ways} ranks, which do not divide {dim}"


def global_faults(module: Module) -> Iterator[str]:
    """Symbols, mesh, attributes, weights and states."""
    yield from attr_faults(module.attrs)
    for name, symbol in module.symbols.items():
        yield from _symbol_faults(name, symbol)
    for axis, size in module.mesh.items():
        yield from name_fault(axis, "the mesh axis")
        if size is not None and size < 1:
            yield f"the mesh axis {axis} has {size} ranks"
    for name, function in module.functions.items():
        if name != function.name:
            yield f"the module lists the function {function.name!r} as {name!r}"
    for name in sorted(module.weights.keys() & module.states.keys()):
        yield f"@{name} is both a weight and a state"
    yield from _mutation_faults(module)
    for table in (module.weights, module.states):
        for name, item in table.items():
            yield from (f"@{name}: {fault}" for fault in _weight_faults(name, item, module))


def _mutation_faults(module: Module) -> Iterator[str]:
    """``mutates``: pairs of a parameter of main and one of the last results, of one type."""
    given, main = module.attrs.get("mutates", ()), module.functions.get("main")
    if main is None or given == ():
        return
    pairs = _pairs(given)
    if pairs is None:
        yield f"mutates = {given!r} is not a list of pairs of numbers"
        return
    last = range(len(main.result_types) - len(pairs), len(main.result_types))
    if len({at for at, _ in pairs}) < len(pairs) or [result for _, result in pairs] != [*last]:
        yield f"mutates = {given!r} does not pair different parameters with the last results, in order"
        return
    for at, result in pairs:
        taken = main.args[at].type if 0 <= at < len(main.args) else "missing"
        if taken != main.result_types[result]:
            yield f"parameter {at} is {taken}, but mutates puts {main.result_types[result]} into it"


def _pairs(value: Attr) -> list[tuple[int, int]] | None:
    """An attribute as pairs of numbers; None where it is something else."""
    found: list[tuple[int, int]] = []
    for pair in value if isinstance(value, tuple) else (None,):
        match pair:
            case (int(a), int(b)):
                found.append((a, b))
            case _:
                return None
    return found


def _symbol_faults(name: str, symbol: Symbol) -> Iterator[str]:
    yield from name_fault(name, "the symbol")
    if name != symbol.name:
        yield f"the module lists the symbol {symbol.name} as {name}"
    if name in BY_NAME or name in KEYWORDS:
        yield f"the symbol {name} has a reserved name"
    if symbol.step < 1 or (symbol.high is not None and symbol.high < symbol.low):
        yield f"`{symbol}` admits no number"


def _weight_faults(name: str, item: Weight, module: Module) -> Iterator[str]:
    kind = "state" if isinstance(item, State) else "weight"
    if item.name != name:
        yield f"the module lists the {kind} {item.name!r} under this name"
    yield from type_faults(item.type, module)
    yield from attr_faults(item.attrs)
    if isinstance(item.type, TensorType) and item.type.owed:
        yield f"a {kind} cannot owe a sum: {item.type}"
    if kind == "weight" and type_symbols(item.type):
        yield f"a weight's dims are numbers, but its type is {item.type}"
    if isinstance(item.data, TypedData):
        misfit = item.data.misfit(item.type)
        if misfit:
            yield f"the contents are {misfit}, but the type is {item.type}"


def recursion(module: Module) -> tuple[list[Function], list[str]]:
    """The functions, callees before callers, and the names along a circle of calls if there is one."""
    calls = {f.name: _callees(f, module) for f in module.functions.values()}
    order: dict[str, None] = {}
    for start, callees in calls.items():
        path: list[str] = []
        stack: list[tuple[str, Iterator[str]]] = [(start, iter(callees))] if start not in order else []
        while stack:
            name, rest = stack[-1]
            if not path or path[-1] != name:
                path.append(name)
            callee = next((c for c in rest if c not in order), None)
            if callee is None:
                order[name] = None
                stack.pop()
                path.pop()
            elif callee in path:
                circle = [*path[path.index(callee) :], callee]
                return list(module.functions.values()), circle
            else:
                stack.append((callee, iter(calls[callee])))
    return [module.functions[name] for name in order], []


def _callees(function: Function, module: Module) -> list[str]:
    refs = [op.attrs.get("callee") for op in function.body.walk() if op.name == "call"]
    return [ref.name for ref in refs if isinstance(ref, Ref) and ref.name in module.functions]
