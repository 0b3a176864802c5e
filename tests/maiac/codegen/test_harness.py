"""The tests' own tools: what they must see, and what they must let pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from maiac.ir import DType, parse
from maiac.ir.dims import sym

from .harness import Ran, difference
from .sheet import Sheet, roughest

X = torch.tensor([[1.0, -8.0, 0.001], [torch.inf, torch.nan, -torch.inf]])
ULP = 8 * torch.finfo(torch.float32).eps  # of the largest number
TEXT = """
module @m {
  func @main(%x: f32[6, 9]) -> f32[9] {
    %0 = exp %x : f32[6, 9]
    %1 = sum %0 {dims = [0], keepdim = false} : f32[9]
    return %1
  }
}
"""


def changed(i: int, j: int, value: float) -> torch.Tensor:
    x = X.clone()
    x[i, j] = value
    return x


@pytest.mark.parametrize(
    "got",
    [
        changed(0, 0, 1 + 5 * ULP),
        changed(0, 2, 0.001 - 5 * ULP),
        changed(0, 0, torch.nan),
        changed(0, 0, torch.inf),
        changed(1, 0, -torch.inf),
        changed(1, 0, torch.nan),
        changed(1, 1, 0.0),
        X.double(),
        X[:, None],
    ],
    ids=["far", "small", "NaN", "infinity", "sign", "NaN for infinity", "number", "dtype", "shape"],
)
def test_what_differs_is_seen(got: torch.Tensor):
    assert difference(X, got)
    assert difference([X, X], [X, got])


def test_what_is_near_is_let_pass_within_its_tolerance():
    got = changed(0, 0, 1 + 3 * ULP)
    assert not difference(X, X) and not difference(X, got)
    assert "off by 3 ulps of 2" in difference(X, got, ulps=2)
    assert not difference(X, changed(0, 0, 1 + 5 * ULP), scale=16)
    assert not difference(X, changed(0, 0, 1.05), eps=torch.finfo(torch.bfloat16).eps)
    assert difference(X, changed(0, 0, 1.2), eps=torch.finfo(torch.bfloat16).eps)


def test_narrow_floats_may_be_rounded_otherwise_and_no_more():
    for dtype in (torch.bfloat16, torch.float16):
        one, eps = torch.ones(3, dtype=dtype), torch.finfo(dtype).eps
        assert not difference(one, one + 2 * eps, ulps=100)
        assert difference(one, one + 3 * eps, ulps=100)


def test_whole_numbers_are_equal_or_not():
    assert not difference(torch.arange(3), torch.arange(3))
    assert difference(torch.arange(3), torch.arange(3) + 1) == "3 elements differ"


def test_a_sheet_knows_the_narrowest_floats_on_the_way():
    s = Sheet("roughness", 0, T=(1, 4))
    given = s.arg(DType.BF16, sym("T"), 4)
    wide = s.emit("cast", s.emit("flip", given, dims=(0,)), to=DType.F32)
    assert roughest(given) == 0 and roughest(wide) == torch.finfo(torch.float32).eps
    there = s.emit("cast", s.emit("tanh", wide), to=DType.F16)
    assert roughest(s.emit("exp", s.emit("cast", there, to=DType.F64))) == torch.finfo(torch.float16).eps


@pytest.mark.parametrize("shift", [0.0, 1e-5])
def test_a_sheet_sees_a_wrong_result(shift: float):
    s = Sheet("wrong", 0, T=(1, 4))
    s.give("exp", s.emit("exp", s.arg(DType.F32, sym("T"), 4)))
    runner = s.finish()
    run: Callable[..., Any] = runner.ran.run
    runner.ran.run = lambda inputs: [run(inputs)[0] + shift]
    if not shift:
        return runner.compare({"T": 3})
    with pytest.raises(AssertionError, match=r"exp: .* is off by"):
        runner.compare({"T": 3})


def test_what_no_kernel_writes_is_no_number_in_every_run(monkeypatch: pytest.MonkeyPatch):
    ran = Ran(parse(TEXT))
    x = torch.randn(6, 9)
    for _ in range(3):
        assert ran.run([x])[0].isfinite().all()
    (segment,) = ran.native.segments
    monkeypatch.setattr(segment, "_call", lambda *given: 0)
    (got,) = ran.run([x])
    assert got.isnan().all()
    assert all((frame.block == 255).all() for frame in segment._frames if frame.block is not None)
    assert not torch.are_deterministic_algorithms_enabled()
