"""Weights made of others: right numbers, parts equal to the whole's, nothing read before it is needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from maiac.ir import DType, Module, Quantized, TensorType, parse
from maiac.ir.dims import evaluate
from maiac.ir.ops.values import QTensor
from maiac.ir.types import Type
from maiac.passes import parse_pipeline, run_pipeline
from maiac.passes.clone import clone_module
from maiac.passes.fusion.derived import JoinedData, ScaleData, ScaledData, ShiftedData, Vector, ZeroData
from maiac.runtime import Executor
from maiac.runtime.weights import HeldTensor

RTOL, ATOL = 1e-5, 1e-6  # float32


def rand(*shape: int, low: float = -1.0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape))) * (1 - low) + low


def statistics(c: int) -> Vector:
    return Vector(
        HeldTensor(rand(c)), HeldTensor(rand(c) + 1), HeldTensor(rand(c) - 1), HeldTensor(rand(c, low=0.1)), eps=1e-3
    )


PARTS: list[Callable[[], Any]] = [
    lambda: ScaledData(HeldTensor(rand(6, 4, 3)), statistics(6), 0),
    lambda: ScaledData(HeldTensor(rand(4, 6, 3)), statistics(6), 1),
    lambda: ScaledData(HeldTensor(rand(6, 4)), Vector(b=HeldTensor(rand(6))), 0),
    lambda: ScaleData(statistics(6), (6, 1, 1), DType.F32),
    lambda: ShiftedData(HeldTensor(rand(6)), statistics(6), (6,), DType.F32),
    lambda: ShiftedData(None, statistics(6), (6, 1, 1), DType.BF16),
    lambda: ZeroData((6,), HeldTensor(rand(6))),
    lambda: JoinedData((HeldTensor(rand(2, 4)), HeldTensor(rand(3, 4)), HeldTensor(rand(1, 4))), (2, 3, 1)),
]


@pytest.mark.parametrize("make", PARTS)
def test_parts_are_those_of_the_whole(make: Callable[[], Any]):
    data = make()
    whole = data.load()
    for first in (slice(None), slice(0, 3), slice(2, 6), slice(4, 4)):
        assert torch.equal(data.load_slice((first,)), whole[first])
        if whole.ndim > 1:
            assert torch.equal(data.load_slice((first, slice(1, 3))), whole[first, 1:3])


def test_a_joined_quantized_weight_has_the_scales_of_its_parts():
    type = Quantized(DType.I8, "channel", (0,))
    codes = [torch.randint(-9, 9, (n, 4), dtype=torch.int8) for n in (2, 3)]
    parts = [QTensor(c, rand(len(c), 1, low=0.1), None, type) for c in codes]

    data = JoinedData(tuple(HeldTensor(p) for p in parts), (2, 3))
    assert torch.equal(data.load().dequantize(torch.float32), torch.cat([p.dequantize(torch.float32) for p in parts]))
    cut = data.load_slice((slice(1, 4), slice(0, 2)))
    assert torch.equal(cut.dequantize(torch.float32), data.load().dequantize(torch.float32)[1:4, :2])


CONV = """
module @m {{
  weight @w : {dtype}[6, {each}, 3, 3]
  weight @mean : f32[6]
  weight @var : f32[6]
  weight @g : f32[6]
  weight @b : f32[6]
  func @main(%x: {dtype}[2, 4, 5, 5]) -> {dtype}[2, 6, 5, 5] {{
    %0 = conv %x, @w {{stride = [1, 1], padding = [1, 1], dilation = [1, 1], groups = {groups}}} : {dtype}[2, 6, 5, 5]
    %1 = batch_norm %0, @mean, @var, @g, @b {{eps = 0.01}} : {dtype}[2, 6, 5, 5]
    return %1
  }}
}}
"""
ALONE = """
module @m {{
  weight @mean : f32[6]
  weight @var : f32[6]
  weight @g : f32[6]
  weight @b : f32[6]
  func @main(%x: {dtype}[2, 6, 5]) -> {dtype}[2, 6, 5] {{
    %0 = relu %x : {dtype}[2, 6, 5]
    %1 = batch_norm %0, @mean, @var, @g, @b : {dtype}[2, 6, 5]
    return %1
  }}
}}
"""


def numbers_of(type: Type) -> list[int]:
    """The dims of a tensor without symbols."""
    assert isinstance(type, TensorType)
    return [evaluate(d, {}) for d in type.dims]


def filled(text: str) -> Module:
    module = parse(text)
    for weight in module.weights.values():
        dims = numbers_of(weight.type)
        value = rand(*dims, low=0.2 if weight.name == "var" else -1.0)
        weight.data = HeldTensor(value.bfloat16() if "bf16" in str(weight.type) else value)
    return module


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("text", [CONV, ALONE])
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_batch_norms_give_what_they_gave(text: str, dtype: str, groups: int):
    before = filled(text.format(dtype=dtype, groups=groups, each=4 // groups))
    after = clone_module(before)
    run_pipeline(after, parse_pipeline("fuse_channels"))
    assert not any(op.name == "batch_norm" for op in after.walk())
    x = rand(2, 4, 5, 5) if text is CONV else rand(2, 6, 5)
    x = x if dtype == "f32" else x.bfloat16()
    want, got = Executor(before).run([x])[0], Executor(after).run([x])[0]
    limits = (RTOL, ATOL) if dtype == "f32" else (0.05, 0.05)  # weights are rounded to 8 bits once more
    torch.testing.assert_close(got, want, rtol=limits[0], atol=limits[1])


def test_nothing_is_read_before_it_is_needed():
    module = filled(CONV.format(dtype="f32", groups=1, each=4))

    class Silent(HeldTensor):
        def load(self) -> torch.Tensor:
            raise AssertionError("read")

    for weight in module.weights.values():
        assert weight.data is not None
        weight.data = Silent(weight.data.load())
    run_pipeline(module, parse_pipeline("fuse_channels"))
    assert [op.name for op in module.main.body] == ["conv", "return"]


def test_models_on_the_meta_device_fuse():
    module = filled(CONV.format(dtype="f32", groups=1, each=4))
    for weight in module.weights.values():
        assert weight.data is not None
        weight.data = HeldTensor(weight.data.load().to("meta"))
    run_pipeline(module, parse_pipeline("fuse_patterns"))
    made = [w.data.load() for w in module.weights.values() if w.data is not None]
    assert [t.shape for t in made] == [(6, 4, 3, 3), (6,)]
    assert all(t.is_meta for t in made)
