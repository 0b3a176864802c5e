"""Running a module natively and by reference, and comparing."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from maiac.codegen.host import Native, cut
from maiac.ir.graph import Module
from maiac.ir.ops.values import QTensor
from maiac.runtime.executor import Executor
from maiac.runtime.plan import Program
from tests.passes.running import ulps_off

EPS = {d: torch.finfo(d).eps for d in (torch.float64, torch.float32, torch.float16, torch.bfloat16)}
# How far results may be apart, in units in the last place of the largest element: sums run in another order, functions
# are other polynomials. 16-bit floats are reckoned in float32, so that only a rounding may fall to the other side: one
# unit, and another where a step stands behind it.
ULPS, NARROW_ULPS = 4.0, 2.0
NARROW = {EPS[torch.float16], EPS[torch.bfloat16]}


class Ran:
    """An executor with native code, and what was cut."""

    def __init__(self, module: Module) -> None:
        self.natives: list[Native] = []
        self.executor = Executor(module, native=self._cut)

    def _cut(self, program: Program) -> Program:
        native = cut(program)
        for segment in native.segments:
            segment.prepare()
        self.natives.append(native)
        return native.program

    @property
    def native(self) -> Native:
        self.executor.prepare()
        return self.natives[0]

    @property
    def kernels(self) -> list[str]:
        return [k.name for s in self.native.segments for k in s.kernels]

    @property
    def refused(self) -> set[tuple[str, str]]:
        """Operations that stay with the reference kernels, and why."""
        return {(r.step.op.name, r.reason) for r in self.native.refusals}

    def run(self, inputs: Sequence[Any]) -> list[Any]:
        """The results; whatever a kernel reads or leaves without having been written is NaN. One caller at a time."""
        for native in self.natives:
            for frame in (f for s in native.segments for f in s._frames):
                assert frame.block is not None
                frame.block.fill_(255)
        with dirty_memory():
            return self.executor.run(copied(inputs))


@contextmanager
def dirty_memory() -> Generator[None]:
    """New memory begins as NaN: arenas, results and panels of weights. (torch fills it where runs must repeat.)"""
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def copied(inputs: Sequence[Any]) -> list[Any]:
    return [x.clone() if isinstance(x, torch.Tensor) else x for x in inputs]


def reference(module: Module, inputs: Sequence[Any]) -> list[Any]:
    return Executor(module, arena=False).run(copied(inputs))


def difference(want: Any, got: Any, ulps: float = ULPS, scale: float = 0.0, eps: float = 0.0) -> str:
    """What is wrong with a result; empty if nothing is. ``scale``, ``eps``: see ``ulps_off``."""
    if isinstance(want, QTensor):
        return difference([want.codes, want.scale, want.zero_point], [got.codes, got.scale, got.zero_point])
    if isinstance(want, (list, tuple)):
        return "; ".join(d for a, b in zip(want, got, strict=True) if (d := difference(a, b, ulps, scale, eps)))
    if not isinstance(want, torch.Tensor):
        return "" if want == got else f"{got} is not {want}"
    if want.shape != got.shape or want.dtype != got.dtype:
        return f"{got.dtype}{list(got.shape)} is not {want.dtype}{list(want.shape)}"
    if want.dtype not in EPS:
        return "" if torch.equal(want, got) else f"{(want != got).sum().item()} elements differ"
    off = ulps_off(want, got, scale, eps)
    allowed = min(ulps, NARROW_ULPS) if max(eps, EPS[want.dtype]) in NARROW else ulps
    return "" if off <= allowed else f"{want.dtype}{list(want.shape)} is off by {off:.3g} ulps of {allowed:g}"


def check(module: Module, *inputs: Any, times: int = 2) -> Ran:
    """Assert that a module gives natively what it gives by reference, again and again."""
    want, ran = reference(module, inputs), Ran(module)
    for _ in range(times):
        for i, (a, b) in enumerate(zip(want, ran.run(inputs), strict=True)):
            wrong = difference(a, b)
            assert not wrong, f"result {i}: {wrong}"
    return ran
