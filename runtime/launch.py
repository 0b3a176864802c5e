"""Starting ranks on this machine: one fresh process each, results and errors brought back, no process left behind."""

from __future__ import annotations

import math
import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from maiac.ir.errors import MaiaError

GRACE = 1.0  # seconds that ranks have to tell their own error, after one failed
HOST = "127.0.0.1"


@dataclass(slots=True)
class _Rank:
    """One process, and what it has told so far."""

    number: int
    process: BaseProcess
    pipe: Connection
    done: bool = False
    result: Any = None
    error: MaiaError | None = None


def launch(
    nproc: int,
    target: Callable[..., Any],
    args: Sequence[Any] = (),
    *,
    timeout: float | None = None,
    device: str = "cpu",
) -> list[Any]:
    """Call ``target(*args)`` on ``nproc`` ranks of one process group; the results, by rank.

    ``target`` is importable by name, and arguments and results can be pickled. ``timeout``: seconds for all of it. The
    first rank to fail stops the others, and its MaiaError is raised here: its own, or MAIA0603 where it died,
    MAIA0604 where it raised something else, MAIA0605 where time ran out. Ctrl-C ends all ranks.
    """
    if nproc < 1:
        raise MaiaError("MAIA0602", f"{nproc} processes were asked for; expected at least 1")
    store = _store(0, is_master=True, wait_for_workers=False)
    ranks: list[_Rank] = []
    context = get_context("spawn")
    job = pickle.dumps((target, tuple(args)))
    outer = {name: os.environ.get(name) for name in _environment(nproc)}
    os.environ.update({name: value for name, value in _environment(nproc).items() if outer[name] is None})
    try:
        for number in range(nproc):
            here, there = context.Pipe(duplex=False)
            process = context.Process(
                target=_rank_main, args=(number, nproc, store.port, device, timeout, there, job), daemon=True
            )
            process.start()
            there.close()
            ranks.append(_Rank(number, process, here))
        _wait(ranks, timeout)
    finally:
        for name, value in outer.items():
            if value is None:
                os.environ.pop(name, None)
        _stop(ranks)
    worst = _worst(ranks)
    if worst is not None:
        raise worst
    return [rank.result for rank in ranks]


def _store(port: int, **options: Any) -> Any:
    """Where the ranks find each other; port 0 is any that is free."""
    import torch.distributed as dist

    return dist.TCPStore(HOST, port, **options)  # pyright: ignore[reportPrivateImportUsage]


def _environment(nproc: int) -> dict[str, str]:
    """Variables for the ranks, where the user has not set them: they share the cores and talk over the loopback."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found = {"OMP_NUM_THREADS": str(max(1, cores // nproc))}
    return {**found, "GLOO_SOCKET_IFNAME": "lo"} if os.path.isdir("/sys/class/net/lo") else found


# **** in the rank ****


def _rank_main(
    number: int, nproc: int, port: int, device: str, timeout: float | None, pipe: Connection, job: bytes
) -> None:
    """The body of one process: join, run, tell."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it too, and ends all ranks
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        outcome = ("result", _joined(number, nproc, port, device, timeout, job))
    except MaiaError as error:
        outcome = ("error", error)
    except BaseException as error:
        from .distributed import is_unanswered, unanswered

        if is_unanswered(error):
            pipe.send_bytes(pickle.dumps(("error", unanswered(f"rank {number}", error))))
            return
        what = f"rank {number} raised {type(error).__name__}: {error}"
        lines = tuple(traceback.format_exc().rstrip().splitlines()[-12:])
        outcome = ("error", MaiaError("MAIA0604", what, details=lines))
    pipe.send_bytes(pickle.dumps(outcome))
    pipe.close()


def _joined(number: int, nproc: int, port: int, device: str, timeout: float | None, job: bytes) -> Any:
    from datetime import timedelta

    import torch
    import torch.distributed as dist

    from .distributed import TIMEOUT, backend_for

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    limit = timedelta(seconds=TIMEOUT if timeout is None else timeout)
    store = _store(port, is_master=False, timeout=limit)
    if torch.device(device).type == "cuda":
        torch.cuda.set_device(number)
    dist.init_process_group(backend_for(device), store=store, rank=number, world_size=nproc, timeout=limit)
    try:
        target, args = pickle.loads(job)
        return target(*args)
    finally:
        dist.destroy_process_group()


def _die_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
    os._exit(1)


# **** in the parent ****


def _wait(ranks: Sequence[_Rank], timeout: float | None) -> None:
    """Until every rank is done, or one failed and the others had their grace, or time ran out."""
    end = math.inf if timeout is None else time.monotonic() + timeout
    graced = False
    while pending := [rank for rank in ranks if not rank.done]:
        if not graced and any(rank.error for rank in ranks):
            end, graced = min(end, time.monotonic() + GRACE), True
        left = end - time.monotonic()
        if left <= 0:
            _give_up(ranks, pending, timeout)
            return
        waited = [w for rank in pending for w in (rank.pipe, rank.process.sentinel)]
        ready = connection.wait(waited, None if left == math.inf else left)
        for rank in pending:
            if rank.pipe in ready or rank.process.sentinel in ready:
                _hear(rank)


def _give_up(ranks: Sequence[_Rank], pending: Sequence[_Rank], timeout: float | None) -> None:
    """Time is over: where no rank failed by itself, the ones that are not done are to blame."""
    if not any(rank.error for rank in ranks):
        names = ", ".join(str(rank.number) for rank in pending)
        pending[0].error = MaiaError("MAIA0605", f"ranks {names} were not done after {timeout:g} s")


def _hear(rank: _Rank) -> None:
    """Take what a rank has told; one that ended without a word has died."""
    rank.done = True
    try:
        kind, value = pickle.loads(rank.pipe.recv_bytes())
    except (EOFError, OSError):
        rank.process.join()
        code = rank.process.exitcode or 0
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        rank.error = MaiaError("MAIA0603", f"rank {rank.number} {how} and left no result")
        return
    if kind == "error":
        rank.error = value
    else:
        rank.result = value


def _worst(ranks: Sequence[_Rank]) -> MaiaError | None:
    """The error that explains the others: a rank that failed by itself before those that only lost their partner."""
    order = {"MAIA0605": 2, "MAIA0604": 1}
    errors = [rank.error for rank in ranks if rank.error is not None]
    return min(errors, key=lambda error: order.get(error.code, 0), default=None)


def _stop(ranks: Sequence[_Rank]) -> None:
    """End whatever still runs."""
    for rank in ranks:
        if rank.process.is_alive() and not (rank.done and rank.error is None):
            rank.process.terminate()
    for rank in ranks:
        rank.process.join(5.0)
        if rank.process.is_alive():
            rank.process.kill()
            rank.process.join()
        rank.pipe.close()
