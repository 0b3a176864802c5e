"""Segments: what joins them, what splits them, and what a call does."""

from __future__ import annotations

import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest
import torch

import maiac
from maiac.codegen import build
from maiac.ir import MaiaError, parse

from .harness import Ran, check, reference

MIXED = """
module @m {
  sym T in 1..64
  func @main(%x: f32[T, 40], %y: f32[40]) -> (f32[T, 40], f32[40, T]) {
    %0 = add %x, %y : f32[T, 40]
    %1 = softmax %0 : f32[T, 40]
    %2 = transpose %1 {perm = [1, 0]} : f32[40, T]
    %3 = mul %2, %2 : f32[40, T]
    return %1, %3
  }
}
"""


def test_sizes_of_a_symbol_share_one_build():
    module = parse(MIXED)
    ran = check(module, torch.randn(3, 40), torch.randn(40))
    for n in (1, 2, 17, 64):
        inputs = [torch.randn(n, 40), torch.randn(40)]
        for a, b in zip(reference(module, inputs), ran.run(inputs), strict=True):
            torch.testing.assert_close(a, b)
    assert len(ran.natives) == 1 and len(ran.native.segments) == 1


def test_results_are_contiguous_and_inputs_need_not_be():
    ran = Ran(parse(MIXED))
    x, y = torch.randn(40, 9).t(), torch.randn(80)[::2]
    for a, b in zip(reference(parse(MIXED), [x, y]), ran.executor.run([x, y]), strict=True):
        torch.testing.assert_close(a, b)
        assert b.is_contiguous()


def test_values_of_other_sizes_than_the_program_says_are_refused():
    ran = Ran(parse(MIXED))
    ran.executor.run([torch.randn(3, 40), torch.randn(40)])
    with pytest.raises(MaiaError, match=r"a value of sizes \[3, 40\] came where the program says \[4, 40\]") as caught:
        ran.native.segments[0]([torch.randn(3, 40), torch.randn(40)], (4,))
    assert caught.value.code == "MAIA0503"


def test_what_has_no_native_form_stands_between_segments():
    text = """
    module @m {
      func @main(%x: f32[6, 9]) -> f32[6, 9] {
        %0 = exp %x : f32[6, 9]
        %1 = cumsum %0 {dim = 1} : f32[6, 9]
        %2 = mul %1, %0 : f32[6, 9]
        return %2
      }
    }
    """
    ran = check(parse(text), torch.randn(6, 9))
    assert len(ran.native.segments) == 2
    assert ran.refused == {("cumsum", "no native form")}


JOINED = """
module @m {
  func @main(%x: f32[1, 8, 5, 5], %y: f32[1, 8, 5, 5]) -> f32[1, 24, 5, 5] {
    %0 = relu %x : f32[1, 8, 5, 5]
    %1 = mul %x, %y : f32[1, 8, 5, 5]
    %2 = concat %0, %1, %y {dim = 1} : f32[1, 24, 5, 5]
    %3 = exp %2 : f32[1, 24, 5, 5]
    return %3
  }
}
"""


def test_operands_of_a_concat_are_made_in_their_place():
    ran = check(parse(JOINED), torch.randn(1, 8, 5, 5), torch.randn(1, 8, 5, 5))
    assert ran.kernels.count("copy") == 1  # of the input alone


CACHE = """
module @m {
  state @cache : f32[2, 6, 4]
  func @main(%x: f32[2, 1, 4], %at: i64[1]) -> f32[2, 6, 4] {
    %0 = read @cache : f32[2, 6, 4]
    %1 = index_put %0, %x, %at {dims = [1]} : f32[2, 6, 4]
    %2 = mul %1, %1 : f32[2, 6, 4]
    write @cache, %1
    return %2
  }
}
"""


def with_cache() -> maiac.ir.Module:
    from maiac.runtime.weights import HeldTensor

    module = parse(CACHE)
    module.states["cache"].data = HeldTensor(torch.zeros(2, 6, 4))
    return module


def test_a_cache_is_written_in_place():
    ran = Ran(with_cache())
    expected = torch.zeros(2, 6, 4)
    for i in (0, 3, -1):
        x = torch.randn(2, 1, 4)
        expected[:, i : i + 1 if i >= 0 else None] = x
        (got,) = ran.run([x, torch.tensor([i])])
        torch.testing.assert_close(got, expected * expected)
    assert "copy" not in ran.kernels


def test_an_index_outside_is_an_error_that_names_the_place():
    ran = Ran(with_cache())
    with pytest.raises(MaiaError, match=r"the index 6 lies outside 0\.\.5") as caught:
        ran.run([torch.randn(2, 1, 4), torch.tensor([6])])
    assert caught.value.code == "MAIA0503"
    ran.run([torch.randn(2, 1, 4), torch.tensor([5])])  # and the program runs on


def test_threads_may_run_one_program_at_a_time_each():
    module = parse(MIXED)
    ran = Ran(module)
    inputs = [[torch.randn(n, 40), torch.randn(40)] for n in (5, 33, 64)]
    wanted = [reference(module, i) for i in inputs]
    wrong: list[str] = []

    def work(k: int) -> None:
        for _ in range(50):
            for a, b in zip(wanted[k], ran.executor.run(inputs[k]), strict=True):
                if not torch.allclose(a, b, atol=1e-6):
                    wrong.append(f"thread {k}")

    threads = [threading.Thread(target=work, args=(k,)) for k in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_without_a_compiler_reference_kernels_run_after_one_warning(monkeypatch: pytest.MonkeyPatch):
    code = (
        "import warnings, torch, maiac\n"
        "with warnings.catch_warnings(record=True) as seen:\n"
        "    warnings.simplefilter('always')\n"
        "    artifact = maiac.compile(torch.nn.Linear(4, 4), (torch.ones(2, 4),))\n"
        "    artifact(torch.ones(2, 4)), artifact(torch.ones(2, 4))\n"
        "print(sum('MAIA0512' in str(w.message) for w in seen))\n"
    )
    monkeypatch.setenv("MAIAC_CXX", "none")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


def test_code_that_the_compiler_refuses_is_our_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MAIAC_CACHE_DIR", str(tmp_path))
    with pytest.raises(MaiaError) as caught:
        build.Build("broken", "this is no C++").make()
    assert caught.value.code == "MAIA0513" and any("error" in line for line in caught.value.details)
    assert not list((tmp_path / "code").iterdir())  # nothing half-built stays


def test_packed_weights_lie_beside_the_artifact(tmp_path: Path):
    model = torch.nn.Sequential(torch.nn.Linear(1100, 1100), torch.nn.Linear(1100, 40)).eval()
    x = torch.randn(3, 1100)
    path = tmp_path / "model.maia"
    maiac.compile(model, (x,)).save(path)
    first = maiac.load(path)(x)
    (packed,) = tmp_path.glob("model.maia.*.packed")
    before = packed.stat().st_mtime_ns
    second = maiac.load(path)(x)
    assert packed.stat().st_mtime_ns == before
    assert torch.equal(first, second)
    with torch.no_grad():
        torch.testing.assert_close(first, model(x), rtol=1e-4, atol=1e-5)


def test_the_native_part_can_be_switched_off(monkeypatch: pytest.MonkeyPatch):
    from maiac.codegen import host_code

    assert host_code() is not None
    monkeypatch.setenv("MAIAC_NATIVE", "0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert host_code() is None
