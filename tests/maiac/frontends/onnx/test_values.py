"""Numbers of imported operators, against ONNX's reference implementation."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
import torch
from onnx.reference import ReferenceEvaluator

from maiac import onnx_backend
from maiac.frontends.onnx import import_onnx
from maiac.ir import MaiaError, verify
from maiac.report import summarize

Arrays = Sequence[np.ndarray[Any, Any]]
HEAD = '<ir_version: 10, opset_import: ["" : 23]>\n'


def parsed(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(HEAD + text)


def both(model: onnx.ModelProto, inputs: Arrays) -> tuple[Any, Any]:
    """What maiac and ONNX's reference evaluator give."""
    named = {i.name: x for i, x in zip(model.graph.input, inputs, strict=True)}
    reference: Any = ReferenceEvaluator(model)
    return onnx_backend.run_model(model, list(inputs)), reference.run(None, named)


@pytest.mark.parametrize("attrs", ["", "<seed = 3.0>"])
def test_a_seed_gives_the_numbers_of_the_reference(attrs: str):
    x = np.ones((3, 4), np.float32)
    kept = parsed(
        f"g (float[3, 4] x, float r, bool t) => (float[3, 4] y) {{ y = Dropout {attrs and '<seed = 3>'} (x, r, t) }}"
    )
    noise = parsed(f"g (float[3, 4] x) => (float[3, 4] y) {{ y = RandomNormalLike {attrs} (x) }}")
    for model, inputs in ((kept, [x, np.float32(0.3), np.bool_(True)]), (noise, [x])):
        (ours,), (theirs,) = both(model, [np.asarray(v) for v in inputs])
        same = np.allclose(ours, theirs, rtol=1e-6)
        assert same == bool(attrs)


def test_attention_in_f16_rounds_once():
    q, k, v = (np.random.default_rng(i).random((2, 3, 16, 64)).astype(np.float16) for i in range(3))
    t = "float16[2, 3, 16, 64]"
    model = parsed(f"g ({t} q, {t} k, {t} v) => ({t} y) {{ y = Attention(q, k, v) }}")
    ours = onnx_backend.run_model(model, [q, k, v])[0]
    scores = q.astype(np.float64) @ k.astype(np.float64).swapaxes(-1, -2) / 8
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    exact = weights / weights.sum(-1, keepdims=True) @ v.astype(np.float64)
    assert np.abs(ours - exact).max() <= 2**-12  # half a unit in the last place below 1


def test_branches_of_one_element_may_differ_in_rank():
    model = parsed("""g (bool c, float[1] x) => (float[1] y) <float zero = {0.0}> {
        y = If (c) <
            then_branch = a () => (float p) { p = Identity(zero) },
            else_branch = b () => (float[1] q) { q = Neg(x) }
        >
    }""")
    for chosen, expected in ((True, 0.0), (False, -2.0)):
        (y,) = onnx_backend.run_model(model, [np.array(chosen), np.array([2], np.float32)])
        assert y.tolist() == [expected]


def decoder(format: str = "RGB") -> onnx.ModelProto:
    return parsed(f'g (uint8[N] x) => (uint8[H, W, C] y) {{ y = ImageDecoder <pixel_format = "{format}"> (x) }}')


@pytest.mark.parametrize("format", ["RGB", "BGR", "Grayscale"])
def test_images_are_decoded_on_the_host_and_counted_apart(format: str):
    image = np.frombuffer(b"P6 2 1 255\n" + bytes(range(6)), np.uint8)  # PNM
    model = decoder(format)
    (ours,), (theirs,) = both(model, [image])
    assert np.array_equal(ours, theirs)
    found = summarize(import_onnx(model))
    assert found["host_ops"] == {"decode_image": 1}


def test_without_pillow_decoding_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MaiaError, match="pip install pillow"):
        onnx_backend.run_model(decoder(), [np.zeros(4, np.uint8)])


def test_what_is_no_image_is_an_error():
    with pytest.raises(MaiaError, match="cannot identify image"):
        onnx_backend.run_model(decoder(), [np.zeros(4, np.uint8)])


TRAINING = '<ir_version: 10, opset_import: ["" : 20, "ai.onnx.preview.training" : 1]>\n'


def test_gradients_of_a_layer():
    model = onnx.parser.parse_model(
        TRAINING
        + """g (float[4, 3] x, float[3, 2] w, float[2] b) => (float[4, 2] y, float[3, 2] dw, float[2] db) {
            p = MatMul(x, w)
            s = Add(p, b)
            n = Tanh(s)
            y = Softmax(n)
            z = Mul(y, s)
            dw, db = ai.onnx.preview.training.Gradient <xs = ["w", "b"], zs = ["x"], y = "z"> (w, b, x)
        }"""
    )
    verify(import_onnx(model))
    x, w, b = (
        np.random.default_rng(i).standard_normal(s).astype(np.float32) for i, s in enumerate([(4, 3), (3, 2), 2])
    )
    _, dw, db = onnx_backend.run_model(model, [x, w, b])
    tw, tb = torch.tensor(w, requires_grad=True), torch.tensor(b, requires_grad=True)
    s = torch.tensor(x) @ tw + tb
    (torch.softmax(torch.tanh(s), -1) * s).sum().backward()
    assert tw.grad is not None and tb.grad is not None
    np.testing.assert_allclose(dw, tw.grad.numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(db, tb.grad.numpy(), rtol=1e-5, atol=1e-6)


def test_gradients_are_taken_elsewhere_than_at_the_graph_s_values():
    model = onnx.parser.parse_model(
        TRAINING
        + """g (float[2] x, float[2] at) => (float[2] d) {
            y = Mul(x, x)
            d = ai.onnx.preview.training.Gradient <xs = ["x"], y = "y"> (at)
        }"""
    )
    (d,) = onnx_backend.run_model(model, [np.zeros(2, np.float32), np.array([1, -3], np.float32)])
    assert d.tolist() == [2, -6]


def test_gradients_of_open_sizes_are_refused():
    model = onnx.parser.parse_model(
        TRAINING
        + """g (float[N] x) => (float[N] d) {
            y = Mul(x, x)
            d = ai.onnx.preview.training.Gradient <xs = ["x"], y = "y"> (x)
        }"""
    )
    with pytest.raises(MaiaError, match="known sizes"):
        onnx_backend.prepare(model)


@pytest.mark.parametrize(("y", "expected"), [("Mul(w, x)", [2, 3]), ("Neg(w)", [0, 0])])
def test_gradients_with_weights_and_by_what_has_no_part(y: str, expected: list[int]):
    model = onnx.parser.parse_model(
        TRAINING
        + f"""g (float[2] x) => (float[2] d) <float[2] w = {{2.0, 3.0}}> {{
            y = {y}
            d = ai.onnx.preview.training.Gradient <xs = ["x"], y = "y"> (x)
        }}"""
    )
    (d,) = onnx_backend.run_model(model, [np.ones(2, np.float32)])
    assert d.tolist() == expected
