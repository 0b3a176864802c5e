"""What each step of a run took, beside the arithmetic and the memory traffic that its definition asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from maiac.ir.dims import DimLike, evaluate
from maiac.ir.errors import Location
from maiac.ir.opdef import bytes_of, get_op, mentions_unknown

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


def flops_of(step: Step) -> DimLike:
    """A step's FLOPs, as its operation's definition counts them; a fusion's are those of the steps in it.

    0 where the definition leaves a size open. What the regions of other steps do is not counted: how often they run
    is known to the run only.
    """
    if step.op.name == "fusion":
        return sum((flops_of(inner) for region in step.regions for inner in region.steps), 0)
    operands = [None if v is None else v.type for v in step.operands]
    flops = get_op(step.op.name).count_flops(operands, step.op.attrs, [r.type for r in step.results])
    return 0 if mentions_unknown(flops) else flops


def work_of(step: Step, sizes: Mapping[str, int]) -> tuple[int, int]:
    """FLOPs, and bytes read and written, of a step at these sizes of symbols; 0 where a size is not known.

    Views cost nothing.
    """
    if get_op(step.op.name).alias:
        return 0, 0
    types = [v.type for v in (*step.operands, *step.results) if v is not None]
    try:
        return evaluate(flops_of(step), sizes), sum(bytes_of(t, sizes) for t in types)
    except KeyError:
        return 0, 0
