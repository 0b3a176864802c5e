"""Figures: differences between tensors, costs of programs, sizes, targets and options."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import maiac
from maiac import MaiaError
from maiac.config import CompileOptions, checked_mesh
from maiac.console import bytes_text, count_text, finite, seconds_text
from maiac.difference import badness, difference
from maiac.inputs import choose_sizes, random_inputs
from maiac.ir import parse
from maiac.report import cost_of, leaf_paths, output_ports, summarize
from maiac.targets import get_target, parse_target, target_names
from maiac.tensors import from_numpy, to_numpy
from tests.maiac.samples import linear_text

# **** differences ****


def test_equal_tensors_are_exact():
    x = torch.randn(4, 5)
    d = difference("x", x, x.clone())
    assert (d.max_abs, d.sqnr, d.cosine, d.fits) == (0, math.inf, 1, True)


def test_a_known_difference():
    reference = torch.tensor([3.0, 4.0])
    d = difference("x", torch.tensor([3.0, 4.5]), reference, rtol=0.1, atol=0.05)
    assert d.max_abs == 0.5 and d.max_rel == 0.125
    assert d.sqnr == pytest.approx(10 * math.log10(25 / 0.25))
    assert d.excess == pytest.approx(0.5 - 0.4 - 0.05) and not d.fits
    assert difference("x", torch.tensor([3.0, 4.5]), reference, rtol=0.1, atol=0.11).fits


def test_nan_and_inf_at_the_same_places_are_equal():
    a = torch.tensor([math.nan, math.inf, -math.inf, 1.0])
    assert difference("x", a, a.clone()).fits
    d = difference("x", a, torch.tensor([math.nan, math.inf, math.inf, 1.0]))
    assert "1 of 4 elements" in d.problem and not d.fits


def test_what_cannot_be_compared_says_so():
    assert "shape" in difference("x", torch.zeros(2), torch.zeros(3)).problem
    assert "tensor" in difference("x", 3, torch.zeros(3)).problem
    assert difference("x", 3, 3).fits and not difference("x", 3, 4).fits
    assert difference("x", [torch.zeros(1)], [torch.zeros(1)]).fits
    assert not difference("x", [torch.zeros(1)], []).fits
    assert difference("x", torch.zeros(0), torch.zeros(0)).fits


def test_complex_bool_and_integer_tensors():
    assert difference("x", torch.tensor([1 + 1j]), torch.tensor([1 + 2j])).max_abs == 1
    assert difference("x", torch.tensor([True]), torch.tensor([False])).max_abs == 1
    assert difference("x", torch.tensor([7]), torch.tensor([7])).fits


def test_the_worst_sorts_last():
    good, bad = difference("a", torch.ones(2), torch.ones(2)), difference("b", torch.ones(2), torch.zeros(2))
    broken = difference("c", torch.ones(2), torch.zeros(3))
    assert sorted([broken, good, bad], key=badness) == [good, bad, broken]


# **** programs ****

CALLED = """module @m {
  sym T in 2..64 step 2
  weight @table : f32[11, 4]
  weight @w : f32[4, 4]

  func @layer(%x: f32[T, 4]) -> f32[T, 4] {
    %y = linear %x, @w : f32[T, 4]
    return %y
  }

  func @main(%ids: i64[T], %mask: bool[T]) -> (f32[T, 4], bool[T]) {
    %e = embedding @table, %ids : f32[T, 4]
    %a = call %e {callee = @layer} : f32[T, 4]
    %b = call %a {callee = @layer} : f32[T, 4]
    return %b, %mask
  }
}
"""


def test_calls_count_as_often_as_they_happen():
    cost = cost_of(parse(CALLED))
    assert cost.ops["linear"] == 2
    assert str(cost.flops_by_op["linear"]) == "64*T"
    summary = summarize(parse(CALLED), {"T": 8})
    assert summary["flops_by_op"]["linear"] == 512 and summary["flops_at"] == {"T": 8}
    assert summary["parameters"] == 44 + 16 and summary["functions"] == 2


def test_random_inputs_stay_inside_tables_and_masks_are_true():
    module = parse(CALLED)
    sizes = choose_sizes(module)
    assert sizes == {"T": 16}
    ids, mask = random_inputs(module, sizes, seed=1)
    assert ids.shape == (16,) and int(ids.min()) >= 0 and 2 <= int(ids.max()) < 11
    assert bool(mask.all())
    assert choose_sizes(module, {"T": 4}) == {"T": 4}
    for wrong in ({"T": 5}, {"T": 66}, {"U": 4}):
        with pytest.raises(MaiaError, match="MAIA0709"):
            choose_sizes(module, wrong)


@pytest.mark.parametrize(("bounds", "size"), [("1..8", 8), ("20..64", 20), ("0..inf", 16), ("1..64 step 12", 12)])
def test_sizes_are_moderate_and_allowed(bounds: str, size: int):
    module = parse(linear_text().replace("1..64", bounds))
    assert choose_sizes(module) == {"T": size}


def test_no_random_strings():
    module = parse("module @m {\n  func @main(%s: str[2]) -> str[2] {\n    return %s\n  }\n}\n")
    with pytest.raises(MaiaError, match="MAIA0709"):
        random_inputs(module, {})


def test_outputs_are_named_as_the_source_names_them():
    module = parse(CALLED)
    assert [n for n, _ in output_ports(module)] == ["b", "mask"]
    module.attrs["outputs"] = ("logits", "logits")
    assert [n for n, _ in output_ports(module)] == ["logits", "output_1"]
    tree: Any = {"t": "tuple", "c": [{"t": "leaf"}, {"t": "dict", "k": ["k"], "c": [{"t": "leaf"}]}]}
    assert list(leaf_paths(tree)) == ["output_0", "output_1.k"]


# **** targets, options, words ****


def test_every_target_reads_well():
    assert {"host", "maia100", "maia200", "h100", "h200"} <= set(target_names())
    for name in target_names():
        target = get_target(name)
        assert target.title and target.memories and target.kind in ("cpu", "gpu", "accelerator")
    assert get_target("maia200").main_memory.capacity == 216 * 10**9
    with pytest.raises(MaiaError, match="MAIA0707"):
        get_target("maia999")


def test_a_target_with_an_unknown_dtype_is_our_mistake():
    text = 'title = "x"\nkind = "gpu"\nstorage = ["f33"]\n[rates]\n[[memory]]\nname = "a"\ncapacity_gb = 1\n'
    with pytest.raises(AssertionError, match="f33"):
        parse_target("x", text)


@pytest.mark.parametrize("bad", [{"quantize": "int1"}, {"kv_dtype": "i8"}, {"mesh": {"dp": 2}}, {"mesh": {"tp": 0}}])
def test_options_are_checked_when_they_are_made(bad: dict[str, Any]):
    with pytest.raises(MaiaError, match="MAIA0706"):
        CompileOptions(**bad)


def test_a_mesh_keeps_the_order_of_axes():
    assert list(checked_mesh({"tp": 2, "pp": 3})) == ["pp", "tp"] and checked_mesh({"tp": 1}) == {}


def test_sources_of_no_known_kind():
    for thing in (3, [1], b"x"):
        with pytest.raises(MaiaError, match="MAIA0702"):
            maiac.capture(thing)


def test_a_missing_optional_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Any):
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MaiaError, match="MAIA0704") as caught:
        maiac.capture(tmp_path)
    assert "pip install" in caught.value.hint


def test_words():
    assert [bytes_text(n) for n in (0, 1023, 1536, 3 << 30)] == ["0 B", "1023 B", "1.5 KiB", "3.0 GiB"]
    assert [count_text(n) for n in (0, 999, 25_600_000)] == ["0", "999", "25.6 M"]
    assert [seconds_text(s) for s in (2.5, 1.5e-3, 2e-6, 3e-9)] == ["2.5 s", "1.5 ms", "2 µs", "3 ns"]
    assert finite({"a": [math.inf, 1.0, (math.nan,)]}) == {"a": [None, 1.0, [None]]}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.float16, torch.int64, torch.bool])
def test_tensors_go_to_numpy_and_back(dtype: torch.dtype):
    x = torch.tensor([[0.0, 1.0], [2.0, 3.0]]).to(dtype).t()
    back = from_numpy(to_numpy(x))
    assert back.dtype == dtype and back.tolist() == x.tolist()
    assert from_numpy(to_numpy(torch.arange(3))[::-1]).tolist() == [2, 1, 0]
