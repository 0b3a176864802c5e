"""Regions of random programs: whatever is joined, everything still runs after what it needs."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from maiac.ir import Builder, DType, Function, Module, TensorType, Value, Weight, tensor, verify
from maiac.passes import collect_misses, parse_pipeline, run_pipeline
from maiac.passes.clone import clone_module
from maiac.runtime import Executor
from maiac.runtime.weights import HeldTensor

SHAPES = [(4, 8), (8,), (4, 1), (8, 8), (1, 8)]
RTOL, ATOL = 1e-4, 1e-4  # float32, sums of products of sums


class Drawn:
    """A program of random ops over a few shapes, with states that are read and written in between."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.module = Module("drawn")
        main = self.module.add_function(Function("main", [tensor(DType.F32, *s) for s in SHAPES]))
        self.builder = Builder(self.module, main.body)
        self.values: list[Value] = list(main.args)
        generator = torch.Generator().manual_seed(seed)
        add_state, type = self.module.add_state, tensor(DType.F32, 4, 8)
        self.states = [add_state(f"s{i}", type, _held(generator, 4, 8)) for i in range(2)]
        self.weight: Weight = self.module.add_weight("w", tensor(DType.F32, 8, 8), _held(generator, 8, 8))
        self.inputs = [torch.randn(s, generator=generator) for s in SHAPES]
        for _ in range(20 + seed):
            self.random.choice([self.unary, self.binary, self.product, self.row, self.move, self.flip, self.state])()
        results = self.random.sample(self.values[len(SHAPES) :], 4)
        self.builder.ret(results)
        main.result_types = tuple(v.type for v in results)

    def pick(self, *shapes: tuple[int, ...]) -> Value:
        """A value of one of some shapes, rather a late one."""
        fits = [v for v in self.values if isinstance(v.type, TensorType) and v.type.dims in (shapes or SHAPES)]
        return self.random.choice(fits[-6:])

    def emit(self, name: str, *operands: Value, **attrs: Any) -> None:
        """An op whose result later ones may read."""
        self.values.append(self.builder.emit(name, *operands, **attrs))

    def unary(self) -> None:
        """An elementwise op."""
        self.emit(self.random.choice(["tanh", "sigmoid", "neg"]), self.pick())

    def binary(self) -> None:
        """An elementwise op of two values that broadcast to one another."""
        shapes = self.random.choice([[(4, 8), (8,), (4, 1), (1, 8)], [(8, 8), (8,), (1, 8)]])
        self.emit(self.random.choice(["add", "mul", "sub"]), self.pick(shapes[0]), self.pick(*shapes))

    def product(self) -> None:
        """A product."""
        self.emit("linear", self.pick((4, 8), (8, 8)), self.weight)

    def row(self) -> None:
        """A reduction of rows."""
        x, kind = self.pick((4, 8)), self.random.choice(["softmax", "rms_norm", "mean"])
        self.emit(kind, x, **({"dims": (-1,), "keepdim": True} if kind == "mean" else {}))

    def move(self) -> None:
        """A part of another shape."""
        part = self.builder.emit("slice", self.pick((4, 8)), dim=0, start=1, end=2)
        self.emit("reshape", part, shape=(8,))

    def flip(self) -> None:
        """What joins no region."""
        self.emit("flip", self.pick(), dims=(0,))

    def state(self) -> None:
        """A write, or a read."""
        state = self.random.choice(self.states)
        if self.random.random() < 0.5:
            self.builder.emit_op("write", (state, self.pick((4, 8))), {})
        else:
            self.emit("read", state)


def _held(generator: torch.Generator, *shape: int) -> HeldTensor:
    return HeldTensor(torch.randn(shape, generator=generator) / 3)


@pytest.mark.parametrize("seed", range(40))
def test_random_programs_give_what_they_gave(seed: int):
    drawn = Drawn(seed)
    verify(drawn.module)
    after = clone_module(drawn.module)
    run_pipeline(after, parse_pipeline("fuse"))
    assert any(op.name == "fusion" for op in after.walk())
    befores, afters = Executor(drawn.module), Executor(after)
    for _ in range(2):  # what is left in states shows in the second
        for want, got in zip(befores.run(drawn.inputs), afters.run(drawn.inputs), strict=True):
            torch.testing.assert_close(got, want, rtol=RTOL, atol=ATOL, equal_nan=True)


def test_ops_far_apart_stay_apart():
    module = Module("far")
    main = module.add_function(Function("main", [tensor(DType.F32, 4)]))
    b = Builder(module, main.body)
    first: Value = b.emit("exp", main.args[0])
    x = first
    for _ in range(600):
        x = b.emit("flip", x, dims=(0,))
    result = b.emit("add", first, x)
    b.ret([result])
    main.result_types = (result.type,)
    with collect_misses("fuse") as misses:
        run_pipeline(module, parse_pipeline("fuse"))
    assert [m.reason for m in misses] == ["they stand too far apart"]
