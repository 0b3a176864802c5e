"""One phase of a model's life, timed in a process of its own: what ``benchmarks.host`` starts.

    python -m benchmarks.phases compile resnet50 resnet50.maia     # capture, passes, native code, first run
    python -m benchmarks.phases inductor resnet50                  # the same for Inductor, with freezing
    python -m benchmarks.phases load resnet50.maia                 # load, first run, peak memory

Each prints one JSON object; times are in seconds, memory in bytes. Imports and the making of the model are not counted.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks import models
from maiac.ir.dims import evaluate
from maiac.ir.opdef import bytes_of

RUNS = 3


def compile_(name: str, file: str) -> dict[str, Any]:
    """Compile with the caches as they are, save, and run once."""
    from maiac.artifact import bind_inputs
    from maiac.config import CompileOptions
    from maiac.driver import lower, prepare
    from maiac.report import cost_of
    from maiac.sources import open_source

    # torch imports its tracer at the first call, and the compiler its passes
    lower(open_source(torch.nn.ReLU(), (torch.zeros(1),)), CompileOptions()).run([torch.zeros(1)])
    model, args, kwargs = models.factory(name)()
    start = time.perf_counter()
    prepare()  # as maiac.compile does
    captured = open_source(model, args, kwargs)
    capture = time.perf_counter() - start
    flops = evaluate(cost_of(captured.module).flops, {})
    captured_at = time.perf_counter()
    artifact = lower(captured, CompileOptions())
    lowered_at = time.perf_counter()
    inputs = bind_inputs(artifact.module, artifact.manifest, args, kwargs)
    artifact.executor.prepare()
    prepared_at = time.perf_counter()
    artifact.run(inputs)
    end = time.perf_counter()
    artifact.save(file, golden=False)
    torch.save(inputs, inputs_of(file))
    return {
        "capture": capture,
        "passes": lowered_at - captured_at,
        "prepare": prepared_at - lowered_at,
        "first run": end - prepared_at,
        "total": capture + end - captured_at,
        "flops": flops,
    }


def inputs_of(file: str) -> Path:
    """Where ``compile`` leaves the inputs for ``load``, which must not hold the model as well."""
    return Path(file).with_suffix(".inputs")


def inductor(name: str) -> dict[str, Any]:
    """Compile with Inductor, its caches as they are, and run once."""
    import torch._inductor.config as config

    config.freezing = True
    model, args, kwargs = models.factory(name)()
    torch.compile(torch.nn.Identity())(torch.zeros(1))  # torch imports its compiler at the first call
    start = time.perf_counter()
    with torch.no_grad():
        torch.compile(model)(*args, **kwargs)
    return {"total": time.perf_counter() - start}


def load(file: str) -> dict[str, Any]:
    """Load the artifact, run it, and tell by how much memory grew beside the least that is possible."""
    import maiac

    importlib.import_module("maiac.artifact")  # what loading imports is neither its time nor its memory

    inputs: list[Any] = torch.load(inputs_of(file), weights_only=True)
    before = _reset_peak()
    start = time.perf_counter()
    artifact = maiac.load(file)
    loaded_at = time.perf_counter()
    artifact.run(inputs)
    first = time.perf_counter()
    for _ in range(RUNS):
        artifact.run(inputs)
    peak = _status("VmHWM")
    return {
        "load": loaded_at - start,
        "first run": first - loaded_at,
        "memory": peak - before,
        "weights": sum(bytes_of(w.type, {}) for w in artifact.module.weights.values()),
        "live": artifact.executor.live_bytes(inputs),
    }


def _reset_peak() -> int:
    """Let the kernel forget the highest memory so far; gives what is held now."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _status("VmRSS")


def _status(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE)
    assert found is not None, f"this system does not tell {name}"
    return int(found[1]) * 1024


PHASES: dict[str, Callable[..., dict[str, Any]]] = {"compile": compile_, "inductor": inductor, "load": load}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(json.dumps(PHASES[sys.argv[1]](*sys.argv[2:])))
