"""Sheets: modules of many small graphs that share symbolic dims, built once and run at many sizes.

A kernel's text costs a build and a size does not: what is static is drawn from a seed, sizes from hypothesis.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from maiac.ir import Builder, DType, Function, Module, Result, TensorType, Value, tensor, verify
from maiac.ir.dims import DimLike, Symbol, evaluate
from maiac.ir.graph import State
from maiac.ir.ops.values import QTensor, to_torch
from maiac.ir.types import Quantized
from maiac.passes import parse_pipeline, run_pipeline
from maiac.passes.clone import clone_module
from maiac.runtime.executor import Executor
from maiac.runtime.weights import HeldTensor

from .harness import EPS, ULPS, Ran, copied, difference

Fill = Callable[[tuple[int, ...], torch.Generator, Mapping[str, int]], torch.Tensor]
FUSED = "fuse_patterns,fold,cse,dce,fuse,dce"
MOVES = {"slice", "transpose", "split", "expand", "flip"}  # nothing is rounded in these

# Sizes around the widths of vectors and tiles, and some beyond all of them.
EDGES = (0, 1, 2, 3, 5, 7, 8, 9, 13, 15, 16, 17, 24, 31, 32, 33, 48, 63, 65, 100, 127, 129, 200, 300)


@dataclass(frozen=True)
class Given:
    """What a result is of, and how near to the reference it must be (see ``ulps_off``)."""

    label: str
    ulps: float
    scale: DimLike
    eps: float


class Sheet:
    """A module that grows graph by graph. ``symbols``: the least and greatest size of each symbolic dim."""

    def __init__(self, name: str, seed: int, pipeline: str = "", **symbols: tuple[int, int]) -> None:
        self.random = random.Random(f"{name} {seed}")
        self.generator = torch.Generator().manual_seed(seed)
        self.pipeline = pipeline
        self.module = Module(name, symbols={n: Symbol(n, *ends) for n, ends in symbols.items()})
        self.main = self.module.add_function(Function("main"))
        self.b = Builder(self.module, self.main.body)
        self.fills: list[Fill] = []
        self.results: list[Value] = []
        self.given: list[Given] = []  # of each result

    # **** operands ****

    def arg(self, dtype: DType, *dims: DimLike, fill: Fill | None = None) -> Value:
        """An input: normally distributed floats, fair bools or small integers unless ``fill`` makes something else."""
        self.fills.append(fill or functools.partial(_usual, dtype))
        return self.main.body.add_arg(tensor(dtype, *dims), f"x{len(self.fills)}")

    def weight(self, dtype: DType, *dims: int, spread: float = 1.0) -> Value:
        """A weight of normally distributed elements."""
        made = (torch.randn(dims, generator=self.generator) * spread).to(to_torch(dtype))
        return self.module.add_weight(f"w{len(self.module.weights)}", tensor(dtype, *dims), HeldTensor(made))

    def quantized(self, type: Quantized, n: int, k: int) -> Value:
        """A matrix of codes whose real values are about normally distributed, over the root of k."""
        shape = [evaluate(d, {}) for d in type.scale_shape((n, k))]
        spread, storage = 3.0 * k**-0.5, type.storage
        zero: torch.Tensor | None = None
        if storage.is_float and storage.bits == 8:
            codes = torch.randn(n, k, generator=self.generator).to(to_torch(storage))
            scale = spread * (0.2 + torch.rand(shape, generator=self.generator))
        else:
            low = -(2 ** (storage.bits - 1)) if storage.family == "int" else 0
            high = low + 2**storage.bits
            codes = torch.randint(low, high, (n, k), generator=self.generator).to(to_torch(storage))
            scale = spread * (0.5 + torch.rand(shape, generator=self.generator)) / 2 ** (storage.bits - 1)
            if type.zero_point:
                zero = torch.randint(low, high, shape, generator=self.generator).to(to_torch(storage))
        held = QTensor(codes, scale.to(to_torch(type.scale)), zero, type)
        return self.module.add_weight(f"w{len(self.module.weights)}", TensorType(type, (n, k)), HeldTensor(held))

    def state(self, dtype: DType, *dims: int) -> State:
        """A state that begins as zeros."""
        made = torch.zeros(dims, dtype=to_torch(dtype))
        return self.module.add_state(f"s{len(self.module.states)}", tensor(dtype, *dims), HeldTensor(made))

    # **** operations ****

    def emit(self, op: str, *operands: Value | None, **attrs: Any) -> Value:
        """The result of an operation."""
        return self.b.emit(op, *operands, **attrs)

    def number(self, value: Any, dtype: DType = DType.F32) -> Value:
        """A constant."""
        return self.b.emit("constant", value=value, dtype=dtype)

    def pick(self, *options: Any) -> Any:
        """One of several."""
        return self.random.choice(options)

    def chance(self, probability: float = 0.5) -> bool:
        """Whether a coin fell so."""
        return self.random.random() < probability

    def give(self, label: str, *values: Value, ulps: float = ULPS, scale: DimLike = 1) -> None:
        """Compare values with the reference.

        ulps: how far they may be apart, in units in the last place of their largest element or of ``scale``, whichever
        is larger: the size of the terms that they are summed from, which is one as long as inputs are.
        """
        self.results += values
        self.given += [Given(label, ulps, scale, roughest(v)) for v in values]

    # **** running ****

    def finish(self) -> Runner:
        """End the module."""
        self.b.ret(self.results)
        verify(self.module)
        return Runner(self)

    def inputs(self, sizes: Mapping[str, int], seed: int) -> list[torch.Tensor]:
        """Inputs of these sizes."""
        generator = torch.Generator().manual_seed(seed)
        made: list[torch.Tensor] = []
        for arg, fill in zip(self.main.body.args, self.fills, strict=True):
            type = dims_of(arg)
            made.append(fill(tuple(evaluate(d, sizes) for d in type.dims), generator, sizes))
        return made


def dims_of(value: Value) -> TensorType:
    """The type of a value that is a tensor."""
    assert isinstance(value.type, TensorType)
    return value.type


def roughest(value: Value) -> float:
    """The unit of the narrowest floats on the way to a value: what is rounded to them may fall to either side."""
    if not isinstance(value, Result) or not isinstance(value.type, TensorType):
        return 0.0
    own = 0.0 if value.op.name in MOVES else EPS.get(to_torch(value.type.element), 0.0)
    return max([own, *(roughest(v) for v in value.op.operands if v is not None)])


def _usual(dtype: DType, shape: tuple[int, ...], g: torch.Generator, sizes: Mapping[str, int]) -> torch.Tensor:
    if dtype is DType.BOOL:
        return torch.rand(shape, generator=g) < 0.7
    if dtype.is_integer:
        return torch.randint(0 if dtype.family == "uint" else -5, 6, shape, generator=g).to(to_torch(dtype))
    return torch.randn(shape, generator=g, dtype=torch.float64).to(to_torch(dtype))


def below(limit: DimLike, low: DimLike = 0, dtype: torch.dtype = torch.int64) -> Fill:
    """Indices in low..limit - 1."""

    def fill(shape: tuple[int, ...], g: torch.Generator, sizes: Mapping[str, int]) -> torch.Tensor:
        first, last = evaluate(low, sizes), evaluate(limit, sizes)
        return torch.randint(first, max(last, first + 1), shape, generator=g).to(dtype)

    return fill


class Runner:
    """A finished sheet: by reference as it stands, natively through its pipeline."""

    def __init__(self, sheet: Sheet) -> None:
        self.sheet = sheet
        self.wanted = Executor(clone_module(sheet.module), arena=False)
        module = clone_module(sheet.module)
        if sheet.pipeline:
            run_pipeline(module, parse_pipeline(sheet.pipeline))
        self.ran = Ran(module)

    @property
    def symbols(self) -> dict[str, tuple[int, int]]:
        """The range of each symbol."""
        return {n: (s.low, s.high or s.low) for n, s in self.sheet.module.symbols.items()}

    def compare(self, sizes: Mapping[str, int], seed: int = 0) -> None:
        """Assert that native results are near the reference's, and the same bits again."""
        inputs = self.sheet.inputs(sizes, seed)
        want, got = self.wanted.run(copied(inputs)), self.ran.run(inputs)
        wrong: list[str] = []
        for given, a, b in zip(self.sheet.given, want, got, strict=True):
            found = difference(a, b, given.ulps, evaluate(given.scale, sizes), given.eps)
            wrong += [f"{given.label}: {found}"] if found else []
        assert not wrong, f"at {dict(sizes)}\n" + "\n".join(wrong)
        if self.sheet.module.states:
            return
        for given, a, b in zip(self.sheet.given, got, self.ran.run(inputs), strict=True):
            assert same_bits(a, b), f"{given.label} at {dict(sizes)}: other bits in another run"


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two results are equal to the bit."""
    return torch.equal(*(x.reshape(-1).contiguous().view(torch.uint8) for x in (a, b)))


def sizes_within(symbols: Mapping[str, tuple[int, int]], pick: random.Random) -> dict[str, int]:
    """A size for each symbol, mostly at an edge of something."""
    found: dict[str, int] = {}
    for name, (low, high) in symbols.items():
        found[name] = pick.choice(edges(low, high)) if pick.random() < 0.7 else pick.randint(low, high)
    return found


def edges(low: int, high: int) -> list[int]:
    """The sizes in a range that are most likely to go wrong."""
    return [e for e in EDGES if low <= e <= high] or [low]
