"""Random programs over every operation: what an op takes comes from its declaration's samples, and from earlier ops.

``Graph(seed).add(name)`` appends an op. Its operands are those of a sample of its definition: inputs, weights, or, for
real numbers, results of earlier ops, brought into the range that the op takes. A result of another shape joins by its
sum, so that chains grow whatever the shapes are.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from typing import Any

import torch

from maiac.ir import Block, Builder, DType, Function, MaiaError, Module, TensorType, Value, tensor, verify
from maiac.ir.dims import Symbol, sym
from maiac.ir.errors import TypeFault
from maiac.ir.opdef import OpDef, get_op, op_names
from maiac.ir.ops.sampling import Sample, Sampler, samples, type_of
from maiac.ir.ops.values import QTensor
from maiac.ir.types import Type
from maiac.runtime.weights import HeldTensor
from tests.ir.sampled import is_implemented

COLLECTIVE = frozenset({"all_gather", "all_reduce", "broadcast", "reduce_scatter", "send_recv", "shard"})
SAME_SHAPE = ("neg", "relu", "tanh", "sigmoid", "square", "abs", "silu", "copy", "floor")
LOW, HIGH = -2.0, 2.0


@cache
def drawable() -> tuple[str, ...]:
    """Every operation, but those that need a mesh or run on the host, and calls."""
    return (*(n for n in op_names() if n not in COLLECTIVE and not get_op(n).host), "call")


class Graph:
    """A module under construction, and values for its inputs."""

    def __init__(self, seed: int, *, symbolic: bool = False) -> None:
        self.random = random.Random(seed)
        self.sampler = Sampler(seed)
        self.symbolic = symbolic
        self.module = Module("fuzz")
        self.main = self.module.add_function(Function("main"))
        self.b = Builder(self.module, self.main.body)
        self.inputs: list[Any] = []
        self.values: list[Value] = []  # results that may be used again
        self.results: list[Value] = []  # what the program gives
        self.names: list[str] = []
        self.special: dict[str, Callable[[], None]] = {
            "if": self._if, "loop": self._loop, "while": self._while, "fusion": self._fusion, "call": self._call,
            "read": self._read, "write": self._write, "bind": self._bind,
        }  # fmt: skip

    def add(self, name: str) -> Graph:
        """Append this op."""
        self.names.append(name)
        if name in self.special:
            self.special[name]()
        else:
            self._sampled(get_op(name))
        return self

    def finish(self) -> Module:
        """The module; every result that nothing else uses is the program's, and some of the others."""
        kept = [v for v in self.results if not v.uses or self.random.random() < 0.2]
        self.b.ret(kept)
        verify(self.module)
        return self.module

    # **** any op ****

    def _sampled(self, definition: OpDef) -> None:
        operands, attrs = self.random.choice(drawn(definition, self.random.randrange(4)))
        operands = tuple(v.clone() if isinstance(v, torch.Tensor) else v for v in operands)
        types = [None if v is None else type_of(v) for v in operands]
        if self.symbolic:
            types = self._generalized(definition, types, attrs)
        given = [None if v is None else self._operand(definition, v, t) for v, t in zip(operands, types, strict=True)]
        try:
            self._keep(*self.b.emit_op(definition.name, given, attrs).results)
        except MaiaError:
            if not self.symbolic:
                raise
            # A use of an earlier result made sizes meet that only the run could compare.
            fresh = [None if v is None else self._fresh(v, type_of(v)) for v in operands]
            self._keep(*self.b.emit_op(definition.name, fresh, attrs).results)

    def _generalized(self, definition: OpDef, types: list[Any], attrs: dict[str, Any]) -> list[Any]:
        """The types with a symbol for each size, where the op allows that."""
        made = [t and self._with_symbols(t) for t in types]
        try:
            definition.result_types(made, attrs)
        except (TypeFault, MaiaError):
            return types
        return made

    def _with_symbols(self, type: Type) -> Type:
        if not isinstance(type, TensorType):
            return type
        for n in type.dims:
            if isinstance(n, int) and n > 1 and f"N{n}" not in self.module.symbols:
                self.module.symbols[f"N{n}"] = Symbol(f"N{n}", 1)
        return type.with_dims(n if n in (0, 1) else sym(f"N{n}") for n in type.dims)

    def _operand(self, definition: OpDef, value: Any, type: Any) -> Value:
        # A number alone is mostly a parameter, with rules of its own.
        plain = isinstance(value, torch.Tensor) and value.dtype is torch.float32 and value.numel() > 1
        if not plain or not self.values or self.random.random() < 0.25:
            return self._fresh(value, type)
        low, high = definition.domain or (LOW, HIGH)
        earlier = self.random.choice(self.values[-8:])
        if earlier.type == type:
            return self._tamed(earlier, low, high)
        # What may be summed joins a new operand of the shape that is wanted.
        whole = self._tamed(self.b.emit("sum", self._tamed(earlier, LOW, HIGH)), LOW, HIGH)
        return self._tamed(self.b.emit("add", self._fresh(value, type), whole), low, high)

    def _tamed(self, x: Value, low: float, high: float) -> Value:
        """The value without NaN, within bounds."""
        zero = self.b.emit("constant", value=max(low, 0.0), dtype=DType.F32)
        number = self.b.emit("where", self.b.emit("is_nan", x), zero, x)
        return self.b.emit("clamp", number, min=low, max=high)

    def _fresh(self, value: Any, type: Any) -> Value:
        """An input or a weight."""
        held = isinstance(value, QTensor) or (isinstance(value, torch.Tensor) and self.random.random() < 0.3)
        if held and type == type_of(value):
            return self.module.add_weight("w", type, HeldTensor(value))
        self.inputs.append(value)
        return self.main.body.add_arg(type, f"x{len(self.inputs)}")

    def _keep(self, *values: Value) -> None:
        for value in values:
            self.results.append(value)
            if isinstance(value.type, TensorType) and value.type.dtype is DType.F32:
                self.values.append(value)

    # **** ops that a sample cannot show ****

    def _matrix(self) -> Value:
        """A value f32[2, 4]."""
        return self._operand(get_op("neg"), self.sampler.real(2, 4), tensor(DType.F32, 2, 4))

    def _step(self, b: Builder, x: Value) -> Value:
        """An op that keeps shape and bounds."""
        y = b.emit(self.random.choice(SAME_SHAPE), x)
        return b.emit("clamp", y, min=LOW, max=HIGH)

    def _if(self) -> None:
        x, y = self._matrix(), self._matrix()
        zero = self.b.emit("constant", value=0.0, dtype=DType.F32)
        condition = self.b.emit("gt", self.b.emit("sum", x), zero)
        regions = [Block(), Block()]
        for region, value in zip(regions, (x, y), strict=True):
            inner = Builder(self.module, region)
            inner.yield_([self._step(inner, value)])
        self._keep(*self.b.emit_op("if", [condition], regions=regions).results)

    def _loop(self) -> None:
        x = self._matrix()
        trips = self._fresh(torch.tensor(self.random.randrange(4)), tensor(DType.I64))
        body = Block([tensor(DType.I64), tensor(DType.BOOL), x.type])
        inner = Builder(self.module, body)
        after = self._step(inner, body.args[2])
        scans = self.random.randrange(2)
        inner.yield_([body.args[1], after, *[inner.emit("neg", after)] * scans])
        self._keep(*self.b.emit_op("loop", [trips, None, x], {"scans": scans}, [body]).results)

    def _while(self) -> None:
        x = self._matrix()
        count = self.b.emit("constant", value=0, dtype=DType.I64)
        regions = [Block([tensor(DType.I64), x.type]) for _ in range(2)]
        first, second = (Builder(self.module, r) for r in regions)
        limit = first.emit("constant", value=self.random.randrange(4), dtype=DType.I64)
        first.yield_([first.emit("lt", regions[0].args[0], limit)])
        one = second.emit("constant", value=1, dtype=DType.I64)
        second.yield_([second.emit("add", regions[1].args[0], one), self._step(second, regions[1].args[1])])
        self._keep(*self.b.emit_op("while", [count, x], regions=regions).results)

    def _fusion(self) -> None:
        x, y = self._matrix(), self._matrix()
        body = Block([x.type, y.type])
        inner = Builder(self.module, body)
        inner.yield_([self._step(inner, inner.emit("mul", *body.args))])
        self._keep(*self.b.emit_op("fusion", [x, y], regions=[body]).results)

    def _call(self) -> None:
        x = self._matrix()
        name = f"f{len(self.module.functions)}"
        function = Function(name, [x.type])
        inner = Builder(self.module, function.body)
        function.result_types = (x.type,)
        inner.ret([self._step(inner, self._step(inner, function.args[0]))])
        self.module.add_function(function)
        self._keep(*self.b.call(function, [x]).results)

    def _state(self) -> Any:
        if not self.module.states:
            held = HeldTensor(self.sampler.real(2, 4))
            self.module.add_state("s", tensor(DType.F32, 2, 4)).data = held
        return next(iter(self.module.states.values()))

    def _read(self) -> None:
        self._keep(self.b.emit("read", self._state()))

    def _write(self) -> None:
        state, x = self._state(), self._matrix()
        self.b.emit_op("write", [state, x])

    def _bind(self) -> None:
        count = self._fresh(torch.tensor(self.random.randrange(1, 5)), tensor(DType.I64))
        made = sym(self.module.fresh_symbol("n", low=0).name)
        self.b.emit_op("bind", [count], {"to": (made,)})
        self._keep(self.b.emit("cast", self.b.emit("iota", end=made), to=DType.F32))


@cache
def drawn(definition: OpDef, seed: int) -> list[Sample]:
    """Some samples of an op, for float32."""
    return [s for s in samples(definition, Sampler(seed)) if is_implemented(definition, *s)]


def build(seed: int, names: tuple[str, ...] | list[str], *, symbolic: bool = False) -> tuple[Module, list[Any]]:
    """A program of these ops, and its inputs."""
    graph = Graph(seed, symbolic=symbolic)
    for name in names:
        graph.add(name)
    return graph.finish(), graph.inputs


def decks(rounds: int, size: int) -> list[tuple[int, tuple[str, ...]]]:
    """All ops, shuffled and dealt out in programs of this size, several times."""
    found: list[tuple[int, tuple[str, ...]]] = []
    for turn in range(rounds):
        names = list(drawable())
        random.Random(turn).shuffle(names)
        hands = [tuple(names[i : i + size]) for i in range(0, len(names), size)]
        found += [(len(hands) * turn + i, hand) for i, hand in enumerate(hands)]
    return found


__all__ = ["Graph", "build", "decks", "drawable"]
