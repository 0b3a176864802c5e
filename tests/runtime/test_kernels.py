"""The registry of kernels, and what the reference provider promises about ``out=``."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from maiac.ir import Op, get_op, op_names, parse, tensor
from maiac.ir.dtypes import DType
from maiac.ir.graph import BlockArg
from maiac.ir.ops.values import to_torch
from maiac.runtime import Executor
from maiac.runtime.kernels import Table, default_providers, find_kernel
from maiac.runtime.kernels.reference import Reference

INTO = [name for name in op_names() if get_op(name).into is not None]
ATTRS: dict[str, dict[str, Any]] = {"softmax": {"dim": -1}, "log_softmax": {"dim": -1}, "clamp": {"min": 0, "max": 1}}


def operation(name: str, *shapes: tuple[int, ...]) -> Op:
    args = [BlockArg(None, i, tensor(DType.F32, *s)) for i, s in enumerate(shapes)]  # type: ignore[arg-type]
    return Op(name, args)


@pytest.mark.parametrize("name", INTO)
def test_into_is_the_reference(name: str):
    """The torch function that stands for a body gives its results, returned or written into given memory."""
    definition = get_op(name)
    count = len(definition.signature.operands)
    attrs = {k: d for k, (_, d) in definition.attributes.items()} | ATTRS.get(name, {})
    tried = 0
    for dtype in (DType.F32, DType.I64, DType.BOOL):
        if not all(t.takes(dtype) for t in definition.signature.operands):
            continue
        low, high = definition.domain or (0.1, 0.9)
        operands = [(torch.rand(4, 4) * (high - low) + low).to(to_torch(dtype)) for _ in range(count)]
        try:
            want = definition.reference(*operands, **attrs)
        except RuntimeError:
            continue  # torch has no such kernel for this dtype
        tried += 1
        assert definition.into is not None
        assert torch.equal(definition.into(*operands, **attrs), want)
        given = torch.empty_like(want)
        assert definition.into(*operands, **attrs, out=given) is given
        assert torch.equal(given, want)
    assert tried


def test_providers_are_asked_in_order():
    first = Table("first")

    @first.kernel("neg", when=lambda op: op.operand(0).type == tensor(DType.F32, 2))
    def negate(x: torch.Tensor) -> torch.Tensor:
        return x * -1 + 0

    providers = (first, *default_providers())
    assert find_kernel(operation("neg", (2,)), providers).fn is negate
    assert find_kernel(operation("neg", (3,)), providers).fn is torch.neg
    assert find_kernel(operation("neg", (3,)), providers).provider == "reference"
    assert find_kernel(operation("concat", (3,)), providers).provider == "torch"


def test_the_reference_has_every_op():
    assert all(Reference().find(Op(name)) is not None for name in op_names())


def test_an_executor_takes_providers():
    table = Table("mine")
    calls: list[str] = []

    @table.kernel("add", into=True)
    def add(x: torch.Tensor, y: torch.Tensor, *, out: torch.Tensor | None = None) -> torch.Tensor:
        calls.append("given" if out is not None else "own")
        return torch.add(x, y, out=out)

    module = parse("""module @m {
      func @main(%x: f32[4096]) -> f32[4096] {
        %a = add %x, %x : f32[4096]
        %b = neg %a : f32[4096]
        return %b
      }
    }""")
    executor = Executor(module, providers=(table, Reference()))
    x = torch.rand(4096)
    for _ in range(4):
        assert torch.equal(executor.run([x])[0], -2 * x)
    assert calls == ["own", "own", "given", "given"]


def test_kernels_that_write_in_place_equal_the_reference():
    module = parse("""module @m {
      weight @w : f32[64, 64]
      weight @b : f32[64]
      func @main(%x: f32[64, 64], %c: bool[64, 64]) -> f32[64, 128] {
        %l = linear %x, @w, @b : f32[64, 64]
        %m = where %c, %l, %x : f32[64, 64]
        %j = concat %l, %m {dim = 1} : f32[64, 128]
        %r = relu %j : f32[64, 128]
        %h = cast %r {to = f16} : f16[64, 128]
        %f = cast %h {to = f32} : f32[64, 128]
        %o = copy %f : f32[64, 128]
        %k = neg %o : f32[64, 128]
        return %k
      }
    }""")
    from maiac.runtime.weights import HeldTensor

    w, b = torch.rand(64, 64), torch.rand(64)
    module.weights["w"].data, module.weights["b"].data = HeldTensor(w), HeldTensor(b)
    x, c = torch.randn(64, 64), torch.rand(64, 64) > 0.5
    executor = Executor(module)
    line = torch.nn.functional.linear(x, w, b)
    want = -torch.cat([line, torch.where(c, line, x)], 1).relu().half().float()
    assert all(torch.equal(executor.run([x, c])[0], want) for _ in range(4))
    assert executor.memory_report([x, c]).values_in_arena == 7


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(64,), (8, 64), (2, 8, 64), (2, 3, 8, 64)])
def test_linear_rounds_the_same_with_and_without_a_plan(dtype: torch.dtype, bias: bool, shape: tuple[int, ...]):
    from maiac.ir import Builder, Function, Module
    from maiac.ir.ops.values import FROM_TORCH

    element = FROM_TORCH[dtype]
    module = Module()
    types = [tensor(element, *shape), tensor(element, 1024, 64), tensor(element, 1024)]
    main = module.add_function(Function("main", types))
    builder = Builder(module, main.body)
    x, w, b = main.args
    builder.ret([builder.emit("neg", builder.emit("linear", x, w, b if bias else None))])
    inputs: list[torch.Tensor] = [torch.randn(n).to(dtype) for n in (shape, (1024, 64), (1024,))]
    want = -torch.nn.functional.linear(inputs[0], inputs[1], inputs[2] if bias else None)
    executor = Executor(module)
    assert all(torch.equal(executor.run(inputs)[0], want) for _ in range(4))
