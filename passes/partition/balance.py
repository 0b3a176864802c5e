"""What ops cost, and where to cut a program into stages: as evenly as can be, and then where least is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from maiac.ir import Module, Op, get_op
from maiac.ir.dims import evaluate
from maiac.ir.graph import Ref

# What reading a byte of weights costs, in floating-point operations of the same time, on a chip of 1268 bf16 TFLOP/s
# and 7 TB/s (Maia 200). The ratios of other accelerators are much alike.
FLOPS_PER_WEIGHT_BYTE = 180.0

NOMINAL = 128  # the size of a symbolic dim, when costs are compared

# By how much the costliest stage may exceed the least possible, so that cuts can fall where little is sent.
SLACK = 1.05

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Cuts:
    """Positions where stages begin (the first is 0) and each stage's cost."""

    starts: tuple[int, ...]
    costs: tuple[float, ...]

    @property
    def balance(self) -> float:
        """The mean of the costs over the greatest: 1 where all stages are alike."""
        greatest = max(self.costs)
        return sum(self.costs) / len(self.costs) / greatest if greatest else 1.0


def balanced_cuts(costs: Sequence[float], sent: Sequence[float | None], stages: int) -> Cuts | None:
    """Cut ``costs`` into ``stages`` runs: exact, by dynamic programming over all positions.

    First the least possible cost of the costliest run is found; then, with no run above that times SLACK, the cuts
    that send least. ``sent[i]`` is what a cut before position i sends; None where none is allowed. The result is None
    where there are too few places.
    """
    count = len(costs)
    at = [0, *(i for i in range(1, count) if sent[i] is not None), count]
    if len(at) - 1 < stages:
        return None
    total: Floats = np.concatenate([[0.0], np.cumsum(np.asarray(costs, dtype=float))])[at]
    moved: Floats = np.asarray([0.0, *(float(sent[i] or 0.0) for i in at[1:-1]), 0.0])
    limit = _least_maximum(total, stages) * SLACK
    ends = _least_sum(total, moved, limit, stages)
    per_stage = tuple(float(total[b] - total[a]) for a, b in pairwise(ends))
    return Cuts(tuple(at[e] for e in ends[:-1]), per_stage)


def _least_maximum(total: Floats, stages: int) -> float:
    """The cost of the costliest run, where that is least; ``total`` holds the costs before each place."""
    size = len(total)
    worst: Floats = np.where(np.arange(size) == 0, 0.0, np.inf)
    for _ in range(stages):
        following: Floats = np.full(size, np.inf)
        for end in range(1, size):
            following[end] = np.maximum(worst[:end], total[end] - total[:end]).min()
        worst = following
    return float(worst[-1])


def _least_sum(total: Floats, moved: Floats, limit: float, stages: int) -> list[int]:
    """The places where runs begin and end, none above ``limit``, with the least sum of ``moved`` over the cuts."""
    size = len(total)
    best: Floats = np.where(np.arange(size) == 0, 0.0, np.inf)
    back: list[Ints] = []
    for _ in range(stages):
        following: Floats = np.full(size, np.inf)
        begins: Ints = np.zeros(size, dtype=np.intp)
        for end in range(1, size):
            options = np.where(total[end] - total[:end] <= limit, best[:end], np.inf)
            begins[end] = options.argmin()
            following[end] = options[begins[end]] + moved[end]
        best = following
        back.append(begins)
    ends = [size - 1]
    for begins in reversed(back):
        ends.append(int(begins[ends[-1]]))
    return ends[::-1]


def nominal_sizes(module: Module) -> dict[str, int]:
    """A usual size of each symbol, inside its range and on its step."""
    sizes: dict[str, int] = {}
    for symbol in module.symbols.values():
        size = max(symbol.low, -(-NOMINAL // symbol.step) * symbol.step)
        sizes[symbol.name] = size if symbol.high is None else min(size, symbol.high)
    return sizes


def flops_of(module: Module, op: Op, sizes: Mapping[str, int]) -> float:
    """Floating-point operations of an op at these sizes, its regions and what it calls included."""
    ref = op.attrs.get("callee")
    if op.name == "call" and isinstance(ref, Ref):
        return sum(flops_of(module, inner, sizes) for inner in module.functions[ref.name].body)
    if op.name in ("return", "yield", "call"):
        return 0.0
    types = [None if v is None else v.type for v in op.operands]
    count = get_op(op.name).count_flops(types, op.attrs, [r.type for r in op.results])
    return float(evaluate(count, sizes)) + sum(flops_of(module, i, sizes) for region in op.regions for i in region)
