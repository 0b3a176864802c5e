"""Where the time of a run goes: steps by kernel and place, against what the machine can do."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from .ir.errors import Location, MaiaError
from .peaks import Peaks, machine_peaks
from .runtime.profiling import StepTime

if TYPE_CHECKING:
    from .artifact import Artifact

LEAST_RUNS = 3


@dataclass
class Profile:
    """The steps of a typical run, what such a run takes when nobody looks (seconds), and what the machine can do.

    ``why``: the reason where there are no peaks.
    """

    steps: list[StepTime]
    run: float
    peaks: Peaks | None = None
    why: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values, from which ``from_json`` makes the profile again."""
        return asdict(self)

    @staticmethod
    def from_json(value: dict[str, Any]) -> Profile:
        """See ``to_json``."""
        steps = [replace(StepTime(**s), loc=Location(**s["loc"])) for s in value["steps"]]
        return Profile(steps, value["run"], Peaks(**value["peaks"]) if value["peaks"] else None, value["why"])


def profile(artifact: Artifact, inputs: Sequence[Any], seconds: float, *, fresh_peaks: bool = False) -> Profile:
    """Run an artifact for so long, watched and unwatched in turns. fresh_peaks: see ``machine_peaks``."""
    peaks, why = None, ""
    try:
        peaks = machine_peaks(fresh=fresh_peaks)
    except MaiaError as e:
        why = e.message
    for _ in range(LEAST_RUNS):
        artifact.run(inputs)
    watched: list[list[StepTime]] = []
    plain: list[float] = []
    end = time.perf_counter() + seconds
    while len(plain) < LEAST_RUNS or time.perf_counter() < end:
        start = time.perf_counter()
        artifact.run(inputs)
        plain.append(time.perf_counter() - start)
        watched.append(artifact.executor.profile(inputs))
    return Profile(typical(watched), statistics.median(plain), peaks, why)


@dataclass
class Row:
    """What one kernel did at one place of the model, in one run."""

    name: str
    place: str
    kind: str
    calls: int = 0
    seconds: float = 0.0
    flops: int = 0
    bytes: int = 0

    def add(self, step: StepTime) -> None:
        """Count one more step in."""
        self.calls += 1
        self.seconds += step.seconds
        self.flops += step.flops
        self.bytes += step.bytes

    def figures(self, total: float, peaks: Peaks | None) -> dict[str, Any]:
        """The row with what follows from it: its share, rates per second, and the part of the roofline bound that it
        reaches (None without peaks, or where the work is not known)."""
        bound = peaks.bound(self.flops, self.bytes) if peaks else 0.0
        return {
            **asdict(self),
            "share": self.seconds / total if total else 0.0,
            "flops_rate": self.flops / self.seconds if self.seconds else 0.0,
            "bytes_rate": self.bytes / self.seconds if self.seconds else 0.0,
            "of_bound": bound / self.seconds if bound and self.seconds else None,
        }


def typical(runs: Sequence[Sequence[StepTime]]) -> list[StepTime]:
    """One run made of the median of every step; the run of median length where runs have different steps."""
    names = {tuple(s.name for s in run) for run in runs}
    if len(names) != 1:
        by_length = sorted(runs, key=lambda run: sum(s.seconds for s in run))
        return list(by_length[len(by_length) // 2])
    steps: list[StepTime] = []
    clock = 0.0
    for same in zip(*runs, strict=True):
        seconds = statistics.median(s.seconds for s in same)
        s = same[0]
        steps.append(StepTime(s.name, s.loc, seconds, s.flops, s.bytes, s.kind, clock))
        clock += seconds
    return steps


def by_place(steps: Iterable[StepTime]) -> list[Row]:
    """One row for each kernel at each place, the costliest first."""
    return _rows((Row(s.name, place_of(s.loc), s.kind), s) for s in steps)


def by_kernel(steps: Iterable[StepTime]) -> list[Row]:
    """One row for each kernel, the costliest first."""
    return _rows((Row(s.name, "", s.kind), s) for s in steps)


def _rows(named: Iterable[tuple[Row, StepTime]]) -> list[Row]:
    found: dict[tuple[str, str, str], Row] = {}
    for row, step in named:
        found.setdefault((row.name, row.place, row.kind), row).add(step)
    return sorted(found.values(), key=lambda r: -r.seconds)


def total_row(steps: Iterable[StepTime]) -> Row:
    """All steps together."""
    total = Row("total", "", "")
    for step in steps:
        total.add(step)
    return total


def place_of(loc: Location) -> str:
    """The module path or node name; the line of code where there is none."""
    return loc.name or (f"{loc.file.rsplit('/', 1)[-1]}:{loc.line}" if loc.file else "")
