"""Planning a segment: where each buffer lies and what each kernel is given, for one choice of sizes."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from maiac.ir.dims import DimLike, symbols_of
from maiac.ir.errors import raise_all
from maiac.ir.ops.values import TORCH
from maiac.runtime.memory import ALIGNMENT, Layout, assign
from maiac.runtime.memory import Buffer as Live
from maiac.runtime.memory_check import Move, faults
from maiac.runtime.plan import Source
from maiac.runtime.signature import Sizes, SymbolNames

from .convolution import Convolution
from .evaluate import evaluator
from .kernel import Kernel
from .views import Buffer, View


class Program(ctypes.Structure):
    """``maia_program`` of run.cpp."""

    _fields_ = (
        ("kernels", ctypes.c_int64),
        ("functions", ctypes.c_void_p),
        ("first_pointer", ctypes.c_void_p),
        ("base", ctypes.c_void_p),
        ("offset", ctypes.c_void_p),
        ("first_size", ctypes.c_void_p),
        ("sizes", ctypes.c_void_p),
    )


@dataclass(frozen=True, slots=True)
class Output:
    """A result of a segment: in a block that the call allocates, or a view of operand ``alias``."""

    view: View
    alias: int = -1


@dataclass(frozen=True, slots=True)
class Result:
    """How to make a result of a call: block ``source`` as it is, or a view of it, or of operand -1 - ``source``."""

    source: int
    dims: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    whole: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """All that one choice of sizes fixes."""

    program: Any  # a pointer to Program
    kept: tuple[Any, ...]  # what the program points to
    live: tuple[Live, ...]  # what lies in the arena
    layout: Layout
    blocks: tuple[tuple[tuple[int, ...], torch.dtype], ...]  # shapes of what a call allocates
    inputs: tuple[tuple[tuple[int, ...], tuple[int, ...], bool], ...]  # dims, strides, whether those are row-major
    results: tuple[Result, ...]
    simple: bool  # results are the blocks as they are


class Arrangement:
    """Kernels in order with their memory: a base for each buffer, and for those of the arena when they are alive.

    Base 0 is the arena; then come weights, operands, and the blocks of results.
    """

    def __init__(
        self, kernels: Sequence[Kernel], operands: Sequence[tuple[Source, View]], outputs: Sequence[Output]
    ) -> None:
        self.kernels = kernels
        self.operands = operands
        self.outputs = outputs
        used: dict[Buffer, list[int]] = {}
        for i, kernel in enumerate(kernels):
            for pointer in kernel.pointers:
                used.setdefault(pointer.view.buffer, []).append(i)
        self.fixed = [b for b in used if b.kind in ("weight", "packed")]
        self.live = {b: (at[0], at[-1]) for b, at in used.items() if b.kind == "arena"}
        made = (o.view.buffer for o in outputs if o.alias < 0)
        self.blocks = list(dict.fromkeys(made))
        given = [view.buffer for _, view in operands]
        self.base = {b: 1 + i for i, b in enumerate((*self.fixed, *given, *self.blocks))}
        self.count = 1 + len(self.fixed) + len(given) + len(self.blocks)
        self.first_operand = 1 + len(self.fixed)
        costs = [d for k in kernels for d in (k.flops, k.bytes)]
        self.symbols = sorted({s for d in (*self._dims(), *costs) for s in symbols_of(d)})
        self._evaluate: Callable[..., list[int]] | None = None

    def _dims(self) -> list[DimLike]:
        """Every expression that a plan evaluates, in order."""
        found: list[DimLike] = []
        for buffer in self.live:
            found += buffer.source.fields if isinstance(buffer.source, Convolution) else [buffer.size]
        for kernel in self.kernels:
            found += [p.view.offset for p in kernel.pointers]
            found += kernel.sizes
        found += [b.size for b in self.blocks]
        for _, view in self.operands:
            found += [*view.dims, *view.strides]
        for output in self.outputs:
            found += [*output.view.dims, *output.view.strides, output.view.offset]
        return found

    def plan(self, sizes: Sizes, functions: np.ndarray) -> Plan:
        """The plan for these sizes of ``symbols``; ``functions`` holds the address of each kernel."""
        if self._evaluate is None:
            self._evaluate = evaluator(self.symbols, SymbolNames(self.symbols), self._dims())
        values = iter(self._evaluate(*sizes))
        live = [Live(_bytes(buffer, values), *span) for buffer, span in self.live.items()]
        layout = assign(live)
        places = dict(zip(self.live, layout.offsets, strict=True))
        self._check(live, places, layout.size)
        first_pointer, base, offset, first_size, given = [0], list[int](), list[int](), [0], list[int]()
        for kernel in self.kernels:
            for pointer in kernel.pointers:
                buffer = pointer.view.buffer
                base.append(self.base.get(buffer, 0))
                offset.append(places.get(buffer, 0) + next(values) * buffer.dtype.bits // 8)
            first_pointer.append(len(base))
            given += [next(values) for _ in kernel.sizes]
            first_size.append(len(given))
        arrays = [np.array(a, dtype=np.int64) for a in (first_pointer, base, offset, first_size, given or [0])]
        program = Program(len(self.kernels), functions.ctypes.data, *(a.ctypes.data for a in arrays))
        blocks = [next(values) for _ in self.blocks]
        inputs = tuple(_shape(values, view) for _, view in self.operands)
        results = tuple(self._result(values, output, blocks) for output in self.outputs)
        simple = [r.source for r in results] == list(range(len(blocks))) and all(r.whole for r in results)
        shapes = [r.dims for r in results] if simple else [(n,) for n in blocks]
        dtypes = [TORCH[b.dtype] for b in self.blocks]
        return Plan(
            ctypes.byref(program),
            (program, functions, *arrays),
            tuple(live),
            layout,
            tuple(zip(shapes, dtypes, strict=True)),
            inputs,
            results,
            simple,
        )

    def _result(self, values: Iterator[int], output: Output, blocks: Sequence[int]) -> Result:
        dims, strides, is_dense = _shape(values, output.view)
        offset = next(values)
        if output.alias >= 0:
            return Result(-1 - output.alias, dims, strides, offset, False)
        index = self.blocks.index(output.view.buffer)
        whole = is_dense and offset == 0 and blocks[index] == int(np.prod(dims, dtype=np.int64))
        return Result(index, dims, strides, offset, whole)

    def _check(self, live: Sequence[Live], places: dict[Buffer, int], size: int) -> None:
        """Ask the checker that shares nothing with the planner (MAIA0509)."""
        moves: list[Move] = []
        written: set[Buffer] = set()
        for i, kernel in enumerate(self.kernels):
            own = [p for p in kernel.pointers if p.view.buffer in places]
            # Parts of one buffer are written by several kernels: the first takes the bytes, the others find them taken.
            fresh = tuple(dict.fromkeys(b for p in own if p.writes and (b := p.view.buffer) not in written))
            again = [p.view.buffer for p in own if p.reads or p.view.buffer in written]
            written.update(fresh)
            moves.append(Move(f"kernel {i} ({kernel.name})", tuple(b for b in again if b not in fresh), fresh))
        ranges: dict[Hashable, tuple[int, int]] = {
            buffer: (places[buffer], each.size) for buffer, each in zip(places, live, strict=True)
        }
        raise_all("MAIA0509", "the memory plan is not valid", faults(moves, ranges, [], size, ALIGNMENT))


def _bytes(buffer: Buffer, values: Iterator[int]) -> int:
    """Bytes of a buffer of the arena."""
    if isinstance(buffer.source, Convolution):
        return buffer.source.workspace([next(values) for _ in buffer.source.fields])
    return next(values) * buffer.dtype.bits // 8


def _shape(values: Iterator[int], view: View) -> tuple[tuple[int, ...], tuple[int, ...], bool]:
    dims = tuple(next(values) for _ in view.dims)
    strides = tuple(next(values) for _ in view.strides)
    step, is_dense = 1, True
    for d, s in zip(reversed(dims), reversed(strides), strict=True):
        is_dense = is_dense and (d == 1 or s == step)
        step *= d
    return dims, strides, is_dense
