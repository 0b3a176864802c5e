"""Small programs and models that the tests of this folder compile, save, break and run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import maiac
from maiac.artifact import Artifact
from maiac.ir import Module, Weight, parse
from maiac.ir.ops.values import QTensor
from maiac.ir.types import Quantized
from maiac.runtime.weights import DerivedTensor, HeldTensor

EVERY_DTYPE = """module @all {
  sym T in 1..64
  weight @w : f32[3, 5]
  weight @tied : f32[3, 5]
  weight @half : f16[7]
  weight @brain : bf16[7]
  weight @f8a : f8e4m3fn[3]
  weight @f8b : f8e5m2[5]
  weight @e8 : e8m0[2]
  weight @wide : f64[2, 2]
  weight @c : c64[2]
  weight @cc : c128[2]
  weight @i : i64[]
  weight @four : i4[6]
  weight @flag : bool[3]
  weight @none : f32[0, 4]
  weight @q : channel<i8, 0>[3, 5]
  weight @q.scale : f32[2]
  weight @asym : tensor<u8, asym>[4]
  state @s : f32[4]

  func @main(%x: f32[T, 5]) -> f32[T, 3] {
    %y = linear %x, @w : f32[T, 3]
    return %y
  }
}
"""


def linear_text(rows: int = 3, columns: int = 5) -> str:
    """A program of one linear layer."""
    return f"""module @tiny {{
  sym T in 1..64
  weight @w : f32[{rows}, {columns}]

  func @main(%x: f32[T, {columns}]) -> f32[T, {rows}] {{
    %y = linear %x, @w : f32[T, {rows}]
    return %y
  }}
}}
"""


def linear_module() -> Module:
    """That program with a fixed weight."""
    module = parse(linear_text())
    module.weights["w"].data = HeldTensor(torch.arange(15, dtype=torch.float32).reshape(3, 5) / 7)
    return module


def every_dtype() -> Module:
    """A module with a weight of every storable kind: tied, empty, scalar, quantized with and without zero point."""
    torch.manual_seed(0)
    module = parse(EVERY_DTYPE)
    shared = torch.randn(3, 5)
    plain: dict[str, torch.Tensor] = {
        "w": shared,
        "tied": shared,
        "half": torch.randn(7).half(),
        "brain": torch.randn(7).bfloat16(),
        "f8a": torch.randn(3).to(torch.float8_e4m3fn),
        "f8b": torch.randn(5).to(torch.float8_e5m2),
        "e8": torch.tensor([127, 130], dtype=torch.uint8).view(torch.float8_e8m0fnu),
        "wide": torch.randn(2, 2, dtype=torch.float64).t(),
        "c": torch.randn(2, dtype=torch.complex64),
        "cc": torch.randn(2, dtype=torch.complex128),
        "i": torch.tensor(7),
        "four": torch.tensor([-8, 7, 0, 1, 2, 3], dtype=torch.int8),
        "flag": torch.tensor([True, False, True]),
        "none": torch.zeros(0, 4),
        "q.scale": torch.randn(2),
    }
    for name, tensor in plain.items():
        module.weights[name].data = HeldTensor(tensor)
    for name, zero in (("q", None), ("asym", torch.tensor([3], dtype=torch.uint8))):
        type: Any = module.weights[name].type
        assert isinstance(type.dtype, Quantized)
        dtype = torch.uint8 if zero is not None else torch.int8
        codes = torch.arange(15 if name == "q" else 4, dtype=dtype).reshape(type.dims)
        scale = torch.full([1] * len(type.dims) if zero is not None else [3, 1], 0.5)
        held = QTensor(codes, scale, zero, type.dtype)
        module.weights[name].data = DerivedTensor(lambda held=held: held)
    module.states["s"].data = HeldTensor(torch.arange(4.0))
    return module


def contents(weight: Weight) -> Any:
    """What a weight holds."""
    assert weight.data is not None
    return weight.data.load()


def artifact_of(module: Module) -> Artifact:
    """The module as an artifact, as it is."""
    return maiac.compile(module, passes="")


def saved(module: Module, path: Path, **options: Any) -> Path:
    """The module written to a path."""
    artifact_of(module).save(path, **options)
    return path


class Perceptron(nn.Module):
    """Two layers, a dict out."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 16)
        self.second = nn.Linear(16, 4)

    def forward(self, x: torch.Tensor, scale: float = 1.0) -> dict[str, torch.Tensor]:
        hidden = torch.relu(self.first(x))
        return {"y": self.second(hidden) * scale, "hidden": hidden}


class Counter(nn.Module):
    """Changes a buffer at every call."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.count += 1
        return x + self.count


def perceptron() -> tuple[nn.Module, tuple[torch.Tensor]]:
    """A factory as `maiac compile tests.maiac.samples:perceptron` calls it."""
    torch.manual_seed(1)
    return Perceptron().eval(), (torch.randn(3, 8),)


def tables() -> tuple[nn.Module, tuple[torch.Tensor]]:
    """A factory whose integer input indexes a table."""
    torch.manual_seed(1)
    return nn.Sequential(nn.Embedding(11, 4), nn.Linear(4, 4)).eval(), (torch.tensor([[1, 10, 3]]),)


def broken() -> None:
    """A factory that fails."""
    raise ValueError("no such checkpoint")


def number() -> int:
    """A factory that gives no model."""
    return 3


def too_many() -> tuple[int, ...]:
    """A factory that gives five things."""
    return (1, 2, 3, 4, 5)


def onnx_mlp(path: Path | None = None, operator: str = "Relu") -> onnx.ModelProto:
    """x[N, 5] -> Gemm -> operator -> Gemm -> y[N, 2], with named nodes."""
    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(rng.standard_normal(shape, dtype=np.float32), name)
        for name, shape in (("w1", (5, 6)), ("b1", (6,)), ("w2", (6, 2)), ("b2", (2,)))
    ]
    nodes = [
        helper.make_node("Gemm", ["x:0", "w1", "b1"], ["h/1"], "dense1"),
        helper.make_node(operator, ["h/1"], ["a/1"], "activation"),
        helper.make_node("Gemm", ["a/1", "w2", "b2"], ["y:0"], "dense2"),
    ]
    inputs = [helper.make_tensor_value_info("x:0", TensorProto.FLOAT, ["N", 5])]
    outputs = [helper.make_tensor_value_info("y:0", TensorProto.FLOAT, ["N", 2])]
    graph = helper.make_graph(nodes, "mlp", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    if path is not None:
        onnx.save(model, path)
    return model


# **** operators that are not supported: of a library of their own, and so for ever ****

LIBRARY = torch.library.Library("samples", "DEF")
LIBRARY.define("twist(Tensor x, int n, float f=1.0) -> (Tensor, Tensor)")
LIBRARY.define("odd(Tensor x) -> Tensor")
LIBRARY.define("strange(Tensor x) -> Tensor")
LIBRARY.define("opaque(Tensor x) -> Tensor")  # without a fake kernel
for _name in ("odd", "strange", "opaque"):
    LIBRARY.impl(_name, torch.clone, "CPU")
for _name in ("odd", "strange"):
    torch.library.register_fake(f"samples::{_name}", torch.empty_like, lib=LIBRARY)
torch.library.register_fake("samples::twist", lambda x, n, f=1.0: (torch.empty_like(x), x.new_empty(3)), lib=LIBRARY)
