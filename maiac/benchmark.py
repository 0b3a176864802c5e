"""Timing engines against each other: one process each, so that they share nothing, taking turns, so that what else the
machine does falls on all of them alike."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .ir.errors import MaiaError

if TYPE_CHECKING:
    from .writer import Progress

ENGINES = ("maiac", "ort", "eager", "inductor")
WARMUPS = 3
LEAST_RUNS = 3  # of a turn, however long one takes


@dataclass(frozen=True)
class Setup:
    """What every engine runs: an artifact's inputs, the artifact or its source, threads (0: all cores)."""

    artifact: str
    source: str = ""
    seed: int = 0
    dims: dict[str, int] = field(default_factory=dict[str, int])
    threads: int = 0


@dataclass
class Timing:
    """Seconds of one engine's runs. ``first`` is the first run ever, with all that it compiles."""

    engine: str
    first: float
    threads: int
    times: list[float] = field(default_factory=list[float])

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
        }


def measure(
    setup: Setup, engines: Sequence[str], *, rounds: int, seconds: float, progress: Progress | None = None
) -> list[Timing]:
    """Time engines on the same inputs. MAIA0711 where one cannot run the source."""
    workers: list[_Worker] = []
    try:
        for i, engine in enumerate(engines):
            if progress:
                progress(f"starting {engine}", i, len(engines))
            workers.append(_Worker(engine, setup))
        for turn in range(rounds):
            for worker in workers:
                if progress:
                    progress(f"turn {turn + 1}: {worker.timing.engine}", turn, rounds)
                worker.timing.times += worker.ask({"seconds": seconds})["times"]
    finally:
        for worker in workers:
            worker.close()
    return [w.timing for w in workers]


class _Worker:
    """One engine in its own process; talks JSON lines over pipes."""

    def __init__(self, engine: str, setup: Setup) -> None:
        threads = setup.threads or _cores()
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, "-m", "maiac.benchmark"]
        self.engine = engine
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        ready = self.ask({"engine": engine, "threads": threads, **setup.__dict__, "cores": threads})
        self.timing = Timing(engine, ready["first"], threads)

    def ask(self, question: dict[str, Any]) -> Any:
        """Send a line, read a line; MAIA0711 with what the process said where it failed."""
        assert self.process.stdin is not None and self.process.stdout is not None and self.process.stderr is not None
        try:
            self.process.stdin.write(json.dumps(question) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            said = self.process.stderr.read().strip().splitlines()[-6:]
            raise MaiaError("MAIA0711", f"{self.engine} stopped", details=said)
        answer = json.loads(line)
        if "error" in answer:
            raise MaiaError("MAIA0711", f"{self.engine}: {answer['error']}")
        return answer

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# **** in the engine's process ****


def _serve() -> None:
    """Make the engine ready, then time a turn for each line that comes."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not stand between the answers
    question = json.loads(sys.stdin.readline())
    try:
        run = _ready(question)
        start = time.perf_counter()
        run()
        first = time.perf_counter() - start
        for _ in range(WARMUPS):
            run()
    except Exception as e:  # whatever stops an engine is told to the user
        text = (
            e.message if isinstance(e, MaiaError) else f"{type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}"
        )
        _answer(answers, {"error": text})
        return
    _answer(answers, {"first": first})
    for line in sys.stdin:
        _answer(answers, {"times": _turn(run, json.loads(line)["seconds"])})


def _answer(stream: Any, value: dict[str, Any]) -> None:
    stream.write(json.dumps(value) + "\n")
    stream.flush()


def _turn(run: Callable[[], object], seconds: float) -> list[float]:
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < LEAST_RUNS or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return times


def _ready(question: dict[str, Any]) -> Callable[[], object]:
    """A function that runs the model once on this engine."""
    import torch

    from .artifact import load
    from .inputs import choose_sizes, random_inputs

    torch.set_num_threads(question["cores"])
    artifact = load(question["artifact"])
    inputs = random_inputs(artifact.module, choose_sizes(artifact.module, question["dims"]), question["seed"])
    if question["engine"] == "maiac":
        return lambda: artifact.run(inputs)
    if question["engine"] == "ort":
        return _ort(question, [p.name for p in artifact.inputs], inputs)
    return _torch(question, artifact, inputs)


def _ort(question: dict[str, Any], names: Sequence[str], inputs: Sequence[Any]) -> Callable[[], object]:
    import onnxruntime as ort

    from .sources import kind_of
    from .tensors import to_numpy

    if kind_of(question["source"]) != "onnx":
        raise MaiaError("MAIA0711", f"ONNX Runtime runs .onnx files, not {question['source']}")
    options = ort.SessionOptions()
    options.intra_op_num_threads = question["cores"]
    session = ort.InferenceSession(question["source"], options, providers=["CPUExecutionProvider"])
    feeds = {n: to_numpy(v) for n, v in zip(names, inputs, strict=True)}

    def run() -> object:
        return session.run(None, feeds)

    return run


def _torch(question: dict[str, Any], artifact: Any, inputs: Sequence[Any]) -> Callable[[], object]:
    import torch

    from .runtime import tree
    from .sources import open_source

    program = open_source(question["source"]).original
    if not isinstance(program, torch.export.ExportedProgram):
        raise MaiaError("MAIA0711", f"PyTorch cannot run {question['source']}")
    model: Any = program.module()
    args, kwargs = tree.unflatten(artifact.manifest.in_tree, list(inputs))
    if question["engine"] == "inductor":
        model = torch.compile(model, backend="inductor")

    def run() -> object:
        with torch.inference_mode():
            return model(*args, **kwargs)

    return run


if __name__ == "__main__":
    _serve()
