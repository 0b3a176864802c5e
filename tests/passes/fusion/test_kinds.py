"""Fusions after quantization and partitioning: types are respected, and results stay the same."""

from __future__ import annotations

import pytest
import torch

from maiac.ir import verify
from maiac.passes import parse_pipeline, run_pipeline
from maiac.passes.clone import clone_module
from maiac.passes.fusion import fusion_counts
from maiac.runtime import Executor
from tests.passes.llama import llama

CLEAN = "canonicalize,fold,canonicalize,cse,dce"
KINDS = {
    "quantize{scheme=int8}": {"rotary": 4, "grouped_heads": 2, "merged": 6},
    "partition{tp=2}": {"rotary": 4, "grouped_heads": 2, "merged": 0},
    "quantize{scheme=fp8},partition{tp=2}": {"rotary": 4, "grouped_heads": 2, "merged": 0},
    "partition{tp=2,pp=2}": {"rotary": 4, "grouped_heads": 2, "merged": 0},
}


@pytest.mark.parametrize("kind", KINDS)
def test_types_are_respected(kind: str):
    module = llama(bias=True)
    run_pipeline(module, parse_pipeline(f"{CLEAN},{kind},cse,dce"))
    before = clone_module(module)
    run_pipeline(module, parse_pipeline("fuse_patterns,cse,dce,outline"))
    verify(module)
    counts = fusion_counts(module)
    assert {name: counts[name] for name in KINDS[kind]} == KINDS[kind]
    ids = torch.randint(0, 64, (1, 7), generator=torch.Generator().manual_seed(0))
    want, got = Executor(before).run([ids])[0], Executor(module).run([ids])[0]
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)  # float32: products are cut into other tiles
