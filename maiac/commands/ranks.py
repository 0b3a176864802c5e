"""``maiac run`` on several ranks: started here, or by torchrun."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Job:
    """What every rank does."""

    path: str
    files: list[str]
    random: bool
    seed: int
    dims: dict[str, int]
    mesh: dict[str, int] = field(default_factory=dict[str, int])
    trust: bool = False


@dataclass(frozen=True)
class RankResult:
    """What one rank tells: outputs (of rank 0 only), time, and memory in bytes."""

    rank: int
    mesh: dict[str, int]
    names: list[str]
    values: list[Any]
    seconds: float
    weight_bytes: int
    resident_bytes: int


def run_ranks(job: Job, nproc: int) -> list[RankResult] | None:
    """Run on all ranks; under torchrun only rank 0 gets results, the others None."""
    from ..runtime.distributed import process_group, started_by_torchrun

    if started_by_torchrun():
        with process_group() as (rank, world):
            return _gather(one_rank(job), rank, world)
    from ..runtime.launch import launch

    return launch(nproc, one_rank, (job,))


def _gather(mine: RankResult, rank: int, world: int) -> list[RankResult] | None:
    import torch.distributed as dist

    found: list[Any] | None = [None] * world if rank == 0 else None
    dist.gather_object(mine, found)
    return found


def one_rank(job: Job) -> RankResult:
    """The body of one rank; the process group exists."""
    import torch.distributed as dist

    from ..artifact import Place, load
    from ..runtime.distributed import MeshCommunicator, choose_mesh, resident_bytes
    from .run import choose_inputs

    rank, world = dist.get_rank(), dist.get_world_size()
    loaded = load(job.path, trust=job.trust)
    mesh = choose_mesh(loaded.module, world, job.mesh)
    loaded.place = Place(mesh, rank, MeshCommunicator(mesh, rank))
    inputs = choose_inputs(loaded, job.files, job.random, job.seed, job.dims)
    loaded.executor.prepare()
    dist.barrier()
    start = time.perf_counter()
    values = loaded.run(inputs)
    seconds = time.perf_counter() - start
    names = [p.name for p in loaded.outputs]
    held = loaded.executor.weight_bytes()
    return RankResult(rank, mesh, names, values if rank == 0 else [], seconds, held, resident_bytes())


def rank_rows(results: list[RankResult]) -> list[dict[str, Any]]:
    """Plain values for ``--json``."""
    return [
        {
            "rank": r.rank,
            "at": coordinates_of(r.mesh, r.rank),
            "seconds": r.seconds,
            "weight_bytes": r.weight_bytes,
            "resident_bytes": r.resident_bytes,
        }
        for r in results
    ]


def coordinates_of(mesh: Mapping[str, int], rank: int) -> dict[str, int]:
    """Where a rank stands."""
    from ..runtime.placement import coordinates

    return coordinates(mesh, rank)
