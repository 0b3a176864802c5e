"""Regions with several reductions: values of one pass over a row that later passes read, or only they."""

from __future__ import annotations

import random

import pytest
import torch

from maiac.codegen import host_code
from maiac.ir import Module, parse
from maiac.runtime.executor import Executor

UNARY = ("tanh", "sigmoid", "elu", "softplus", "relu", "neg", "mish", "silu")
NORMS = ("softmax", "log_softmax", "layer_norm")
TYPE = "f32[T, 37]"
EPS = torch.finfo(torch.float32).eps


def region(seed: int) -> str:
    """A program of one region: a random graph of elementwise operations and normalisations, one to three results."""
    pick = random.Random(seed)
    names, lines = ["x", "z"], list[str]()
    for at in range(pick.randint(4, 12)):
        a, b = pick.choices(names[-5:], k=2)
        kind = pick.choice(("unary", "unary", "binary", "norm"))
        call = {
            "unary": f"{pick.choice(UNARY)} %{a}",
            "binary": f"{pick.choice(('add', 'mul', 'sub'))} %{a}, %{b}",
            "norm": f"{pick.choice(NORMS)} %{a}",
        }[kind]
        names.append(f"v{at}")
        lines.append(f"      %v{at} = {call} : {TYPE}")
    given = names[-1:] + pick.sample(names[2:-1], min(len(names) - 3, pick.randint(0, 2)))
    types, results = ", ".join([TYPE] * len(given)), ", ".join(f"%{n}" for n in given)
    outs = ", ".join(f"%r{i}" for i in range(len(given)))
    return (
        f"module @rows {{\n  sym T in 1..9\n  func @main(%a: {TYPE}, %b: {TYPE}) -> ({types}) {{\n"
        f"    {outs} = fusion %a, %b : ({types}) (%x: {TYPE}, %z: {TYPE}) {{\n"
        + "\n".join(lines)
        + f"\n      yield {results}\n    }}\n    return {outs}\n  }}\n}}\n"
    )


def results(module: Module, inputs: list[torch.Tensor], native: bool) -> list[torch.Tensor]:
    return [x.double() for x in Executor(module, native=host_code() if native else None).run(inputs)]


@pytest.mark.parametrize("seed", [*range(24), *(pytest.param(s, marks=pytest.mark.slow) for s in range(24, 200))])
def test_a_random_region_is_as_exact_as_the_reference(seed: int):
    text = region(seed)
    torch.manual_seed(seed)
    inputs = [torch.randn(5, 37), torch.randn(5, 37)]
    exact = results(parse(text.replace("f32", "f64")), [x.double() for x in inputs], native=False)
    reference, native = (results(parse(text), inputs, native) for native in (False, True))
    for got, other, want in zip(native, reference, exact, strict=True):
        # Normalisations of nearly equal numbers magnify what is rounded: the reference's own error is the measure.
        limit = 4 * float((other - want).abs().max()) + 4 * EPS * float(want.abs().max())
        assert float((got - want).abs().max()) <= limit, text
