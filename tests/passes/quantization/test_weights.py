"""Weight-only quantization: which weights, what they hold, and what is said about them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from maiac.ir import MaiaError, Module, parse, print_module, verify
from maiac.ir.ops.values import QTensor
from maiac.ir.types import Quantized, TensorType
from maiac.passes import parse_pipeline, run_pipeline
from maiac.passes.quantization import QuantizeWeights, quantize_weights
from maiac.passes.weights import CutData, QuantizedData, TransposedData
from maiac.runtime import run_module
from maiac.runtime.weights import HeldTensor
from tests.passes.llama import llama

TEXT = """module @m {
  sym T in 1..64
  weight @emb : f32[32, 16]
  weight @up : f32[16, 8]
  weight @row : f32[8]
  weight @down : f32[8, 16]
  weight @conv : f32[4, 2, 3, 3]
  weight @back : f32[4, 2, 2, 2]
  func @main(%ids: i64[T], %im: f32[1, 2, 8, 8]) -> (f32[T, 32], f32[1, 2, 12, 12]) {
    %x = embedding @emb, %ids : f32[T, 16]
    %h = matmul %x, @up : f32[T, 8] at "up"
    %b = add @row, %h : f32[T, 8] at "up"
    %t = transpose @down {perm = [1, 0]} : f32[16, 8]
    %y = linear %b, %t : f32[T, 16] at "down"
    %z = linear %y, @emb : f32[T, 32] at "head"
    %c = conv %im, @conv {stride = [1, 1], padding = [0, 0], dilation = [1, 1]} : f32[1, 4, 6, 6] at "conv"
    %d = conv_transpose %c, @back {stride = [2, 2], padding = [0, 0], dilation = [1, 1], output_padding = [0, 0]} \
: f32[1, 2, 12, 12] at "back"
    return %z, %d
  }
}"""


def held(text: str) -> Module:
    module = parse(text)
    generator = torch.Generator().manual_seed(0)
    for w in module.weights.values():
        assert isinstance(w.type, TensorType)
        w.data = HeldTensor(torch.randn([int(d) for d in w.type.dims], generator=generator))  # type: ignore[arg-type]
    return module


def inputs() -> list[torch.Tensor]:
    return [torch.arange(10), torch.randn(1, 2, 8, 8, generator=torch.Generator().manual_seed(1))]


def sqnr(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float(10 * torch.log10(wanted.square().sum() / (found - wanted).square().sum()))


@pytest.mark.parametrize(("scheme", "floor"), [("fp8", 24.0), ("int8", 34.0)])
def test_all_products_with_weights_are_quantized(scheme: str, floor: float):
    module = held(TEXT)
    wanted = run_module(module, inputs())
    report = quantize_weights(module, scheme)
    verify(module)
    storage = {"fp8": "f8e4m3fn", "int8": "i8"}[scheme]
    types = {w.name: str(w.type) for w in module.weights.values()}
    assert types == {
        "emb": "f32[32, 16]",
        "up": f"channel<{storage}, 0>[8, 16]",
        "row": "f32[8]",
        "down": f"channel<{storage}, 0>[16, 8]",
        "conv": f"channel<{storage}, 0>[4, 2, 3, 3]",
        "back": f"channel<{storage}, 1>[4, 2, 2, 2]",
        f"emb.{storage}": f"channel<{storage}, 0>[32, 16]",
    }
    assert all(e.quantized for e in report.entries) and len(report.entries) == 5
    assert "@emb stays for embedding" in str(report)
    for found, want in zip(run_module(module, inputs()), wanted, strict=True):
        assert sqnr(found, want) > floor


def test_codes_are_the_nearest_to_the_greatest_magnitude_of_each_channel():
    module = held(TEXT)
    up = run_weight(module, "up").T.clone()
    quantize_weights(module, "int8")
    made = run_weight(module, "up")
    assert isinstance(made, QTensor)
    torch.testing.assert_close(made.scale, up.abs().amax(1, keepdim=True) / 127)
    assert (made.dequantize(torch.float32) - up).abs().le(made.scale / 2 + 1e-7).all()


def run_weight(module: Module, name: str) -> Any:
    data = module.weights[name].data
    assert data is not None
    return data.load()


def test_float_codes_take_the_best_place_in_the_octave():
    w = torch.randn(64, 256, generator=torch.Generator().manual_seed(3))
    dtype = Quantized(*_fp8())
    from maiac.ir.ops.quant import absmax_scale, encode

    plain = encode(w, dtype, absmax_scale(w, dtype)).dequantize(torch.float32)
    best = QuantizedData(HeldTensor(w), dtype).load().dequantize(torch.float32)
    assert ((best - w).square().sum(1) <= (plain - w).square().sum(1)).all()
    assert sqnr(best, w) > max(sqnr(plain, w), 31.5)


def _fp8() -> tuple[Any, ...]:
    from maiac.ir import DType

    return DType.F8E4M3FN, "channel", (0,)


def test_slices_read_what_the_whole_holds():
    from maiac.ir import DType

    w = torch.randn(8, 6)
    for source in (TransposedData(HeldTensor(w.T.contiguous())), CutData(HeldTensor(torch.cat([w, w])), 0, 8, 16)):
        assert torch.equal(source.load(), w)
        assert torch.equal(source.load_slice((slice(2, 6), slice(3, 6))), w[2:6, 3:6])
        assert torch.equal(source.load_slice((slice(4, None),)), w[4:])
    whole = QuantizedData(HeldTensor(w), Quantized(DType.I8, "channel", (0,)))
    for cut in ((slice(4, 8),), (slice(None), slice(0, 3)), (slice(0, 4), slice(3, 6))):
        part, want = whole.load_slice(cut), whole.load().part(cut)
        assert torch.equal(part.codes, want.codes) and torch.equal(part.scale, want.scale)
    halves = CutData(whole, 0, 4, 8)
    assert torch.equal(halves.load().codes, whole.load().codes[4:])


def test_what_is_skipped_stays_and_is_named():
    module = held(TEXT)
    report = quantize_weights(module, "fp8", ["conv", "*emb*"])
    kept = {e.weight: e.reason for e in report.entries if not e.quantized}
    assert kept == {"conv": "matches the pattern 'conv'", "emb": "matches the pattern '*emb*'"}
    assert str(module.weights["conv"].type) == "f32[4, 2, 3, 3]"


def test_a_shared_weight_is_quantized_once_unless_a_reader_is_skipped():
    text = """module @m {
      weight @w : f32[4, 4]
      func @main(%x: f32[2, 4]) -> f32[2, 4] {
        %a = linear %x, @w : f32[2, 4] at "a"
        %b = linear %a, @w : f32[2, 4] at "b"
        return %b
      }
    }"""
    both = held(text)
    assert [e.quantized for e in quantize_weights(both, "int8").entries] == [True, True]
    assert list(both.weights) == ["w"]
    one = held(text)
    report = quantize_weights(one, "int8", ["b"])
    assert [e.quantized for e in report.entries] == [True, False]
    assert set(one.weights) == {"w", "w.i8"}
    verify(one)


def test_what_cannot_be_quantized_says_why():
    text = """module @m {
      weight @i : i32[4, 4]
      weight @q : channel<i8, 0>[4, 4]
      func @main(%x: f32[2, 4], %n: i32[2, 4]) -> (f32[2, 4], i32[2, 4]) {
        %a = linear %x, @q : f32[2, 4] at "a"
        %b = linear %n, @i : i32[2, 4] at "b"
        return %a, %b
      }
    }"""
    module = parse(text)
    reasons = [e.reason for e in quantize_weights(module, "fp8").entries]
    assert reasons == ["is channel<i8, 0> already", "holds i32, not real numbers"]


def test_the_pass_is_found_by_name_and_tells_what_it_did():
    module = llama()
    before = print_module(module)
    (instance,) = parse_pipeline('quantize{scheme=int8,skip="lm_head l0.*"}')
    assert instance == QuantizeWeights("int8", "lm_head l0.*")
    report = run_pipeline(module, [instance])
    assert report.changed and print_module(module) != before
    assert "int8: 7 of 15 weights quantized" in report.passes[0].notes[0]
    assert not run_pipeline(
        parse("module @e {\n  func @main() -> () {\n    return {}\n  }\n}"), [instance_all()]
    ).changed


def instance_all() -> QuantizeWeights:
    return QuantizeWeights("int8")


def test_faults():
    with pytest.raises(MaiaError, match="int5") as unknown:
        quantize_weights(held(TEXT), "int5")
    assert unknown.value.code == "MAIA0320"
    with pytest.raises(MaiaError, match="nosuch") as nothing:
        quantize_weights(held(TEXT), "int8", ["nosuch*"])
    assert nothing.value.code == "MAIA0321"
