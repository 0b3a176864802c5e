"""Pipeline stages: functions, messages, and that every number of ranks gives what one process gives."""

from __future__ import annotations

import pytest
import torch

from maiac.ir import MaiaError, Module, parse, verify
from maiac.passes import run_pipeline
from maiac.passes.partition import Partition, cut_stages
from maiac.runtime import run_module
from maiac.runtime.weights import HeldTensor
from tests.passes.llama import llama
from tests.passes.quantization.test_weights import held
from tests.ranks import run_on_mesh

IDS = torch.arange(9).reshape(1, 9)


def staged(module: Module, pp: int) -> str:
    report = run_pipeline(module, [Partition(pp=pp)])
    return report.passes[0].notes[0]


@pytest.mark.parametrize("pp", [2, 3, 4])
def test_every_number_of_ranks_up_to_the_stages_gives_the_same(pp: int):
    module = llama(layers=4)
    wanted = run_module(module, [IDS])[0]
    staged(module, pp)
    assert module.mesh == {"pp": pp}
    assert [f.stage for f in module.functions.values() if f.stage] == [("pp", i) for i in range(pp)]
    for ranks in range(1, pp + 1):
        for run in run_on_mesh(module, {"pp": ranks}, [IDS], times=2):
            assert torch.equal(run.results[0], wanted)


def test_only_the_residual_crosses_a_cut_between_layers():
    module = llama(layers=4, d=64)
    note = staged(module, 2)
    sends = [op for op in module.main.body if op.name == "send_recv"]
    assert [str(op.result.type) for op in sends] == ["f32[1, T, 64]"]
    assert note.startswith("pp = 2: balance ") and "stage 1: " in note
    angles = [f.name for f in module.functions.values() for op in f.body if op.name == "cos"]
    assert angles == ["stage0", "stage1"]  # computed on both sides rather than sent


def test_ranks_hold_the_weights_of_their_stages():
    module = llama(layers=4)
    total = run_on_mesh(module, {}, [IDS])[0].weight_bytes
    staged(module, 2)
    held_bytes = [run.weight_bytes for run in run_on_mesh(module, {"pp": 2}, [IDS])]
    assert max(held_bytes) < 0.6 * total and sum(held_bytes) < 1.01 * total


def test_values_skip_stages_and_results_come_from_several():
    text = """module @m {
      weight @a : f32[4, 4]
      weight @b : f32[4, 4]
      weight @c : f32[4, 4]
      func @main(%x: f32[2, 4], %n: dim<4>) -> (f32[2, 4], f32[2, 4], f32[2, 4], dim<8>) {
        %u = linear %x, @a : f32[2, 4]
        %v = linear %u, @b : f32[2, 4]
        %w = linear %v, @c : f32[2, 4]
        %y = add %w, %u : f32[2, 4]
        %d = dim {value = 8} : dim<8>
        return %y, %u, %x, %d
      }
    }"""
    module = held(text)
    inputs = [torch.randn(2, 4), 4]
    wanted = run_module(module, inputs)
    module.mesh["pp"] = 3
    cut_stages(module, "pp", 3)
    verify(module)
    routes = [(op.attrs["source"], op.attrs["target"]) for op in module.main.body if op.name == "send_recv"]
    assert sorted(routes) == [(0, 1), (0, 2), (1, 2)]
    for ranks in (1, 2, 3):
        for run in run_on_mesh(module, {"pp": ranks}, inputs):
            assert run.results[3] == wanted[3]
            for found, want in zip(run.results[:3], wanted[:3], strict=True):
                assert torch.equal(found, want)


def test_a_state_is_not_torn_apart():
    text = """module @m {
      weight @a : f32[4, 4]
      weight @b : f32[4, 4]
      state @s : f32[2, 4]
      func @main(%x: f32[2, 4]) -> f32[2, 4] {
        %old = read @s : f32[2, 4]
        %u = linear %x, @a : f32[2, 4]
        %v = add %u, %old : f32[2, 4]
        write @s, %v
        %w = linear %v, @b : f32[2, 4]
        return %w
      }
    }"""
    module = held(text)
    module.states["s"].data = HeldTensor(torch.zeros(2, 4))
    staged(module, 2)
    users = {op.function() for op in module.states["s"].uses}
    assert len(users) == 1


def test_sizes_that_only_the_run_tells_stay_in_their_stage():
    text = """module @m {
      sym u0 in 0..inf
      weight @a : f32[4, 4]
      weight @b : f32[4, 4]
      func @main(%x: f32[6, 4]) -> f32[4] {
        %u = linear %x, @a : f32[6, 4]
        %p = sum %u {dims = [1]} : f32[6]
        %i = nonzero %p : i64[u0, 1]
        %f = cast %i {to = f32} : f32[u0, 1]
        %m = amax %f {dims = [0]} : f32[1]
        %r = expand %m {shape = [4]} : f32[4]
        %w = linear %r, @b : f32[4]
        return %w
      }
    }"""
    module = parse(text)
    staged(module, 2)
    verify(module)
    makers = {op.function() for op in module.walk() if op.name in ("nonzero", "amax")}
    assert len(makers) == 1


def test_more_stages_than_places():
    module = parse("""module @m {
      weight @a : f32[4, 4]
      func @main(%x: f32[2, 4]) -> f32[2, 4] {
        %u = linear %x, @a : f32[2, 4]
        return %u
      }
    }""")
    with pytest.raises(MaiaError, match="at most 1 stages, not 2") as error:
        Partition(pp=2).run(module)
    assert error.value.code == "MAIA0340"
