"""What each step of a run took, beside the arithmetic and the memory traffic that its definition asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from maiac.ir.dims import evaluate
from maiac.ir.errors import Location
from maiac.ir.opdef import bytes_of, get_op

from .plan import Step


@dataclass(frozen=True, slots=True)
class StepTime:
    """One step of one run.

    name: the kernel. seconds: how long it took; start: when it began, counted from the run's begin. flops and bytes:
    what it has to compute, and to read and write if no cache holds any of it. kind: ``native`` for generated code,
    ``torch`` for kernels that the executor calls one by one.
    """

    name: str
    loc: Location
    seconds: float
    flops: int
    bytes: int
    kind: str
    start: float


def work_of(step: Step, sizes: Mapping[str, int]) -> tuple[int, int]:
    """FLOPs, and bytes read and written, of a step at these sizes of symbols; 0 where a size is not known.

    Views cost nothing; what a step's regions do is not counted.
    """
    definition = get_op(step.op.name)
    if definition.alias:
        return 0, 0
    operands = [None if v is None else v.type for v in step.operands]
    results = [r.type for r in step.results]
    try:
        flops = evaluate(definition.count_flops(operands, step.op.attrs, results), sizes)
        return flops, sum(bytes_of(t, sizes) for t in (*operands, *results) if t is not None)
    except KeyError:
        return 0, 0
