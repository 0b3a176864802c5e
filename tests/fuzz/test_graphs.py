"""Random programs over every operation give the same before and after the default pipeline, and natively."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maiac.ir import Module
from maiac.ir.opdef import get_op, op_names
from maiac.passes import default_pipeline, run_pipeline
from maiac.passes.clone import clone_module
from maiac.runtime import Executor
from tests.maiac.codegen.harness import ULPS, Ran, copied, difference, dirty_memory

from .graphs import COLLECTIVE, Graph, build, decks, drawable

QUICK = decks(rounds=1, size=16)
SLOW_TO_MAKE = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
LONG = settings(max_examples=400, deadline=None, suppress_health_check=SLOW_TO_MAKE, print_blob=True)
programs: Any = st.tuples(st.integers(0, 2**32), st.lists(st.sampled_from(drawable()), min_size=1, max_size=14))
NUDGES = 3


def run(module: Module, inputs: list[Any]) -> list[Any]:
    """Results of main, twice: states carry over. Random numbers are the same in every run."""
    return twice(Executor(clone_module(module)).run, inputs)


def twice(call: Callable[[list[Any]], list[Any]], inputs: list[Any]) -> list[Any]:
    results: list[Any] = []
    for _ in range(2):
        torch.manual_seed(0)
        results += copied(call(copied(inputs)))
    return results


def optimized(module: Module) -> Module:
    run_pipeline(module, default_pipeline())
    return module


def check(module: Module, inputs: list[Any], ulps: float = 0.0) -> None:
    """The same to the bit: no pass of the default pipeline puts another function in place of one that these programs
    spell out, and fused regions run the same bodies.

    ulps: of any programs, this much is allowed, in results that do not magnify it themselves. What ``fold`` computes
    is kept contiguous, where an op may give another layout (``svd`` does), and torch adds in the order of memory.
    """
    before = clone_module(module)
    assert_close(before, inputs, run(before, inputs), run(optimized(module), inputs), ulps)


@pytest.mark.parametrize("symbolic", [False, True], ids=["numbers", "symbols"])
@pytest.mark.parametrize(("seed", "names"), QUICK, ids=lambda v: str(v) if isinstance(v, int) else "")
def test_optimized_programs_give_the_same(seed: int, names: tuple[str, ...], symbolic: bool):
    check(*build(seed, names, symbolic=symbolic))


def test_every_operation_is_drawn():
    """But those that need a mesh and those of the host; one without samples fails where its program is built."""
    drawn = {name for _, names in QUICK for name in names}
    left = {n for n in op_names() if get_op(n).host} | COLLECTIVE
    assert drawn - {"call"} == set(op_names()) - left
    made = [build(seed, names)[0] for seed, names in QUICK]
    assert {op.name for module in made for op in module.walk()} >= drawn


def test_earlier_results_and_symbols_are_used():
    modules = [build(seed, names, symbolic=True)[0] for seed, names in QUICK]
    most = len(modules) / 2  # the last program may be short
    assert sum(bool(module.symbols) for module in modules) > most
    # What comes from an earlier op is brought into bounds, without NaN.
    assert sum(any(op.name == "is_nan" for op in m.main.body) for m in modules) > most
    assert sum(bool(module.weights) for module in modules) > most


@pytest.mark.slow
@LONG
@given(programs, st.booleans())
def test_optimized_programs_give_the_same_at_length(program: tuple[int, list[str]], symbolic: bool):
    check(*build(*program, symbolic=symbolic), ulps=ULPS)


# **** native ****


def nudged(inputs: list[Any], seed: int) -> list[Any]:
    """Real inputs with their last bits changed."""
    generator = torch.Generator().manual_seed(seed)
    made = copied(inputs)
    for i, x in enumerate(made):
        if isinstance(x, torch.Tensor) and x.dtype is torch.float32:
            step = torch.finfo(x.dtype).eps * (torch.randint(0, 3, x.shape, generator=generator) - 1)
            made[i] = x * (1 + step)
    return made


def assert_close(module: Module, inputs: list[Any], want: list[Any], got: list[Any], ulps: float) -> None:
    """Results are the same up to ``ulps``; where these are allowed, all that do not magnify them themselves.

    A result that moves by more than the tolerance when the last bits of the inputs do, because they decide over a
    rounding or a comparison, has none to be held to.
    """
    wrong = {i: d for i, (a, b) in enumerate(zip(want, got, strict=True)) if (d := difference(a, b, ulps))}
    if wrong and ulps:
        for moved in [run(module, nudged(inputs, i)) for i in range(NUDGES)]:
            wrong = {i: d for i, d in wrong.items() if not difference(want[i], moved[i], ULPS)}
    assert not wrong, "\n".join(f"result {i}: {d}" for i, d in wrong.items())


@pytest.mark.slow
@pytest.mark.parametrize("symbolic", [False, True], ids=["numbers", "symbols"])
@pytest.mark.parametrize(("seed", "names"), QUICK, ids=lambda v: str(v) if isinstance(v, int) else "")
def test_native_programs_give_the_same(seed: int, names: tuple[str, ...], symbolic: bool):
    """Up to the rounding of sums and functions (see harness.py), which several steps add up."""
    module, inputs = build(seed, names, symbolic=symbolic)
    before = clone_module(module)
    ran = Ran(optimized(module))
    with dirty_memory():
        got = twice(ran.run, inputs)
    assert_close(before, inputs, run(before, inputs), got, 2 * ULPS)


def test_a_program_is_the_same_for_its_seed():
    one, two = (Graph(3).add("softmax").add("conv").add("if") for _ in range(2))
    assert [str(op) for op in one.finish().walk()] == [str(op) for op in two.finish().walk()]
