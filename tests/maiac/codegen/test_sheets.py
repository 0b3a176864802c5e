"""Every kind of generated kernel against the reference bodies, over many sizes, strides and dtypes."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from maiac.ir import DType, MaiaError, TensorType, parse
from maiac.ir.dims import sym
from maiac.ir.ops.lowbit import decode
from maiac.ir.ops.values import QTensor
from maiac.ir.types import Quantized
from maiac.runtime.executor import Executor
from maiac.runtime.weights import HeldTensor

from .harness import Ran, check, difference, reference
from .sheet import Sheet, edges, sizes_within
from .sheets import FAMILIES, sheet
from .sheets_attention import ULPS as ATTENTION_ULPS

# What stays with the reference kernels, and why.
REFUSED = {"indexed": {("index_put", "writing at several indices, or adding")}}
SHORT = [Phase.explicit, Phase.reuse, Phase.generate]


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow], phases=SHORT)
@given(data=st.data())
def test_a_sheet_at_many_sizes(family: str, data: st.DataObject):
    runner = sheet(family, 0)
    sizes = {n: data.draw(st.sampled_from(edges(*r)) | st.integers(*r), label=n) for n, r in runner.symbols.items()}
    runner.compare(sizes, data.draw(st.integers(0, 99), label="seed"))


@pytest.mark.parametrize("family", FAMILIES)
def test_all_of_a_sheet_is_native(family: str):
    assert sheet(family, 0).ran.refused == REFUSED.get(family, set())


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
@pytest.mark.parametrize("family", FAMILIES)
def test_large_sheets_at_many_sizes(family: str, seed: int):
    runner, pick = sheet(family, seed, 2), random.Random(seed)
    for i in range(40):
        runner.compare(sizes_within(runner.symbols, pick), i)


def test_codes_of_four_bits_are_floats():
    """The codes of f4e2m1 by their table, one power of two for 32 of them."""
    s = Sheet("codes", 0, T=(0, 40))
    type = Quantized(DType.F4E2M1, "mx", (), DType.E8M0)
    codes = torch.randint(0, 16, (19, 96), dtype=torch.uint8)
    scale = torch.tensor([0.125, 0.5, 2.0]).repeat(19, 1).to(torch.float8_e8m0fnu)
    w = s.module.add_weight("w", TensorType(type, (19, 96)), HeldTensor(QTensor(codes, scale, None, type)))
    s.give("linear", s.emit("linear", s.arg(DType.F32, sym("T"), 96), w))
    real = decode(codes, DType.F4E2M1) * scale.float().repeat_interleave(32, 1)
    ran = s.finish().ran
    for n in (0, 1, 2, 5, 33):
        x = torch.randn(n, 96)
        assert not difference(x @ real.T, ran.run([x])[0])


def outside(op: str, index: int) -> tuple[Ran, list[Any], list[Any]]:
    """A program that reads or writes at indices, with inputs that are wrong and right."""
    s = Sheet("outside", 0)
    x, ids = s.arg(DType.F32, 6, 4), s.arg(DType.I64, 3)
    if op == "index_put":
        y = s.emit(op, x, s.arg(DType.F32, 3, 4), ids, dims=(0,))
    else:
        y = s.emit(op, x, ids, **({"dim": 0} if op == "gather" else {}))
    s.give(op, s.emit("exp", y))
    rest = [torch.randn(3, 4)] if op == "index_put" else []
    right = [torch.randn(6, 4), torch.tensor([0, 5, 2]), *rest]
    return s.finish().ran, [right[0], torch.tensor([0, index, 2]), *rest], right


@pytest.mark.parametrize("op", ["embedding", "gather", "index_put"])
@pytest.mark.parametrize("index", [6, -7, 2**40])
def test_an_index_outside_is_an_error_and_the_next_call_runs(op: str, index: int):
    ran, wrong, right = outside(op, index)
    for _ in range(2):
        with pytest.raises(MaiaError, match=rf"the index {index} lies outside 0\.\.5"):
            ran.run(wrong)
        assert not difference(reference(ran.executor.module, right)[0], ran.run(right)[0])


READ_TWICE = """
module @m {
  state @s : f32[8, 4]
  func @main(%x: f32[1, 4], %at: i64[1]) -> f32[8, 4] {
    %0 = read @s : f32[8, 4]
    %1 = index_put %0, %x, %at {dims = [0]} : f32[8, 4]
    %2 = read @s : f32[8, 4]
    write @s, %1
    %3 = exp %2 : f32[8, 4]
    return %3
  }
}
"""
NOT_WRITTEN = """
module @m {
  state @s : f32[8, 4]
  func @main(%x: f32[1, 4], %at: i64[1]) -> f32[8, 4] {
    %0 = read @s : f32[8, 4]
    %1 = index_put %0, %x, %at {dims = [0]} : f32[8, 4]
    %2 = exp %1 : f32[8, 4]
    return %2
  }
}
"""


@pytest.mark.parametrize("text", [READ_TWICE, NOT_WRITTEN], ids=["read twice", "not written"])
def test_a_state_changes_when_it_is_written_and_not_before(text: str):
    module = parse(text)
    module.states["s"].data = HeldTensor(torch.zeros(8, 4))
    by_reference, ran = Executor(module, arena=False), Ran(module)
    for i in range(4):
        inputs = [torch.randn(1, 4), torch.tensor([i])]
        assert not difference(by_reference.run(inputs)[0], ran.run(inputs)[0])


def test_a_flipped_value_may_leave_a_segment():
    text = """
    module @m {
      sym T in 1..64
      func @main(%x: f32[T, 9]) -> (f32[T, 9], f32[T, 9]) {
        %0 = exp %x : f32[T, 9]
        %1 = flip %0 {dims = [0]} : f32[T, 9]
        %2 = cumsum %1 {dim = 0} : f32[T, 9]
        %3 = mul %2, %1 : f32[T, 9]
        return %3, %1
      }
    }
    """
    ran = Ran(parse(text))
    for n in (1, 7):
        x = torch.randn(n, 9)
        for a, b in zip(reference(parse(text), [x]), ran.run([x]), strict=True):
            assert not difference(a, b)


def test_a_row_of_a_flipped_value_may_leave_a_segment():
    text = """
    module @m {
      func @main(%x: f32[5, 9]) -> (f32[1, 9], f32[1, 9]) {
        %0 = exp %x : f32[5, 9]
        %1 = flip %0 {dims = [0]} : f32[5, 9]
        %2 = slice %1 {dim = 0, start = 1, end = 2} : f32[1, 9]
        %3 = slice %0 {dim = 0, start = 2, end = 3} : f32[1, 9]
        %4 = flip %3 {dims = [0]} : f32[1, 9]
        return %2, %4
      }
    }
    """
    check(parse(text), torch.randn(5, 9))


def test_a_local_mask_without_heads():
    s = Sheet("masks", 0, T=(1, 40), S=(1, 90), B=(0, 3))
    t, u, b = sym("T"), sym("S"), sym("B")
    q, k, v = s.arg(DType.F32, b, t, 24), s.arg(DType.F32, b, u, 24), s.arg(DType.F32, b, u, 10)
    s.give("of a batch", s.emit("attention", q, k, v, s.arg(DType.F32, b, t, u)), ulps=ATTENTION_ULPS)
    s.give("of both sides", s.emit("attention", q, k, v, window=5), ulps=ATTENTION_ULPS)
    runner = s.finish()
    for i, sizes in enumerate(({"T": 1, "S": 1, "B": 2}, {"T": 40, "S": 33, "B": 3}, {"T": 7, "S": 90, "B": 1})):
        runner.compare(sizes, i)
    assert not runner.ran.refused
