"""A segment: steps that run as one native call. Built once, planned once for each choice of sizes."""

from __future__ import annotations

import ctypes
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from maiac.ir.dims import evaluate
from maiac.ir.errors import MaiaError, raise_all
from maiac.ir.graph import Weight
from maiac.ir.ops.values import QTensor
from maiac.runtime.globals import bytes_held, load_weights
from maiac.runtime.memory import ALIGNMENT
from maiac.runtime.memory_timeline import PlanOverTime, plan_over_time
from maiac.runtime.placement import Placement
from maiac.runtime.plan import Source
from maiac.runtime.profiling import StepTime
from maiac.runtime.signature import Sizes
from maiac.runtime.weights import HeldTensor

from .build import Build
from .kernel import Kernel
from .library import has_header, library, load
from .lowering import Packing
from .planning import Arrangement, Output, Plan
from .store import PackStore
from .views import Buffer, View

FLAGS = ("-fwrapv",)  # integers overflow as torch's do
MOST_PLANS = 64  # concrete sizes whose plan is kept
CHUNK = 24  # kernels of one translation unit: several are compiled side by side


class _Frame:
    """What one run needs for itself: the arena, and the addresses that kernels find memory at."""

    def __init__(self, fixed: Sequence[int], count: int) -> None:
        self.bases = (ctypes.c_void_p * count)()
        self.size = -1
        for i, address in enumerate(fixed):
            self.bases[1 + i] = address
        self.fault = (ctypes.c_int64 * 2)()

    def reserve(self, size: int) -> None:
        """Have an arena of at least this size."""
        self.block = None  # the old one goes first
        self.block = aligned_block(size)
        self.size = size
        self.bases[0] = self.block.data_ptr()


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
        self.outputs = list(outputs)
        self.placement = placement
        self.arrangement = Arrangement(self.kernels, list(operands), self.outputs)
        self.symbols = self.arrangement.symbols
        self._plans: dict[Sizes, Plan] = {}
        self._lock = threading.Lock()
        self._held: list[torch.Tensor] = []
        self._copies: list[tuple[Buffer, torch.Tensor]] = []  # our own, of weights that somebody else may change
        self._sources: list[torch.Tensor] = []  # those weights
        self._versions: list[int] = []
        self._functions: np.ndarray | None = None
        self._code: list[ctypes.CDLL] = []
        self._frames: deque[_Frame] = deque()  # as many as there are runs at one time

    # **** preparing ****

    def texts(self) -> list[str]:
        """The C++ of all kernels, each body once, in a few translation units."""
        functions: dict[str, Kernel | Packing] = {k.symbol: k for k in self.kernels}
        for buffer in self.arrangement.fixed:
            if buffer.kind == "packed":
                packing: Packing = buffer.source[1]
                functions[packing.symbol] = packing
        ordered = sorted(functions.values(), key=lambda f: len(f.text), reverse=True)
        units = max(1, min(4, len(ordered) // CHUNK + 1, len(ordered)))
        return [_unit(ordered[i::units]) for i in range(units)]

    def prepare(self, store: PackStore | None = None) -> None:
        """Build the code and pack the weights, once; ``store`` keeps what is packed."""
        with self._lock:
            if self._functions is not None:
                return
            builds = [Build("segment", text, FLAGS) for text in self.texts()]
            load(["run", *self._parts()], builds)
            self._call = library("run").maia_run
            self._call.restype, self._call.argtypes = ctypes.c_int64, (ctypes.c_void_p,) * 4
            self._code = [ctypes.CDLL(str(b.target)) for b in builds]
            packed = [b for b in self.arrangement.fixed if b.kind == "packed"]
            code = " ".join(b.target.name for b in builds)
            blocks = dict(zip(packed, self._packed(packed, code, store), strict=True))
            fixed = self.arrangement.fixed
            self._held = [blocks[b] if b in blocks else self._plain(b.source) for b in fixed]
            self._watch()
            addresses = [ctypes.cast(self._function(k.symbol), ctypes.c_void_p).value or 0 for k in self.kernels]
            self._functions = np.array(addresses, dtype=np.int64)

    def _parts(self) -> set[str]:
        """What the code calls of the kernel library."""
        packings: list[Packing] = [b.source[1] for b in self.arrangement.fixed if b.kind == "packed"]
        return {part for f in (*self.kernels, *packings) for part in f.parts}

    def _function(self, symbol: str) -> Any:
        """A function of the code."""
        return next(getattr(code, symbol) for code in self._code if hasattr(code, symbol))

    def _watch(self) -> None:
        """Note the weights of a model in memory that we have in a layout of our own."""
        for buffer, block in zip(self.arrangement.fixed, self._held, strict=True):
            weight = buffer.source[0] if buffer.kind == "packed" else buffer.source
            if not isinstance(weight.data, HeldTensor):
                continue
            held = weight.data.tensor
            source = held.codes if isinstance(held, QTensor) else held
            if source.is_inference() or source.data_ptr() == block.data_ptr():
                continue
            self._copies.append((buffer, block))
            self._sources.append(source)
        self._versions = [_version(t) for t in self._sources]

    def _refresh(self, versions: list[int]) -> None:
        """Copy weights again that were changed in place, as a step of training does."""
        with self._lock:
            for (buffer, block), old, new in zip(self._copies, self._versions, versions, strict=True):
                if old == new:
                    continue
                if buffer.kind == "packed":
                    self._pack(buffer.source[1], buffer.source[0], block)
                else:
                    block.copy_(self._plain(buffer.source))
            self._versions = versions

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
        ours = any(isinstance(w.data, HeldTensor) for w, _ in sources)  # and not those of the artifact's file
        found = store.blocks(key, sizes, fill) if store is not None and not ours else None
        if found is None:
            found = [aligned_block(size) for size in sizes]
            for i, block in enumerate(found):
                fill(i, block)
        return found

    def _pack(self, packing: Packing, weight: Weight | None, block: torch.Tensor | None) -> int:
        """Write a weight's panels into a block; without one, how many bytes they take."""
        pack = self._function(packing.symbol)
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

    def memory(self, sizes: Sizes) -> PlanOverTime:
        """The plan of the arena at these sizes, kernel by kernel."""
        plan = self.plan(sizes)
        return plan_over_time(plan.live, plan.layout)

    def weight_bytes(self) -> int:
        """Bytes of the weights that this segment holds."""
        return sum(bytes_held(t) for t in self._held)

    # **** running ****

    def plan(self, sizes: Sizes) -> Plan:
        """The plan for a choice of sizes, made when it is first asked for."""
        with self._lock:
            found = self._plans.get(sizes)
            if found is None:
                assert self._functions is not None, "a segment is prepared before it runs"
                if len(self._plans) >= MOST_PLANS:
                    self._plans.pop(next(iter(self._plans)))
                found = self._plans[sizes] = self.arrangement.plan(sizes, self._functions)
            return found

    def _refuse(self, kernel: Kernel, index: int, size: int) -> None:
        """MAIA0503: an index lies outside of what it selects from."""
        hint = "the values of an input that holds indices, such as token ids, must lie in the table's range"
        what = f"{kernel.name}: the index {index} lies outside 0..{size - 1}"
        raise MaiaError("MAIA0503", what, loc=kernel.loc, hint=hint)

    def _misshapen(self, tensor: torch.Tensor, dims: tuple[int, ...]) -> MaiaError:
        """MAIA0503 for a value that is not of the sizes that the kernels were made for: they would read beside it."""
        what = f"a value of sizes {list(tensor.shape)} came where the program says {list(dims)}"
        hint = "an operation before this place gives other sizes than its type says: report the module's text"
        return MaiaError("MAIA0503", what, loc=self.kernels[0].loc if self.kernels else None, hint=hint)

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
        if self._sources and (versions := [_version(t) for t in self._sources]) != self._versions:
            self._refresh(versions)
        try:
            frame = self._frames.pop()
        except IndexError:
            frame = _Frame([t.data_ptr() for t in self._held], self.arrangement.count)
        if frame.size < plan.layout.size:
            frame.reserve(plan.layout.size)
        bases, at = frame.bases, self.arrangement.first_operand
        kept: list[torch.Tensor] = []
        for tensor, (dims, strides, is_dense) in zip(operands, plan.inputs, strict=True):
            if tensor.shape != dims:
                raise self._misshapen(tensor, dims)
            if not (tensor.is_contiguous() if is_dense else tensor.stride() == strides):
                tensor = _laid_out(tensor, dims, strides)
            kept.append(tensor)
            bases[at] = tensor.data_ptr()
            at += 1
        blocks: list[torch.Tensor] = []
        for shape, dtype in plan.blocks:
            block = torch.empty(shape, dtype=dtype)
            blocks.append(block)
            bases[at] = block.data_ptr()
            at += 1
        found = self._call(plan.program, bases, times, frame.fault)
        index, size = frame.fault
        self._frames.append(frame)  # from here on it is another run's
        if found:
            self._refuse(self.kernels[found - 1], index, size)
        return tuple(blocks) if plan.simple else _viewed(plan, blocks, kept)


def _unit(functions: Sequence[Kernel | Packing]) -> str:
    """A translation unit of these functions."""
    parts = dict.fromkeys(part for f in functions for part in f.parts)
    headers = ["ops.h", *sorted(f"{p}.h" for p in parts if has_header(p))]
    head = "".join(f'#include "{name}"\n' for name in headers)
    return head + "#include <vector>\nusing namespace maia;\n\n" + "\n".join(f.text for f in functions)


def _viewed(plan: Plan, blocks: Sequence[torch.Tensor], operands: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Results that are views of blocks or operands."""
    results: list[torch.Tensor] = []
    for r in plan.results:
        source = blocks[r.source] if r.source >= 0 else operands[-1 - r.source]
        results.append(source.as_strided(r.dims, r.strides, source.storage_offset() + r.offset))
    return tuple(results)


def _version(tensor: torch.Tensor) -> int:
    """How often a tensor was changed in place."""
    return tensor._version  # pyright: ignore[reportPrivateUsage]


def aligned_block(size: int) -> torch.Tensor:
    """Bytes that begin at a multiple of the alignment."""
    block = torch.empty(size + ALIGNMENT, dtype=torch.uint8)
    return block[-block.data_ptr() % ALIGNMENT :][:size]


def _laid_out(tensor: torch.Tensor, dims: tuple[int, ...], strides: tuple[int, ...]) -> torch.Tensor:
    """A copy with the strides that the kernels were written for."""
    made = torch.empty_strided(dims, strides, dtype=tensor.dtype)
    return made.copy_(tensor)
