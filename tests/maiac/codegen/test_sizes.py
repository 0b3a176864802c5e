"""Sizes that only the run tells: equal or not, one that broadcasts, and none."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from maiac.ir import MaiaError, parse

from .harness import Ran, difference, reference

HEAD = "module @m {\n  sym T in 0..64\n  sym S in 0..64\n  func @main"
# Parameters and result, the operation, and the operands' shapes, where 0 stands for a symbol.
COMPARED: dict[str, tuple[str, str, tuple[tuple[int, ...], tuple[int, ...]]]] = {
    "number": ("(%x: f32[T, 4], %y: f32[8, 4]) -> f32[8, 4]", "add %x, %y", ((0, 4), (8, 4))),
    "add": ("(%x: f32[T, 4], %y: f32[S, 4]) -> f32[T, 4]", "add %x, %y", ((0, 4), (0, 4))),
    "matmul": ("(%x: f32[3, T], %y: f32[S, 4]) -> f32[3, 4]", "matmul %x, %y", ((3, 0), (0, 4))),
    "concat": ("(%x: f32[T, 4], %y: f32[S, 3]) -> f32[T, 7]", "concat %x, %y {dim = 1}", ((0, 4), (0, 3))),
    "batch": ("(%x: f32[T, 3, 4], %y: f32[S, 4, 5]) -> f32[T, 3, 5]", "matmul %x, %y", ((0, 3, 4), (0, 4, 5))),
}


def operand(name: str, which: int, size: int) -> torch.Tensor:
    """An operand whose dims of 0 are this size."""
    return torch.randn([d or size for d in COMPARED[name][2][which]])


@pytest.mark.parametrize("name", COMPARED)
@pytest.mark.parametrize("sizes", [(8, 8), (8, 5), (5, 8), (1, 8)], ids=str)
def test_sizes_that_differ_are_an_error_as_they_are_by_reference(name: str, sizes: tuple[int, int]):
    signature, call, _ = COMPARED[name]
    result = signature.split("->")[1].strip()
    text = f"{HEAD}{signature} {{\n    %0 = {call} : {result}\n    %1 = exp %0 : {result}\n    return %1\n  }}\n}}"
    ran = Ran(parse(text))
    inputs: list[Any] = [operand(name, 0, sizes[0]), operand(name, 1, sizes[1])]
    try:
        want = reference(parse(text), inputs)
    except MaiaError:
        with pytest.raises(MaiaError):
            ran.run(inputs)
        return
    assert not difference(want[0], ran.run(inputs)[0])
    ((_, reason),) = ran.refused
    assert "sizes that only the run compares" in reason


def test_joined_values_of_other_sizes_are_not_made_in_place():
    text = f"""{HEAD}(%x: f32[T, 4], %y: f32[S, 3]) -> f32[T, 7] {{
        %0 = exp %x : f32[T, 4]
        %1 = exp %y : f32[S, 3]
        %2 = concat %0, %1 {{dim = 1}} : f32[T, 7]
        return %2
      }}
    }}"""
    ran = Ran(parse(text))
    inputs = [torch.randn(5, 4), torch.randn(5, 3)]
    assert not difference(reference(parse(text), inputs)[0], ran.run(inputs)[0])
    with pytest.raises(MaiaError):
        ran.run([torch.randn(2, 4), torch.randn(60, 3)])


@pytest.mark.parametrize("dtype", ["bf16", "f16", "f32"])
def test_a_number_may_leave_a_segment(dtype: str):
    text = f"""{HEAD}(%x: {dtype}[T, 4]) -> ({dtype}[T, 4], {dtype}[2, 9]) {{
        %0 = exp %x : {dtype}[T, 4]
        %1 = full {{shape = [T, 4], value = 0.3, dtype = {dtype}}} : {dtype}[T, 4]
        %2 = cumsum %1 {{dim = 0}} : {dtype}[T, 4]
        %3 = mul %2, %0 : {dtype}[T, 4]
        %4 = full {{shape = [2, 9], value = -1.7, dtype = {dtype}}} : {dtype}[2, 9]
        return %3, %4
      }}
    }}"""
    ran = Ran(parse(text))
    for n in (0, 1, 5, 19):
        x = torch.randn(n, 4).to({"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}[dtype])
        for a, b in zip(reference(parse(text), [x]), ran.run([x]), strict=True):
            assert not difference(a, b)
