"""Random programs give the same bits before and after each pass, and after all of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, reject, settings
from hypothesis import strategies as st

from maiac.ir import Block, Builder, DType, Function, Location, MaiaError, Module, TensorType, Value, tensor, verify
from maiac.ir.dims import Symbol, sym
from maiac.passes import default_pipeline, parse_pipeline, run_pipeline
from maiac.passes.clone import clone_module
from tests.passes.models import weight
from tests.passes.running import fill, inputs_for, run, same_bits

PIPELINES = [
    "canonicalize", "fold", "fold{limit=16}", "cse", "dce", "outline{min_ops=3}", "outline{min_ops=3},inline",
]  # fmt: skip
UNARY = ["neg", "abs", "relu", "floor", "ceil", "trunc", "sign", "square", "copy"]
BINARY = ["add", "sub", "mul", "maximum", "minimum", "eq", "lt"]
CONSTANTS: list[tuple[Any, DType]] = [
    (0.0, DType.F32), (-0.0, DType.F32), (1.0, DType.F32), (1, DType.I64), (0, DType.I64), (2.0, DType.F64),
    (-4.0, DType.F32), (3, DType.I64), (True, DType.BOOL), (False, DType.BOOL), (float("nan"), DType.F32),
]  # fmt: skip

SHORT = [Phase.explicit, Phase.reuse, Phase.generate]  # shrinking takes minutes: left to the long run
Step = tuple[int, int, int, int]  # what to do, to which values, and how


class Program:
    """Makes a module step by step; a step that does not fit the values at hand makes nothing."""

    def __init__(self) -> None:
        t = sym("T")
        self.module = Module("fuzz", symbols={"T": Symbol("T", 2, 4)})
        types = [tensor(DType.F32, t, 4), tensor(DType.F32, 4), tensor(DType.I64, t, 4), tensor(DType.BOOL, t, 4)]
        main = self.module.add_function(Function("main", [*types, tensor(DType.F32, 1, 4), tensor(DType.BOOL)]))
        self.b = Builder(self.module, main.body)
        self.state = self.module.add_state("s", tensor(DType.F32, 1, 4))
        small = weight(self.module, "w", torch.arange(8.0).reshape(2, 4) - 3)
        square = weight(self.module, "m", (torch.arange(16).reshape(4, 4) % 5 - 2).float())
        self.values: list[Value] = [*main.args[:5], small, square]
        self.condition = main.args[5]
        self.makers: list[Callable[[Value, Value, int], None]] = [
            self.unary, self.binary, self.binary, self.constant, self.with_constant, self.cast, self.reshape,
            self.transpose, self.expand, self.slice, self.concat, self.split, self.where, self.reduce, self.pad,
            self.read, self.write, self.branch, self.product, self.flip,
        ]  # fmt: skip

    def apply(self, steps: list[Step]) -> None:
        """Do these steps; what a step cannot do to its values is left out."""
        for what, x, y, how in steps:
            a, b = (self.values[-1 - n % len(self.values)] for n in (x, y))
            with contextlib.suppress(MaiaError):
                self.makers[what % len(self.makers)](a, b, how)

    def keep(self, *values: Value) -> None:
        self.values += values

    def unary(self, x: Value, y: Value, how: int) -> None:
        self.keep(self.b.emit(UNARY[how % len(UNARY)], x))

    def binary(self, x: Value, y: Value, how: int) -> None:
        self.keep(self.b.emit(BINARY[how % len(BINARY)], x, y))

    def constant(self, x: Value, y: Value, how: int) -> None:
        value, dtype = CONSTANTS[how % len(CONSTANTS)]
        self.keep(self.b.emit("constant", value=value, dtype=dtype))

    def with_constant(self, x: Value, y: Value, how: int) -> None:
        value, dtype = CONSTANTS[how % len(CONSTANTS)]
        c = self.b.emit("constant", value=value, dtype=dtype)
        self.keep(self.b.emit(BINARY[how // 16 % len(BINARY)], *((x, c) if how % 2 else (c, x))))

    def cast(self, x: Value, y: Value, how: int) -> None:
        options = (DType.F32, DType.F64, DType.BF16)
        options += () if self.of(x).element.is_float else (DType.I64, DType.I32)
        self.keep(self.b.emit("cast", x, to=options[how % len(options)]))

    def reshape(self, x: Value, y: Value, how: int) -> None:
        dims = self.of(x).dims
        shapes = [dims, (1, *dims), (*dims, 1), tuple(d for d in dims if d != 1), (*dims[:-1], 2, 2)]
        self.keep(self.b.emit("reshape", x, shape=shapes[how % len(shapes)]))

    def transpose(self, x: Value, y: Value, how: int) -> None:
        perm = list(range(self.of(x).rank))
        self.keep(self.b.emit("transpose", x, perm=tuple(perm[::-1] if how % 2 else perm[1:] + perm[:1])))

    def expand(self, x: Value, y: Value, how: int) -> None:
        dims = self.of(x).dims
        self.keep(self.b.emit("expand", x, shape=(how % 3 + 1, *dims) if how % 2 else dims))

    def slice(self, x: Value, y: Value, how: int) -> None:
        end = None if how % 2 else 3
        self.keep(
            self.b.emit("slice", x, dim=how % max(self.of(x).rank, 1), start=how % 3, end=end, step=how // 8 % 2 + 1)
        )

    def concat(self, x: Value, y: Value, how: int) -> None:
        self.keep(self.b.emit("concat", *((x, y, x) if how % 2 else (x,)), dim=0))

    def split(self, x: Value, y: Value, how: int) -> None:
        parts = self.b.emit_op("split", [x], {"dim": -1, "parts": (2, 2) if how % 2 else (4,)}).results
        self.keep(*parts, self.b.emit("concat", *parts, dim=-1))

    def where(self, x: Value, y: Value, how: int) -> None:
        conditions = [v for v in self.values if self.of(v).element is DType.BOOL]
        self.keep(self.b.emit("where", conditions[how % len(conditions)], x, y))

    def reduce(self, x: Value, y: Value, how: int) -> None:
        name = "sum" if self.of(x).element is DType.I64 else "amax"
        self.keep(self.b.emit(name, x, dims=(-1,) if how % 2 else (), keepdim=bool(how // 2 % 2)))

    def pad(self, x: Value, y: Value, how: int) -> None:
        pads = [0] * (2 * self.of(x).rank)
        pads[-1:] = [how % 2] if pads else []
        self.keep(self.b.emit("pad", x, pads=tuple(pads), value=1))

    def read(self, x: Value, y: Value, how: int) -> None:
        self.keep(self.b.emit("read", self.state))

    def write(self, x: Value, y: Value, how: int) -> None:
        self.b.emit_op("write", [self.state, x])

    def branch(self, x: Value, y: Value, how: int) -> None:
        regions = [Block(), Block()]
        for i, (region, value) in enumerate(zip(regions, (x, y), strict=True)):
            inner = Builder(self.module, region)
            if how % 3 == 2 and i:
                inner.emit_op("write", [self.state, inner.emit("neg", inner.emit("read", self.state))])
            inner.yield_([inner.emit("neg", value) if self.of(value).element.is_float else value])
        condition = self.condition
        if how % 3 == 0:
            condition = self.b.emit("constant", value=bool(how % 2), dtype=DType.BOOL)
        self.keep(*self.b.emit_op("if", [condition], regions=regions).results)

    def product(self, x: Value, y: Value, how: int) -> None:
        """Of integers only: their sums are the same in any order."""
        square = self.b.emit("cast", self.module.weights["m"], to=DType.I64)
        turned = self.b.emit("transpose", square, perm=(1, 0))
        self.keep(self.b.emit("matmul", x, turned if how % 2 else square))

    def flip(self, x: Value, y: Value, how: int) -> None:
        self.keep(self.b.emit("flip", x, dims=(how % max(self.of(x).rank, 1),)))

    def of(self, value: Value) -> TensorType:
        assert isinstance(value.type, TensorType)
        return value.type

    def finish(self) -> Module:
        kept = [v for v in self.values[-4:] if self.of(v).rank < 6]
        self.b.ret(kept)
        fill(self.module)
        verify(self.module)
        return self.module


def program(once: list[Step], again: list[Step], repeats: int) -> Module:
    """Some steps, then others several times over: layers."""
    made = Program()
    made.apply(once)
    for i in range(repeats):
        with made.b.at(Location(f"net.layers.{i}")):
            made.apply(again)
    return made.finish()


step = st.tuples(st.integers(0, 99), st.integers(0, 7), st.integers(0, 7), st.integers(0, 99))
programs = st.builds(program, st.lists(step, max_size=8), st.lists(step, min_size=1, max_size=8), st.integers(1, 4))


def check(module: Module, pipeline: str) -> None:
    before, inputs = clone_module(module), inputs_for(module)
    try:
        wanted = run(before, inputs)
    except MaiaError:
        reject()  # the program takes two sizes for equal that are not
    run_pipeline(module, parse_pipeline(pipeline) if pipeline else default_pipeline())
    assert not any(p.changed for p in run_pipeline(module, parse_pipeline(pipeline or "cse,dce,outline")).passes) or (
        "inline" in pipeline
    )
    assert same_bits(wanted, run(module, inputs))


@pytest.mark.parametrize("pipeline", [*PIPELINES, ""])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow], phases=SHORT)
@given(module=programs)
def test_results_are_the_same_to_the_bit(pipeline: str, module: Module):
    check(module, pipeline)


@pytest.mark.slow
@pytest.mark.parametrize("pipeline", [*PIPELINES, ""])
@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(module=programs)
def test_results_are_the_same_to_the_bit_at_length(pipeline: str, module: Module):
    check(module, pipeline)
