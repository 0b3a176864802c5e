"""Where each value lies in one arena: offsets such that values alive at one time never overlap.

Offset assignment is an NP-hard packing problem; greedy orders come close (Pisarchyk and Lee 2020, "Efficient Memory
Management for Deep Neural Net Inference"). Several orders are tried and the smallest arena wins. Where that is larger
than the lower bound, a local search changes the order of the buffers that stand at its top (as Arm's and TVM's planners
do). ``memory_check`` verifies the result without using anything from here.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

ALIGNMENT = 64  # bytes: a cache line, and the widest vector register
# Pairs of buffers that the search may look at: 0.2 s in the worst case. Counted, so that plans are reproducible.
SEARCH = 800_000
PATIENCE = 8  # the search ends when this part of all it may look at has brought nothing
VICTIM = 0.3  # how often a move starts one buffer further down; of 0 to 0.9 this reached the lower bound most often


@dataclass(frozen=True, slots=True)
class Buffer:
    """Bytes that are alive from step ``first`` to step ``last``, both included."""

    size: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Layout:
    """An offset for each buffer, in order, and the size of the arena, in bytes."""

    offsets: tuple[int, ...]
    size: int


_ORDERS: tuple[Callable[[Buffer], tuple[int, ...]], ...] = (
    lambda b: (-b.size, b.first),
    lambda b: (b.first, -b.size),
    lambda b: (b.first - b.last, -b.size),
    lambda b: (-b.size * (b.last - b.first + 1), b.first),
)


def assign(buffers: Sequence[Buffer], search: int = SEARCH) -> Layout:
    """The best layout that the greedy orders find, and a local search over ``search`` pairs of buffers from there."""
    if not buffers:
        return Layout((), 0)
    packing = _Packing(buffers)
    bound = lower_bound(buffers)
    best: list[int] = []
    size = -1
    for key in _ORDERS:
        order = sorted(packing.present, key=lambda i: (key(buffers[i]), i))
        found = packing.place(order)
        if size < 0 or found < size:
            best, size = order, found
        if size <= bound:
            break
    if size > bound:
        best = _search(packing, best, size, bound, search)
    size = packing.place(best)
    return Layout(tuple(packing.offsets), size)


def lower_bound(buffers: Sequence[Buffer]) -> int:
    """The most bytes alive at any step, each buffer rounded up to the alignment: no layout is smaller."""
    change: dict[int, int] = {}
    for b in buffers:
        change[b.first] = change.get(b.first, 0) + aligned(b.size)
        change[b.last + 1] = change.get(b.last + 1, 0) - aligned(b.size)
    live = most = 0
    for step in sorted(change):
        live += change[step]
        most = max(most, live)
    return most


def aligned(size: int) -> int:
    """Bytes rounded up to the alignment."""
    return -(-size // ALIGNMENT) * ALIGNMENT


class _Packing:
    """Buffers placed one after the other, each at the lowest gap among those alive at the same time."""

    def __init__(self, buffers: Sequence[Buffer]) -> None:
        self.sizes = [aligned(b.size) for b in buffers]
        self.present = [i for i, size in enumerate(self.sizes) if size]  # empty ones lie anywhere
        self.offsets = [0] * len(buffers)
        self.clashes = _clashes(buffers, self.present)

    def place(self, order: Sequence[int]) -> int:
        """Place all buffers anew; gives the size of the arena."""
        placed = [False] * len(self.sizes)
        most = 0
        for i in order:
            most = max(most, self.put(i, placed))
        return most

    def put(self, i: int, placed: list[bool]) -> int:
        """Place one buffer among those that are placed; gives its end."""
        offsets, sizes = self.offsets, self.sizes
        size, at = sizes[i], 0
        for start, end in sorted([(offsets[j], offsets[j] + sizes[j]) for j in self.clashes[i] if placed[j]]):
            if start - at >= size:
                break
            at = max(at, end)
        offsets[i] = at
        placed[i] = True
        return at + size


def _clashes(buffers: Sequence[Buffer], present: Sequence[int]) -> list[list[int]]:
    """For each buffer, those that are alive at some step at which it is."""
    found: list[list[int]] = [[] for _ in buffers]
    live: list[int] = []
    for i in sorted(present, key=lambda i: buffers[i].first):
        live = [j for j in live if buffers[j].last >= buffers[i].first]
        found[i] += live
        for j in live:
            found[j].append(i)
        live.append(i)
    return found


def _search(packing: _Packing, order: list[int], size: int, bound: int, budget: int) -> list[int]:
    """An order whose arena is smaller, where one is found: buffers that reach the top are placed earlier."""
    chance = random.Random(0)
    packing.place(order)
    patience = left = budget // PATIENCE
    while min(budget, left) > 0 and size > bound:
        before = list(packing.offsets)
        rank = {i: n for n, i in enumerate(order)}
        moved = chance.choice([i for i in order if before[i] + packing.sizes[i] == size])
        # What was placed before it took its room; it goes before one of those, or one of those goes before another.
        earlier = [j for j in packing.clashes[moved] if rank[j] < rank[moved]]
        if earlier and chance.random() < VICTIM:
            moved = chance.choice(earlier)
            earlier = [j for j in packing.clashes[moved] if rank[j] < rank[moved]]
        target = rank[chance.choice(earlier)] if earlier else chance.randrange(rank[moved] + 1)
        changed = [i for i in order if i != moved]
        changed.insert(target, moved)
        found, looked = _replace(packing, changed, target, size)
        effort = looked + len(order)
        budget -= effort
        left = patience if found < size else left - effort
        if found > size:
            packing.offsets[:] = before
        else:  # one of equal size, too: only so it leaves a plateau
            order, size = changed, found
    return order


def _replace(packing: _Packing, order: Sequence[int], start: int, limit: int) -> tuple[int, int]:
    """Place what follows ``start`` anew, until something ends above the limit; gives the highest end and the effort."""
    placed = [False] * len(packing.sizes)
    most = looked = 0
    for i in order[:start]:
        placed[i] = True
        most = max(most, packing.offsets[i] + packing.sizes[i])
    for i in order[start:]:
        looked += len(packing.clashes[i])
        most = max(most, packing.put(i, placed))
        if most > limit:
            break
    return most, looked
