"""A segment: steps that run as one native call. Built once, planned once for each choice of sizes."""

from __future__ import annotations

import ctypes
import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from maiac.ir.dims import DimLike, evaluate, symbols_of
from maiac.ir.errors import Location, MaiaError, raise_all
from maiac.ir.graph import State, Weight
from maiac.ir.ops.values import TORCH, QTensor
from maiac.runtime.globals import bytes_held, load_weights
from maiac.runtime.memory import ALIGNMENT, assign, lower_bound
from maiac.runtime.memory import Buffer as Live
from maiac.runtime.memory_check import Move, faults
from maiac.runtime.placement import Placement
from maiac.runtime.plan import Slot, Source
from maiac.runtime.profiling import StepTime
from maiac.runtime.signature import Sizes, SymbolNames

from .build import SOURCES, build_library, kernel_library
from .convolution import Convolution
from .kernel import Kernel
from .lowering import Packing
from .store import PackStore
from .views import Buffer, View

HEADERS = ("ops.h", "gemm.h", "conv.h", "attention.h", "window.h", "move.h", "index.h")
MOST_PLANS = 64  # concrete sizes whose plan is kept
CHUNK = 24  # kernels of one translation unit: several are compiled side by side


class _Program(ctypes.Structure):
    """``maia_program`` of run.cpp."""

    _fields_ = [("kernels", ctypes.c_int64)] + [
        (name, ctypes.c_void_p) for name in ("functions", "first_pointer", "base", "offset", "first_size", "sizes")
    ]


@dataclass(frozen=True, slots=True)
class Output:
    """A result of a segment: allocated as a block of ``size`` elements, or a view of operand ``alias``."""

    view: View
    alias: int = -1


@dataclass
class _Plan:
    """All that one choice of sizes fixes."""

    program: _Program
    arrays: tuple[np.ndarray, ...]
    arena: int
    lower_bound: int
    blocks: list[tuple[int, torch.dtype]]  # of outputs: elements
    results: list[tuple[int, tuple[int, ...], tuple[int, ...], int, bool]]  # block or operand, dims, strides, offset
    inputs: list[tuple[tuple[int, ...], tuple[int, ...], bool]]


class _Frame:
    """What one run needs for itself: the arena, and the addresses that kernels find memory at."""

    def __init__(self, fixed: Sequence[int], count: int) -> None:
        self.bases = (ctypes.c_void_p * count)()
        self.block = torch.empty(0, dtype=torch.uint8)
        for i, address in enumerate(fixed):
            self.bases[1 + i] = address
        self.fault = (ctypes.c_int64 * 2)()

    def reserve(self, size: int) -> None:
        """Have an arena of at least this size."""
        if self.block.numel() >= size + ALIGNMENT:
            return
        self.block = torch.empty(0, dtype=torch.uint8)  # the old one goes first
        self.block = torch.empty(size + ALIGNMENT, dtype=torch.uint8)
        self.bases[0] = self.block.data_ptr() + -self.block.data_ptr() % ALIGNMENT


class Segment:
    """Kernels in order, what they read and give. ``operands`` are passed at a call, in order."""

    def __init__(
        self,
        name: str,
        kernels: Sequence[Kernel],
        operands: Sequence[tuple[Source, View]],
        outputs: Sequence[Output],
        placement: Placement,
    ) -> None:
        self.name = name
        self.kernels = list(kernels)
        self.operands = list(operands)
        self.outputs = list(outputs)
        self.placement = placement
        self._number_buffers()
        self.symbols = sorted(self._symbols())
        self.names = SymbolNames(self.symbols)
        self._evaluate: Callable[..., list[int]] | None = None
        self._plans: dict[Sizes, _Plan] = {}
        self._lock = threading.Lock()
        self._fixed: list[int] = []
        self._held: list[torch.Tensor] = []
        self._functions: np.ndarray | None = None
        self._frames: deque[_Frame] = deque()  # as many as there are runs at one time

    # **** structure ****

    def _number_buffers(self) -> None:
        """Give each buffer its base: 0 the arena, then weights, operands, results."""
        self.fixed: list[Buffer] = []
        self.blocks: list[Buffer] = []
        own = {view.buffer: i for i, (_, view) in enumerate(self.operands)}
        self.base: dict[Buffer, int] = {}
        for kernel in self.kernels:
            for pointer in kernel.pointers:
                buffer = pointer.view.buffer
                if buffer.kind in ("weight", "packed") and buffer not in self.base:
                    self.base[buffer] = 1 + len(self.fixed)
                    self.fixed.append(buffer)
        for output in self.outputs:
            if output.view.buffer.kind == "output" and output.view.buffer not in self.blocks:
                self.blocks.append(output.view.buffer)
        first = 1 + len(self.fixed)
        self.base |= {buffer: first + i for buffer, i in own.items()}
        self.base |= {buffer: first + len(self.operands) + i for i, buffer in enumerate(self.blocks)}
        self.count = first + len(self.operands) + len(self.blocks)
        used: dict[Buffer, list[int]] = {}
        for i, kernel in enumerate(self.kernels):
            for pointer in kernel.pointers:
                if pointer.view.buffer.kind == "arena":
                    used.setdefault(pointer.view.buffer, []).append(i)
        self.live = {buffer: (at[0], at[-1]) for buffer, at in used.items()}

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

    def _symbols(self) -> set[str]:
        costs = [d for k in self.kernels for d in (k.flops, k.bytes)]
        return {s for d in (*self._dims(), *costs) for s in symbols_of(d)}

    def texts(self) -> list[str]:
        """The C++ of all kernels, each body once, in a few translation units."""
        functions = {k.symbol: k.text for k in self.kernels}
        for buffer in self.fixed:
            if buffer.kind == "packed":
                packing: Packing = buffer.source[1]
                functions[packing.symbol] = packing.text
        head = (
            "".join(f'#include "{name}"\n' for name in HEADERS if (SOURCES / name).exists())
            + "#include <vector>\nusing namespace maia;\n\n"
        )
        texts = sorted(functions.values(), key=len, reverse=True)
        units = max(1, min(4, len(texts) // CHUNK + 1, len(texts)))
        return [head + "\n".join(texts[i::units]) for i in range(units)]

    # **** preparing ****

    def prepare(self, store: PackStore | None = None) -> None:
        """Build the code and pack the weights, once; ``store`` keeps what is packed."""
        with self._lock:
            if self._functions is not None:
                return
            kernel_library()
            path = build_library("segment", self.texts(), ["-O2"])  # its loops are vectors already
            self._library = library = ctypes.CDLL(str(path))
            packed = [b for b in self.fixed if b.kind == "packed"]
            blocks = dict(zip(packed, self._packed(packed, path.name, store), strict=True))
            for buffer in self.fixed:
                self._held.append(blocks[buffer] if buffer in blocks else self._plain(buffer.source))
            self._fixed = [t.data_ptr() for t in self._held]
            addresses = [ctypes.cast(getattr(library, k.symbol), ctypes.c_void_p).value or 0 for k in self.kernels]
            self._functions = np.array(addresses, dtype=np.int64)

    def _plain(self, weight: Weight) -> torch.Tensor:
        """A weight as it is."""
        loaded = load_weights([weight], self.placement)[0]
        assert isinstance(loaded, torch.Tensor)
        return loaded.contiguous()

    def _packed(self, buffers: Sequence[Buffer], code: str, store: PackStore | None) -> list[torch.Tensor]:
        """Weights in their kernels' layouts."""
        sources: list[tuple[Weight, Packing]] = [b.source for b in buffers]
        missing = [f"weight @{w.name} : {w.type}" for w, _ in sources if w.data is None]
        raise_all("MAIA0504", "the program cannot run: weights have no contents", missing)
        sizes = [self._pack(packing, None, None) for _, packing in sources]

        def fill(i: int, block: torch.Tensor) -> None:
            self._pack(sources[i][1], sources[i][0], block)

        key = repr([code, *((w.name, p.symbol, p.sizes) for w, p in sources)])
        found = store.blocks(key, sizes, fill) if store is not None else None
        if found is None:
            found = [aligned_block(size) for size in sizes]
            for i, block in enumerate(found):
                fill(i, block)
        return found

    def _pack(self, packing: Packing, weight: Weight | None, block: torch.Tensor | None) -> int:
        """Write a weight's panels into a block; without one, how many bytes they take."""
        pack = getattr(self._library, packing.symbol)
        pack.restype = ctypes.c_int64
        sizes = (ctypes.c_int64 * len(packing.sizes))(*packing.sizes)
        if weight is None or block is None:
            return pack(None, sizes)
        loaded = load_weights([weight], self.placement)[0]
        parts: list[torch.Tensor | None] = [loaded if isinstance(loaded, torch.Tensor) else loaded.codes]
        if isinstance(loaded, QTensor):
            parts += [loaded.scale.float(), loaded.zero_point]
        given = [None if p is None else p.contiguous() for p in parts]
        addresses = [None if p is None else p.data_ptr() for p in given] + [None] * (3 - len(given))
        return pack((ctypes.c_void_p * 4)(*addresses, block.data_ptr()), sizes)

    def memory(self, sizes: Sizes) -> tuple[int, int]:
        """Bytes of the arena at these sizes, and the least that any plan needs."""
        plan = self.plan(sizes)
        return plan.arena, plan.lower_bound

    def weight_bytes(self) -> int:
        """Bytes of the weights that this segment holds."""
        return sum(bytes_held(t) for t in self._held)

    # **** planning ****

    def _values(self, sizes: Sizes) -> list[int]:
        """Every expression under these sizes."""
        dims = self._dims()
        if not self.symbols:
            return [int(d) for d in dims]  # type: ignore[arg-type]
        if self._evaluate is None:
            from .evaluate import evaluator

            self._evaluate = evaluator(self.symbols, self.names, dims)
        return self._evaluate(*sizes)

    def plan(self, sizes: Sizes) -> _Plan:
        """The plan for a choice of sizes, made when it is first asked for."""
        found = self._plans.get(sizes)
        if found is None:
            with self._lock:
                if len(self._plans) >= MOST_PLANS:
                    self._plans.pop(next(iter(self._plans)))
                found = self._plans[sizes] = self._plan(sizes)
        return found

    def _plan(self, sizes: Sizes) -> _Plan:
        values = iter(self._values(sizes))
        live = [Live(self._bytes(buffer, values), *span) for buffer, span in self.live.items()]
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
        blocks = [(next(values), TORCH[b.dtype]) for b in self.blocks]
        inputs = [self._shape(values, view) for _, view in self.operands]
        results: list[tuple[int, tuple[int, ...], tuple[int, ...], int, bool]] = []
        for output in self.outputs:
            dims, strides, dense = self._shape(values, output.view)
            at = next(values)
            from_block = output.alias < 0
            index = self.blocks.index(output.view.buffer) if from_block else -1 - output.alias
            whole = from_block and dense and at == 0 and blocks[index][0] == int(np.prod(dims, dtype=np.int64))
            results.append((index, dims, strides, at, whole))
        arrays = tuple(np.array(a, dtype=np.int64) for a in (first_pointer, base, offset, first_size, given or [0]))
        assert self._functions is not None
        program = _Program(len(self.kernels), self._functions.ctypes.data, *(a.ctypes.data for a in arrays))
        return _Plan(program, arrays, layout.size, lower_bound(live), blocks, results, inputs)

    def _bytes(self, buffer: Buffer, values: Iterator[int]) -> int:
        """Bytes of a buffer of the arena."""
        if isinstance(buffer.source, Convolution):
            return buffer.source.workspace([next(values) for _ in buffer.source.fields])
        return next(values) * buffer.dtype.bits // 8

    def _shape(self, values: Any, view: View) -> tuple[tuple[int, ...], tuple[int, ...], bool]:
        dims = tuple(next(values) for _ in view.dims)
        strides = tuple(next(values) for _ in view.strides)
        step, is_dense = 1, True
        for d, s in zip(reversed(dims), reversed(strides), strict=True):
            is_dense = is_dense and (d == 1 or s == step)
            step *= d
        return dims, strides, is_dense

    def _check(self, live: Sequence[Live], places: dict[Buffer, int], size: int) -> None:
        """Ask the checker that shares nothing with the planner (MAIA0509)."""
        moves: list[Move] = []
        written: set[Buffer] = set()
        for i, kernel in enumerate(self.kernels):
            own = [p for p in kernel.pointers if p.view.buffer in places]
            reads = tuple(p.view.buffer for p in own if p.reads)
            # Parts of one buffer are written by several kernels: the first takes the bytes, the others find them taken.
            fresh = tuple(b for p in own if p.writes and (b := p.view.buffer) not in written)
            again = tuple(b for p in own if p.writes and (b := p.view.buffer) in written and b not in fresh)
            written.update(fresh)
            moves.append(Move(f"kernel {i} ({kernel.name})", (*reads, *again), fresh))
        ranges: dict[Hashable, tuple[int, int]] = {
            buffer: (places[buffer], each.size) for buffer, each in zip(places, live, strict=True)
        }
        raise_all("MAIA0509", "the memory plan is not valid", faults(moves, ranges, [], size, ALIGNMENT))

    # **** running ****

    def _refuse(self, kernel: Kernel, index: int, size: int) -> None:
        """MAIA0503: an index lies outside of what it selects from."""
        hint = "the values of an input that holds indices, such as token ids, must lie in the table's range"
        what = f"{kernel.name}: the index {index} lies outside 0..{size - 1}"
        raise MaiaError("MAIA0503", what, loc=kernel.loc, hint=hint)

    def __call__(self, operands: Sequence[torch.Tensor], sizes: Sizes) -> tuple[torch.Tensor, ...]:
        """The results for these operands; ``sizes`` are those of ``symbols``."""
        return self.run(operands, sizes, None)

    def timed(self, operands: Sequence[torch.Tensor], sizes: Sizes) -> tuple[tuple[torch.Tensor, ...], list[StepTime]]:
        """The results, and what each kernel took."""
        times = (ctypes.c_double * (len(self.kernels) + 1))()
        results = self.run(operands, sizes, times)
        env = dict(zip(self.symbols, sizes, strict=True))
        found = [
            StepTime(
                kernel.name,
                kernel.loc,
                times[i + 1] - times[i],
                evaluate(kernel.flops, env),
                evaluate(kernel.bytes, env),
                "native",
                times[i],
            )
            for i, kernel in enumerate(self.kernels)
        ]
        return results, found

    def run(self, operands: Sequence[torch.Tensor], sizes: Sizes, times: Any) -> tuple[torch.Tensor, ...]:
        """Run; ``times`` is an array of one double more than there are kernels, or None."""
        plan = self._plans.get(sizes) or self.plan(sizes)
        try:
            frame = self._frames.pop()
        except IndexError:
            frame = _Frame(self._fixed, self.count)
        frame.reserve(plan.arena)
        bases, at = frame.bases, 1 + len(self._fixed)
        kept: list[torch.Tensor] = []
        for tensor, (dims, strides, is_dense) in zip(operands, plan.inputs, strict=True):
            if not (tensor.is_contiguous() if is_dense else tensor.stride() == strides):
                tensor = _laid_out(tensor, dims, strides)
            kept.append(tensor)
            bases[at] = tensor.data_ptr()
            at += 1
        blocks: list[torch.Tensor] = []
        for size, dtype in plan.blocks:
            block = torch.empty(size, dtype=dtype)
            blocks.append(block)
            bases[at] = block.data_ptr()
            at += 1
        found = kernel_library().maia_run(ctypes.byref(plan.program), bases, times, frame.fault)
        self._frames.append(frame)
        if found:
            self._refuse(self.kernels[found - 1], *frame.fault)
        results: list[torch.Tensor] = []
        for index, dims, strides, offset, whole in plan.results:
            if whole:
                results.append(blocks[index].view(dims))
                continue
            source = blocks[index] if index >= 0 else kept[-1 - index]
            results.append(source.as_strided(dims, strides, source.storage_offset() + offset))
        return tuple(results)


def aligned_block(size: int) -> torch.Tensor:
    """Bytes that begin at a multiple of the alignment."""
    block = torch.empty(size + ALIGNMENT, dtype=torch.uint8)
    return block[-block.data_ptr() % ALIGNMENT :][:size]


def _laid_out(tensor: torch.Tensor, dims: tuple[int, ...], strides: tuple[int, ...]) -> torch.Tensor:
    """A copy with the strides that the kernels were written for."""
    made = torch.empty_strided(dims, strides, dtype=tensor.dtype)
    return made.copy_(tensor)


__all__ = ["Location", "Output", "Segment", "Slot", "State", "evaluate"]
