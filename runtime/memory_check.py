"""Does a memory plan keep every value whole? Replays the program on paper; shares nothing with the planner.

Each step reads and writes values. A write takes a byte range; whoever owned any byte of it before is gone. A read of a
value whose bytes somebody else has taken is a fault, and so is a range outside the arena or off the alignment.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Move:
    """What one step does to memory. ``shares``: pairs (new value, older value whose bytes it may show)."""

    name: str
    reads: tuple[Hashable, ...]
    writes: tuple[Hashable, ...]
    shares: tuple[tuple[Hashable, Hashable], ...] = ()


def faults(
    moves: Sequence[Move],
    ranges: Mapping[Hashable, tuple[int, int]],
    results: Sequence[Hashable],
    size: int,
    alignment: int,
) -> list[str]:
    """Everything that is wrong with a plan; ``ranges`` gives (offset, bytes) for each value that has a place.

    ``results`` outlive the run, so that none of them may show bytes of the arena.
    """
    outside = {v: (a, a + n) for v, (a, n) in ranges.items() if a < 0 or a + n > size}
    found = [f"{v!r} at {a}..{b} lies outside the arena of {size} bytes" for v, (a, b) in outside.items()]
    found += [f"{v!r} at {a} is not aligned to {alignment} bytes" for v, (a, _) in ranges.items() if a % alignment]
    owned: dict[Hashable, tuple[int, int]] = {}  # values whose bytes are whole, with their place
    shown: dict[Hashable, set[Hashable]] = {}  # value -> the values of the arena whose bytes it shows
    for move in moves:
        for value in move.reads:
            lost = [v for v in shown.get(value, ()) if v not in owned]
            found += [f"{move.name} reads {value!r}, but the bytes of {v!r} have been overwritten" for v in lost]
        for value in move.writes:
            if value not in ranges:
                continue
            start, length = ranges[value]
            for other, (at, n) in list(owned.items()):
                if at < start + length and start < at + n:
                    del owned[other]
                    if any(other in shown.get(read, ()) for read in move.reads):
                        found.append(f"{move.name} overwrites {other!r} with {value!r} while it reads it")
            owned[value] = (start, length)
            shown[value] = {value}
        for new, old in move.shares:
            shown.setdefault(new, set()).update(shown.get(old, ()))
    found += [f"the result {v!r} shows bytes of the arena" for v in results if shown.get(v)]
    return found
