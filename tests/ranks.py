"""All ranks of a mesh as threads of this process: collectives without sockets, for tests of what is sent, not how."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import torch

from maiac.ir import Module
from maiac.runtime import Executor
from maiac.runtime.placement import coordinates

PATIENCE = 60.0  # seconds that a rank waits for another


@dataclass
class _Meeting:
    """One collective of one line of ranks: what each has brought."""

    brought: dict[int, Any] = field(default_factory=dict[int, Any])


class Hub:
    """Where ranks meet: every collective of a line of ranks has a number, counted by each rank alike."""

    def __init__(self, mesh: Mapping[str, int]) -> None:
        self.mesh = dict(mesh)
        self.changed = threading.Condition()
        self.meetings: dict[Any, _Meeting] = {}
        self.failed = False

    def exchange(self, key: Any, coordinate: int, value: Any, size: int) -> dict[int, Any]:
        """Bring a value, wait until all have, take all of them."""
        with self.changed:
            meeting = self.meetings.setdefault(key, _Meeting())
            meeting.brought[coordinate] = value
            self.changed.notify_all()
            met = self.changed.wait_for(lambda: self.failed or len(meeting.brought) == size, PATIENCE)
            if self.failed or not met:
                raise RuntimeError(f"the ranks did not meet for {key}")
            return meeting.brought

    def fail(self) -> None:
        """Let all waiting ranks go."""
        with self.changed:
            self.failed = True
            self.changed.notify_all()


class ThreadCommunicator:
    """One rank's end of a hub."""

    def __init__(self, hub: Hub, rank: int) -> None:
        self.hub = hub
        self.at = coordinates(hub.mesh, rank)
        self.counts: dict[Any, int] = {}
        self.sent: list[tuple[str, int]] = []  # what ran, with the bytes of its result

    def run(
        self, name: str, x: torch.Tensor | None, attrs: Mapping[str, Any], shape: tuple[int, ...], dtype: torch.dtype
    ) -> torch.Tensor | None:
        axis = attrs.get("over", attrs.get("along"))
        mine, others = self.at[axis], tuple(n for a, n in self.at.items() if a != axis)
        ends = (attrs["source"], attrs["target"]) if name == "send_recv" else ()
        line = (axis, others, ends)
        number = self.counts[line] = self.counts.get(line, 0) + 1
        value = None if x is None else x.clone()
        members = 2 if ends else self.hub.mesh[axis]
        parts = self.hub.exchange((*line, number, name), mine, value, members)
        self.sent.append((name, math.prod(shape) * dtype.itemsize))
        result = self.combine(name, parts, attrs, mine)
        assert tuple(result.shape) == shape and result.dtype == dtype, f"{name}: {result.shape}, expected {shape}"
        return result

    def combine(self, name: str, parts: Mapping[int, Any], attrs: Mapping[str, Any], mine: int) -> torch.Tensor:
        ordered = [parts[i] for i in sorted(parts)]
        if name == "all_reduce":
            return torch.stack(ordered).sum(0, dtype=ordered[0].dtype)
        if name == "all_gather":
            return torch.cat(ordered, attrs["dim"])
        if name == "reduce_scatter":
            total = torch.stack(ordered).sum(0, dtype=ordered[0].dtype)
            return total.chunk(len(ordered), attrs["dim"])[mine].clone()
        return parts[attrs["source"]].clone()


@dataclass
class RankRun:
    """What one rank did."""

    results: list[Any]
    weight_bytes: int
    sent: list[tuple[str, int]]


def run_on_mesh(module: Module, mesh: Mapping[str, int], inputs: Sequence[Any], times: int = 1) -> list[RankRun]:
    """Run a module on every rank of a mesh at once; what each gives, in order of rank."""
    hub, count = Hub(mesh), math.prod(mesh.values())

    def one(rank: int) -> RankRun:
        try:
            comm = ThreadCommunicator(hub, rank)
            executor = Executor(module, mesh=mesh, rank=rank, comm=comm)
            results = [executor.run(inputs) for _ in range(times)][-1]
            return RankRun(results, executor.weight_bytes(), comm.sent)
        except BaseException:
            hub.fail()
            raise

    with ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(one, rank) for rank in range(count)]
    errors = [f.exception() for f in futures if f.exception() is not None]
    first = [e for e in errors if "did not meet" not in str(e)] or errors
    if first:
        raise first[0]  # type: ignore[misc]
    return [f.result() for f in futures]
