"""What a harness may not do while it reads an input: open files elsewhere, or take long."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from maiac.ir.caches import cache_folder

ROOT = Path(__file__).resolve().parents[2]


class Elsewhere(BaseException):
    """A file was opened that does not belong to the input. No ``except Exception`` on the way hides it."""


class TookLong(BaseException):
    """The input was not done with in time."""


class _Opened:
    """Every file that Python code opens, while somebody asks. An audit hook stays for the process, so there is one."""

    def __init__(self) -> None:
        self.paths: list[str] | None = None
        sys.addaudithook(self._hear)

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open" and self.paths is not None and not isinstance(args[0], int):  # no number of an open file
            self.paths.append(os.fsdecode(args[0]))


_opened = _Opened()


def _own_places() -> list[str]:
    """Where this Python and its packages lie, and what is computed once for all inputs."""
    places = [*sys.path, sys.prefix, sys.base_prefix, str(ROOT), str(cache_folder()), "/dev", "/proc", "/sys"]
    return [os.path.realpath(p) for p in places if p]


@contextmanager
def only_files_in(folder: Path) -> Generator[None]:
    """Whatever is opened lies in this folder, or belongs to the program that runs; ``Elsewhere`` tells of the rest."""
    _opened.paths = []
    try:
        yield
    finally:
        opened, _opened.paths = _opened.paths, None
        strange = _outside(opened, [os.path.realpath(folder), *_own_places()])
        if strange:
            raise Elsewhere(f"opened {', '.join(sorted(strange))}")


def _outside(opened: Iterable[str], allowed: list[str]) -> set[str]:
    whole = {os.path.realpath(path) for path in opened}
    return {path for path in whole if not any(path == a or path.startswith(a + os.sep) for a in allowed)}


@contextmanager
def at_most(seconds: float) -> Generator[None]:
    """``TookLong`` where the block takes longer. In the main thread, and where the system has timers."""

    def stop(*_: Any) -> None:
        raise TookLong(f"more than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def fresh_folder() -> Generator[Path]:
    """A folder for one input, beside a file that no input may reach."""
    with tempfile.TemporaryDirectory(prefix="maiac-fuzz-") as home:
        (Path(home) / "outside.bin").write_bytes(bytes(range(256)))
        folder = Path(home) / "inside"
        folder.mkdir()
        yield folder
