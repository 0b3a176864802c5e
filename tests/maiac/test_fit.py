"""What a compilation says about its target, and about options that nothing would carry out."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import maiac
from maiac.commands.compile_ import describe
from maiac.fit import fit
from maiac.ir import MaiaError, parse
from maiac.passes import parse_pipeline, run_pipeline
from maiac.targets import get_target

CACHE = """module @m {{
  sym B in 16..64 step 16
  state @kv : {dtype}[B, 8] {{layout = "paged"}}
  state @count : f32[4]
  func @main(%x: f32[4]) -> {dtype}[B, 8] {{
    %0 = read @kv : {dtype}[B, 8]
    return %0
  }}
}}"""


def linear(x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.gelu(x.double()).float()


def test_dtypes_that_a_target_lacks_are_listed_with_their_operations() -> None:
    artifact = maiac.compile(linear, (torch.ones(2, 3),), target="maia200")
    target = artifact.report["target"]
    assert target["name"] == "maia200" and target["capacity"] == 216_000_000_000
    (warning,) = target["warnings"]
    assert warning.startswith("f64 is no dtype of maia200: ") and "gelu" in warning and "test_fit.py" in warning
    assert ("target", f"maia200: {warning}") in [(k, str(v)) for k, v in describe(artifact)]


def test_the_host_takes_everything() -> None:
    artifact = maiac.compile(linear, (torch.ones(2, 3),))
    assert artifact.report["target"] == {"name": "host", "warnings": []}


def test_memory_is_held_against_the_fullest_rank() -> None:
    text = """module @m {
      mesh <tp>
      weight @w : bf16[40000/tp, 1000000]
      func @main(%x: bf16[1, 1000000]) -> bf16[1, 40000/tp] {
        %0 = linear %x, @w : bf16[1, 40000/tp]
        return %0
      }
    }"""
    module = parse(text)
    whole, halves = (fit(module, get_target("maia100"), mesh) for mesh in ({"tp": 1}, {"tp": 2}))
    assert whole["bytes"] == 80_000_000_000 and halves["bytes"] == 40_000_000_000
    assert whole["warnings"] == ["weights and states take 80.0 GB on a rank of tp=1; maia100 has 64 GB of HBM2E"]
    assert not halves["warnings"]


def test_quantized_weights_count_with_codes_and_scales() -> None:
    module = torch.nn.Linear(64, 32)
    target = maiac.compile(module, (torch.ones(1, 64),), quantize="int8", target="maia200").report["target"]
    assert target["bytes"] == 64 * 32 + 32 * 4 + 32 * 4
    assert target["warnings"] == ["i8 is no dtype of maia200: 1 weight"]


def test_a_target_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(MaiaError) as caught:
        maiac.compile(linear, (torch.ones(2, 3),), target="maia300")
    assert caught.value.code == "MAIA0707"


def test_a_dtype_for_a_cache_that_is_not_there_is_an_error() -> None:
    with pytest.raises(MaiaError) as caught:
        maiac.compile(linear, (torch.ones(2, 3),), kv_dtype="f8e4m3fn")
    assert caught.value.code == "MAIA0322" and "no state that is one" in caught.value.message


def test_a_cache_of_another_dtype_is_an_error() -> None:
    with pytest.raises(MaiaError) as caught:
        maiac.compile(parse(CACHE.format(dtype="f16")), kv_dtype="f8e4m3fn")
    assert caught.value.code == "MAIA0322" and "@kv : f16[B, 8]" in caught.value.details
    module = parse(CACHE.format(dtype="f8e4m3fn"))
    run_pipeline(module, parse_pipeline("kv_cache{dtype=f8e4m3fn}"))


@pytest.mark.parametrize("option", [{"quantize": "fp8"}, {"kv_dtype": "bf16"}, {"mesh": {"tp": 2}}])
def test_options_that_another_pipeline_would_ignore_are_refused(option: dict[str, Any]) -> None:
    with pytest.raises(MaiaError) as caught:
        maiac.compile(linear, (torch.ones(2, 3),), passes="cse,dce", **option)
    assert caught.value.code == "MAIA0706" and next(iter(option)) in caught.value.message
