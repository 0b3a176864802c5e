"""The elementary functions of vectors: how far they are from the exact value, over all of float32."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from maiac.ir import parse

from .harness import Ran

STEP = 4999  # from one bit pattern of float32 to the next that is tried; a prime, so that all mantissas have their turn
SPECIAL = [float("nan"), float("inf"), -float("inf"), -0.0, 0.0, 1e-40, -1e-40, 88.7, -88.2, 0.5, -0.5, 1.0]

# How many units in the last place a result may be off, what is exact, and the arguments that it is held to.
FUNCTIONS: dict[str, tuple[float, Callable[[torch.Tensor], torch.Tensor], tuple[float, float]]] = {
    "exp": (1.0, torch.exp, (-3.4e38, 3.4e38)),
    "expm1": (1.5, torch.expm1, (-3.4e38, 3.4e38)),
    "log": (1.5, torch.log, (0.0, 3.4e38)),
    "log2": (1.5, torch.log2, (0.0, 3.4e38)),
    "log10": (1.5, torch.log10, (0.0, 3.4e38)),
    "log1p": (3.0, torch.log1p, (-0.999, 3.4e38)),
    "sigmoid": (3.0, torch.sigmoid, (-88.0, 3.4e38)),  # below, what would be denormal is 0
    "silu": (3.0, torch.nn.functional.silu, (-88.0, 3.4e38)),
    "tanh": (3.0, torch.tanh, (-3.4e38, 3.4e38)),
    "erf": (6.0, torch.erf, (-3.4e38, 3.4e38)),
    "sin": (1.5, torch.sin, (-1e4, 1e4)),
    "cos": (1.5, torch.cos, (-1e4, 1e4)),
}


def arguments(low: float, high: float) -> torch.Tensor:
    bits = torch.arange(-(2**31), 2**31, STEP).to(torch.int32)
    x = bits.view(torch.float32)
    return x[(x >= low) & (x <= high)].contiguous()


def applied(name: str, x: torch.Tensor) -> torch.Tensor:
    n = x.numel()
    text = f"func @main(%x: f32[{n}]) -> f32[{n}] {{\n    %0 = {name} %x : f32[{n}]\n    return %0\n  }}"
    ran = Ran(parse(f"module @m {{\n  {text}\n}}"))
    (result,) = ran.run([x])
    assert not ran.refused
    return result


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_right_to_a_few_units_in_the_last_place(name: str):
    most, exact, (low, high) = FUNCTIONS[name]
    x = arguments(low, high)
    want = exact(x.double())
    got = applied(name, x).double()
    largest = torch.finfo(torch.float32).max
    size = want.abs().clamp(torch.finfo(torch.float32).tiny, largest).float()
    unit = (torch.nextafter(size, torch.tensor(float("inf"))) - size).double()
    unit[unit == float("inf")] = 2.0**104
    off = (got - want).abs() / unit
    both_overflow = (want.abs() >= largest) & got.isinf() & (got.sign() == want.sign())
    off[both_overflow] = 0
    at = int(off.argmax())
    assert off[at] <= most, f"{name}({x[at]:.9g}) is {got[at]:.9g}, not {want[at]:.9g}"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_special_values_are_torchs(name: str):
    x = torch.tensor(SPECIAL)
    torch.testing.assert_close(applied(name, x), FUNCTIONS[name][1](x), equal_nan=True, rtol=1e-6, atol=1e-37)
