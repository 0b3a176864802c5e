"""Weights that a source quantized: codes stay codes, and results those of dequantized weights."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import onnx
import onnx.helper as oh
import onnx.numpy_helper as nh
import pytest
import torch

import maiac
from maiac.frontends.onnx import import_onnx
from maiac.ir import Module, verify
from maiac.ir.types import Quantized, TensorType
from maiac.passes import collect_misses, parse_pipeline, run_pipeline
from maiac.passes.pipeline import default_pipeline
from maiac.runtime import run_module


def model(kind: str, per_channel: bool, zero: int = 0, axis: int | None = None) -> tuple[onnx.ModelProto, np.ndarray]:
    """x -> a product with a dequantized weight."""
    rng = np.random.default_rng(0)
    shape = {"MatMul": (16, 12), "Gemm": (16, 12), "GemmT": (12, 16), "Conv": (12, 4, 3, 3)}[kind]
    channel = 0 if kind in ("GemmT", "Conv") else 1
    axis = channel if axis is None else axis
    codes = rng.integers(-127, 128, shape, dtype=np.int8)
    scale = rng.uniform(0.01, 0.1, (shape[axis],) if per_channel else ()).astype(np.float32)
    points = np.full(scale.shape, zero, np.int8)
    tensors = [nh.from_array(a, n) for a, n in ((codes, "w"), (scale, "s"), (points, "z"))]
    x = rng.standard_normal((2, 4, 6, 6) if kind == "Conv" else (3, 16)).astype(np.float32)
    attrs: dict[str, Any] = {"transB": 1} if kind == "GemmT" else {}
    nodes = [
        oh.make_node("DequantizeLinear", ["w", "s", "z"], ["wf"], axis=axis),
        oh.make_node(kind.removesuffix("T"), ["x", "wf"], ["y"], name="product", **attrs),
    ]
    graph = oh.make_graph(
        nodes, "g", [oh.make_tensor_value_info("x", onnx.TensorProto.FLOAT, x.shape)],
        [oh.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)], tensors,
    )  # fmt: skip
    return oh.make_model(graph, opset_imports=[oh.make_opsetid("", 21)]), x


def quantized(module: Module) -> list[Quantized]:
    types = [w.type for w in module.weights.values()]
    return [t.dtype for t in types if isinstance(t, TensorType) and isinstance(t.dtype, Quantized)]


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("kind", ["MatMul", "Gemm", "GemmT", "Conv"])
def test_codes_stay_and_results_agree(kind: str, per_channel: bool) -> None:
    proto, x = model(kind, per_channel)
    module = import_onnx(copy.deepcopy(proto))
    want = run_module(module, [torch.from_numpy(x)])[0]
    run_pipeline(module, default_pipeline())
    verify(module)
    expected = "channel<i8, 0>" if per_channel else "tensor<i8>"
    assert [str(q) for q in quantized(module)] == [expected] and len(module.weights) == 1
    assert not [op for op in module.walk() if op.name == "dequantize_linear"]
    torch.testing.assert_close(run_module(module, [torch.from_numpy(x)])[0], want, rtol=1e-5, atol=1e-5)


def test_an_artifact_keeps_the_codes(tmp_path: Any) -> None:
    proto, x = model("MatMul", True)
    artifact = maiac.compile(proto)
    artifact.save(tmp_path / "m.maia")
    loaded = maiac.load(tmp_path / "m.maia")
    assert [str(q) for q in quantized(loaded.module)] == ["channel<i8, 0>"]
    np.testing.assert_allclose(loaded(x)[0], artifact(x)[0], rtol=1e-5, atol=1e-5)  # sums over other strides
    codes = nh.to_array(proto.graph.initializer[0])
    assert np.array_equal(next(iter(loaded.module.weights.values())).data.load().codes.numpy(), codes.T)  # type: ignore[union-attr]


@pytest.mark.parametrize(("zero", "axis", "why"), [(3, None, "zero point"), (0, 0, "not along the output channels")])
def test_what_stays_says_why(zero: int, axis: int | None, why: str) -> None:
    proto, x = model("MatMul", True, zero, axis)
    module = import_onnx(copy.deepcopy(proto))
    with collect_misses("qdq_weight") as misses:
        assert not run_pipeline(module, parse_pipeline("qdq")).changed
    assert why in misses[0].reason
    want = run_module(module, [torch.from_numpy(x)])[0]
    run_pipeline(module, default_pipeline())
    assert not quantized(module)
    torch.testing.assert_close(run_module(module, [torch.from_numpy(x)])[0], want)


def test_one_weight_that_two_products_read_is_one_weight() -> None:
    proto, x = model("MatMul", True)
    proto.graph.node.append(oh.make_node("MatMul", ["x", "wf"], ["again"]))
    proto.graph.output.append(oh.make_tensor_value_info("again", onnx.TensorProto.FLOAT, None))
    module = import_onnx(proto)
    run_pipeline(module, parse_pipeline("qdq,dce"))
    verify(module)
    assert len(quantized(module)) == 1
    first, second = run_module(module, [torch.from_numpy(x)])
    assert torch.equal(first, second)
