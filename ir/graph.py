"""The graph: values, operations, blocks, functions, modules. Mutable; values compare by identity."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, runtime_checkable

from .dims import DimLike, Symbol
from .dtypes import BY_NAME, DType
from .errors import Location
from .types import Type


@dataclass(frozen=True, slots=True)
class Ref:
    """An attribute that names a function: ``@block0``."""

    name: str

    def __str__(self) -> str:
        return f"@{self.name}"


Attr: TypeAlias = "bool | int | float | str | DType | Ref | DimLike | tuple[Attr, ...] | None"


class TensorData(Protocol):
    """The lazy contents of a weight or state; ``maiac.runtime.weights`` implements it."""

    def load(self) -> Any:
        """The whole tensor, memory-mapped where it lies in a file."""
        ...

    def load_slice(self, slices: tuple[slice, ...]) -> Any:
        """The part that slices (one for each dim or less) select; no more of the tensor is read than it needs."""
        ...


@runtime_checkable
class TypedData(Protocol):
    """Contents that can tell, without being read, whether they are of a type."""

    def misfit(self, type: Type) -> str:
        """What the contents are, where that is not ``type``; empty where they fit."""
        ...


class Value:
    """An SSA value: typed, with the operations that use it. ``name`` is a hint for printing."""

    __slots__ = ("name", "type", "uses")

    def __init__(self, type: Type, name: str = "") -> None:
        self.type = type
        self.name = name
        self.uses: dict[Op, int] = {}  # op -> in how many operand slots

    def __repr__(self) -> str:
        return f"%{self.name or '?'}: {self.type}"

    def replace_all_uses(self, new: Value) -> bool:
        """Let every user read ``new`` instead; true if there was a user."""
        if new is self or not self.uses:
            return False
        for op in list(self.uses):
            op.replace_operand(self, new)
        return True


class Result(Value):
    """The ``index``-th result of an operation."""

    __slots__ = ("index", "op")

    def __init__(self, op: Op, index: int, type: Type, name: str = "") -> None:
        super().__init__(type, name)
        self.op = op
        self.index = index


class BlockArg(Value):
    """The ``index``-th parameter of a block: of a function's body or of a region."""

    __slots__ = ("block", "index")

    def __init__(self, block: Block, index: int, type: Type, name: str = "") -> None:
        super().__init__(type, name)
        self.block = block
        self.index = index


class Weight(Value):
    """A named constant global with lazy contents; an operand of any operation."""

    __slots__ = ("attrs", "data")

    def __init__(
        self, name: str, type: Type, data: TensorData | None = None, attrs: Mapping[str, Attr] | None = None
    ) -> None:
        super().__init__(type, name)
        self.data = data
        self.attrs: dict[str, Attr] = dict(attrs or {})


class State(Weight):
    """A named mutable global (a KV cache, a mutated buffer). ``data`` holds its initial contents."""

    __slots__ = ()


class Op:
    """One operation in a block."""

    __slots__ = ("_operands", "attrs", "block", "loc", "name", "next", "prev", "regions", "results")

    def __init__(
        self,
        name: str,
        operands: Sequence[Value | None] = (),
        attrs: Mapping[str, Attr] | None = None,
        result_types: Sequence[Type] = (),
        regions: Sequence[Block] = (),
        loc: Location | None = None,
    ) -> None:
        self.name = name
        self.attrs: dict[str, Attr] = dict(attrs or {})
        self.results = [Result(self, i, t) for i, t in enumerate(result_types)]
        self.regions: list[Block] = []
        self.loc = loc or Location()
        self.block: Block | None = None
        self.prev: Op | None = None
        self.next: Op | None = None
        self._operands: list[Value | None] = []
        self.set_operands(operands)
        for region in regions:
            self.add_region(region)

    def __repr__(self) -> str:
        return f"<op {self.name}>"

    @property
    def operands(self) -> tuple[Value | None, ...]:
        """The operands; None stands for an optional operand that is not given."""
        return tuple(self._operands)

    @property
    def result(self) -> Result:
        """The only result."""
        assert len(self.results) == 1, f"{self.name} has {len(self.results)} results"
        return self.results[0]

    def operand(self, index: int) -> Value:
        """An operand that must be there."""
        value = self._operands[index]
        assert value is not None
        return value

    def set_operands(self, operands: Sequence[Value | None]) -> None:
        """Replace all operands."""
        for old in self._operands:
            _drop_use(old, self)
        self._operands = list(operands)
        for new in self._operands:
            _add_use(new, self)

    def set_operand(self, index: int, value: Value | None) -> None:
        """Replace one operand."""
        _drop_use(self._operands[index], self)
        self._operands[index] = value
        _add_use(value, self)

    def replace_operand(self, old: Value, new: Value) -> None:
        """Replace every occurrence of ``old``."""
        for i, value in enumerate(self._operands):
            if value is old:
                self.set_operand(i, new)

    def add_region(self, region: Block) -> None:
        """Append a region and become its parent."""
        region.parent = self
        self.regions.append(region)

    def detach(self) -> Op:
        """Take the op out of its block; it keeps its operands."""
        block = self.block
        assert block is not None
        if self.prev is None:
            block.first = self.next
        else:
            self.prev.next = self.next
        if self.next is None:
            block.last = self.prev
        else:
            self.next.prev = self.prev
        self.block = self.prev = self.next = None
        return self

    def erase(self) -> None:
        """Remove the op for good; its results have no users."""
        for result in self.results:
            assert not result.uses, f"{self.name} is erased while %{result.name} is used"
        for region in self.regions:
            for op in reversed(list(region)):
                op.erase()
        if self.block is not None:
            self.detach()
        self.set_operands(())

    def replace(self, values: Sequence[Value]) -> None:
        """Let users of the results read ``values`` instead, keep the name hints, and erase the op."""
        for old, new in zip(self.results, values, strict=True):
            if old.name and not new.name and isinstance(new, Result):
                new.name = old.name
            old.replace_all_uses(new)
        self.erase()

    def walk(self) -> Iterator[Op]:
        """This op, then all ops in its regions."""
        yield self
        for region in self.regions:
            yield from region.walk()

    def function(self) -> Function | None:
        """The function that the op stands in, through any regions."""
        block = self.block
        while block is not None:
            if isinstance(block.parent, Op):
                block = block.parent.block
                continue
            return block.parent
        return None


def _add_use(value: Value | None, op: Op) -> None:
    if value is not None:
        value.uses[op] = value.uses.get(op, 0) + 1


def _drop_use(value: Value | None, op: Op) -> None:
    if value is None:
        return
    left = value.uses[op] - 1
    if left:
        value.uses[op] = left
    else:
        del value.uses[op]


class Block:
    """A straight list of operations with parameters; the last op is ``return`` or ``yield``."""

    __slots__ = ("args", "first", "last", "parent")

    def __init__(self, arg_types: Iterable[Type] = (), parent: Function | Op | None = None) -> None:
        self.args = [BlockArg(self, i, t) for i, t in enumerate(arg_types)]
        self.first: Op | None = None
        self.last: Op | None = None
        self.parent = parent

    def __iter__(self) -> Iterator[Op]:
        """The ops in order; the op just yielded may be erased while iterating."""
        op = self.first
        while op is not None:
            following = op.next
            yield op
            op = following

    def __reversed__(self) -> Iterator[Op]:
        op = self.last
        while op is not None:
            before = op.prev
            yield op
            op = before

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @property
    def terminator(self) -> Op:
        """The ``return`` or ``yield`` at the end."""
        assert self.last is not None
        return self.last

    def add_arg(self, type: Type, name: str = "") -> BlockArg:
        """Append a parameter."""
        arg = BlockArg(self, len(self.args), type, name)
        self.args.append(arg)
        return arg

    def remove_arg(self, index: int) -> None:
        """Remove a parameter that nobody uses."""
        assert not self.args[index].uses
        del self.args[index]
        for i, arg in enumerate(self.args):
            arg.index = i

    def append(self, op: Op) -> Op:
        """Put an op at the end."""
        return self.insert(op, None)

    def insert(self, op: Op, before: Op | None) -> Op:
        """Put an op before another one of this block; at the end when that is None."""
        assert op.block is None and (before is None or before.block is self)
        op.block = self
        op.next = before
        op.prev = self.last if before is None else before.prev
        if op.prev is None:
            self.first = op
        else:
            op.prev.next = op
        if before is None:
            self.last = op
        else:
            before.prev = op
        return op

    def walk(self) -> Iterator[Op]:
        """All ops, regions included, in order."""
        for op in self:
            yield from op.walk()


class Function:
    """A named function: ``func @name(%x: T) -> T on pp = 0 { ... }``."""

    __slots__ = ("attrs", "body", "loc", "name", "result_types", "stage")

    def __init__(
        self,
        name: str,
        arg_types: Iterable[Type] = (),
        result_types: Iterable[Type] = (),
        *,
        stage: tuple[str, int] | None = None,
        attrs: Mapping[str, Attr] | None = None,
        loc: Location | None = None,
    ) -> None:
        self.name = name
        self.body = Block(arg_types, self)
        self.result_types = tuple(result_types)
        self.stage = stage  # (mesh axis, index): only that pipeline stage runs it
        self.attrs: dict[str, Attr] = dict(attrs or {})
        self.loc = loc or Location()

    @property
    def args(self) -> list[BlockArg]:
        """The parameters."""
        return self.body.args

    def __repr__(self) -> str:
        return f"<func @{self.name}>"


@dataclass
class Module:
    """A whole program. ``mesh`` maps axis names to the greatest size the program was cut for (None: any)."""

    name: str = "main"
    attrs: dict[str, Attr] = field(default_factory=dict[str, "Attr"])
    mesh: dict[str, int | None] = field(default_factory=dict[str, "int | None"])
    symbols: dict[str, Symbol] = field(default_factory=dict[str, Symbol])
    weights: dict[str, Weight] = field(default_factory=dict[str, Weight])
    states: dict[str, State] = field(default_factory=dict[str, State])
    functions: dict[str, Function] = field(default_factory=dict[str, Function])

    @property
    def main(self) -> Function:
        """The entry point."""
        return self.functions["main"]

    def add_function(self, function: Function) -> Function:
        """Add a function under its name, which must be new."""
        assert function.name not in self.functions, f"function @{function.name} exists"
        self.functions[function.name] = function
        return function

    def add_weight(self, name: str, type: Type, data: TensorData | None = None, **attrs: Attr) -> Weight:
        """Add a weight under a name made unique."""
        weight = Weight(self.free_global(name), type, data, attrs)
        self.weights[weight.name] = weight
        return weight

    def add_state(self, name: str, type: Type, data: TensorData | None = None, **attrs: Attr) -> State:
        """Add a state under a name made unique."""
        state = State(self.free_global(name), type, data, attrs)
        self.states[state.name] = state
        return state

    def free_global(self, name: str) -> str:
        """The name itself, or with the first number that makes it new among weights and states."""
        taken = self.weights.keys() | self.states.keys() if name in self.weights or name in self.states else ()
        unique, n = name, 0
        while unique in taken:
            n += 1
            unique = f"{name}_{n}"
        return unique

    def fresh_symbol(self, prefix: str = "u", low: int = 0, high: int | None = None) -> Symbol:
        """Declare a new symbol."""
        n = len(self.symbols)
        while f"{prefix}{n}" in self.symbols or f"{prefix}{n}" in BY_NAME:  # u2, u4... are dtypes
            n += 1
        symbol = Symbol(f"{prefix}{n}", low, high)
        self.symbols[symbol.name] = symbol
        return symbol

    def walk(self) -> Iterator[Op]:
        """All ops of all functions."""
        for function in self.functions.values():
            yield from function.body.walk()
