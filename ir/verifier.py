"""The verifier: every rule of the IR, every fault at once, each with the IR around it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .dims import DimLike, symbols_of
from .errors import MaiaError, TypeFault
from .graph import Block, Function, Module, Op, Ref, State, Value, Weight
from .opdef import get_op, is_unknown
from .printer import Printer, types_text
from .types import DimType, OptionalType, SequenceType, TensorType, Type, type_symbols

CONTEXT = 2  # lines of IR shown before and after a fault
TERMINATORS = {"return", "yield"}


def verify(module: Module) -> None:
    """Raise MAIA0106 that lists every fault of a module; return when there is none."""
    faults = [f for function in module.functions.values() for f in _FunctionChecker(module, function).faults()]
    if faults:
        what = "fault" if len(faults) == 1 else "faults"
        raise MaiaError("MAIA0106", f"module @{module.name} has {len(faults)} {what}", details=faults)


class _FunctionChecker:
    """Walks one function in order, knowing what is defined so far."""

    def __init__(self, module: Module, function: Function) -> None:
        self.module = module
        self.function = function
        self.defined: set[Value] = set()
        self.bound: set[str] = set()
        self.found: list[str] = []
        self.lines: list[str] | None = None
        self.printer = Printer(module)

    def faults(self) -> list[str]:
        """All faults of the function."""
        body = self.function.body
        self.check_block(body, "return")
        last = body.last
        if last is not None and last.name == "return":
            returned = tuple(v.type for v in last.operands if v is not None)
            if returned != self.function.result_types:
                self.fault(last, f"returns {types_text(returned)}, but declares {types_text(self.function.result_types)}")
            for type in returned:
                if isinstance(type, TensorType) and type.owed and self.function.name == "main":
                    self.fault(last, f"the result {type} still owes a sum")
        return self.found

    def check_block(self, block: Block, terminator: str) -> None:
        """Parameters, then ops in order, then the terminator."""
        for arg in block.args:
            self.defined.add(arg)
            self.bound |= type_symbols(arg.type)
            self.check_declared(arg.type, block.first)
        for op in block:
            self.check_op(op)
        if block.last is None or block.last.name != terminator:
            self.fault(block.last, f"a block must end with {terminator}")

    def check_op(self, op: Op) -> None:
        """Operands, definition, results."""
        for value in op.operands:
            self.check_operand(op, value)
        for name in sorted(symbols_of_attrs(op) - self.bound):
            self.fault(op, f"uses the symbol {name}, which nothing has bound yet")
        for region in op.regions:
            self.check_block(region, "yield")
        if op.name in TERMINATORS:
            if op.next is not None:
                self.fault(op, f"{op.name} must be the last op of its block")
        elif op.name == "call":
            self.check_call(op)
        else:
            self.check_types(op)
        for result in op.results:
            self.defined.add(result)
            self.bound |= type_symbols(result.type)
        self.bound |= set(str(s) for s in as_symbols(op))

    def check_operand(self, op: Op, value: Value | None) -> None:
        """An operand is defined before, in this function or as a global of this module."""
        if value is None:
            return
        if isinstance(value, Weight):
            table = self.module.states if isinstance(value, State) else self.module.weights
            if table.get(value.name) is not value:
                self.fault(op, f"@{value.name} is not a global of this module")
        elif value not in self.defined:
            self.fault(op, "an operand is used before it is defined")
        if op not in value.uses:
            self.fault(op, "an operand does not list this op as its user")

    def check_call(self, op: Op) -> None:
        """The callee exists, takes these types and gives these."""
        ref = op.attrs.get("callee")
        callee = self.module.functions.get(ref.name) if isinstance(ref, Ref) else None
        if callee is None:
            self.fault(op, f"there is no function {ref}")
            return
        given = [v.type for v in op.operands if v is not None]
        wanted = [a.type for a in callee.args]
        if given != wanted:
            self.fault(op, f"passes {types_text(given)}, but @{callee.name} takes {types_text(wanted)}")
        if tuple(r.type for r in op.results) != callee.result_types:
            self.fault(op, f"@{callee.name} gives {types_text(callee.result_types)}")

    def check_types(self, op: Op) -> None:
        """The definition infers the types that the op carries."""
        types = [None if v is None else v.type for v in op.operands]
        try:
            inferred = get_op(op.name).result_types(types, op.attrs, op.regions)
        except TypeFault as fault:
            self.fault(op, str(fault))
            return
        except MaiaError as error:
            self.fault(op, error.message)
            return
        declared = [r.type for r in op.results]
        if len(inferred) != len(declared) or not all(map(matches, declared, inferred)):
            self.fault(op, f"has type {types_text(declared)}, but its operands give {types_text(inferred)}")
        for type in declared:
            self.check_declared(type, op)

    def check_declared(self, type: Type, op: Op | None) -> None:
        """Symbols and mesh axes are declared."""
        for name in sorted(type_symbols(type) - self.module.symbols.keys()):
            self.fault(op, f"the symbol {name} is not declared")
        if not isinstance(type, TensorType):
            return
        axes = {a for per_dim in type.split for a in per_dim} | set(type.owed)
        for axis in sorted(axes - self.module.mesh.keys()):
            self.fault(op, f"the mesh has no axis {axis}")

    def fault(self, op: Op | None, message: str) -> None:
        """Record a fault with the IR around it."""
        where = f"@{self.function.name}"
        if op is None:
            self.found.append(f"{where}: {message}")
            return
        at = "" if str(op.loc) == "unknown place" else f" at {op.loc}"
        self.found.append(f"{where}: {op.name}{at}: {message}\n{self.excerpt(op)}")

    def excerpt(self, op: Op) -> str:
        """A few ops around the one at fault, which is marked."""
        if not self.printer.names:
            self.printer.name_all(self.function)
        around = [op]
        for _ in range(CONTEXT):
            around = ([around[0].prev] if around[0].prev else []) + around
            around = around + ([around[-1].next] if around[-1].next else [])
        return "\n".join(f"    {'>' if o is op else ' '} {self.printer.op_lines(o, '')[0]}" for o in around)


def matches(declared: Type, inferred: Type) -> bool:
    """Equal types; a dim that inference leaves unknown matches any."""
    if declared == inferred:
        return True
    if isinstance(declared, TensorType) and isinstance(inferred, TensorType):
        same = declared.dtype == inferred.dtype and declared.split == inferred.split and declared.owed == inferred.owed
        return same and declared.rank == inferred.rank and all(map(_same_dim, declared.dims, inferred.dims))
    if isinstance(declared, (SequenceType, OptionalType)) and type(declared) is type(inferred):
        return matches(declared.element, inferred.element)
    return isinstance(declared, DimType) and isinstance(inferred, DimType) and is_unknown(inferred.value)


def _same_dim(declared: DimLike, inferred: DimLike) -> bool:
    return declared == inferred or any(is_unknown(d) for d in (inferred,)) or _mentions_unknown(inferred)


def _mentions_unknown(dim: DimLike) -> bool:
    return any(name.startswith("?") for name in symbols_of(dim))


def as_symbols(op: Op) -> Sequence[DimLike]:
    """The symbols that an op binds by its ``to`` attribute (``bind``)."""
    to = op.attrs.get("to")
    return tuple(d for d in to if not isinstance(d, int)) if op.name == "bind" and isinstance(to, tuple) else ()  # type: ignore[misc]


def symbols_of_attrs(op: Op) -> set[str]:
    """The symbols that an op's attributes read."""
    return set() if op.name == "bind" else {s for v in op.attrs.values() for s in _symbols_in(v)}


def _symbols_in(value: object) -> Iterator[str]:
    if isinstance(value, tuple):
        for v in value:  # type: ignore[reportUnknownVariableType]
            yield from _symbols_in(v)
    elif not isinstance(value, (str, bytes)) and hasattr(value, "terms"):
        yield from symbols_of(value)  # type: ignore[arg-type]
