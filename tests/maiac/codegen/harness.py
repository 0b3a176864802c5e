"""Running a module natively and by reference, and comparing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from maiac.codegen.host import Native, cut
from maiac.ir.graph import Module
from maiac.ir.ops.values import QTensor
from maiac.runtime.executor import Executor
from maiac.runtime.plan import Program

# Sums in another order, vector forms of exp and others: a few units in the last place, more after a chain of them.
RELATIVE = {torch.float32: 2e-5, torch.float64: 1e-13, torch.bfloat16: 0.02, torch.float16: 4e-3}


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
    def refused(self) -> dict[str, str]:
        return {r.step.op.name: r.reason for r in self.native.refusals}

    def run(self, inputs: Sequence[Any]) -> list[Any]:
        return self.executor.run([x.clone() if isinstance(x, torch.Tensor) else x for x in inputs])


def reference(module: Module, inputs: Sequence[Any]) -> list[Any]:
    return Executor(module, arena=False).run([x.clone() if isinstance(x, torch.Tensor) else x for x in inputs])


def difference(want: Any, got: Any) -> str:
    """What is wrong with a result; empty if nothing is."""
    if isinstance(want, QTensor):
        return difference([want.codes, want.scale, want.zero_point], [got.codes, got.scale, got.zero_point])
    if isinstance(want, (list, tuple)):
        return "; ".join(d for a, b in zip(want, got, strict=True) if (d := difference(a, b)))
    if not isinstance(want, torch.Tensor):
        return "" if want == got else f"{got} is not {want}"
    if want.shape != got.shape or want.dtype != got.dtype:
        return f"{got.dtype}{list(got.shape)} is not {want.dtype}{list(want.shape)}"
    if want.dtype not in RELATIVE:
        return "" if torch.equal(want, got) else "elements differ"
    tolerance = RELATIVE[want.dtype]
    if torch.allclose(want.double(), got.double(), rtol=tolerance, atol=tolerance, equal_nan=True):
        return ""
    return f"off by {(want.double() - got.double()).abs().max().item():.3g}"


def check(module: Module, *inputs: Any, times: int = 2) -> Ran:
    """Assert that a module gives natively what it gives by reference, again and again."""
    want, ran = reference(module, inputs), Ran(module)
    for _ in range(times):
        for i, (a, b) in enumerate(zip(want, ran.run(inputs), strict=True)):
            wrong = difference(a, b)
            assert not wrong, f"result {i}: {wrong}"
    return ran
