"""Counting fusions, and the errors where there are fewer than somebody needs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import maiac
from maiac.cli import run_command
from maiac.ir import MaiaError, Module, parse, print_module
from maiac.passes import collect_misses, parse_pipeline, rule_names, run_pipeline
from maiac.passes.fusion import check_required, fusion_counts, parse_required
from maiac.passes.fusion.required import APPLIED, OPS

TEXT = """module @m {
  weight @a : f32[8, 8]
  weight @b : f32[8, 8]
  func @main(%x: f32[4, 8]) -> (f32[4, 8], f32[4, 8]) {
    %0 = call %x {callee = @block} : f32[4, 8]
    %1 = call %0 {callee = @block} : f32[4, 8]
    %2 = linear %1, @a : f32[4, 8]
    %3 = linear %1, @b : f32[4, 8]
    return %2, %3
  }
  func @block(%x: f32[4, 8]) -> f32[4, 8] {
    %0 = square %x : f32[4, 8]
    %1 = mean %0 {dims = [1], keepdim = true} : f32[4, 1]
    %2 = rsqrt %1 : f32[4, 1]
    %3 = mul %x, %2 : f32[4, 8]
    %4 = sigmoid %3 : f32[4, 8]
    %5 = mul %3, %4 : f32[4, 8]
    return %5
  }
}
"""


class Block(torch.nn.Module):
    """Attention whose weights are a result of their own."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        weights = torch.softmax(x @ x.mT, -1)
        return weights @ x, weights


def fused(text: str = TEXT) -> Module:
    module = parse(text)
    run_pipeline(module, parse_pipeline("fuse_patterns"))
    return module


def found(module: Module) -> dict[str, int]:
    return {name: n for name, n in fusion_counts(module).items() if n}


def test_ops_of_a_function_count_once_for_each_call():
    assert found(fused()) == {"rms_norm": 2, "silu": 2, "merged": 2}


def test_what_leaves_no_op_behind_is_in_the_text():
    module = fused()
    again = parse(print_module(module))
    assert found(again) == found(module)
    assert "fused = [[merged, 2]]" in print_module(again)


def test_enough_is_enough():
    check_required(fused(), {"rms_norm": 2, "merged": 1})


@pytest.mark.parametrize("passes", ["fuse_patterns", "fuse_patterns,fuse,outline"])
def test_too_few_are_listed_with_what_stands_in_the_way(passes: str):
    module = maiac.capture(Block(), (torch.randn(2, 5, 8),))
    run_pipeline(module, parse_pipeline(f"canonicalize,{passes}"))
    with pytest.raises(MaiaError) as caught:
        check_required(module, {"attention": 1, "rotary": 2, "gelu": 0})
    text = str(caught.value)
    assert caught.value.code == "MAIA0307"
    assert "attention: 0 found, 1 required" in text and "rotary: 0 found, 2 required" in text
    assert "attention_of_parts at matmul" in text and "test_required.py" in text and "read elsewhere, too" in text
    assert "no place comes near it" in text and "gelu" not in text


@pytest.mark.parametrize(
    ("name", "hint"), [("atention", "attention"), ("conv_bm", "conv_bn"), ("xyz", "the fusions are")]
)
def test_an_unknown_name_is_told(name: str, hint: str):
    with pytest.raises(MaiaError) as caught:
        check_required(fused(), {name: 1})
    assert caught.value.code == "MAIA0308" and hint in str(caught.value)


def test_requirements_as_text():
    assert parse_required(["attention=12,rms_norm=25", "conv_bn = 3"]) == {
        "attention": 12,
        "rms_norm": 25,
        "conv_bn": 3,
    }
    for bad in ("attention", "attention=", "attention=x", "attention=-1"):
        with pytest.raises(ValueError, match="NAME=NUMBER"):
            parse_required([bad])


def test_every_rule_can_be_asked_about():
    rules = rule_names()
    for name in [*OPS.values(), *APPLIED.values()]:
        for rule in name:
            assert rules[rule], f"{rule} says nothing of itself"
            with collect_misses(rule):
                fused()


# **** the driver and the command ****


@pytest.fixture
def model(tmp_path: Path) -> str:
    path = tmp_path / "m.maia"
    path.write_text(
        TEXT.replace("weight @a", "weight @a").replace("\n    %2 = linear %1, @a", "\n    %2 = linear %1, %1"), "utf-8"
    )
    text = """module @m {
  func @main(%x: f32[4, 8]) -> f32[4, 8] {
    %0 = square %x : f32[4, 8]
    %1 = mean %0 {dims = [1], keepdim = true} : f32[4, 1]
    %2 = rsqrt %1 : f32[4, 1]
    %3 = mul %x, %2 : f32[4, 8]
    return %3
  }
}
"""
    path.write_text(text, "utf-8")
    return str(path)


def test_the_driver_checks(model: str):
    passes = "canonicalize,fuse_patterns,cse,dce"
    artifact = maiac.compile(model, passes=passes, require_fusion={"rms_norm": 1})
    assert found(artifact.module) == {"rms_norm": 1}
    with pytest.raises(MaiaError, match="MAIA0307"):
        maiac.compile(model, passes=passes, require_fusion={"rms_norm": 2})


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """``maiac compile``: the exit code, and what it wrote."""

    def call(*args: str) -> tuple[int, str]:
        return run_command(["compile", *args]), capfd.readouterr().out

    return call


def test_the_command_checks(model: str, tmp_path: Path, run: Callable[..., tuple[int, str]]):
    out = ["-o", str(tmp_path / "out.maia"), "--passes", "fuse_patterns", "--json"]
    code, _ = run(model, *out, "--require-fusion", "rms_norm=1,attention=0", "--require-fusion", "silu=0")
    assert code == 0
    code, text = run(model, *out, "--require-fusion", "rms_norm=1,attention=3")
    assert code == 1
    assert json.loads(text)["error"]["code"] == "MAIA0307"
    assert run(model, *out, "--require-fusion", "rms_norm")[0] == 2
    assert run(model, *out, "--require-fusion", "rms_nrm=1")[0] == 1
