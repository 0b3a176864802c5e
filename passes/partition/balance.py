"""Where to cut a program into stages: the exact minimax over all positions, transfers included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# What moving a byte costs, in floating-point operations of the same time, on a chip of 1268 bf16 TFLOP/s with links of
# 300 GB/s to its neighbours and memory of 7 TB/s (Maia 200). The ratios of other accelerators are much alike.
FLOPS_PER_SENT_BYTE = 4000.0
FLOPS_PER_WEIGHT_BYTE = 180.0


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


def balanced_cuts(costs: Sequence[float], transfers: Sequence[float | None], stages: int) -> Cuts | None:
    """Cut ``costs`` into ``stages`` runs so that the costliest one is least; of equals, the one that sends least.

    ``transfers[i]`` is the cost of a cut before position i, paid on both sides; None where none is allowed. The
    result is None where there are too few places.
    """
    count = len(costs)
    at = [0, *(i for i in range(1, count) if transfers[i] is not None), count]
    if len(at) - 1 < stages:
        return None
    total = np.concatenate([[0.0], np.cumsum(np.asarray(costs, dtype=float))])[at]
    sent = np.asarray([0.0, *(float(transfers[i] or 0.0) for i in at[1:-1]), 0.0])
    worst = np.where(np.arange(len(at)) == 0, 0.0, np.inf)  # the costliest stage so far, when the last ends here
    moved = np.zeros(len(at))
    back: list[np.ndarray] = []
    for _ in range(stages):
        worst, moved, come_from = _one_more(worst, moved, total, sent)
        back.append(come_from)
    ends = [len(at) - 1]
    for come_from in reversed(back):
        ends.append(int(come_from[ends[-1]]))
    ends.reverse()
    per_stage = tuple(float(total[b] - total[a]) for a, b in zip(ends, ends[1:], strict=False))
    return Cuts(tuple(at[e] for e in ends[:-1]), per_stage)


def _one_more(
    worst: np.ndarray, moved: np.ndarray, total: np.ndarray, sent: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tables after one more stage: its end -> the costliest stage, what is sent, and where the stage began."""
    size = len(worst)
    new_worst, new_moved = np.full(size, np.inf), np.full(size, np.inf)
    come_from = np.zeros(size, dtype=int)
    for end in range(1, size):
        stage = total[end] - total[:end] + sent[:end] + sent[end]
        costliest = np.maximum(worst[:end], stage)
        best = costliest.min()
        if not np.isfinite(best):
            continue
        equal = np.where(costliest <= best * (1 + 1e-12), moved[:end] + sent[:end], np.inf)
        begin = int(equal.argmin())
        new_worst[end], new_moved[end], come_from[end] = best, equal[begin], begin
    return new_worst, new_moved, come_from
