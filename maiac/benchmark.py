"""Timing engines against each other: one process each, so that they share nothing, taking turns, so that what else the
machine does falls on all of them alike."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import IO, TYPE_CHECKING, Any

from .bench_source import Setup
from .engines import ENGINES, PEERS
from .ir.errors import MaiaError
from .runtime.threads import VARIABLES, default_threads

if TYPE_CHECKING:
    from .profile import Profile
    from .writer import Progress


@dataclass
class Timing:
    """Seconds of one engine's runs. ``ready``: until it could run; ``first``: its first run; both with all that it
    compiles. ``versions`` names its packages."""

    engine: str
    first: float
    threads: int
    times: list[float] = field(default_factory=list[float])
    ready: float = 0.0
    versions: str = ""

    @property
    def median(self) -> float:
        """The figure to quote."""
        return statistics.median(self.times)

    @property
    def best(self) -> float:
        """The quickest run."""
        return min(self.times)

    @property
    def spread(self) -> float:
        """Distance between the quartiles, relative to the median."""
        if len(self.times) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.times, n=4)
        return (high - low) / self.median

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "median": self.median,
            "best": self.best,
            "spread": self.spread,
            "runs": len(self.times),
            "first": self.first,
            "ready": self.ready,
            "versions": self.versions,
        }


@dataclass
class Measured:
    """Engines that ran, in the order in which they were named, and why others did not."""

    timings: list[Timing]
    failures: dict[str, str]

    @property
    def best_peer(self) -> Timing | None:
        """The quickest engine but ours."""
        return min((t for t in self.timings if t.engine != "maiac"), key=lambda t: t.median, default=None)

    @property
    def ratio(self) -> float | None:
        """The best peer's time by ours; None where either is missing."""
        ours = next((t for t in self.timings if t.engine == "maiac"), None)
        return self.best_peer.median / ours.median if ours and self.best_peer else None


@dataclass(frozen=True)
class Bench:
    """Engines that are to run, with what was made once for all of them; see ``bench``."""

    setup: Setup
    engines: Sequence[str]
    shared: Mapping[str, Any]
    report: Progress

    def measure(self, *, rounds: int, seconds: float) -> Measured:
        """Time the engines. MAIA0711 where ours fails, or all others do."""
        with contextlib.ExitStack() as stack:
            failures: dict[str, str] = {}
            workers = self._started(stack, failures)
            for turn, worker in ((t, w) for t in range(rounds) for w in list(workers)):
                self.report(f"turn {turn + 1}: {worker.engine}", turn, rounds)
                try:
                    worker.timing.times += worker.ask({"seconds": seconds})["times"]
                except MaiaError as e:
                    failures[worker.engine] = _reason(e)
                    workers.remove(worker)
                    _refuse_failures(self.engines, failures)
        return Measured([w.timing for w in workers], failures)

    def _started(self, stack: contextlib.ExitStack, failures: dict[str, str]) -> list[Worker]:
        workers: list[Worker] = []
        for i, engine in enumerate(self.engines):
            self.report(f"starting {engine}", i, len(self.engines))
            try:
                workers.append(stack.enter_context(Worker(engine, self.setup, self.shared)))
            except MaiaError as e:
                failures[engine] = _reason(e)
        _refuse_failures(self.engines, failures)
        return workers

    def profile(self, *, seconds: float, fresh_peaks: bool = False) -> Profile:
        """Watch the artifact's steps for so long, in a process of its own. MAIA0711 where it does not run."""
        from .profile import Profile

        self.report("profiling", 0, 0)
        asked = {"seconds": seconds, "fresh_peaks": fresh_peaks}
        with Worker("profile", self.setup, {**self.shared, **asked}) as worker:
            return Profile.from_json(worker.facts)


@contextlib.contextmanager
def bench(setup: Setup, engines: Sequence[str] = ("maiac",), progress: Progress | None = None) -> Generator[Bench]:
    """Engines on the same inputs: the source's own, made by a process of its own that exports to ONNX as well.

    Without a source each process makes the same random ones.
    """
    report = progress or _silent
    with tempfile.TemporaryDirectory(prefix="maiac-bench-") as folder:
        shared: Mapping[str, Any] = {}
        if setup.source:
            wants_onnx = any(ENGINES[e].takes_onnx for e in engines)
            report("making inputs; exporting to ONNX" if wants_onnx else "making inputs", 0, 0)
            with Worker("prepare", setup, {"folder": folder, "wants_onnx": wants_onnx}) as worker:
                shared = worker.facts
        yield Bench(setup, engines, shared, report)


def _silent(what: str, done: int, total: int) -> None:
    """Nobody watches."""


def _reason(error: MaiaError) -> str:
    """The message, and the last that a process said before it died."""
    return ": ".join((error.message, *error.details[-1:]))


def _refuse_failures(engines: Sequence[str], failures: Mapping[str, str]) -> None:
    peers = [e for e in engines if e != "maiac"]
    if "maiac" not in failures and (not peers or any(e not in failures for e in peers)):
        return
    if "maiac" in failures:
        raise MaiaError("MAIA0711", failures["maiac"])
    first, *rest = failures.values()
    raise MaiaError("MAIA0711", first, details=rest)


class Worker:
    """One engine in its own process; talks JSON lines over pipes. Leaving the context ends the process.

    ``facts`` is what it said when it was ready.
    """

    def __init__(self, engine: str, setup: Setup, shared: Mapping[str, Any] | None = None) -> None:
        threads = setup.threads or default_threads()
        self.engine = engine
        with contextlib.ExitStack() as files:
            self.said: IO[str] = files.enter_context(tempfile.TemporaryFile("w+"))
            self.process = subprocess.Popen(
                [sys.executable, "-m", "maiac.engines"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.said,
                text=True,
                env={**os.environ, **setup.environment, **dict.fromkeys(VARIABLES, str(threads))},
                start_new_session=True,  # so that what it starts (compilers, pools) ends with it
            )
            self.files = files.pop_all()  # it is open as long as the process runs
        try:
            told = asdict(replace(setup, threads=threads))
            question = {"engine": engine, "setup": told, "shared": dict(shared or {})}
            self.facts: dict[str, Any] = self.ask(question)
        except BaseException:
            self.close()
            raise
        ready, first = self.facts.get("ready", 0.0), self.facts.get("first", 0.0)
        self.timing = Timing(engine, first, threads, [], ready, self.facts.get("versions", ""))

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, question: dict[str, Any]) -> Any:
        """Send a line, read a line; MAIA0711 with what the process said where it failed."""
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(question) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise MaiaError("MAIA0711", f"{self.engine} stopped{self._how()}", details=self._last_words())
        answer = json.loads(line)
        if "error" in answer:
            raise MaiaError("MAIA0711", f"{self.engine}: {answer['error']}")
        return answer

    def _how(self) -> str:
        code = self.process.wait()
        return f" by signal {signal.Signals(-code).name}" if code < 0 else f" with exit code {code}"

    def _last_words(self) -> list[str]:
        self.said.seek(0)
        return self.said.read().strip().splitlines()[-6:]

    def close(self) -> None:
        """End the process and all that it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        self.files.close()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):  # of a question that nobody read
                    pipe.close()


def names_of(text: str) -> list[str]:
    """The engines of a list with commas, each once; MAIA0706 for one that does not exist."""
    names = list(dict.fromkeys(name for part in text.split(",") if (name := part.strip())))
    for name in names:
        if name not in PEERS:
            raise MaiaError("MAIA0706", f"--vs {name}: expected one of {', '.join(PEERS)}")
    return names
