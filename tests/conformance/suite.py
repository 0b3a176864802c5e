"""What all conformance suites have in common: cases, their outcomes, and workers that outlive a crash.

A suite is a module of this folder with ``cases()``; ``SUITES`` in ``__main__.py`` lists them. A case's ``check``
compiles and runs something and compares; it raises what is wrong. Workers are processes: one that dies takes only its
case along.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

Status = Literal["pass", "fail", "refused", "not run"]


class RefusedError(Exception):
    """The exporter itself cannot express the case: nothing reached maiac, and the case is counted apart."""


@dataclass(frozen=True)
class Case:
    """One thing to try. ``check`` raises what is wrong, and says whether a host operation took part."""

    group: str
    name: str
    check: Callable[[], bool | None]

    @property
    def key(self) -> tuple[str, str]:
        """What names it among the cases of its suite."""
        return self.group, self.name


@dataclass(frozen=True)
class Outcome:
    """What became of one case; the reason is empty where it passed."""

    group: str
    name: str
    status: Status
    reason: str = ""
    host: bool = False
    seconds: float = 0.0


class OutOfTimeError(BaseException):
    """A case took longer than its limit. No Exception, so that nothing on the way takes it for a fault of its own."""


def _expire(*_: object) -> None:
    raise OutOfTimeError


def run_case(case: Case, limit: int = 60) -> Outcome:
    """Check one case in this process, for at most ``limit`` seconds. Files that it leaves where it runs go with it."""
    start = time.perf_counter()
    before = signal.signal(signal.SIGALRM, _expire)
    signal.alarm(limit)
    status, reason, host = "fail", "", False
    try:
        with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            host = bool(case.check())
        status = "pass"
    except OutOfTimeError:
        reason = f"took longer than {limit} s"
    except RefusedError as error:
        status, reason = "refused", str(error)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    return Outcome(case.group, case.name, status, reason, host, round(time.perf_counter() - start, 3))


def select(cases: Iterable[Case], pattern: str = "", groups: Sequence[str] = ()) -> Iterator[Case]:
    """The cases of these groups (none: all) whose name matches the regular expression somewhere."""
    return (c for c in cases if (not groups or c.group in groups) and re.search(pattern, c.name))


def serve(cases: Iterable[Case], limit: int) -> None:
    """A worker's life: read a case's [group, name] as a line of JSON, answer with its outcome as another."""
    known = {c.key: c for c in cases}
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what models print must not come between the answers
    for line in sys.stdin:
        answers.write(json.dumps(asdict(run_case(known[tuple(json.loads(line))], limit))) + "\n")
        answers.flush()


class _Worker:
    """A process that serves cases; started anew for the case after one that killed it."""

    def __init__(self, command: Sequence[str]) -> None:
        self.command = command
        self.process: subprocess.Popen[str] | None = None

    def run(self, case: Case, limit: int) -> Outcome:
        if self.process is None:
            self.process = subprocess.Popen(self.command, stdin=-1, stdout=-1, stderr=subprocess.DEVNULL, text=True)
        process = self.process
        assert process.stdin and process.stdout
        # Native code that hangs hears no alarm. What a worker needs to start is counted generously.
        watch = threading.Timer(2 * limit + 120, process.kill)
        watch.start()
        try:
            process.stdin.write(json.dumps(case.key) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        watch.cancel()
        if line:
            return Outcome(**json.loads(line))
        self.close()
        return Outcome(case.group, case.name, "fail", f"the process died with exit code {process.returncode}")

    def close(self) -> None:
        if self.process is None:
            return
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()
        self.process = None


def run_suite(
    module: str, cases: Iterable[Case], workers: int, limit: int, tell: Callable[[Outcome], None]
) -> list[Outcome]:
    """Check the cases of a suite in worker processes; outcomes come in the cases' order."""
    found: dict[int, Outcome] = {}
    left = iter(enumerate(cases))
    lock = threading.Lock()

    def work() -> None:
        worker = _Worker([sys.executable, "-m", "tests.conformance", module, "--serve", "--limit", str(limit)])
        try:
            while True:
                with lock:
                    at = next(left, None)
                if at is None:
                    return
                outcome = found[at[0]] = worker.run(at[1], limit)
                with lock:
                    tell(outcome)
        finally:
            worker.close()

    threads = [threading.Thread(target=work, daemon=True) for _ in range(workers)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return [found[i] for i in sorted(found)]


def percent(outcomes: Iterable[Outcome]) -> float:
    """Of the cases that the exporter could express, how many passed."""
    counted = [o.status == "pass" for o in outcomes if o.status in ("pass", "fail")]
    return 100 * sum(counted) / max(len(counted), 1)


def summary(outcomes: Sequence[Outcome]) -> str:
    """Totals by group, and the reasons that stand most often."""
    groups: defaultdict[str, list[Outcome]] = defaultdict(list)
    for o in outcomes:
        groups[o.group].append(o)
    lines = [_line(name, of) for name, of in groups.items()]
    lines.append(_line("all", outcomes))
    reasons = Counter(code_of(o.reason) for o in outcomes if o.status == "fail")
    if reasons:
        lines.append("reasons: " + ", ".join(f"{n} {code}" for code, n in reasons.most_common(12)))
    return "\n".join(lines)


def _line(name: str, outcomes: Sequence[Outcome]) -> str:
    count = Counter(o.status for o in outcomes)
    host = sum(o.host and o.status == "pass" for o in outcomes)
    tried = count["pass"] + count["fail"]
    notes: list[str] = []
    if count["refused"]:
        notes.append(f"{count['refused']} refused by the exporter")
    if host:
        notes.append(f"{host} on the host")
    note = f"  {', '.join(notes)}" if notes else ""
    return f"{name:24} {count['pass']:5} of {tried:5}  ({percent(outcomes):.1f}%){note}"


def code_of(reason: str) -> str:
    """The number of the error that a reason begins with, else the exception's name."""
    found = re.search(r"MAIA\d+", reason)
    return found.group() if found else reason.split(":", maxsplit=1)[0]
