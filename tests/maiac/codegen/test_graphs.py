"""Random programs: all passes and machine code against the program as it was written, by reference bodies."""

from __future__ import annotations

import random
from typing import Any

import pytest

from maiac.ir import MaiaError, Module, Result, verify
from maiac.passes import default_pipeline, run_pipeline
from maiac.passes.clone import clone_module
from maiac.runtime.executor import Executor
from tests.fuzz.test_passes import Program
from tests.passes.running import fill, inputs_for

from .harness import Ran, copied, difference


def random_program(seed: int, steps: int) -> Module:
    """A program of many steps on values old and new, a third of which it gives back."""
    pick, made = random.Random(seed), Program()
    for _ in range(steps):
        # Mostly recent values, so that chains grow long enough to fuse.
        x, y = (int(pick.expovariate(0.3)) for _ in "xy")
        made.apply([(pick.randrange(100), x, y, pick.randrange(100))])
    kept = [v for v in made.values if isinstance(v, Result) and made.of(v).rank < 6]
    made.b.ret(pick.sample(kept, len(kept) // 3))
    fill(made.module)
    verify(made.module)
    return made.module


def results(module: Module, inputs: list[Any]) -> list[list[Any]]:
    """What the program gives by reference, as it was written, in each of three calls."""
    by_reference = Executor(clone_module(module), arena=False)
    return [copied(by_reference.run(copied(inputs))) for _ in range(3)]


def fitting(seed: int, steps: int) -> tuple[Module, list[Any], list[list[Any]]]:
    """A random program, inputs and results; of every three programs, one has sizes that do not fit each other."""
    for attempt in range(20):
        module = random_program(seed + 1000 * attempt, steps)
        inputs = inputs_for(module, seed)
        try:
            return module, inputs, results(module, inputs)
        except MaiaError as error:
            assert error.code == "MAIA0503", error
    raise AssertionError("sizes of no program fit")


def check(seed: int, steps: int) -> None:
    """Assert that results and states are those of the program as it was written, call after call."""
    module, inputs, wanted = fitting(seed, steps)
    run_pipeline(module, default_pipeline())
    ran = Ran(module)
    for call, want in enumerate(wanted):
        got = ran.run(inputs)
        wrong = [f"{i}: {d}" for i, (a, b) in enumerate(zip(want, got, strict=True)) if (d := difference(a, b))]
        assert not wrong, f"call {call}: " + "\n".join(wrong)


@pytest.mark.parametrize("seed", range(3))
def test_random_programs_keep_their_results(seed: int):
    check(seed, 30)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 220))
def test_many_random_programs_keep_their_results(seed: int):
    check(seed, 60)
