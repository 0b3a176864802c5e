"""Runs as a file for Perfetto (ui.perfetto.dev) and chrome://tracing: the Trace Event Format, as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .peaks import Peaks
from .profile import place_of
from .runtime.profiling import StepTime
from .storage import write_text

PROCESS, THREAD = 1, 1


def trace(steps: Sequence[StepTime], title: str, peaks: Peaks | None = None) -> dict[str, Any]:
    """One run as complete events on one line; times in microseconds, rates and places among the arguments."""
    events: list[dict[str, Any]] = [_named("process_name", title), _named("thread_name", "steps")]
    for step in steps:
        arguments: dict[str, Any] = {"place": place_of(step.loc), "flops": step.flops, "bytes": step.bytes}
        if step.loc.file:
            arguments["source"] = f"{step.loc.file}:{step.loc.line}"
        if step.seconds > 0:
            arguments["GFLOP/s"] = round(step.flops / step.seconds / 1e9, 2)
            arguments["GB/s"] = round(step.bytes / step.seconds / 1e9, 2)
        if peaks and step.seconds > 0:
            arguments["of bound"] = round(peaks.bound(step.flops, step.bytes) / step.seconds, 3)
        events.append(
            {
                "name": step.name,
                "cat": step.kind,
                "ph": "X",
                "ts": step.start * 1e6,
                "dur": step.seconds * 1e6,
                "pid": PROCESS,
                "tid": THREAD,
                "args": arguments,
            }
        )
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def _named(what: str, name: str) -> dict[str, Any]:
    return {"name": what, "ph": "M", "pid": PROCESS, "tid": THREAD, "args": {"name": name}}


def write_trace(path: Path, value: dict[str, Any]) -> None:
    """Write it whole or not at all; MAIA0411 where that fails."""
    write_text(path, json.dumps(value))
