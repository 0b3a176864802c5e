"""A memory plan over time: how much is alive and how high the arena is used at each step, and where the peak is."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .memory import Buffer, Layout, aligned

BAR = 48  # characters of the widest bar of the text


@dataclass(frozen=True, slots=True)
class Use:
    """From step ``first`` to step ``last`` (both included) nothing changes: bytes alive, and the highest end of those
    that are."""

    first: int
    last: int
    live: int
    top: int


@dataclass(frozen=True)
class PlanOverTime:
    """``arena``: bytes of the plan; ``bound``: the peak of live bytes, below which no plan is possible.

    ``peak``: the first step at which so much is alive. ``uses`` cover all steps from the first buffer to the last.
    """

    arena: int
    bound: int
    peak: int
    uses: tuple[Use, ...]

    @property
    def distance(self) -> float:
        """How much larger the arena is than the lower bound, relative to that."""
        return self.arena / self.bound - 1 if self.bound else 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "distance": self.distance}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> PlanOverTime:
        """See ``to_json``."""
        uses = tuple(Use(**u) for u in value["uses"])
        return PlanOverTime(value["arena"], value["bound"], value["peak"], uses)

    def text(self, lines: int = 40) -> str:
        """A chart of at most about so many lines: ``#`` is alive, ``.`` is a hole below something that is alive."""
        head = (
            f"arena {self.arena:,} bytes, {100 * self.distance:.1f}% above the {self.bound:,} alive at step {self.peak}"
        )
        if not self.uses:
            return head
        together = -(-len(self.uses) // max(1, lines))
        rows = [self.uses[i : i + together] for i in range(0, len(self.uses), together)]
        last = len(str(self.uses[-1].last))
        return "\n".join([head, *(self._row(row, last) for row in rows)])

    def _row(self, uses: Sequence[Use], digits: int) -> str:
        worst = max(uses, key=lambda u: (u.live, u.top))
        alive = round(BAR * worst.live / self.arena) if self.arena else 0
        reached = round(BAR * worst.top / self.arena) if self.arena else 0
        bar = "#" * alive + "." * (reached - alive)
        steps = f"{uses[0].first:>{digits}}..{uses[-1].last:<{digits}}"
        return f"{steps} {bar:<{BAR}} {worst.live:>{len(f'{self.arena:,}')},}"


def plan_over_time(buffers: Sequence[Buffer], layout: Layout) -> PlanOverTime:
    """What a plan looks like step by step; sizes are rounded up to the alignment, as the plan's are."""
    placed = sorted(
        (b.first, b.last, aligned(b.size), at) for b, at in zip(buffers, layout.offsets, strict=True) if b.size
    )
    edges = sorted({e for first, last, _, _ in placed for e in (first, last + 1)})
    uses: list[Use] = []
    alive: list[tuple[int, int, int, int]] = []
    waiting = iter(placed)
    following = next(waiting, None)
    for start, end in itertools.pairwise(edges):
        alive = [b for b in alive if b[1] >= start]
        while following is not None and following[0] <= start:
            alive.append(following)
            following = next(waiting, None)
        top = max((at + size for _, _, size, at in alive), default=0)
        uses.append(Use(start, end - 1, sum(size for _, _, size, _ in alive), top))
    worst = max(uses, key=lambda u: u.live, default=Use(0, 0, 0, 0))
    return PlanOverTime(layout.size, worst.live, worst.first, tuple(uses))
