"""Real architectures: how many operations the fusions find, and that results stay the same up to rounding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import maiac
from maiac.ir import Module
from maiac.passes import get_pass, parse_pipeline, run_pipeline
from maiac.passes.clone import clone_module
from maiac.passes.fusion import fusion_counts
from maiac.runtime import Executor
from tests.models.test_onnx_models import export
from tests.models.zoo import Case

from .architectures import ARCHITECTURES, Architecture, build

CLEAN = "canonicalize,qdq,fold,canonicalize,cse,dce"
RTOL, ATOL = 2e-5, 2e-6  # float32: sums are taken in another order

QUICK = ["llama", "bert", "resnet50"]
SLOW = [name for name in ARCHITECTURES if name not in QUICK]
NAMES = [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
TEXT = [name for name in SLOW if ARCHITECTURES[name].config and "ids" in ARCHITECTURES[name].inputs]
# Written out by hand, without scaled_dot_product_attention.
EAGER = ["llama", *(pytest.param(n, marks=pytest.mark.slow) for n in (*TEXT, "bert", "vit", "dinov2"))]
DYNAMIC = ["gemma2", *(pytest.param(n, marks=pytest.mark.slow) for n in (*TEXT, "llama", "bert") if n != "gemma2")]
ONNX = [
    ("llama", False),
    *(pytest.param(n, False, marks=pytest.mark.slow) for n in ("gpt2", "gemma3", "gpt_neox", "gptj", "bert", "bloom")),
    *(pytest.param(n, True, marks=pytest.mark.slow) for n in ("llama", "mistral")),
]


def fused(module: Module) -> tuple[Module, Module]:
    """The module before and after."""
    run_pipeline(module, parse_pipeline(CLEAN))
    before = clone_module(module)
    run_pipeline(module, parse_pipeline("fuse_patterns,cse,dce"))
    assert not get_pass("fuse_patterns")().run(module), "there is more to find"
    return before, module


def masks_of(module: Module) -> set[tuple[bool, int, bool]]:
    """(causal, window, a mask stays) of each attention."""
    found: set[tuple[bool, int, bool]] = set()
    for op in module.walk():
        if op.name == "attention":
            window = op.attrs.get("window", 0)
            assert isinstance(window, int)
            found.add((bool(op.attrs.get("causal", False)), window, len(op.operands) > 3))
    return found


def check(found: Architecture, before: Module, after: Module, *inputs: list[Any]) -> None:
    counts = fusion_counts(after)
    assert {name: counts[name] for name in found.counts} == found.counts
    left = {op.name for op in after.walk()}
    assert not left & {"batch_norm", "erf", "copy", "is_nan"}
    executors = Executor(before), Executor(after)
    for each in inputs:
        want, got = (executor.run(each) for executor in executors)
        for a, b in zip(got, want, strict=True):
            torch.testing.assert_close(a, b, rtol=RTOL, atol=ATOL * max(1.0, float(b.abs().max())))


def leaves(module: Module, case: Case) -> list[Any]:
    """The inputs of main, for arguments."""
    from maiac.artifact import bind_inputs, new_manifest

    return bind_inputs(module, new_manifest(module, {}, {}, ""), case.args, case.kwargs)


def capture(case: Case) -> Module:
    return maiac.capture(case.model, case.args, case.kwargs, dynamic_shapes=case.dynamic_shapes)


@pytest.mark.parametrize("name", NAMES)
def test_operations_are_found(name: str):
    found, case = ARCHITECTURES[name], build(name)
    before, after = fused(capture(case))
    check(found, before, after, leaves(after, case))
    assert masks_of(after) == found.masks or not fusion_counts(after)["attention"]


@pytest.mark.parametrize("name", EAGER)
def test_attention_written_out_is_found(name: str):
    found, case = ARCHITECTURES[name], build(name, attention="eager")
    before, after = fused(capture(case))
    check(found, before, after, leaves(after, case))


@pytest.mark.parametrize("name", DYNAMIC)
def test_dynamic_lengths(name: str):
    found, case = ARCHITECTURES[name], build(name, dynamic=True)
    before, after = fused(capture(case))
    assert case.vary is not None
    varied = [leaves(after, Case(case.model, *case.vary(n))) for n in case.lengths]
    check(found, before, after, leaves(after, case), *varied)
    if name not in ("falcon_alibi", "bloom"):  # their bias hides the future, too, which only its numbers tell
        assert masks_of(after) == found.masks


@pytest.mark.parametrize(("name", "dynamic"), ONNX)
def test_onnx_files(name: str, dynamic: bool, tmp_path: Path):
    found, case = ARCHITECTURES[name], build(name, dynamic=dynamic)
    path = tmp_path / "model.onnx"
    export(case, path, dynamic)
    before, after = fused(maiac.capture(str(path)))
    inputs = [v for v in case.kwargs.values() if isinstance(v, torch.Tensor)]
    check(found, before, after, inputs)
    assert masks_of(after) == found.masks


@pytest.mark.parametrize("name", ["llama", pytest.param("gemma3", marks=pytest.mark.slow)])
def test_half_precision(name: str):
    found, case = ARCHITECTURES[name], build(name)
    case.model.bfloat16()
    before, after = fused(capture(case))
    counts = fusion_counts(after)
    assert all(counts[n] == found.counts[n] for n in ("attention", "rms_norm", "rotary"))
    inputs = leaves(after, case)
    want, got = Executor(before).run(inputs)[0], Executor(after).run(inputs)[0]
    # Each layer rounds to 8 bits a few times, and what is fused rounds less often.
    torch.testing.assert_close(got, want, rtol=0, atol=0.03 * float(want.abs().max()))
