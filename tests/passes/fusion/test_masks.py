"""What is read of masks is true: attention with random masks of positions gives the same, whatever is left of them."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from maiac.ir import Builder, DType, Function, Module, Value, tensor
from maiac.ir.dims import Symbol, sym
from maiac.passes import parse_pipeline, run_pipeline
from maiac.passes.clone import clone_module
from maiac.runtime import Executor
from tests.passes.models import weight

RTOL, ATOL = 1e-5, 1e-6  # float32
T = sym("T")
LEAST = torch.finfo(torch.float32).min


class Masks:
    """Draws masks: bool values over (row, column), made of positions."""

    def __init__(self, b: Builder, choose: random.Random, pad: Value) -> None:
        self.b, self.choose, self.pad = b, choose, pad
        self.positions = b.emit("iota", end=T)

    def number(self, value: int) -> Value:
        return self.b.emit("constant", value=value, dtype=DType.I64)

    def rows(self) -> Value:
        """Positions as a column, sometimes shifted, or put together of two pieces."""
        emit, kind = self.b.emit, self.choose.randint(0, 4)
        rows = self.positions
        if kind == 0:
            rows = emit("add", rows, self.number(self.choose.randint(-2, 2)))
        if kind == 1:
            first = emit("sub", emit("slice", rows, dim=0, end=1), self.number(1))
            rows = emit("slice", emit("concat", first, rows, dim=0), dim=0, start=1, end=T + 1)
        if kind == 2:
            rows = emit("index", rows, rows, dims=(0,))
        return emit("reshape", rows, shape=(T, 1))

    def draw(self, depth: int = 3) -> Value:
        """A mask."""
        emit = self.b.emit
        if depth and self.choose.random() < 0.6:
            x, y = self.draw(depth - 1), self.draw(depth - 1)
            name = self.choose.choice(["logical_and", "bitwise_and", "logical_and", "logical_or"])
            return emit(name, x, emit("logical_not", y) if self.choose.random() < 0.2 else y)
        return getattr(self, self.choose.choice(["compared", "compared", "near", "triangle", "known", "padding"]))()

    def compared(self) -> Value:
        name = self.choose.choice(["le", "le", "lt", "ge", "gt", "eq", "ne"])
        apart = self.b.emit("sub", self.positions, self.rows())
        if self.choose.random() < 0.4:
            return self.b.emit(name, self.positions, self.rows())
        return self.b.emit(name, apart, self.number(self.choose.randint(-4, 4)))

    def near(self) -> Value:
        apart = self.b.emit("abs", self.b.emit("sub", self.rows(), self.positions))
        return self.b.emit(self.choose.choice(["le", "lt"]), apart, self.number(self.choose.randint(0, 4)))

    def triangle(self) -> Value:
        whole = self.b.emit("full", value=True, dtype=DType.BOOL, shape=(T, T))
        return self.b.emit(self.choose.choice(["tril", "triu"]), whole, diagonal=self.choose.randint(-2, 2))

    def known(self) -> Value:
        """What is true or false everywhere, mostly."""
        steps = self.b.emit("cumsum", self.b.emit("cast", self.padding(), to=DType.I64), dim=1)
        name, low = self.choose.choice(["ge", "ge", "lt"]), self.number(self.choose.randint(-1, 0))
        return self.b.emit(name, self.choose.choice([self.positions, self.rows(), steps]), low)

    def padding(self) -> Value:
        return self.b.emit("reshape", self.pad, shape=(1, T))


def drawn(seed: int, kind: str) -> Module:
    """Attention under a random mask; kind: bool, or what is added where it hides, or all of it in primitives."""
    module = Module("m", symbols={"T": Symbol("T", 2, 64)})
    main = module.add_function(Function("main", [tensor(DType.F32, 2, T, 4), tensor(DType.BOOL, T)]))
    q, pad = main.args
    b = Builder(module, main.body)
    mask = Masks(b, random.Random(seed), pad).draw()
    if kind != "bool":
        hidden = b.emit("constant", value=float("-inf") if kind == "inf" else LEAST, dtype=DType.F32)
        mask = b.emit("where", mask, b.emit("constant", value=0.0, dtype=DType.F32), hidden)
    if kind == "parts":
        scores = b.emit("matmul", q, b.emit("transpose", q, perm=(0, 2, 1)))
        y = b.emit("matmul", b.emit("softmax", b.emit("add", scores, mask)), q)
    else:
        y = b.emit("attention", q, q, q, mask)
    b.ret([y])
    return module


@pytest.mark.parametrize("kind", ["bool", "inf", "least", "parts"])
@pytest.mark.parametrize("seed", range(25))
def test_masks_keep_their_meaning(seed: int, kind: str):
    before = drawn(seed, kind)
    after = clone_module(before)
    run_pipeline(after, parse_pipeline("fuse_attention,cse,dce"))
    executors = Executor(before), Executor(after)
    for length in (2, 5, 9):
        generator = torch.Generator().manual_seed(length)
        inputs = [torch.randn(2, length, 4, generator=generator), torch.rand(length, generator=generator) < 0.7]
        want, got = (executor.run(inputs)[0] for executor in executors)
        torch.testing.assert_close(got, want, rtol=RTOL, atol=ATOL)


def attrs_of(mask: torch.Tensor) -> tuple[Any, ...]:
    """causal, window, and whether a mask stays, for a constant mask."""
    n = mask.shape[-1]
    module = Module("m")
    main = module.add_function(Function("main", [tensor(DType.F32, 2, n, 4)]))
    b, q = Builder(module, main.body), main.args[0]
    b.ret([b.emit("attention", q, q, q, weight(module, "mask", mask))])
    before = clone_module(module)
    run_pipeline(module, parse_pipeline("fuse_attention,cse,dce"))
    inputs = [torch.randn(2, n, 4)]
    torch.testing.assert_close(Executor(module).run(inputs), Executor(before).run(inputs), rtol=RTOL, atol=ATOL)
    (op,) = [op for op in module.walk() if op.name == "attention"]
    return op.attrs.get("causal", False), op.attrs.get("window", 0), len(op.operands) > 3


def band(low: int, high: int, n: int = 7) -> torch.Tensor:
    """Where the key is from ``low`` to ``high`` positions behind the query."""
    back = torch.arange(n)[:, None] - torch.arange(n)
    return (back >= low) & (back <= high)


def added(shown: torch.Tensor, hidden: float = float("-inf")) -> torch.Tensor:
    """A mask that is added."""
    return torch.zeros(shown.shape).masked_fill(~shown, hidden)


CONSTANTS = {
    "causal": (band(0, 9), (True, 0, False)),
    "window": (band(0, 2), (True, 3, False)),
    "both sides": (band(-2, 2), (False, 3, False)),
    "all": (band(-9, 9), (False, 0, False)),
    "uneven": (band(-1, 2), (False, 0, True)),
    "shifted": (band(-1, 9), (False, 0, True)),
    "holes": (band(0, 9) & (torch.arange(7) != 3), (False, 0, True)),
    "of heads": (torch.stack([band(0, 9), band(0, 9)]), (True, 0, False)),
    "of unlike heads": (torch.stack([band(0, 9), band(0, 2)]), (False, 0, True)),
    "added": (added(band(0, 9)), (True, 0, False)),
    "added least": (added(band(0, 2), LEAST), (True, 3, False)),
    "added little": (added(band(0, 9), -1.0), (False, 0, True)),
    "added nothing": (torch.zeros(7, 7), (False, 0, False)),
    "a row without": (added(band(1, 9), LEAST), (False, 0, True)),
    "a bias that hides the future": (added(band(0, 9), LEAST) + torch.arange(7.0), (True, 0, True)),
}


@pytest.mark.parametrize("name", CONSTANTS)
def test_constant_masks(name: str):
    mask, want = CONSTANTS[name]
    assert attrs_of(mask) == want
