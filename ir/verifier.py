"""The verifier: every rule of the IR, every fault at once, each with the IR around it and the source line."""

from __future__ import annotations

import linecache
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from .attributes import MeshAxis
from .checks import attr_faults, global_faults, recursion, type_faults
from .dims import Dim, DimLike, Symbol, simplify, symbols_of
from .errors import Location, MaiaError, TypeFault
from .graph import Attr, Block, BlockArg, Function, Module, Op, Ref, State, Value, Weight
from .opdef import OpDef, get_op, mentions_unknown
from .printer import Printer, types_text
from .types import DimType, OptionalType, SequenceType, TensorType, Type, UnrankedType, type_symbols

CONTEXT = 2  # ops shown before and after the one at fault
TERMINATORS = {"return", "yield"}

# Further checks of every module that passes; the tests put the round trip through text here.
also_check: list[Callable[[Module], None]] = []


def verify(module: Module) -> None:
    """Raise MAIA0106 that lists every fault of a module; return when there is none."""
    faults = _Checker(module).faults()
    if faults:
        what = "fault" if len(faults) == 1 else "faults"
        raise MaiaError("MAIA0106", f"module @{module.name} has {len(faults)} {what}", details=faults)
    for check in also_check:
        check(module)


_INFERRED: dict[Any, list[Type]] = {}  # of ops without regions; a program's layers repeat, and passes change few ops
_MOST_INFERRED = 1 << 14


def _inferred(definition: OpDef, types: Sequence[Type | None], op: Op) -> list[Type]:
    """The types that the definition gives for an op."""
    if op.regions:
        return definition.result_types(types, op.attrs, op.regions)
    key = (op.name, tuple(types), repr(op.attrs))  # the text tells true from 1, which are equal
    found = _INFERRED.get(key)
    if found is None:
        if len(_INFERRED) >= _MOST_INFERRED:
            _INFERRED.clear()
        found = _INFERRED[key] = definition.result_types(types, op.attrs)
    return found


class _Checker:
    """Checks the globals, then the functions, callees before callers."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.needs: dict[str, set[str]] = {}  # function -> symbols that its callers must have bound
        self.makes: dict[str, set[str]] = {}  # function -> symbols that its body binds anew
        self.writes: dict[str, set[int]] = {}  # function -> parameters that must be states, because it writes them
        self.calls: dict[str, int] = {}  # function -> number of calls seen

    def faults(self) -> list[str]:
        """All faults of the module."""
        found = [*global_faults(self.module)]
        order, cycle = recursion(self.module)
        if cycle:
            found.append(f"functions call each other in a circle: {' -> '.join('@' + n for n in cycle)}")
        for function in order:
            found += _FunctionChecker(self, function).faults()
        return found


class _FunctionChecker:
    """Walks one function in order, knowing what is defined so far."""

    def __init__(self, checker: _Checker, function: Function) -> None:
        self.checker = checker
        self.module = checker.module
        self.function = function
        self.defined: set[Value] = set()
        self.bound: set[str] = set()
        self.needs: set[str] = set()
        self.makes: set[str] = set()
        self.writes: set[int] = set()
        self.found: list[str] = []
        self.printer = Printer(self.module)

    def faults(self) -> list[str]:
        """All faults of the function; what callers must know is left with the checker."""
        function = self.function
        self.check_header()
        self.check_block(function.body, "return", function)
        last = function.body.last
        if last is not None and last.name == "return":
            self.check_return(last)
        checker, name = self.checker, function.name
        checker.needs[name], checker.makes[name], checker.writes[name] = self.needs, self.makes, self.writes
        return self.found

    @property
    def is_main(self) -> bool:
        """Whether this is the entry point, which the user calls."""
        return self.function.name == "main"

    # **** the function as a whole ****

    def check_header(self) -> None:
        """The name, the pipeline stage, the attributes and what main may take."""
        function = self.function
        if function.stage is not None and function.stage[0] not in self.module.mesh:
            self.fault(None, f"the mesh has no axis {function.stage[0]}")
        for fault in attr_faults(function.attrs):
            self.fault(None, fault)
        for arg in function.args:
            if self.is_main and isinstance(arg.type, TensorType) and arg.type.owed:
                self.fault(None, f"the parameter {arg} cannot owe a sum: main is called from outside")

    def check_return(self, last: Op) -> None:
        """The returned types are the declared ones; nothing leaves main owed."""
        returned = tuple(v.type for v in last.operands if v is not None)
        declared = self.function.result_types
        if returned != declared or len(returned) < len(last.operands):
            self.fault(last, f"returns {types_text(returned)}, but declares {types_text(declared)}")
        for type in returned:
            if self.is_main and isinstance(type, TensorType) and type.owed:
                self.fault(last, f"the result {type} still owes a sum")

    # **** blocks and ops ****

    def check_block(self, block: Block, terminator: str, parent: Function | Op) -> None:
        """Parameters, then ops in order, then the terminator; what is defined here ends with the block."""
        if block.parent is not parent:
            self.fault(block.first, "a region does not know the op that holds it")
        outer, own = set(self.bound), list[Value](block.args)
        self.defined.update(block.args)
        for arg in block.args:
            self.bound |= type_symbols(arg.type)
            self.check_type(arg.type, block.first)
        for op in block:
            if op.block is not block:
                self.fault(op, "the op does not know its block")
            self.check_op(op)
            self.defined.update(op.results)
            own += op.results
        if block.last is None or block.last.name != terminator:
            self.fault(block.last, f"a block must end with {terminator}")
        if isinstance(parent, Op):
            self.defined.difference_update(own)
            self.bound = outer

    def check_op(self, op: Op) -> None:
        """Operands, attributes, definition, results."""
        for value in op.operands:
            self.check_operand(op, value)
        for fault in attr_faults(op.attrs):
            self.fault(op, fault)
        definition = self.definition(op)
        self.check_symbols(op, definition.binds if definition else "")
        for region in op.regions:
            self.check_block(region, "yield", op)
        if op.name in TERMINATORS:
            if op.next is not None:
                self.fault(op, f"{op.name} must be the last op of its block")
        elif op.name == "call":
            self.check_call(op)
        elif definition is not None:
            self.check_definition(op, definition)
        for result in op.results:
            self.check_type(result.type, op)
            self.makes |= type_symbols(result.type) - self.bound
            self.bound |= type_symbols(result.type)

    def definition(self, op: Op) -> OpDef | None:
        """The op's definition; terminators and calls have none."""
        if op.name in TERMINATORS or op.name == "call":
            return None
        try:
            return get_op(op.name)
        except MaiaError as error:
            self.fault(op, error.message)
            return None

    def check_operand(self, op: Op, value: Value | None) -> None:
        """An operand is defined before, in a block around this one or as a global of this module."""
        if value is None:
            return
        if isinstance(value, Weight):
            table = self.module.states if isinstance(value, State) else self.module.weights
            if table.get(value.name) is not value:
                self.fault(op, f"@{value.name} is not a global of this module")
        elif value not in self.defined:
            self.fault(op, "an operand is used before it is defined, or outside the region that defines it")
        if op not in value.uses:
            self.fault(op, "an operand does not list this op as its user")

    def check_symbols(self, op: Op, binds: str) -> None:
        """Symbols that the attributes read are bound; those that the op binds are declared."""
        read = {s for name, v in op.attrs.items() if name != binds for s in _symbols_in(v)}
        for name in sorted(read - self.bound):
            if name not in self.module.symbols:
                self.fault(op, f"the symbol {name} is not declared")
            elif self.is_main:
                self.fault(op, f"uses the symbol {name}, which nothing has bound yet")
        self.needs |= read - self.bound
        made = set(_symbols_in(op.attrs.get(binds)))
        for name in sorted(made - self.module.symbols.keys()):
            self.fault(op, f"the symbol {name} is not declared")
        self.makes |= made
        self.bound |= made

    def check_definition(self, op: Op, definition: OpDef) -> None:
        """The definition infers the types that the op carries, and its facts hold."""
        types = [None if v is None else v.type for v in op.operands]
        try:
            inferred = _inferred(definition, types, op)
        except TypeFault as fault:
            self.fault(op, str(fault))
            return
        declared = [r.type for r in op.results]
        pairs = zip(declared, inferred, strict=False)
        if len(inferred) != len(declared) or not all(matches(a, b, self.module.symbols) for a, b in pairs):
            self.fault(op, f"has type {types_text(declared)}, but its operands give {types_text(inferred)}")
        for name, (hint, _) in definition.attributes.items():
            axis = op.attrs.get(name)
            if hint is MeshAxis and axis not in self.module.mesh:
                self.fault(op, f"the mesh has no axis {axis}")
        for term, value in zip(definition.signature.operands, op.operands, strict=False):
            if term.name == definition.mutates:
                self.check_written(op, value)

    def check_written(self, op: Op, value: Value | None) -> None:
        """What an op changes is a state, or a parameter for which every call passes a state."""
        if isinstance(value, BlockArg) and value.block is self.function.body and not self.is_main:
            self.writes.add(value.index)
        elif not isinstance(value, State):
            self.fault(op, "writes what is not a state")

    def check_call(self, op: Op) -> None:
        """The callee exists, takes these types and gives these; symbols and states are there for it."""
        ref = op.attrs.get("callee")
        callee = self.module.functions.get(ref.name) if isinstance(ref, Ref) else None
        if callee is None:
            self.fault(op, f"there is no function {ref}")
            return
        given = [v.type for v in op.operands if v is not None]
        wanted = [a.type for a in callee.args]
        if given != wanted or len(given) < len(op.operands):
            self.fault(op, f"passes {types_text(given)}, but @{callee.name} takes {types_text(wanted)}")
            return
        if tuple(r.type for r in op.results) != callee.result_types:
            self.fault(op, f"@{callee.name} gives {types_text(callee.result_types)}")
        for index in sorted(self.checker.writes.get(callee.name, ())):
            self.check_written(op, op.operands[index])
        missing = self.checker.needs.get(callee.name, set()) - self.bound
        if missing and self.is_main:
            self.fault(op, f"@{callee.name} uses the symbol {', '.join(sorted(missing))}, which nothing has bound yet")
        self.needs |= missing
        self.check_made(op, callee)

    def check_made(self, op: Op, callee: Function) -> None:
        """A function whose results have dims of its own making is called once: a symbol has one value."""
        calls = self.checker.calls
        calls[callee.name] = calls.get(callee.name, 0) + 1
        leaking = self.checker.makes.get(callee.name, set()) & {s for t in callee.result_types for s in type_symbols(t)}
        if leaking and calls[callee.name] > 1:
            shown = ", ".join(sorted(leaking))
            self.fault(op, f"@{callee.name} binds {shown} and returns it in a type, so it may be called only once")

    def check_type(self, type: Type, op: Op | None) -> None:
        """Symbols and mesh axes are declared, axes are used once, quantized types have dims enough."""
        for fault in type_faults(type, self.module):
            self.fault(op, fault)

    # **** messages ****

    def fault(self, op: Op | None, message: str) -> None:
        """Record a fault with the IR around it and the source line that the op came from."""
        where = f"@{self.function.name}"
        if op is None:
            self.found.append(f"{where}: {message}")
            return
        at = f" at {op.loc}" if op.loc != Location() else ""
        self.found.append("\n".join([f"{where}: {op.name}{at}: {message}", *source_line(op.loc), *self.excerpt(op)]))

    def excerpt(self, op: Op) -> list[str]:
        """A few ops around the one at fault, which is marked."""
        if not self.printer.names:
            self.printer.name_all(self.function)
        around = [op]
        for _ in range(CONTEXT):
            around = [*_there(around[0].prev), *around, *_there(around[-1].next)]
        return [f"    {'>' if o is op else ' '} {self.printer.op_head(o)}" for o in around]


def _there(op: Op | None) -> list[Op]:
    return [] if op is None else [op]


def source_line(loc: Location) -> list[str]:
    """The line of Python that an op came from, where its file is at hand."""
    text = linecache.getline(loc.file, loc.line).strip() if loc.file else ""
    return [f"    {loc.file}:{loc.line}: {text}"] if text else []


def matches(declared: Type, inferred: Type, symbols: Mapping[str, Symbol]) -> bool:
    """Equal types under the symbols' ranges; a dim that inference leaves unknown matches any."""
    match declared, inferred:
        case TensorType(), TensorType():
            same = declared.dtype == inferred.dtype and declared.split == inferred.split
            dims = zip(declared.dims, inferred.dims, strict=False)
            fit = declared.rank == inferred.rank and all(_same_dim(a, b, symbols) for a, b in dims)
            return same and fit and declared.owed == inferred.owed
        case (SequenceType(), SequenceType()) | (OptionalType(), OptionalType()):
            return matches(declared.element, inferred.element, symbols)
        case UnrankedType(), UnrankedType():
            return declared == inferred
        case DimType(), DimType():
            return _same_dim(declared.value, inferred.value, symbols)
        case _:
            return False


def _same_dim(declared: DimLike, inferred: DimLike, symbols: Mapping[str, Symbol]) -> bool:
    if declared == inferred or mentions_unknown(inferred):
        return True
    return simplify(declared, symbols) == simplify(inferred, symbols)


def _symbols_in(value: Attr) -> Iterator[str]:
    if isinstance(value, tuple):
        for v in value:
            yield from _symbols_in(v)
    elif isinstance(value, Dim):
        yield from symbols_of(value)
