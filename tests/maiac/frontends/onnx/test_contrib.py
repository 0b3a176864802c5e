"""Operators of com.microsoft against ONNX Runtime, which defines them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

import maiac
from maiac import onnx_backend
from maiac.frontends.onnx import import_onnx
from maiac.ir import MaiaError

Array = np.ndarray[Any, Any]


def reals(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def codes(*shape: int, dtype: type = np.uint8, seed: int = 0) -> Array:
    info = np.iinfo(dtype)
    return np.random.default_rng([seed, *shape]).integers(info.min, info.max + 1, shape).astype(dtype)


def f32(value: float) -> Array:
    return np.array(value, np.float32)


def model_of(
    op: str, inputs: Sequence[Array | None], outputs: int, attrs: Mapping[str, Any], weights: Sequence[int] = ()
) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """A model of one node, and what to give it. Operands that ``weights`` names are part of the model."""
    names = ["" if x is None else f"x{i}" for i, x in enumerate(inputs)]
    domain = attrs.get("domain", "com.microsoft")
    plain = {k: v for k, v in attrs.items() if k != "domain"}
    node = helper.make_node(
        op,
        names,
        [f"y{i}" if i in (0, 1, 2) or i == outputs - 1 else "" for i in range(outputs)],
        domain=domain,
        **plain,
    )
    if op.startswith("Skip"):
        node.output[1:3] = ["", ""][: max(outputs - 1, 0)]
    given = {n: x for i, (n, x) in enumerate(zip(names, inputs, strict=True)) if x is not None and i not in weights}
    infos = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape) for n, x in given.items()
    ]
    held = [numpy_helper.from_array(x, f"x{i}") for i in weights if (x := inputs[i]) is not None]
    made = [helper.make_empty_tensor_value_info(n) for n in node.output if n]
    graph = helper.make_graph([node], "g", infos, made, held)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10), given


def compare(
    op: str,
    inputs: Sequence[Array | None],
    outputs: int = 1,
    weights: Sequence[int] = (),
    tol: float = 1e-5,
    **attrs: Any,
) -> None:
    model, given = model_of(op, inputs, outputs, attrs, weights)
    theirs = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(
        None, given
    )
    ours = onnx_backend.run_model(model, given)
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == np.asarray(b).shape and a.dtype == np.asarray(b).dtype
        if a.dtype.kind in "iu":  # a half may round either way
            assert np.abs(a.astype(int) - np.asarray(b).astype(int)).max() <= 1
        else:
            np.testing.assert_allclose(a, np.asarray(b), rtol=tol, atol=tol)


@pytest.mark.parametrize(
    ("op", "inputs", "attrs"),
    [
        ("Gelu", [reals(2, 8)], {}),
        ("FastGelu", [reals(2, 8)], {}),
        ("FastGelu", [reals(2, 8), reals(8)], {}),
        ("BiasGelu", [reals(2, 8), reals(8)], {}),
        ("QuickGelu", [reals(2, 8)], {"alpha": 1.5}),
        ("FusedMatMul", [reals(2, 4, 3), reals(2, 4, 5)], {"transA": 1, "alpha": 0.5}),
        ("FusedMatMul", [reals(4, 3), reals(5, 3)], {"transB": 1}),
        ("FusedGemm", [reals(4, 3), reals(3, 5), reals(5)], {"activation": "LeakyRelu", "activation_alpha": 0.2}),
        ("FusedConv", [reals(1, 2, 6, 6), reals(4, 2, 3, 3), reals(4)], {"activation": "Relu", "pads": [1, 1, 1, 1]}),
        ("FusedConv", [reals(1, 2, 6, 6), reals(4, 2, 3, 3)], {"activation": "Clip", "activation_params": [-0.5, 0.5]}),
        ("FusedConv", [reals(1, 2, 6, 6), reals(4, 2, 3, 3)], {"activation": "LeakyRelu", "activation_params": [0.1]}),
        ("SimplifiedLayerNormalization", [reals(2, 3, 8), reals(8)], {"axis": -1, "domain": ""}),
    ],
)
def test_activations_and_products(op: str, inputs: list[Array | None], attrs: dict[str, Any]):
    compare(op, inputs, **attrs)


def test_a_product_with_a_matrix_of_the_model():
    x, w = reals(4, 3), reals(3, 5)
    compare("FusedMatMul", [x, w], weights=[1], alpha=2.0)
    assert any(op.name == "linear" for op in import_onnx(model_of("FusedMatMul", [x, w], 1, {}, [1])[0]).walk())


@pytest.mark.parametrize("bias", [False, True])
def test_norms_of_sums(bias: bool):
    x, skip, gamma, beta = reals(2, 3, 8), reals(2, 3, 8, seed=1), reals(8), reals(8, seed=1)
    extra = [reals(8, seed=2)] if bias else []
    compare("SkipLayerNormalization", [x, skip, gamma, beta, *extra], 4, epsilon=1e-5)
    compare("SkipSimplifiedLayerNormalization", [x, skip, gamma, *extra], 4, epsilon=1e-5)


def angles(positions: int, half: int) -> tuple[Array, Array]:
    turns = np.arange(positions)[:, None] / 100 ** (np.arange(half) / half)
    return np.cos(turns).astype(np.float32), np.sin(turns).astype(np.float32)


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("positions", [np.array([3]), np.array([[0, 2, 4], [5, 6, 7]])])
@pytest.mark.parametrize("shape", [(2, 3, 32), (2, 4, 3, 8)])
def test_rotary_positions(interleaved: int, positions: Array, shape: tuple[int, ...]):
    compare("RotaryEmbedding", [reals(*shape), positions, *angles(16, 4)], interleaved=interleaved)


def grouped(t: int, past: int, *, packed: bool = False, rotary: bool = False) -> list[Array | None]:
    """Operands of GroupQueryAttention: 4 heads over 2 of size 16, and 2 sequences where ONNX Runtime takes several."""
    n = 1 if t > 1 and past else 2
    q, k, v = reals(n, t, 64), reals(n, t, 32), reals(n, t, 32, seed=1)
    new: list[Array | None] = [np.concatenate([q, k, v], -1), None, None] if packed else [q, k, v]
    kept = [reals(n, 2, past, 16), reals(n, 2, past, 16, seed=1)]
    lengths = [np.full(n, past + t - 1, np.int32), np.array(past + t, np.int32)]
    return [*new, *kept, *lengths, *(angles(32, 8) if rotary else ())]


@pytest.mark.parametrize(("t", "past"), [(6, 0), (1, 6), (3, 5)])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("attrs", [{}, {"scale": 0.5, "softcap": 2.0}, {"local_window_size": 3}, {"do_rotary": 1}])
def test_grouped_queries(t: int, past: int, packed: bool, attrs: dict[str, Any]):
    operands = grouped(t, past, packed=packed, rotary="do_rotary" in attrs)
    compare("GroupQueryAttention", operands, 3, num_heads=4, kv_num_heads=2, **attrs)


def test_pasts_of_several_lengths_are_refused():
    operands = grouped(1, 6)
    operands[5] = np.array([6, 4], np.int32)
    model, given = model_of("GroupQueryAttention", operands, 3, {"num_heads": 4, "kv_num_heads": 2})
    with pytest.raises(MaiaError, match="seqlens_k"):
        onnx_backend.run_model(model, given)


@pytest.mark.parametrize("attrs", [{}, {"scale": 0.5}, {"unidirectional": 1}])
@pytest.mark.parametrize("optional", ["", "bias", "padding", "scores", "past", "heads"])
def test_many_heads(attrs: dict[str, Any], optional: str):
    operands: list[Array | None] = [reals(2, 5, 32), reals(2, 5, 32, seed=1), reals(2, 5, 32, seed=2)] + [None] * 5
    if optional == "bias":
        operands[3] = reals(96)
    if optional == "padding":
        operands[4] = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], np.int32)
    if optional == "scores":
        operands[5] = reals(1, 4, 5, 5)
    if optional == "past":
        operands[6], operands[7] = reals(2, 4, 3, 8), reals(2, 4, 3, 8, seed=1)
    if optional == "heads":
        operands[1], operands[2] = reals(2, 4, 5, 8), reals(2, 4, 5, 8, seed=1)
    outputs = 3 if optional == "past" else 1
    if optional == "past" and attrs.get("unidirectional"):
        with pytest.raises(MaiaError, match="GroupQueryAttention"):
            onnx_backend.prepare(model_of("MultiHeadAttention", operands, outputs, {"num_heads": 4, **attrs})[0])
        return
    compare("MultiHeadAttention", operands, outputs, num_heads=4, **attrs)


@pytest.mark.parametrize("attrs", [{}, {"scale": 0.5}, {"unidirectional": 1}, {"qkv_hidden_sizes": [32, 32, 16]}])
@pytest.mark.parametrize("optional", ["", "keys", "queries and keys", "lengths", "scores", "past", "no bias"])
def test_attention_by_one_matrix(attrs: dict[str, Any], optional: str):
    width = sum(attrs.get("qkv_hidden_sizes", [96]))
    operands: list[Array | None] = [reals(2, 5, 32), reals(32, width) / 4, reals(width), None, None, None]
    if optional == "keys":
        operands[3] = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], np.int32)
    if optional == "queries and keys":
        operands[3] = (reals(2, 5, 5) > -0.5).astype(np.int32)
    if optional == "lengths":
        operands[3] = np.array([5, 3], np.int32)
    if optional == "scores":
        operands[5] = reals(2, 4, 5, 5)
    if optional == "past" and "qkv_hidden_sizes" not in attrs:
        operands[4] = reals(2, 2, 4, 3, 8)
    if optional == "no bias":
        operands[2] = None
    compare("Attention", operands, 2 if operands[4] is not None else 1, weights=[1], num_heads=4, **attrs)


@pytest.mark.parametrize("mask", [np.array([4, 0], np.int32), np.tri(2, 8, 3, dtype=np.int32)[:, ::-1].copy()])
def test_rows_that_a_mask_empties_see_nothing_ahead(mask: Array):
    operands = [reals(2, 5, 32), reals(32, 96) / 4, reals(96), mask, reals(2, 2, 4, 3, 8)]
    compare("Attention", operands, 2, weights=[1], num_heads=4, unidirectional=1)


@pytest.mark.parametrize("segments", [False, True])
@pytest.mark.parametrize("positions", [False, True])
@pytest.mark.parametrize("mask", [None, 0, 1])
def test_embeddings_with_their_norm(segments: bool, positions: bool, mask: int | None):
    ids = np.array([[1, 3, 0, 2], [5, 4, 4, 1]], np.int32)
    operands: list[Array | None] = [
        ids, ids % 2 if segments else None, reals(6, 8), reals(7, 8, seed=1), reals(2, 8) if segments else None,
        reals(8), reals(8, seed=1), None if mask is None else np.array([[1, 1, 1, 0], [1, 1, 0, 0]], np.int32),
    ]  # fmt: skip
    if positions:
        operands.append(np.array([[6, 5, 4, 3], [0, 1, 2, 3]], np.int32))
    attrs: dict[str, Any] = {} if mask is None else {"mask_index_type": mask}
    compare("EmbedLayerNormalization", operands, 3, epsilon=1e-5, **attrs)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize(("n", "k"), [(8, 64), (6, 48)])
def test_weights_of_few_bits(bits: int, zeros: bool, n: int, k: int):
    blocks = -(-k // 32)
    weight, scales = codes(n, blocks, 32 * bits // 8), np.abs(reals(n, blocks)) / 16
    zero = codes(n, -(-blocks * bits // 8)) if zeros else None
    inputs = [reals(3, k), weight, scales, zero, None, reals(n)]
    compare(
        "MatMulNBits", inputs, weights=[1, 2, *([3] if zeros else []), 5], tol=2e-4, bits=bits, block_size=32, N=n, K=k
    )
    module = import_onnx(
        model_of("MatMulNBits", inputs, 1, {"bits": bits, "block_size": 32, "N": n, "K": k}, [1, 2, 3])[0]
    )
    assert str(next(iter(module.weights.values())).type).startswith(f"group<{'u' if zeros else 'i'}{bits}, 32")


def test_an_artifact_keeps_weights_of_few_bits(tmp_path: Path):
    inputs = [reals(3, 64), codes(8, 2, 16), np.abs(reals(8, 2)) / 16, codes(8, 1)]
    model, given = model_of("MatMulNBits", inputs, 1, {"bits": 4, "block_size": 32, "N": 8, "K": 64}, [1, 2, 3])
    maiac.compile(model).save(tmp_path / "m.maia")
    (y,) = maiac.load(tmp_path / "m.maia")(given["x0"])
    np.testing.assert_allclose(np.asarray(y), onnx_backend.run_model(model, given)[0], rtol=1e-5, atol=1e-5)


def test_weights_that_arrive_at_run_time_are_refused():
    inputs = [reals(3, 32), codes(8, 1, 16), reals(8, 1)]
    with pytest.raises(MaiaError, match="part of the model") as caught:
        onnx_backend.prepare(model_of("MatMulNBits", inputs, 1, {"bits": 4, "block_size": 32, "N": 8, "K": 32})[0])
    assert caught.value.code == "MAIA0225"


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_arithmetic_on_codes(dtype: type):
    a, b = codes(4, 6, dtype=dtype), codes(4, 6, dtype=dtype, seed=1)
    za, zb, zc = (np.array(v, dtype) for v in (3, 5, 7))
    for op in ("QLinearAdd", "QLinearMul"):
        compare(op, [a, f32(0.02), za, b, f32(0.03), zb, f32(0.1), zc])
    compare("QLinearSigmoid", [a, f32(0.02), za, f32(1 / 256), zc])
    compare("QLinearLeakyRelu", [a, f32(0.02), za, f32(0.02), zc], alpha=0.2)
    compare("QLinearConcat", [f32(0.1), zc, a, f32(0.02), za, b, f32(0.03), zb], weights=[0, 1, 3, 4, 6, 7], axis=1)
    image = codes(1, 3, 4, 4, dtype=dtype)
    compare("QLinearGlobalAveragePool", [image, f32(0.02), za, f32(0.03), zc], channels_last=0)
    compare("QuantizeLinear", [reals(4, 6), f32(0.02), za])
    compare("DequantizeLinear", [a, f32(0.02), za])


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_windows_and_rows_of_codes(dtype: type):
    zero, other = np.array(3, dtype), np.array(7, dtype)
    image = codes(1, 5, 8, 6, dtype=dtype)
    forms: list[dict[str, Any]] = [
        {"strides": [2, 2]},
        {"pads": [1, 1, 1, 1]},
        {"pads": [1, 0, 1, 1], "count_include_pad": 1},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
    ]
    for attrs in forms:
        for last in (0, 1):
            operands = [image, f32(0.02), zero, f32(0.03), other]
            compare("QLinearAveragePool", operands, kernel_shape=[3, 3], channels_last=last, **attrs)
    rows = codes(2, 3, 8, dtype=dtype)
    for axis, opset in ((-1, 13), (1, 13), (1, 12), (2, 12)):
        compare("QLinearSoftmax", [rows, f32(0.05), zero, f32(1 / 256), other], axis=axis, opset=opset)


@pytest.mark.parametrize("turned", [(0, 0), (1, 0), (0, 1)])
@pytest.mark.parametrize("real", [False, True])
def test_matrices_of_codes(turned: tuple[int, int], real: bool):
    a, b = codes(6, 4) if turned[0] else codes(4, 6), codes(5, 6) if turned[1] else codes(6, 5)
    zeros = [np.array(9, np.uint8), np.array(4, np.uint8)]
    bias = (100 * reals(5)).astype(np.int32)
    scaled = [] if real else [f32(2.0), np.array(100, np.uint8)]
    operands = [a, f32(0.02), zeros[0], b, f32(0.03), zeros[1], bias, *scaled]
    compare("QGemm", operands, transA=turned[0], transB=turned[1], alpha=1.0)
    each = [a, f32(0.02), zeros[0], b // 4, np.abs(reals(5)) / 20, np.full(5, 4, np.uint8), None, *scaled]
    compare("QGemm", each, transA=turned[0], transB=turned[1], alpha=0.5)


def test_products_of_codes():
    b, scale = codes(6, 5, dtype=np.int8) // 4, f32(0.02)  # small, because ONNX Runtime's sums of pairs saturate
    compare("DynamicQuantizeMatMul", [reals(4, 6), b, scale, np.array(3, np.int8), reals(5)])
    compare("DynamicQuantizeMatMul", [reals(4, 6), b, scale])
    compare("MatMulIntegerToFloat", [codes(4, 6), b, f32(0.1), scale, np.array(9, np.uint8), np.array(3, np.int8)])


@pytest.mark.parametrize(
    ("op", "inputs", "attrs", "message"),
    [
        ("FusedConv", [reals(1, 2, 6, 6), reals(4, 2, 3, 3)], {"activation": "Swish"}, "Swish"),
        ("FusedMatMul", [reals(2, 3), reals(3, 2)], {"transBatchA": 1}, "batches"),
        ("GroupQueryAttention", grouped(2, 0), {"num_heads": 4, "kv_num_heads": 2, "smooth_softmax": 1}, "sinks"),
        ("RotaryEmbedding", [reals(2, 3, 32), np.array([0]), *angles(8, 4)], {"is_packed_batching": 1}, "packed"),
        ("SimplifiedLayerNormalization", [reals(2, 3), reals(2, 3)], {"axis": 0, "domain": ""}, "last dim"),
    ],
)
def test_forms_that_are_refused(op: str, inputs: list[Array | None], attrs: dict[str, Any], message: str):
    with pytest.raises(MaiaError, match=message) as caught:
        onnx_backend.prepare(model_of(op, inputs, 1, attrs)[0])
    assert caught.value.code == "MAIA0225"


def test_one_program_serves_prompts_and_steps():
    model, _ = model_of(
        "GroupQueryAttention",
        grouped(1, 6, packed=True, rotary=True),
        3,
        {"num_heads": 4, "kv_num_heads": 2, "do_rotary": 1},
    )
    for name, dims in (("x0", ["N", "T", 128]), ("x3", ["N", 2, "P", 16]), ("x4", ["N", 2, "P", 16]), ("x5", ["N"])):
        info = next(i for i in model.graph.input if i.name == name)
        shaped = helper.make_tensor_value_info(name, info.type.tensor_type.elem_type, dims)
        info.CopyFrom(shaped)
    theirs = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    ours = onnx_backend.prepare(model)
    for t, past in ((5, 0), (1, 6)):
        operands = grouped(t, past, packed=True, rotary=True)
        given = {f"x{i}": x for i, x in enumerate(operands) if x is not None}
        for a, b in zip(ours.run(given), theirs.run(None, given), strict=True):
            np.testing.assert_allclose(a, np.asarray(b), rtol=1e-5, atol=1e-5)
