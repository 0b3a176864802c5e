"""What the executor adds to its kernels: per call, and per step; and what the arena gains.

    python benchmarks/executor_overhead.py

The same torch kernels are called by the executor and by a straight-line function written by hand; programs of two
lengths separate the cost of a call from that of a step. Times are medians over rounds in turns, on one thread.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch

from maiac.ir import Builder, Function, Module, tensor
from maiac.ir.dims import Symbol, sym
from maiac.ir.dtypes import DType
from maiac.runtime import Executor
from maiac.timing import timed

SHORT, LONG = 8, 408


def chain(steps: int, inputs: int = 2) -> Module:
    """Steps of add and mul in turn, over tensors of a symbolic size."""
    module = Module("chain", symbols={"T": Symbol("T", 1, 1 << 24)})
    types = [tensor(DType.F32, sym("T")) for _ in range(inputs)]
    main = module.add_function(Function("main", types))
    builder = Builder(module, main.body)
    value = main.args[0]
    for i in range(steps):
        value = builder.emit("add" if i % 2 else "mul", value, main.args[1])
    builder.ret([value])
    return module


def by_hand(steps: int) -> Callable[..., list[torch.Tensor]]:
    """The straight-line function that one would write for it."""
    lines = [f"    x = {'add' if i % 2 else 'mul'}(x, y)" for i in range(steps)]
    space: dict[str, Any] = {"add": torch.add, "mul": torch.mul}
    exec("\n".join(["def run(x, y):", *lines, "    return [x]"]), space)
    return space["run"]


def paired(*fns: Callable[[], object], rounds: int = 40, least: float = 0.004) -> list[list[float]]:
    """Seconds of one call of each function, by round; in turns, so that other load falls on all alike."""
    counts: list[int] = []
    for fn in fns:
        fn()
        counts.append(max(1, int(least / timed(fn))))
    times: list[list[float]] = [[] for _ in fns]
    for _ in range(rounds):
        for fn, count, found in zip(fns, counts, times, strict=True):
            found.append(timed(lambda fn=fn, count=count: _repeat(fn, count)) / count)
    return times


def _repeat(fn: Callable[[], object], count: int) -> None:
    for _ in range(count):
        fn()


def added(steps: int, arena: bool) -> float:
    """Seconds that the executor adds to the straight-line function, for tensors of 1,024 elements."""
    x, y = torch.rand(1024), torch.rand(1024) + 0.5
    executor, hand = Executor(chain(steps), arena=arena), by_hand(steps)
    for _ in range(3):
        assert torch.equal(executor.run([x, y])[0], hand(x, y)[0])
    with torch.no_grad():
        plain, run = paired(lambda: hand(x, y), lambda: executor.run([x, y]))
    return statistics.median(b - a for a, b in zip(plain, run, strict=True))


def gain(size: int) -> tuple[float, float]:
    """Seconds a step without and with the arena."""
    steps = 40
    x, y = torch.rand(size), torch.rand(size) + 0.5
    executors = [Executor(chain(steps), arena=arena) for arena in (False, True)]
    for executor in executors * 3:
        executor.run([x, y])
    without, with_arena = paired(*(lambda e=e: e.run([x, y]) for e in executors), rounds=15)
    return statistics.median(without) / steps, statistics.median(with_arena) / steps


def main() -> None:
    """Print the figures."""
    torch.set_num_threads(1)
    for arena in (False, True):
        short, long = added(SHORT, arena), added(LONG, arena)
        step = (long - short) / (LONG - SHORT)
        call = short - SHORT * step
        print(f"arena {arena!s:>5}: {call * 1e6:6.2f} us added per call, {step * 1e6:6.3f} us per step")
    for count in (2, 10, 100):
        executor, inputs = Executor(chain(0, count)), [torch.rand(4) for _ in range(count)]
        (times,) = paired(lambda run=executor.run, inputs=inputs: run(inputs))
        print(f"call with {count:>3} inputs and no step: {statistics.median(times) * 1e6:6.2f} us")
    print("bytes of a value   us a step with torch's allocator   with the arena")
    for size in (1 << 10, 1 << 14, 1 << 16, 1 << 18, 1 << 20, 1 << 22):
        without, with_arena = gain(size)
        print(f"{4 * size:>16}   {without * 1e6:>32.2f}   {with_arena * 1e6:>14.2f}")


if __name__ == "__main__":
    main()
