"""Where the time of a run goes: steps by kernel and place, against what the machine can do."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from .ir.errors import Location, MaiaError
from .peaks import Peaks, machine_peaks
from .runtime.arena import MemoryReport
from .runtime.profiling import StepTime
from .timing import LEAST_RUNS, timed, turn

if TYPE_CHECKING:
    from .artifact import Artifact


@dataclass
class Profile:
    """The steps of a typical run, what such a run takes when nobody looks (seconds), and what the machine can do.

    ``why``: the reason where there are no peaks. ``memory``: what a run needs, and when.
    """

    steps: list[StepTime]
    run: float
    peaks: Peaks | None = None
    why: str = ""
    memory: MemoryReport | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values, from which ``from_json`` makes the profile again."""
        return asdict(self)

    @staticmethod
    def from_json(value: dict[str, Any]) -> Profile:
        """See ``to_json``."""
        steps = [replace(StepTime(**s), loc=Location(**s["loc"])) for s in value["steps"]]
        peaks = Peaks(**value["peaks"]) if value["peaks"] else None
        memory = MemoryReport.from_json(value["memory"]) if value["memory"] else None
        return Profile(steps, value["run"], peaks, value["why"], memory)


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

    def both() -> None:
        plain.append(timed(lambda: artifact.run(inputs)))
        watched.append(artifact.executor.profile(inputs))

    turn(both, seconds)
    memory = artifact.executor.memory_report(inputs)
    return Profile(typical(watched), statistics.median(plain), peaks, why, memory)


@dataclass(frozen=True)
class Row:
    """What one kernel did at one place of the model, in one run."""

    name: str = ""
    place: str = ""
    kind: str = ""
    calls: int = 0
    seconds: float = 0.0
    flops: int = 0
    bytes: int = 0

    def __add__(self, other: Row) -> Row:
        """Both together, under this one's name."""
        return replace(
            self,
            calls=self.calls + other.calls,
            seconds=self.seconds + other.seconds,
            flops=self.flops + other.flops,
            bytes=self.bytes + other.bytes,
        )

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
    return _merged(Row(s.name, place_of(s.loc), s.kind, 1, s.seconds, s.flops, s.bytes) for s in steps)


def by_kernel(steps: Iterable[StepTime]) -> list[Row]:
    """One row for each kernel, the costliest first."""
    return _merged(replace(r, place="") for r in by_place(steps))


def _merged(rows: Iterable[Row]) -> list[Row]:
    found: dict[tuple[str, str, str], Row] = {}
    for row in rows:
        key = (row.name, row.place, row.kind)
        found[key] = found[key] + row if key in found else row
    return sorted(found.values(), key=lambda r: -r.seconds)


def total_row(rows: Iterable[Row], name: str = "total") -> Row:
    """All rows together."""
    return sum(rows, Row(name))


def place_of(loc: Location) -> str:
    """The module path or node name; the line of code where there is none."""
    return loc.name or (f"{loc.file.rsplit('/', 1)[-1]}:{loc.line}" if loc.file else "")
