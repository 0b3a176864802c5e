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


def check(module: Module, inputs: list[Any]) -> None:
    """The same to the bit. No pass of the default pipeline puts another function or order of sums in place of one that
    these programs spell out: fused regions run the same bodies."""
    want = run(module, inputs)
    got = run(optimized(module), inputs)
    wrong = [f"result {i}: {d}" for i, (a, b) in enumerate(zip(want, got, strict=True)) if (d := difference(a, b, 0.0))]
    assert not wrong, "\n".join(wrong)


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
    assert all(module.symbols for module in modules)
    assert all(any(op.name == "is_nan" for op in m.main.body) for m in modules), "results are brought into bounds"
    assert sum(bool(module.weights) for module in modules) > len(modules) / 2


@pytest.mark.slow
@LONG
@given(programs, st.booleans())
def test_optimized_programs_give_the_same_at_length(program: tuple[int, list[str]], symbolic: bool):
    check(*build(*program, symbolic=symbolic))


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


def is_steady(want: Any, others: list[Any]) -> bool:
    """Whether a result follows its inputs: not where a last bit of these decides over a rounding or a comparison."""
    return all(not difference(want, other, ULPS) for other in others)


@pytest.mark.slow
@pytest.mark.parametrize("symbolic", [False, True], ids=["numbers", "symbols"])
@pytest.mark.parametrize(("seed", "names"), QUICK, ids=lambda v: str(v) if isinstance(v, int) else "")
def test_native_programs_give_the_same(seed: int, names: tuple[str, ...], symbolic: bool):
    """Up to the rounding of sums and functions (see harness.py), in all results that do not magnify it themselves.

    A result that moves by more than the tolerance when the last bits of the inputs do has none to be held to.
    """
    module, inputs = build(seed, names, symbolic=symbolic)
    want = run(module, inputs)
    moved = [run(module, nudged(inputs, i)) for i in range(NUDGES)]
    ran = Ran(optimized(module))
    with dirty_memory():
        got = twice(ran.run, inputs)
    steady = [is_steady(a, [m[i] for m in moved]) for i, a in enumerate(want)]
    assert any(steady)
    pairs = zip(want, got, steady, strict=True)
    wrong = [f"result {i}: {d}" for i, (a, b, s) in enumerate(pairs) if s and (d := difference(a, b, 2 * ULPS))]
    assert not wrong, "\n".join(wrong)


def test_a_program_is_the_same_for_its_seed():
    one, two = (Graph(3).add("softmax").add("conv").add("if") for _ in range(2))
    assert [str(op) for op in one.finish().walk()] == [str(op) for op in two.finish().walk()]
