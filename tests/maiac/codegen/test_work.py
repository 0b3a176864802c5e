"""What kernels compute and move, as the definitions of their operations and the types of their operands say."""

from __future__ import annotations

import pytest
import torch

from maiac.codegen.host import cut
from maiac.ir import parse
from maiac.ir.dims import evaluate
from maiac.runtime.placement import place
from maiac.runtime.plan import flatten
from maiac.runtime.profiling import flops_of

from .harness import Ran
from .sheets import FAMILIES, sheet


@pytest.mark.parametrize("family", FAMILIES)
def test_kernels_have_the_flops_of_the_definitions(family: str):
    runner = sheet(family, 0)
    executor = runner.ran.executor
    program = flatten(executor.module, executor.placement, inline_fusion=False)
    native = cut(program)
    refused = {r.step for r in native.refusals}
    sizes = {n: high for n, (_, high) in runner.symbols.items()}
    found = [evaluate(k.flops, sizes) for s in native.segments for k in s.kernels]
    assert sum(found) == sum(evaluate(flops_of(s), sizes) for s in program.steps if s not in refused)
    assert all(n >= 0 for n in found)


def work(body: str, weights: str = "") -> list[tuple[str, int, int]]:
    """Name, FLOPs and bytes of each kernel of a function of x: f32[1, 8, 4, 4]."""
    module = parse(
        f"module @m {{\n{weights}\n  func @main(%x: f32[1, 8, 4, 4]) -> f32[1, 8, 4, 4] {{\n{body}\n  }}\n}}"
    )
    native = cut(flatten(module, place(module, None, 0), inline_fusion=False))
    return [(k.name, evaluate(k.flops, {}), evaluate(k.bytes, {})) for s in native.segments for k in s.kernels]


def named(found: list[tuple[str, int, int]], name: str) -> tuple[int, int]:
    (row,) = [(flops, moved) for n, flops, moved in found if n == name]
    return row


def test_the_work_of_a_group_norm_is_that_of_both_its_kernels():
    found = work(
        """    %y = group_norm %x, @g, @b {groups = 2} : f32[1, 8, 4, 4]
    return %y""",
        "  weight @g : f32[8]\n  weight @b : f32[8]",
    )
    statistics, normalised = named(found, "group_stats"), named(found, "group_norm")
    assert statistics == (3 * 128, 4 * (128 + 8 + 8 + 8 + 8))  # x, g, b, and a factor and an addend a channel
    assert normalised == (4 * 128, 4 * (128 + 8 + 8 + 128))


def test_the_work_of_a_pooled_image_counts_its_result():
    found = work(
        """    %m = adaptive_avg_pool %x {sizes = [1, 1]} : f32[1, 8, 1, 1]
    %y = mul %x, %m : f32[1, 8, 4, 4]
    return %y"""
    )
    assert named(found, "adaptive_avg_pool") == (128, 4 * (128 + 8))
    assert named(found, "mul") == (128, 4 * (128 + 8 + 128))  # m is repeated, and read once


def test_a_fusion_has_the_work_of_its_steps():
    found = work(
        """    %y = fusion %x : f32[1, 8, 4, 4] (%a: f32[1, 8, 4, 4]) {
      %c = conv %a, @w {stride = [1, 1], padding = [1, 1], dilation = [1, 1]} : f32[1, 8, 4, 4]
      %r = relu %c : f32[1, 8, 4, 4]
      %s = add %r, %a : f32[1, 8, 4, 4]
      yield %s
    }
    return %y""",
        "  weight @w : f32[8, 8, 3, 3]",
    )
    (conv,) = [row for row in found if "relu" in row[0]]
    assert conv[1:] == (2 * 128 * 8 * 9 + 2 * 128, 4 * (3 * 128 + 8 * 8 * 9))  # x as the conv wants it, and as it came


def test_the_memory_report_shows_the_plan_of_each_segment():
    module = parse("""module @m {
      sym T in 1..512
      func @main(%x: f32[T, 64], %y: f32[T, 64]) -> f32[T, T] {
        %a = softmax %x {dim = 1} : f32[T, 64]
        %b = softmax %y {dim = 1} : f32[T, 64]
        %c = transpose %b {perm = [1, 0]} : f32[64, T]
        %d = matmul %a, %c : f32[T, T]
        return %d
      }
    }""")
    report = Ran(module).executor.memory_report([*torch.randn(2, 100, 64)])
    plan = report.plans["native 0"]
    assert plan.bound == plan.arena == 2 * 100 * 64 * 4  # both softmaxes are alive at the product
    assert report.arena == plan.arena and [u.live for u in plan.uses] == [plan.arena // 2, plan.arena]
