"""Folding: what becomes text, what becomes a weight, and what must stay."""

from __future__ import annotations

import pytest
import torch

from maiac.ir import Builder, DType, Function, Module, tensor
from maiac.passes import collect_misses
from maiac.passes.dce import Dce
from maiac.passes.fold import Fold, FoldedTensor
from maiac.runtime.weights import HeldTensor
from tests.passes.models import weight


class Counted(HeldTensor):
    """Contents that count how often they are asked for."""

    loads = 0

    def load(self) -> torch.Tensor:
        self.loads += 1
        assert isinstance(self.tensor, torch.Tensor)
        return self.tensor


def module_of(*results: int) -> tuple[Module, Builder]:
    m = Module("m")
    main = m.add_function(Function("main", [tensor(DType.F32, *results)]))
    return m, Builder(m, main.body)


def fold_reasons(module: Module, **options: int) -> list[str]:
    with collect_misses("fold") as misses:
        assert not Fold(**options).run(module)
    return [m.reason for m in misses]


def test_a_middling_result_becomes_a_weight_named_after_its_source():
    m, b = module_of(4, 8)
    w = weight(m, "fc.weight", torch.arange(32.0).reshape(4, 8))
    b.ret([b.emit("add", m.main.args[0], b.emit("neg", b.emit("square", w)))])
    assert Fold().run(m) and Dce().run(m)
    assert [op.name for op in m.main.body] == ["add", "return"]
    folded = m.weights["fc.weight.folded_1"] if "fc.weight.folded_1" in m.weights else m.weights["fc.weight.folded"]
    assert list(m.weights) == [folded.name]
    assert isinstance(folded.data, FoldedTensor)
    assert torch.equal(folded.data.load(), -(torch.arange(32.0).reshape(4, 8) ** 2))
    assert torch.equal(folded.data.load_slice((slice(0, 1), slice(0, 2))), torch.tensor([[-0.0, -1.0]]))
    assert not Fold().run(m)


def test_a_large_weight_is_folded_when_it_is_asked_for():
    m, b = module_of(8, 4)
    contents = torch.arange(32.0).reshape(4, 8)
    data = Counted(contents)
    w = m.add_weight("w", tensor(DType.F32, 4, 8), data)
    b.ret([b.emit("add", m.main.args[0], b.emit("transpose", w, perm=(1, 0)))])
    assert Fold(limit=64).run(m)
    assert data.loads == 1  # to see that it is no meta tensor
    folded = m.weights["w.folded"]
    assert folded.data is not None
    made = folded.data.load()
    assert torch.equal(made, contents.T) and made.is_contiguous()
    assert folded.data.load() is made


def test_a_view_of_a_weight_that_others_use_stays():
    m, b = module_of(8, 4)
    w = weight(m, "w", torch.zeros(4, 8))
    turned = b.emit("transpose", w, perm=(1, 0))
    b.ret([b.emit("add", m.main.args[0], turned), b.emit("matmul", m.main.args[0], w)])
    with collect_misses("fold") as misses:
        Fold(limit=64).run(m)
    assert "it is a view of a weight that others use" in [x.reason for x in misses]
    assert turned.uses


def test_parts_of_a_weight():
    m, b = module_of(2, 8)
    w = weight(m, "qkv", torch.arange(32.0).reshape(4, 8))
    q, k = b.emit_op("split", [w], {"dim": 0, "parts": (2, 2)}).results
    b.ret([b.emit("add", b.emit("add", m.main.args[0], q), k)])
    assert Fold(limit=8).run(m)
    assert sorted(m.weights) == ["qkv", "qkv.folded", "qkv.folded_1"]
    parts = [m.weights[n].data for n in ("qkv.folded", "qkv.folded_1")]
    assert [p.load()[0, 0].item() for p in parts if p is not None] == [0.0, 16.0]


@pytest.mark.parametrize("limit", [1 << 20, 8])
def test_meta_weights_stay(limit: int):
    m, b = module_of(4)
    w = m.add_weight("w", tensor(DType.F32, 4), HeldTensor(torch.empty(4, device="meta")))
    b.ret([b.emit("add", m.main.args[0], b.emit("neg", w))])
    assert fold_reasons(m, limit=limit) == ["the weight is on the meta device"]


def test_results_that_outgrow_their_sources_stay():
    m, b = module_of(4, 8)
    w = weight(m, "w", torch.zeros(4, 8).bfloat16())
    b.ret([b.emit("add", m.main.args[0], b.emit("cast", w, to=DType.F32))])
    assert "more than what it is made of" in fold_reasons(m, limit=32)[0]


def test_unknown_sizes_of_large_weights_stay():
    m, b = module_of(4)
    w = weight(m, "w", torch.zeros(64))
    b.emit("nonzero", w)
    b.ret([m.main.args[0]])
    assert fold_reasons(m, limit=32) == ["the result's dims are known only at run time"]


def test_what_the_reference_refuses_stays():
    m, b = module_of(4)
    x = b.emit("constant", value=1.0, dtype=DType.F32)
    far = b.emit("constant", value=(9,), dtype=DType.I64, shape=(1,))
    row = b.emit("reshape", x, shape=(1,))
    b.emit("gather", row, far, dim=0)
    b.ret([m.main.args[0]])
    with collect_misses("fold") as misses:
        Fold().run(m)
    assert [x.reason.split(":")[0] for x in misses] == ["its reference refuses these constants"]


def test_quantized_weights_and_random_ops_stay():
    m, b = module_of(4)
    w = weight(m, "w", torch.ones(4, 4))
    q = b.emit("quantize", w, to=DType.I8)
    b.emit("dequantize", q)
    m.weights["w"].data = None
    b.emit("random_normal", shape=(4,))
    b.ret([m.main.args[0]])
    assert "the weight has no contents" in fold_reasons(m)


def test_states_are_no_constants():
    m, b = module_of(4)
    s = m.add_state("s", tensor(DType.F32, 4), HeldTensor(torch.zeros(4)))
    b.ret([b.emit("add", m.main.args[0], b.emit("read", s))])
    assert not Fold().run(m)
