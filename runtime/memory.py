"""Where each value lies in one arena: offsets such that values alive at one time never overlap.

Offset assignment is an NP-hard packing problem; greedy orders come close (Pisarchyk and Lee 2020, "Efficient Memory
Management for Deep Neural Net Inference"). Several orders are tried and the smallest arena wins. ``memory_check``
verifies the result without using anything from here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

ALIGNMENT = 64  # bytes: a cache line, and the widest vector register


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


def assign(buffers: Sequence[Buffer]) -> Layout:
    """The best layout that the greedy orders find."""
    found = Layout((), 0)
    bound = lower_bound(buffers)
    for n, order in enumerate(_ORDERS):
        layout = _first_fit(buffers, sorted(range(len(buffers)), key=lambda i: order(buffers[i])))
        if n == 0 or layout.size < found.size:
            found = layout
        if found.size <= bound:
            break
    return found


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


def _first_fit(buffers: Sequence[Buffer], order: Sequence[int]) -> Layout:
    """Place buffers in this order, each at the lowest gap among those alive at the same time."""
    count = len(buffers)
    first, last, start, end = (np.zeros(count, dtype=np.int64) for _ in range(4))
    offsets = [0] * count
    total = 0
    for placed, i in enumerate(order):
        b = buffers[i]
        size = aligned(b.size)
        clash = (first[:placed] <= b.last) & (last[:placed] >= b.first)
        at = _lowest_gap(start[:placed][clash], end[:placed][clash], size)
        offsets[i] = at
        first[placed], last[placed], start[placed], end[placed] = b.first, b.last, at, at + size
        total = max(total, at + size)
    return Layout(tuple(offsets), total)


def _lowest_gap(start: np.ndarray, end: np.ndarray, size: int) -> int:
    """The lowest offset at which ``size`` bytes lie between the occupied ranges."""
    by_start = np.argsort(start, kind="stable")
    reached = np.maximum.accumulate(np.concatenate([[0], end[by_start]]))
    room = np.concatenate([start[by_start], [np.iinfo(np.int64).max]]) - reached
    return int(reached[int(np.argmax(room >= size))])
