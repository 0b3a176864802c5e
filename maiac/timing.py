"""The one way in which runs are timed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter as clock
from typing import Any

Run = Callable[[], Any]
LEAST_RUNS = 3  # of a turn, however long one takes


def timed(run: Run) -> float:
    """Seconds of one run."""
    start = clock()
    run()
    return clock() - start


def turn(run: Run, seconds: float, least: int = LEAST_RUNS) -> list[float]:
    """Seconds of each run of a turn that takes so long."""
    times: list[float] = []
    end = clock() + seconds
    while len(times) < least or clock() < end:
        times.append(timed(run))
    return times


def in_turns(runs: Sequence[Run], seconds: float, turns: int) -> list[list[float]]:
    """Seconds of each run of each function; each has its part of the time in every turn."""
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(turns):
        for run, found in zip(runs, times, strict=True):
            found += turn(run, seconds / turns / len(runs), least=1)
    return times
