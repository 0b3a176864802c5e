"""Sheets: modules of many small graphs that share symbolic dims, built once and run at many sizes.

A kernel's text costs a build and a size does not: what is static is drawn from a seed, sizes from hypothesis.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Mapping
from typing import Any

import torch

from maiac.codegen import segment
from maiac.ir import Builder, DType, Function, Module, TensorType, Value, tensor, verify
from maiac.ir.dims import DimLike, Symbol, evaluate
from maiac.ir.graph import State
from maiac.ir.ops.values import QTensor, to_torch
from maiac.ir.types import Quantized
from maiac.passes import parse_pipeline, run_pipeline
from maiac.passes.clone import clone_module
from maiac.runtime.executor import Executor
from maiac.runtime.weights import HeldTensor

from .harness import RELATIVE, Ran

Fill = Callable[[tuple[int, ...], torch.Generator, Mapping[str, int]], torch.Tensor]
FUSED = "fuse_patterns,fold,cse,dce,fuse,dce"

# Sizes around the widths of vectors and tiles, and some beyond all of them.
EDGES = (0, 1, 2, 3, 5, 7, 8, 9, 13, 15, 16, 17, 24, 31, 32, 33, 48, 63, 65, 100, 127, 129, 200, 300)


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
        self.labels: list[tuple[str, float]] = []  # what each result is of, and its tolerance

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

    def give(self, label: str, *values: Value, loose: float = 1.0, like: DType = DType.F64) -> None:
        """Compare values with the reference, within so many times the usual tolerance of their dtype.

        like: a dtype that values in between have been rounded to.
        """
        least = RELATIVE[to_torch(like)]
        self.results += values
        self.labels += [(label, loose * max(RELATIVE.get(to_torch(dims_of(v).element), 0), least)) for v in values]

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
        want, got = self.wanted.run([x.clone() for x in inputs]), self.ran.run(inputs)
        wrong: list[str] = []
        for (label, tolerance), a, b in zip(self.sheet.labels, want, got, strict=True):
            found = distance(a, b, tolerance)
            wrong += [f"{label}: {found}"] if found else []
        assert not wrong, f"at {dict(sizes)}\n" + "\n".join(wrong)
        if not self.sheet.module.states:
            for (label, _), a, b in zip(self.sheet.labels, got, self.ran.run(inputs), strict=True):
                assert same_bits(a, b), f"{label} at {dict(sizes)}: other bits in another run"


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two results are equal to the bit."""
    return torch.equal(*(x.reshape(-1).contiguous().view(torch.uint8) for x in (a, b)))


def distance(want: torch.Tensor, got: torch.Tensor, tolerance: float) -> str:
    """What is wrong with a result; empty if nothing is."""
    if want.shape != got.shape or want.dtype != got.dtype:
        return f"{got.dtype}{list(got.shape)} is not {want.dtype}{list(want.shape)}"
    if want.dtype not in RELATIVE:
        return "" if torch.equal(want, got) else f"{(want != got).sum().item()} elements differ"
    if torch.allclose(want.double(), got.double(), rtol=tolerance, atol=tolerance, equal_nan=True):
        return ""
    off = (want.double() - got.double()).abs()
    return f"{want.dtype}{list(want.shape)} is off by {off.max().item():.3g}, NaN in {got.isnan().sum().item()}"


def sizes_within(symbols: Mapping[str, tuple[int, int]], pick: random.Random) -> dict[str, int]:
    """A size for each symbol, mostly at an edge of something."""
    found: dict[str, int] = {}
    for name, (low, high) in symbols.items():
        found[name] = pick.choice(edges(low, high)) if pick.random() < 0.7 else pick.randint(low, high)
    return found


def edges(low: int, high: int) -> list[int]:
    """The sizes in a range that are most likely to go wrong."""
    return [e for e in EDGES if low <= e <= high] or [low]


def dirty_block(size: int) -> torch.Tensor:
    """Memory that begins as NaN, so that what is read before it is written shows."""
    return _clean_block(size).fill_(255)


_clean_block = segment.aligned_block
