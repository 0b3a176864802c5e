"""Tensor parallelism by types: what is split, what is not and why, and that the ranks agree with one process."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from maiac.ir import MaiaError, Module, parse, print_module, verify
from maiac.passes import default_pipeline, parse_pipeline, run_pipeline
from maiac.passes.partition import Partition
from maiac.passes.quantization import QuantizeWeights
from maiac.runtime import run_module
from tests.passes.llama import llama
from tests.passes.quantization.test_weights import held
from tests.ranks import run_on_mesh

IDS = torch.arange(7).reshape(1, 7)


def partitioned(module: Module, tp: int = 2, pp: int = 1) -> tuple[Module, str]:
    report = run_pipeline(module, [Partition(tp=tp, pp=pp)])
    return module, "\n".join(report.passes[0].notes)


def collectives(module: Module) -> Counter[str]:
    names = ("all_reduce", "all_gather", "shard", "send_recv", "broadcast")
    return Counter(op.name for op in module.walk() if op.name in names)


def test_a_llama_is_split_as_megatron_does():
    module, note = partitioned(llama(layers=1))
    types = {w.name: str(w.type) for w in module.weights.values()}
    columns = {"l0.q": "f32[32/tp, 32]", "l0.k": "f32[16/tp, 32]", "l0.v": "f32[16/tp, 32]"}
    columns |= {"l0.gate": "f32[48/tp, 32]", "l0.up": "f32[48/tp, 32]", "head": "f32[64/tp, 32]"}
    rows = {"l0.o": "f32[32, 32/tp]", "l0.down": "f32[32, 48/tp]"}
    whole = {"emb": "f32[64, 32]", "freq": "f32[4]", "norm": "f32[32]", "l0.n1": "f32[32]", "l0.n2": "f32[32]"}
    assert types == {**columns, **rows, **whole}
    assert collectives(module) == {"all_reduce": 2, "all_gather": 1}
    assert module.mesh == {"tp": None}
    assert note.startswith("tp = 2: 8 weights split, 0 whole")
    assert "layers.0.o: rows of f32[32, 32/tp]" in note


@pytest.mark.parametrize("mesh", [{"tp": 2}, {"tp": 4}])
@pytest.mark.parametrize("scheme", [None, "fp8", "int8"])
def test_one_program_runs_on_every_mesh_that_divides_it(mesh: dict[str, int], scheme: str | None):
    module = llama(heads=8, kv=4, bias=True)
    if scheme:
        run_pipeline(module, [QuantizeWeights(scheme)])
    wanted = run_module(module, [IDS])[0]
    partitioned(module)
    torch.testing.assert_close(run_module(module, [IDS])[0], wanted, rtol=1e-5, atol=1e-5)
    runs = run_on_mesh(module, mesh, [IDS], times=3)
    for run in runs:
        torch.testing.assert_close(run.results[0], wanted, rtol=1e-4, atol=1e-4)
    small = sum(4 * n for n in (64 * 32, 32))  # the embedding and the last norm are whole on every rank
    assert all(run.weight_bytes < small + (runs[0].weight_bytes if scheme else 70_000) for run in runs)


def test_ranks_hold_their_slices_only():
    module = llama(layers=4)
    total = sum(4 * w.data.load().numel() for w in module.weights.values() if w.data is not None)
    partitioned(module)
    split = sum(4 * w.data.load().numel() for w in module.weights.values() if w.data and "/tp" in str(w.type))
    for run in run_on_mesh(module, {"tp": 2}, [IDS]):
        assert run.weight_bytes == total - split // 2


def test_the_bias_of_a_row_split_product_is_added_once():
    module, _ = partitioned(llama(layers=1, bias=True))
    (reduce,) = [op for op in module.walk() if op.name == "all_reduce" and op.loc.name == "layers.0.o"]
    assert len(reduce.operand(0).op.operands) == 2  # type: ignore[attr-defined]
    (add,) = list(reduce.result.uses)
    assert add.name == "add" and add.operand(1).name == "l0.ob"
    assert str(module.weights["l0.qb"].type) == "f32[32/tp]"


def test_key_heads_that_do_not_divide_stay_whole():
    module = llama(layers=1, kv=1)
    wanted = run_module(module, [IDS])[0]
    module, note = partitioned(module)
    assert "layers.0.k: whole: " in note and "layers.0.v: whole: " in note
    assert str(module.weights["l0.q"].type) == "f32[32/tp, 32]"
    for run in run_on_mesh(module, {"tp": 2}, [IDS]):
        torch.testing.assert_close(run.results[0], wanted, rtol=1e-5, atol=1e-5)


def test_a_mesh_that_does_not_divide_the_heads_is_refused_at_load():
    module, _ = partitioned(llama(layers=1))  # 2 key heads; 4 divides every weight
    with pytest.raises(MaiaError, match="2/tp") as error:
        run_on_mesh(module, {"tp": 4}, [IDS])
    assert error.value.code == "MAIA0506"


FUSED = """module @m {
  sym T in 1..64
  weight @qkv : f32[8, 24]
  weight @bias : f32[24]
  weight @out : f32[8, 8]
  func @main(%x: f32[T, 8]) -> f32[T, 8] {
    %p = matmul %x, @qkv : f32[T, 24] at "attn.c_attn"
    %b = add @bias, %p : f32[T, 24] at "attn.c_attn"
    %w = reshape %b {shape = [1, T, 24]} : f32[1, T, 24]
    CUT
    %qh = reshape %q {shape = [T, 2, 4]} : f32[T, 2, 4]
    %kh = reshape %k {shape = [T, 2, 4]} : f32[T, 2, 4]
    %vh = reshape %v {shape = [T, 2, 4]} : f32[T, 2, 4]
    %qt = transpose %qh {perm = [1, 0, 2]} : f32[2, T, 4]
    %kt = transpose %kh {perm = [1, 0, 2]} : f32[2, T, 4]
    %vt = transpose %vh {perm = [1, 0, 2]} : f32[2, T, 4]
    %a = attention %qt, %kt, %vt : f32[2, T, 4]
    %at = transpose %a {perm = [1, 0, 2]} : f32[T, 2, 4]
    %ar = reshape %at {shape = [T, 8]} : f32[T, 8]
    %y = matmul %ar, @out : f32[T, 8] at "attn.c_proj"
    %z = softmax %y : f32[T, 8]
    return %z
  }
}"""
SPLIT = "%q, %k, %v = split %w {dim = 2, parts = [8, 8, 8]} : (f32[1, T, 8], f32[1, T, 8], f32[1, T, 8])"
SLICES = "\n".join(
    f"    %{n} = slice %w {{dim = 2, start = {s}, end = {s + 8}}} : f32[1, T, 8]"
    for n, s in zip("qkv", (0, 8, 16), strict=True)
)


@pytest.mark.parametrize("cut", [SPLIT, SLICES])
@pytest.mark.parametrize("scheme", [None, "int8"])
def test_a_fused_projection_is_taken_apart(cut: str, scheme: str | None):
    module = held(FUSED.replace("CUT", cut))
    if scheme:
        run_pipeline(module, [QuantizeWeights(scheme)])
    x = torch.randn(5, 8)
    wanted = run_module(module, [x])[0]
    module, note = partitioned(module)
    assert "4 weights split, 0 whole" in note
    assert "qkv" not in module.weights
    for run in run_on_mesh(module, {"tp": 2}, [x]):
        torch.testing.assert_close(run.results[0], wanted, rtol=1e-5, atol=1e-5)


EXPERTS = """module @m {
  sym T in 0..inf
  weight @up : f32[3, 8, 24]
  weight @down : f32[3, 12, 8]
  func @main(%x: f32[T, 8], %ends: i64[3]) -> f32[T, 8] {
    %h = grouped_matmul %x, @up, %ends : f32[T, 24] at "experts"
    %gate, %up = split %h {dim = -1, parts = [12, 12]} : (f32[T, 12], f32[T, 12])
    %a = silu %gate : f32[T, 12]
    %m = mul %a, %up : f32[T, 12]
    %y = grouped_matmul %m, @down, %ends : f32[T, 8] at "experts"
    return %y
  }
}"""


@pytest.mark.parametrize("scheme", [None, "fp8", "int8"])
def test_experts_are_split_by_columns_then_rows(scheme: str | None):
    module = held(EXPERTS)
    inputs = [torch.randn(5, 8), torch.tensor([2, 2, 4])]
    exact = run_module(module, inputs)[0]
    if scheme:
        run_pipeline(module, [QuantizeWeights(scheme)])
    wanted = run_module(module, inputs)[0]
    assert float((wanted - exact).norm() / exact.norm()) < {None: 1e-6, "int8": 0.03, "fp8": 0.1}[scheme]
    module, note = partitioned(module)
    assert "3 weights split, 0 whole" in note
    assert collectives(module) == {"all_reduce": 1}
    dims = sorted(str(w.type).partition("[")[2] for w in module.weights.values())
    assert dims == ["3, 12/tp, 8]", "3, 8, 12/tp]", "3, 8, 12/tp]"]
    for run in run_on_mesh(module, {"tp": 2}, inputs):
        torch.testing.assert_close(run.results[0], wanted, rtol=1e-5, atol=1e-5)


def test_a_weight_that_an_embedding_reads_too_is_cut_on_each_rank():
    text = """module @m {
      weight @emb : f32[8, 4]
      func @main(%ids: i64[3]) -> f32[3, 8] {
        %x = embedding @emb, %ids : f32[3, 4]
        %y = linear %x, @emb : f32[3, 8] at "head"
        return %y
      }
    }"""
    module = held(text)
    ids = torch.tensor([1, 5, 2])
    wanted = run_module(module, [ids])[0]
    module, note = partitioned(module)
    assert "other readers need the weight whole" in note
    assert str(module.weights["emb"].type) == "f32[8, 4]" and collectives(module)["shard"] == 1
    for run in run_on_mesh(module, {"tp": 2}, [ids]):
        torch.testing.assert_close(run.results[0], wanted)


def test_layers_that_share_a_weight_share_its_parts():
    text = """module @m {
      weight @up : f32[8, 4]
      weight @down : f32[4, 8]
      func @main(%x: f32[3, 4]) -> f32[3, 4] {
        %a = linear %x, @up : f32[3, 8]
        %b = linear %a, @down : f32[3, 4]
        %c = softmax %b : f32[3, 4]
        %d = linear %c, @up : f32[3, 8]
        %e = linear %d, @down : f32[3, 4]
        return %e
      }
    }"""
    module = held(text)
    x = torch.randn(3, 4)
    wanted = run_module(module, [x])[0]
    partitioned(module)
    assert {w.name: str(w.type) for w in module.weights.values()} == {"up": "f32[8/tp, 4]", "down": "f32[4, 8/tp]"}
    assert collectives(module) == {"all_reduce": 2}
    for run in run_on_mesh(module, {"tp": 2}, [x]):
        torch.testing.assert_close(run.results[0], wanted, rtol=1e-5, atol=1e-5)


def test_a_cache_is_split_with_its_contents():
    text = """module @m {
      weight @k : f32[8, 4]
      weight @o : f32[4, 8]
      state @cache : f32[3, 8]
      func @main(%x: f32[3, 4]) -> f32[3, 4] {
        %old = read @cache : f32[3, 8]
        %new = linear %x, @k : f32[3, 8] at "k"
        %sum = add %old, %new : f32[3, 8]
        write @cache, %sum
        %y = linear %sum, @o : f32[3, 4] at "o"
        return %y
      }
    }"""
    module = held(text)
    from maiac.runtime.weights import HeldTensor

    module.states["cache"].data = HeldTensor(torch.zeros(3, 8))
    x = torch.randn(3, 4)
    wanted = run_module(module, [x])[0]
    partitioned(module)
    assert str(module.states["cache"].type) == "f32[3, 8/tp]"
    for run in run_on_mesh(module, {"tp": 2}, [x], times=2):
        torch.testing.assert_close(run.results[0], 2 * wanted, rtol=1e-5, atol=1e-5)


def test_results_inside_a_region_are_not_split():
    text = """module @m {
      weight @w : f32[8, 4]
      func @main(%x: f32[3, 4], %c: bool[]) -> f32[3, 8] {
        %y = linear %x, @w : f32[3, 8] at "w"
        %z = if %c : f32[3, 8] () {
          %a = neg %y : f32[3, 8]
          yield %a
        } () {
          yield %y
        }
        return %z
      }
    }"""
    module = parse(text)
    verify(module)
    with pytest.raises(MaiaError) as error:
        partitioned(module)
    assert error.value.code == "MAIA0341" and "inside the body of if" in str(error.value)


def test_outlined_layers_stay_one_function():
    module = llama(layers=4)
    run_pipeline(module, default_pipeline(mesh={"tp": 2, "pp": 2}))
    text = print_module(module)
    assert print_module(parse(text)) == text
    assert len([f for f in module.functions.values() if f.stage is None]) <= 3
    wanted = run_module(llama(layers=4), [IDS])[0]
    for run in run_on_mesh(module, {"pp": 2, "tp": 2}, [IDS]):
        torch.testing.assert_close(run.results[0], wanted, rtol=1e-4, atol=1e-4)


def test_faults():
    assert parse_pipeline("partition{tp=2,pp=3}") == [Partition(tp=2, pp=3)]
    assert not Partition().run(llama())
    for bad in (Partition(tp=0), Partition(pp=-1)):
        with pytest.raises(MaiaError) as error:
            bad.run(llama())
        assert error.value.code == "MAIA0340"
    with pytest.raises(MaiaError) as error:
        Partition(tp=5).run(llama())
    assert error.value.code == "MAIA0341" and "does not divide by 5" in str(error.value)
    module, _ = partitioned(llama())
    with pytest.raises(MaiaError) as error:
        Partition(tp=2).run(module)
    assert error.value.code == "MAIA0342"
